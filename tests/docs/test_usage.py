"""docs/usage.md has every option of ``twostage analyze`` once, and the result files' real keys."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

from faces.emotions import EMOTIONS
from faces.sinks import CSV_COLUMNS, result_to_dict
from faces.types import Box, Detection, EmotionProbabilities, Face, ImageResult
from twostage.cli import build_parser

USAGE = (Path(__file__).resolve().parents[2] / "docs" / "usage.md").read_text("utf-8")


def section(title: str) -> str:
    return USAGE.split(f"## {title}\n")[1].split("\n## ")[0]


def command(name: str) -> argparse.ArgumentParser:
    for action in build_parser()._actions:
        if isinstance(action, argparse._SubParsersAction):
            parser: argparse.ArgumentParser = action.choices[name]
            return parser
    raise AssertionError(f"no command {name}")


def test_each_option_of_analyze_has_one_row() -> None:
    options = [
        action.option_strings[-1]
        for action in command("analyze")._actions
        if action.option_strings and action.dest != "help"
    ]
    documented = re.findall(r"^\| `(--[\w-]+)", section("twostage analyze"), re.MULTILINE)
    assert sorted(documented) == sorted(options)


def test_the_example_in_json_has_the_keys_of_a_result() -> None:
    match = re.search(r"```json\n(.*?)```", section("Result files"), re.DOTALL)
    assert match is not None
    example = json.loads(match[1])
    face = Face(
        Detection(Box(1, 2, 3, 4), 0.5), EmotionProbabilities((0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0))
    )
    real = result_to_dict(ImageResult("photo.jpg", 10, 10, 0.1, (face,)))
    assert list(example) == list(real)
    assert list(example["faces"][0]) == list(real["faces"][0])
    assert list(example["faces"][0]["emotions"]) == list(EMOTIONS)
    assert sum(example["faces"][0]["emotions"].values()) == 1


def test_the_columns_of_csv_are_named_in_their_order() -> None:
    text = section("Result files").split("**`.csv`**")[1].split("**`.coco.json`**")[0]
    named = re.findall(r"`(\w+)`", text)
    assert named == [name for name in CSV_COLUMNS if name not in EMOTIONS]
