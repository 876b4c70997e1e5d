"""The shell around every command: one line, one exit status, also while it is still importing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from faces import command
from faces.command import UserError, run
from faces.paths import ImageError

ROOT = Path(__file__).parents[2]


def failing(error: BaseException) -> Callable[[], int]:
    def action() -> int:
        raise error

    return action


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (UserError("a.json: no\n  such key"), 2, "x.y: a.json: no such key"),
        (FileNotFoundError(2, "No such file", "a.csv"), 2, "x.y: a.csv: No such file"),
        (OSError("disk trouble"), 2, "x.y: disk trouble"),
        (KeyboardInterrupt(), 130, "x.y: stopped; what was finished is kept"),
    ],
)
def test_what_a_user_can_cause_is_one_line_and_a_status(
    capsys: pytest.CaptureFixture[str], error: BaseException, status: int, line: str
) -> None:
    assert run("x.y", failing(error)) == status
    captured = capsys.readouterr()
    assert captured.err.strip() == line and captured.out == ""


def test_other_errors_pass_and_a_status_is_returned(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ZeroDivisionError):
        run("x.y", failing(ZeroDivisionError()))
    assert run("x.y", lambda: 1) == 1
    assert run("x.y", failing(KeyboardInterrupt()), "go on with --resume") == 130
    assert "stopped; go on with --resume" in capsys.readouterr().err


WAITING = """
import sys, time
from faces.command import run
def action():
    try:
        print("at work", flush=True)
        time.sleep(60)
    finally:
        print("closed", flush=True)
sys.exit(run("x.y", action))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_that_end_a_command_let_it_close_what_is_open(number: int) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", WAITING], cwd=ROOT, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None and process.stdout.readline() == "at work\n"
    process.send_signal(number)
    assert process.stderr is not None
    out, err = process.stdout.read(), process.stderr.read()
    assert (process.wait(30), out) == (130, "closed\n")
    assert err.strip() == "x.y: stopped; what was finished is kept"


def test_a_second_sigterm_does_not_disturb_the_closing() -> None:
    def action() -> int:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            raise AssertionError("not stopped")
        finally:
            os.kill(os.getpid(), signal.SIGHUP)
            closed.append(True)

    closed: list[bool] = []
    assert run("x.y", action) == 130 and closed
    assert signal.getsignal(signal.SIGTERM) == signal.getsignal(signal.SIGHUP) == signal.SIG_DFL


def test_nohup_stays_nohup() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert run("x.y", lambda: os.kill(os.getpid(), signal.SIGHUP) or 0) == 0
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_forked_worker_ends_at_sigterm_as_ever() -> None:
    def action() -> int:
        if (child := os.fork()) == 0:
            try:
                os.kill(os.getpid(), signal.SIGTERM)
            finally:
                os._exit(0)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    assert run("x.y", action) == -signal.SIGTERM


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a full device")
@pytest.mark.parametrize("words", ["print('x')", "print('x', flush=True)", "print('x' * 100000)"])
def test_a_full_disk_behind_standard_output_is_one_line(words: str) -> None:
    code = f"import sys\nfrom faces.command import run\nsys.exit(run('x.y', lambda: {words} or 0))"
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert (done.returncode, done.stderr) == (2, "x.y: No space left on device\n")


def interrupted_import(tmp_path: Path, *arguments: str) -> tuple[int, str]:
    """Press Ctrl-C while a command waits for NumPy or PyTorch; return its status and words."""
    for name in ("numpy", "torch"):
        waits = "import time\nprint('importing', flush=True)\ntime.sleep(60)\n"
        (tmp_path / f"{name}.py").write_text(waits)
    process = subprocess.Popen(
        [sys.executable, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(tmp_path), str(ROOT)))},
        # A job in the background ignores Ctrl-C, and so would what it starts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "importing\n"
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=60)
    finally:
        process.kill()
    return process.returncode, error.strip()


@pytest.mark.parametrize(
    "module",
    [
        "baselines.train",
        "benchmarks.joint",
        "classification.train",
        "detection.train",
        "eval.detection",
        "twostage.cli",
        "twostage",
    ],
)
def test_ctrl_c_while_a_command_imports_is_one_line_and_130(tmp_path: Path, module: str) -> None:
    assert interrupted_import(tmp_path, "-m", module, "--help") == (130, f"{module}: stopped")


def test_ctrl_c_while_the_script_imports_is_one_line_and_130(tmp_path: Path) -> None:
    script = tmp_path / "twostage"
    script.write_text(
        "import sys\nfrom twostage.__main__ import main\nsys.exit(main())\n"  # as installers write
    )
    found = interrupted_import(tmp_path, str(script), "models")
    assert found == (130, "twostage: stopped")


def test_people_who_import_a_package_keep_their_excepthook(tmp_path: Path) -> None:
    code = (
        "import sys, twostage, detection, classification, baselines, eval, benchmarks; "
        "sys.exit(sys.excepthook is not sys.__excepthook__)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_other_errors_while_importing_stay_tracebacks(tmp_path: Path) -> None:
    (tmp_path / "numpy.py").write_text("1 / 0")
    process = subprocess.run(
        [sys.executable, "-m", "twostage.cli"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(tmp_path), str(ROOT)))},
    )
    assert process.returncode == 1 and "ZeroDivisionError" in process.stderr


def test_types_of_arguments() -> None:
    assert command.positive_pixels("0") == 0 and command.fraction("0.5") == 0.5
    for parse, text in (
        (command.positive_pixels, "-1"),
        (command.positive_pixels, "inf"),
        (command.positive_pixels, "x"),
        (command.fraction, "0"),
        (command.fraction, "1"),
        (command.fraction, "nan"),
    ):
        with pytest.raises(command.ArgumentTypeError, match="expected a"):
            parse(text)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("Grüße 顔.jpg", "Grüße 顔.jpg"),
        ("\x1b[31mred\x07.jpg", r"\x1b[31mred\x07.jpg"),
        ("new\nline\r\t.jpg", r"new\nline\r\t.jpg"),
        ("\x9b2J\u202egpj.exe\u2028", r"\x9b2J\u202egpj.exe\u2028"),
        ("family \U0001f468\u200d\U0001f469.jpg", "family \U0001f468\u200d\U0001f469.jpg"),
        ("9.41\u202fAM\\n.png", "9.41\u202fAM\\n.png"),
    ],
)
def test_what_could_steer_a_terminal_is_shown_escaped(
    name: str, shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.printable(name) == shown
    assert str(ImageError(name, "is empty")) == f"{shown}: is empty"
    assert ImageError(name, "is empty").source == name
    command.note("x.y", "\x1b[2J")
    assert capsys.readouterr().err == "x.y: \\x1b[2J\n"
