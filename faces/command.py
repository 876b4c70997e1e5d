"""For every command: the base of all errors that users cause, and the shell around ``main``."""

from __future__ import annotations

import io
import os
import sys
from argparse import ArgumentTypeError
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType


class UserError(ValueError):
    """A mistake of the user's or in their data; the message names the file, cause and way out."""


def run(command: str, action: Callable[[], int], stopped: str = "") -> int:
    """Call ``action`` and turn what a user can cause into one line on standard error.

    Args:
        command: how messages begin.
        action: does the work and returns the exit status.
        stopped: what a user who presses Ctrl-C should know.

    Returns:
        What ``action`` returns; 2 for bad input, 130 after Ctrl-C, 141 if the reader of standard
        output went away.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # not every console has → and every file name
            stream.reconfigure(errors="backslashreplace")
    try:
        return action()
    except UserError as error:
        cause = str(error)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        cause = f"{error.filename}: {error.strerror}" if error.filename else str(error)
    except KeyboardInterrupt:
        print(f"\n{command}: stopped; {stopped or 'what was finished is kept'}", file=sys.stderr)
        return 130
    note(command, cause)
    return 2


def expect_interrupts(package: str) -> None:
    """End a command that is still importing with one line and status 130 at Ctrl-C.

    Called by the ``__init__`` of packages that hold commands. It does something only while
    ``python -m PACKAGE.COMMAND`` is looking for the command, not for people who import the package.
    """
    if sys.argv[:1] == ["-m"]:  # where Python has not found the command's file yet
        words = sys.orig_argv
        catch_interrupts(words[words.index("-m") + 1] if "-m" in words[:-1] else package)


def catch_interrupts(command: str) -> None:
    """Let a Ctrl-C that nobody catches end this process with one line and status 130."""
    others = sys.excepthook

    def hook(
        kind: type[BaseException], error: BaseException, traceback: TracebackType | None
    ) -> None:
        if not issubclass(kind, KeyboardInterrupt):
            others(kind, error, traceback)
            return
        with suppress(OSError):
            sys.stdout.flush()
            print(f"\n{command}: stopped", file=sys.stderr, flush=True)
        os._exit(130)  # else Python ends itself by the signal, which has no exit status

    sys.excepthook = hook


def note(command: str, text: str) -> None:
    """Tell the user something on standard error, as one line."""
    print(f"{command}: {' '.join(text.split())}", file=sys.stderr)


def positive_pixels(text: str) -> float:
    """Parse a size in pixels, for argparse."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise ArgumentTypeError(f"expected a size in pixels, 0 or more, got {text!r}")
    return value


def fraction(text: str) -> float:
    """Parse a number above 0 and below 1, for argparse."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < 1:
        raise ArgumentTypeError(f"expected a number above 0 and below 1, got {text!r}")
    return value


def existing(path: Path, option: str) -> Path:
    """Return ``path`` if it exists.

    Raises:
        UserError: it does not.
    """
    if not path.exists():
        raise UserError(f"{path}: no such file or folder; check {option}")
    return path
