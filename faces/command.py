"""For every command: the base of all errors that users cause, and the shell around ``main``."""

from __future__ import annotations

import io
import math
import os
import re
import signal
import sys
import threading
from argparse import ArgumentParser, ArgumentTypeError, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, NoReturn


class UserError(ValueError):
    """A mistake of the user's or in their data; the message names the file, cause and way out."""


class Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP, which acts like Ctrl-C but did not reach the processes started here."""


@dataclass(frozen=True)
class Command:
    """A module's ``main``: called with the words of a command line, it runs as ``run`` says."""

    name: str  # of the module
    text: str | None  # the module's docstring, which is its help
    add_options: Callable[[ArgumentParser], None]
    # does what the options ask, among them ``made_by``, the command line as records have it, and
    # returns the exit status (None: 0)
    action: Callable[[Namespace], int | None]
    stopped: str = ""  # what a user who presses Ctrl-C should know

    def parser(self) -> ArgumentParser:
        """Return the parser of its command line."""
        result = _Parser(
            prog=f"python -m {self.name}",
            description=(self.text or "").replace("%", "%%"),
            formatter_class=RawDescriptionHelpFormatter,
        )
        self.add_options(result)
        return result

    def check(self, options: Namespace) -> None:
        """Raise a ``UserError`` if the options cannot be meant, before anything is done."""

    def __call__(self, argv: Sequence[str] | None = None) -> int:
        """Run it and return the exit status; None stands for this process's words."""
        from faces.provenance import command_line  # here, as it needs UserError

        def action() -> int:
            options = self.parser().parse_args(argv)
            options.made_by = command_line(self.name, argv)
            self.check(options)
            return self.action(options) or 0

        return run(self.name, action, self.stopped)


class _Parser(ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see --help")


def run(command: str, action: Callable[[], int], stopped: str = "") -> int:
    """Call ``action`` and turn what a user can cause into one line on standard error.

    While it runs, SIGTERM and SIGHUP act like Ctrl-C: what is open is finished and closed.

    Args:
        command: how messages begin.
        action: does the work and returns the exit status.
        stopped: what a user who presses Ctrl-C should know.

    Returns:
        What ``action`` returns; 2 for bad input, 130 after Ctrl-C, SIGTERM or SIGHUP, 141 if the
        reader of standard output went away.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # not every console has → and every file name
            stream.reconfigure(errors="backslashreplace")
    try:
        with _signals_as_ctrl_c():
            status = action()
            sys.stdout.flush()
            return status
    except UserError as error:
        cause = str(error)
    except BrokenPipeError:
        _drop_standard_output()
        return 141
    except OSError as error:
        cause = error.strerror or str(error)
        if error.filename:
            cause = f"{error.filename}: {cause}"
        try:
            sys.stdout.flush()
        except OSError:  # a full disk behind it: Python would fail again at the end
            _drop_standard_output()
    except KeyboardInterrupt:
        with suppress(OSError):  # after SIGHUP there may be no terminal
            print(
                f"\n{command}: stopped; {stopped or 'what was finished is kept'}", file=sys.stderr
            )
        return 130
    note(command, cause)
    return 2


def _drop_standard_output() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def _signals_as_ctrl_c() -> Iterator[None]:
    """Let the first SIGTERM or SIGHUP raise ``Terminated``, and let those after it pass.

    A signal that somebody handles or ignores already (``nohup``) is left alone, and workers that
    are forked meanwhile end at once, as they would have.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    process = os.getpid()

    def stop(number: int, frame: FrameType | None) -> None:
        if os.getpid() != process:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        for one in before:
            signal.signal(one, lambda *_: None)
        raise Terminated

    numbers = [getattr(signal, name, None) for name in ("SIGTERM", "SIGHUP")]
    before = [n for n in numbers if n is not None and signal.getsignal(n) == signal.SIG_DFL]
    for number in before:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in before:
            signal.signal(number, signal.SIG_DFL)


@contextmanager
def handling_stops(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Let ``handler`` get Ctrl-C and SIGTERM inside the block, for work that ends by itself."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)


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
    print(f"{command}: {printable(' '.join(text.split()))}", file=sys.stderr)


def printable(text: str) -> str:
    r"""Return text, a file's name for instance, with what could steer a terminal escaped.

    Control characters, line ends and marks that turn the direction of writing become ``\x1b``,
    ``\n``, ``\u202e``.
    """
    return _STEERING.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


_STEERING = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def number_for(
    expected: str, allowed: Callable[[float], bool], kind: Callable[[str], float] = float
) -> Callable[[str], Any]:
    """Return what parses a number for argparse, and says what was ``expected`` if none is given."""

    def parse(text: str) -> float:
        with suppress(ValueError):
            if allowed(value := kind(text)):
                return value
        raise ArgumentTypeError(f"expected {expected}, got {text!r}")

    return parse


positive_pixels = number_for("a size in pixels, 0 or more", lambda x: 0 <= x < math.inf)
fraction = number_for("a number above 0 and below 1", lambda x: 0 < x < 1)


def existing(path: Path, option: str) -> Path:
    """Return ``path``, or raise a ``UserError`` if it does not exist."""
    if not path.exists():
        raise UserError(f"{path}: no such file or folder; check {option}")
    return path
