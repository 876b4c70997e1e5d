import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval import classification
from eval.data.score_files import read_scores, write_scores
from faces.command import UserError
from faces.emotions import EMOTIONS

HEADER = "name," + ",".join(EMOTIONS)
ROW = "0.1,0.1,0.1,0.4,0.1,0.1,0.1"


@given(n=st.integers(0, 5), seed=st.integers(0, 1000))
def test_what_was_written_is_read(tmp_path_factory, n, seed):
    path = tmp_path_factory.mktemp("scores") / "a.csv"
    scores = np.random.default_rng(seed).dirichlet(np.ones(7), n).astype(np.float32)
    names = [f"image, {i}.png" for i in range(n)]
    write_scores(path, names, scores)
    np.testing.assert_allclose(read_scores(path, names[::-1]), scores[::-1], atol=1e-5)
    assert [file.name for file in path.parent.iterdir()] == ["a.csv"]


def test_columns_may_have_another_order_and_usual_aliases(tmp_path: Path):
    path = tmp_path / "a.csv"
    path.write_text(
        "Happiness,name,anger,extra,disgust,fear,sadness,surprise,neutral\n0.7,x,0.3,9,0,0,0,0,0\n"
    )
    np.testing.assert_allclose(read_scores(path, ["x"]), [[0.3, 0, 0, 0.7, 0, 0, 0]], atol=1e-6)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "first line must be name,angry"),
        (f"{HEADER.replace('fear', 'far')}\n", "first line must be name,angry"),
        (f"{HEADER}\nx,{ROW}\nx,{ROW}\n", "3: x is there twice"),
        (f"{HEADER}\ny,{ROW}\n", "lacks 1 of 1 images, such as x"),
        (f"{HEADER}\nx,{ROW.replace('0.4', '0.6')}\n", "2: not seven probabilities"),
        (f"{HEADER}\nx,{ROW.replace('0.4', 'nan')}\n", "2: not seven probabilities"),
        (f"{HEADER}\nx,{ROW.replace('0.4', '-0.4')}\n", "2: not seven probabilities"),
        (f"{HEADER}\nx,0.5,0.5\n", "2: not seven probabilities"),
    ],
)
def test_broken_files_are_refused_in_one_line(tmp_path: Path, text, message):
    path = tmp_path / "a.csv"
    path.write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        read_scores(path, ["x"])
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_file_is_named(tmp_path: Path):
    with pytest.raises(UserError, match=r"none\.csv"):
        read_scores(tmp_path / "none.csv", [])


def test_a_pipe_is_not_waited_for(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(UserError, match="no regular file"):
        read_scores(tmp_path / "pipe.csv", ["a"])


def test_the_evaluation_takes_answers_from_elsewhere(tmp_path: Path, capsys):
    images = tmp_path / "fer2013"
    for index, label in enumerate((0, 3, 3, 6)):
        folder = images / "test" / EMOTIONS[label]
        folder.mkdir(parents=True, exist_ok=True)
        picture = np.full((48, 48), 100 + index, np.uint8)
        cv2.imwrite(str(folder / f"PublicTest_{index}.png"), picture)
    scores = np.eye(7, dtype=np.float32)[[0, 3, 1, 6]]
    write_scores(tmp_path / "a.csv", [f"PublicTest_{i}.png" for i in range(4)], scores)
    words = ["--data", str(images), "--out", str(tmp_path / "out.json"), "--scores"]
    assert classification.main([*words, f"theirs={tmp_path / 'a.csv'}"]) == 0
    run = json.loads((tmp_path / "out.json").read_text())
    assert (run["classifier"], run["accuracy"], run["ms_per_face"]) == ("theirs", 0.75, None)
    capsys.readouterr()
    for wrong in ("theirs", f"=x{tmp_path}", f"theirs={tmp_path}/none.csv"):
        assert classification.main([*words, wrong]) == 2
        assert capsys.readouterr().err.count("\n") <= 2
