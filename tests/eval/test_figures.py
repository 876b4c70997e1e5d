"""The figures of the comparison show what the records hold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import sklearn.metrics
from PIL import Image

from classification.data.fer2013 import Fer2013
from eval import figures, tables
from eval.records.comparison import find_systems
from tests.eval.made_records import TRUTH, N


def test_figures_are_drawn_from_the_records(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "figures"
    assert figures.main(["--results", str(folder), "--out", str(out)]) == 0
    names = {path.stem for path in out.glob("*.png")}
    assert names == {"classes", "confusion_counts", "confusion_shares", "guesses", "learning"}
    for path in out.iterdir():
        with Image.open(path) as picture:
            assert picture.width > 400 and len(picture.convert("L").getcolors(256)) > 10


def test_each_training_has_its_curve_and_each_system_its_guesses(folder: Path) -> None:
    measured = [one for one in find_systems(tables.read_rows(folder)) if one.row]
    learning = figures.learning_figure(measured)
    assert learning is not None
    titles = [axes.get_title() for axes in learning.axes if axes.get_title()]
    assert len(titles) == 4 and "ours, accurate, ten views" not in titles
    own = learning.axes[titles.index("simple CNN: 3 convolutions")].get_lines()[-1]
    assert np.allclose(own.get_ydata(), [10, 20])
    left, right = figures.guesses_figure(measured).axes
    for k, line in enumerate(left.get_lines()):
        assert np.allclose(line.get_xdata(), [100 * one.row["top"][k] for one in measured])
    shown = [line.get_label() for line in right.get_lines()]
    assert shown == ["seven emotions", "six classes", "positive, neutral, negative"]
    assert figures.learning_figure([]) is None


def test_confusion_matrices_are_shown_as_counts_and_as_shares(folder: Path) -> None:
    (knn,) = (s for s in find_systems(tables.read_rows(folder)) if s.classifier == "knn_pixels")
    for shares in (False, True):
        (axes,) = figures.confusion_figure([knn], shares=shares).axes
        shown = np.array([int(text.get_text()) for text in axes.texts]).reshape(7, 7)
        true = sklearn.metrics.confusion_matrix(
            TRUTH, np.where(np.arange(N) < 80, TRUTH, 3), normalize="true" if shares else None
        )
        assert np.array_equal(shown, np.rint(100 * true) if shares else true)


@pytest.mark.parametrize("place", ["docs/x", "mine", "."])
def test_a_folder_that_git_does_not_ignore_is_refused_for_faces(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], place: str
) -> None:
    options = ["--results", str(folder), "--out", str(tmp_path / "f"), "--data", str(folder)]
    assert figures.main([*options, "--faces", str(tables.ROOT / place)]) == 2
    assert "go to output/, runs/ or out of the clone" in capsys.readouterr().err
    ignored = (tables.ROOT / ".gitignore").read_text().split()
    for name in figures.IGNORED:
        figures.check_private(tables.ROOT / name / "figures")
        assert {f"/{name}", f"/{name}/"} & set(ignored)
    figures.check_private(tmp_path)


@pytest.fixture
def part() -> Fer2013:
    """Twenty random images, their labels in turn."""
    images = np.random.default_rng(0).integers(0, 256, (20, 48, 48), dtype=np.uint8)
    labels = np.arange(20, dtype=np.int64) % 7
    return Fer2013(images, labels, np.array(["PublicTest"] * 20), tuple(map(str, range(20))))


def test_every_answer_has_a_frame_and_a_wrong_one_the_true_emotion(part: Fer2013) -> None:
    scores = np.eye(7, dtype=np.float32)[(part.labels + (np.arange(20) < 4)) % 7]
    (axes,) = figures.answers_figure(part, scores).axes
    texts = [text.get_text() for text in axes.texts]
    assert len(texts) == len(axes.patches) == 20
    assert sum("\nis " in text for text in texts) == 4


def test_samples_stand_in_the_row_of_their_emotion(part: Fer2013) -> None:
    (axes,) = figures.samples_figure(part).axes
    shown = np.asarray(axes.images[0].get_array())
    for (row, column), index in {(0, 0): 0, (1, 0): 1, (0, 1): 7}.items():
        found = shown[48 * row : 48 * row + 48, 48 * column : 48 * column + 48]
        assert np.array_equal(found, part.images[index])
