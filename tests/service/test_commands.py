"""``twostage serve`` as a process; ``twostage feedback export`` and ``report``."""

from __future__ import annotations

import csv
import json
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from faces.emotions import EMOTIONS
from service import commands
from service.database import Database, Kept
from service.tables import Face, Image
from tests.service.conftest import png
from tests.stand_ins import probabilities
from twostage import cli

ROOT = Path(__file__).parents[2]


@pytest.fixture
def database(tmp_path: Path) -> str:
    """The address of a database with five faces and what people say of them."""
    url = f"sqlite:///{tmp_path}/service.sqlite3"
    opened = Database(url)
    likely = ("happy", "happy", "sad", "fear", "angry")
    faces = [
        Face(
            **{"number": number, "x1": 0, "y1": 0, "x2": 9, "y2": 9, "score": 0.9},
            probabilities=list(probabilities(**{emotion: 0.7})),
        )
        for number, emotion in enumerate(likely, start=1)
    ]
    image = Image(
        **{"sha256": "0" * 64, "width": 64, "height": 48, "detector": "d", "classifier": "c"},
        weights={},
        options={},
        faces=faces,
    )
    image_id = opened.add(image, Kept(None, [png(9, 9)] * 4, None))
    for number, emotions, sender in (
        (1, ["happy"], "anna"),
        (1, ["happy", "surprise"], "ben"),  # 1.5 votes for happy, 0.5 for surprise
        (2, ["sad"], "anna"),
        (2, ["happy"], "ben"),  # as many for one as for the other
        (3, ["not a face"], "anna"),
        (4, ["sad"], "anna"),
        (5, ["angry"], "anna"),  # right, but without a crop
    ):
        assert opened.give_feedback(image_id, number, emotions, sender)
    opened.close()
    return url


def test_export_writes_the_majority_and_a_manifest_of_all_votes(
    database: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "faces"
    assert cli.main(["feedback", "export", "--database", database, "--out", str(out)]) == 0
    assert "2 crops, 1 undecided, 1 not a face, 1 without a crop" in capsys.readouterr().out
    rows = list(csv.DictReader((out / "manifest.csv").open()))
    assert [row["label"] for row in rows] == ["happy", "", "not a face", "sad", "angry"]
    assert [row["predicted"] for row in rows] == ["happy", "happy", "sad", "fear", "angry"]
    assert (rows[0]["happy"], rows[0]["surprise"], rows[0]["agreement"]) == ("1.5", "0.5", "0.75")
    files = {path.relative_to(out).as_posix() for path in out.rglob("*.png")}
    assert files == {row["file"] for row in rows if row["file"]}
    assert (out / rows[0]["file"]).read_bytes() == png(9, 9)
    assert cli.main(["feedback", "export", "--database", database, "--out", str(out)]) == 2
    assert "name a new folder" in capsys.readouterr().err


def test_report_counts_agreement_confusion_and_reliability(
    database: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "report.json"
    assert cli.main(["feedback", "report", "--database", database, "--out", str(out)]) == 0
    (model,) = json.loads(out.read_text()).values()
    assert (model["faces"], model["agreement"]) == (3, 0.6667)  # happy, angry; sad was fear
    assert (model["undecided"], model["not_faces"]) == (1, 1)
    sad, fear = EMOTIONS.index("sad"), EMOTIONS.index("fear")
    assert model["confusion"][sad][fear] == 1
    assert sum(map(sum, model["confusion"])) == 3
    expected = {"from": 0.6, "to": 0.8, "mean_probability": 0.7, "faces": 3, "agreement": 0.6667}
    assert model["reliability"] == [expected]
    assert [month["faces"] for month in model["months"].values()] == [3]
    assert "c: 66.7% of 3 faces agreed" in capsys.readouterr().out


def test_feedback_of_no_database_is_explained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["feedback", "report", "--database", f"sqlite:///{tmp_path}/none.sqlite3"]
    assert cli.main(words) == 2
    assert "no such file" in capsys.readouterr().err
    assert not (tmp_path / "none.sqlite3").exists()


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        (["--host", "0.0.0.0"], "--no-token"),
        (["--token", "short"], "16 or more"),
        (["--database", "mysql://a/b"], "sqlite:///FILE"),
        (["--seconds", "0"], "--seconds"),
    ],
)
def test_serve_refuses_before_it_listens(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    cause: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TWOSTAGE_TOKEN", raising=False)
    assert cli.main(["serve", *words]) == 2
    assert cause in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        (["nothing.mp4"], "camera:0 or a video file"),
        (["rtsp://a.test/b"], "camera:0 or a video file"),
        (["camera:0", "camera:1"], "one source"),
        (["camera:0", "--out", "a.csv"], "no output"),
        (["camera:0", "--threshold", "2"], "--threshold"),
    ],
)
def test_show_refuses_before_it_listens(
    capsys: pytest.CaptureFixture[str], words: list[str], cause: str
) -> None:
    assert cli.main(["video", *words, "--show"]) == 2
    assert cause in capsys.readouterr().err


def test_without_the_extra_serve_says_how_to_get_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "fastapi", None)
    assert commands.main(["serve"]) == 2
    assert "make setup EXTRAS=service" in capsys.readouterr().err


SAME = [
    ({}, []),
    ({"threshold": "happy=0.6,neutral=0.05"}, ["--threshold", "happy=0.6", "neutral=0.05"]),
    ({"min_face": "60", "detail": "full"}, ["--min-face", "60", "--detail", "full"]),
    ({"no_detector": "true"}, ["--no-detector"]),
    ({"classifier": "fast"}, ["--classifier", "fast"]),
    ({"detector": "haar", "threshold": "0.2"}, ["--detector", "haar", "--threshold", "0.2"]),
]
"""Fields of a request, and the options of ``twostage analyze`` that mean the same."""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_served_image_equals_what_analyze_writes_and_sigterm_ends_well(tmp_path: Path) -> None:
    import httpx

    data = (ROOT / "samples/group.jpg").read_bytes()
    served = []
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = ["serve", "--port", str(port), "--database", f"sqlite:///{tmp_path}/s.sqlite3"]
    process = subprocess.Popen(
        [sys.executable, "-m", "twostage", *words], cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            assert process.poll() is None
            try:
                if httpx.get(f"{url}/v1/health").status_code == 200:
                    break
            except httpx.TransportError:
                pass
            time.sleep(0.2)
        for fields, _ in SAME:
            file = {"image_buf": ("group.jpg", data)}
            answer = httpx.post(f"{url}/v1/predict", files=file, data=fields, timeout=120)
            served += answer.json()["results"]
    finally:
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=60)
    assert process.returncode in (0, -signal.SIGTERM), log
    assert "Traceback" not in log
    out = tmp_path / "faces.json"
    own = {"seconds": 0, "source": ""}
    counts = []
    for found, (_, options) in zip(served, SAME, strict=True):
        words = ["analyze", str(ROOT / "samples/group.jpg"), "--out", str(out), *options]
        assert cli.main(words) == 0
        (expected,) = json.loads(out.read_text())
        assert len(found.pop("image_id")) == 32
        indices = [face.pop("face_index") for face in found["faces"]]
        assert indices == [*range(1, len(indices) + 1)]
        assert found | own == expected | own
        counts.append(len(indices))
    assert counts[:4] == [3, 3, 3, 1]
