"""eval.multilabel, eval.unsure and eval.calibration from the command line to the record."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as PillowImage

import eval.calibration
import eval.card
import eval.classification
import eval.multilabel
import eval.unsure
from classification.data.ferplus import FERPLUS_CLASSES
from classification.inference.calibration import rescale
from eval.data import options
from faces.emotions import EMOTIONS
from faces.pipeline import Image

PER_PART = 40


def answer(first: int, second: int, share: float) -> NDArray[np.float64]:
    row = np.full(7, 0.02)
    row[second] = 0.9 - share
    row[first] = share
    return row / row.sum()


class CodedClassifier:
    """Reads its answer off the first pixels: first and second emotion, share of the first."""

    def __init__(self, name: str, temperature: float = 1.0) -> None:
        self.name = name
        self.temperature = temperature

    def uncalibrated(self) -> CodedClassifier | None:
        return None if self.temperature == 1 else CodedClassifier(self.name)

    def probabilities(self, crops: Sequence[Image]) -> NDArray[np.float32]:
        rows = [answer(*(int(c[0, i, 0]) for i in (0, 1)), c[0, 2, 0] / 100) for c in crops]
        plain = np.array(rows).reshape(-1, 7)
        return rescale(plain, self.temperature).astype(np.float32)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """FER2013 as a csv, with votes: the first emotion is the label where its share is over 0.5.

    Voters see both emotions where the share is below 0.6, and the tenth picture of ten has no face.
    """
    lines, votes = ["emotion,pixels,Usage"], [",".join(["Usage", *FERPLUS_CLASSES])]
    order = dict(
        zip(
            EMOTIONS,
            ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral"),
            strict=True,
        )
    )
    rng = np.random.default_rng(0)
    for split in ("Training", "PublicTest", "PrivateTest"):
        for number in range(PER_PART):
            first, second = (
                rng.permutation(7)[:2].tolist() if number >= 7 else (number, (number + 1) % 7)
            )
            share = int(rng.integers(46, 85))
            label = first if share > 50 else second
            pixels = np.zeros(48 * 48, int)
            pixels[:3] = first, second, share
            lines.append(f"{label},{' '.join(map(str, pixels))},{split}")
            counts = dict.fromkeys(FERPLUS_CLASSES, 0)
            if number % 10 == 9:
                counts["NF"] = 10
            elif share < 60:
                counts[order[EMOTIONS[first]]], counts[order[EMOTIONS[second]]] = 6, 4
            else:
                counts[order[EMOTIONS[first]]] = 10
            votes.append(",".join([split, *(str(v) for v in counts.values())]))
    (tmp_path / "fer2013.csv").write_text("\n".join(lines))
    (tmp_path / "votes.csv").write_text("\n".join(votes))
    return tmp_path


@pytest.fixture(autouse=True)
def classifiers(monkeypatch: pytest.MonkeyPatch) -> None:
    made = {"coded": CodedClassifier("coded"), "hot": CodedClassifier("hot", 2.0)}
    monkeypatch.setattr(
        options, "load_classifiers", lambda names, _: [made[Path(name).name] for name in names]
    )
    monkeypatch.setattr("twostage.model_zoo.classifier_facts", lambda name: {})


def run(module: Any, data: Path, *arguments: str) -> list[dict[str, Any]]:
    out, picture = data / "out" / "r.json", data / "out" / "p.png"
    common = ["--data", str(data / "fer2013.csv"), "--out", str(out), "--picture", str(picture)]
    assert module.main([*common, *arguments]) == 0
    assert PillowImage.open(picture).width > 200
    document = json.loads(out.read_text())
    runs: list[dict[str, Any]] = document.get("runs", [document])
    assert all("command" in one and one["split"] for one in runs)
    return runs


def test_several_emotions_are_found_by_a_threshold_alone(data: Path) -> None:
    votes = ["--ferplus", str(data / "votes.csv"), "--split", "PrivateTest"]
    runs = run(eval.multilabel, data, "--classifier", "coded", "hot", *votes)
    names = [(r["classifier"], r["scaling"], r["rule"]) for r in runs]
    rules = ["argmax", "one threshold", "threshold per emotion"]
    scalings = [("coded", "softmax"), ("coded", "fitted to votes")]
    scalings += [("hot", s) for s in ("softmax", "calibrated", "fitted to votes")]
    assert names == [(*scaling, rule) for scaling in scalings for rule in rules]
    argmax, one, each = runs[:3]
    assert one["n"] == PER_PART - 4  # those without a face are left out
    # present are both from a share under 0.6 on, that is the second from 0.3 on
    assert 0.29 <= one["threshold"] <= 0.31
    assert one["micro_f1"] == one["macro_f1"] == 1
    assert set(each["thresholds"]) == set(EMOTIONS) and each["micro_recall"] == 1
    assert argmax["micro_precision"] == 1 and argmax["micro_recall"] < 1
    gain = 1 - argmax["macro_f1"]
    assert one["macro_f1_gain_over_argmax"] == pytest.approx(gain)
    assert one["macro_f1_gain_over_argmax_ci"][0] > 0
    assert argmax["macro_f1_gain_over_argmax_ci"] == [0, 0]
    assert one["top_two_coverage"] == 1 and argmax["top_two_coverage"] < 1
    assert one["named_per_face"] == one["present_per_face"]
    curve = {point["threshold"]: point for point in one["curve"]}
    assert curve[0.02]["micro_recall"] == 1 and curve[0.9]["micro_recall"] == 0


def test_unsure_faces_are_the_least_likely_ones(data: Path) -> None:
    votes = ["--ferplus", str(data / "votes.csv"), "--split", "PrivateTest"]
    [got] = run(eval.unsure, data, "--classifier", "coded", "--coverage", "0.75", *votes)
    assert 0.5 < got["unsure_below"] < 0.6
    assert got["risk"] == 0 and got["risk_of_all"] > 0  # the wrong ones have shares up to 0.5
    wrong = got["risk_of_unsure"] * (1 - got["coverage"])
    assert wrong == pytest.approx(got["risk_of_all"])
    assert got["vote_risk"] == 0
    assert got["aurc_top_probability"] == pytest.approx(got["aurc_lead_over_the_second"])
    assert "vote_risk" not in run(eval.unsure, data, "--classifier", "coded")[0]


def test_calibration_before_and_after_on_labels_and_votes(data: Path) -> None:
    votes = ["--ferplus", str(data / "votes.csv")]
    runs = run(eval.calibration, data, "--classifier", "coded", "hot", *votes)
    names = [(r["classifier"], r["sample"].split(", ")[1], r["state"]) for r in runs]
    truths = ("labels", "votes", "labels and votes")
    assert names == [
        *(("coded", truth, "as trained") for truth in truths),
        *(("hot", truth, state) for truth in truths for state in ("as trained", "calibrated")),
    ]
    for key in ("nll", "ece", "accuracy", "brier"):
        assert runs[0][key] == pytest.approx(runs[3][key])
    assert runs[4]["accuracy"] == runs[3]["accuracy"]
    assert runs[4]["mean_top_probability"] < runs[3]["mean_top_probability"]
    assert [run["n"] for run in runs[:3]] == [PER_PART, PER_PART - 4, PER_PART - 4]
    rows = (data / "fer2013.csv").read_text().splitlines()[1 + PER_PART :][:PER_PART]
    voted = [int(r.split(",")[1].split()[2]) for n, r in enumerate(rows) if n % 10 != 9]
    right = np.mean([np.argmax([50, s]) for s in voted])  # the label is the first over 50 %
    assert runs[2]["accuracy"] == pytest.approx((right + runs[1]["accuracy"]) / 2)
    assert sum(count for *_, count in runs[0]["bins"]) == PER_PART


def expected(data: Path, against: str) -> tuple[int, int]:
    """How many faces of PrivateTest count, and how often the first emotion is the truth there."""
    rows = (data / "fer2013.csv").read_text().splitlines()[1:]
    faces = [[int(p) for p in r.split(",")[1].split()[:3]] for r in rows if "PrivateTest" in r]
    if against == "votes":  # all but the faces that are none; the first has 6 or 10 votes
        return (count := sum(number % 10 != 9 for number in range(PER_PART))), count
    return PER_PART, sum(share > 50 for *_, share in faces)


@pytest.mark.parametrize("against", ["labels", "votes"])
def test_card_and_record_agree_on_labels_and_votes(data: Path, against: str) -> None:
    (run_folder := data / "coded").mkdir()
    (run_folder / "model.safetensors").touch()
    (run_folder / "card.json").write_text('{"task": "seven emotions"}')
    common = ["--data", str(data / "fer2013.csv"), "--ferplus", str(data / "votes.csv")]
    out = ["--split", "PrivateTest", "--out", str(data / "r.json"), "--classifier", str(run_folder)]
    assert eval.classification.main([*common, *out]) == 0
    assert eval.card.main([str(run_folder), *common]) == 0
    card = json.loads((run_folder / "card.json").read_text())
    assert card["task"] == "seven emotions" and "eval.card" in card["measured"]["command"]
    assert card["measured"]["weights_sha256"] == hashlib.sha256(b"").hexdigest()
    on_card = card["measured"]["PrivateTest"]["single"]
    in_record = json.loads((data / "r.json").read_text())
    n, right = expected(data, against)
    for found in (on_card, in_record):
        figures = found if against == "labels" else found["ferplus_majority"]
        assert (figures["n"], figures["accuracy"]) == (n, pytest.approx(right / n))
    assert on_card["calibration"]["nll"] > 0
    assert set(card["measured"]["PublicTest"]) == {"single", "ten"}


def test_bad_data_exit_2_with_one_line(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    common = ["--classifier", "coded", "--data", str(data / "fer2013.csv")]
    (data / "other.csv").write_text("a,b\n1,2\n")
    cases: list[tuple[Any, list[str], str]] = [
        (eval.multilabel, [*common, "--ferplus", str(data / "other.csv")], "other.csv"),
        (eval.multilabel, [*common, "--ferplus", str(data / "none.csv")], "none.csv"),
        (eval.unsure, [*common[:2], "--data", str(data / "none.csv")], "none.csv"),
        (eval.unsure, [*common, "--picture", str(data)], "is a folder"),
        (eval.calibration, [*common, "--coco", str(data / "x.json")], "needs --images"),
        (eval.card, ["gone", *common[2:], "--ferplus", str(data / "votes.csv")], "gone"),
        (eval.classification, [*common, "--ferplus", str(data / "other.csv")], "other.csv"),
    ]
    for module, arguments, cause in cases:
        assert module.main(arguments) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and cause in error, error
