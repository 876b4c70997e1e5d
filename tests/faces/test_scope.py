"""The choice of how closely to look: what is impossible is refused, on the command line too."""

from __future__ import annotations

from argparse import ArgumentParser

import pytest

from faces.command import UserError
from faces.scope import Scope, add_scope_options


@pytest.mark.parametrize(
    ("detail", "min_face"), [("slow", 12), ("full", 0), ("full", float("nan")), ("full", -3)]
)
def test_an_impossible_scope_is_refused(detail: str, min_face: float) -> None:
    with pytest.raises(UserError, match=r"detail|smallest face"):
        Scope(detail, min_face)


def test_options_say_what_the_defaults_say() -> None:
    parser = ArgumentParser()
    add_scope_options(parser)
    given = parser.parse_args([])
    assert Scope(given.detail, given.min_face) == Scope()
    given = parser.parse_args(["--detail", "fast", "--min-face", "24"])
    assert Scope(given.detail, given.min_face) == Scope("fast", 24)
    with pytest.raises(SystemExit):
        parser.parse_args(["--min-face", "small"])
