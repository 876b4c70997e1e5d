"""``twostage video`` as a process of its own: killed, out of disk space, fed what is broken."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

av = pytest.importorskip("av", reason="the extra video is not installed")

from faces.pipeline import Pipeline  # noqa: E402
from tests.video.conftest import frame, write_video  # noqa: E402
from twostage import cli, video_command  # noqa: E402
from video import job  # noqa: E402
from video.frames import open_frames  # noqa: E402
from video.job import notes_path  # noqa: E402
from video.tables import tracks_path  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]

PROCESS = """
import os, resource, signal, sys
from faces.pipeline import Pipeline
from tests.stand_ins import ScriptedClassifier, ScriptedDetector, brightness
from tests.video.conftest import find_squares
from twostage import cli, video_command

seen = 0
def find(image):
    global seen
    seen += 1
    if seen == {kill_at}:
        os.kill(os.getpid(), signal.SIGKILL)
    return find_squares(image)

if {bytes}:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, ({bytes}, {bytes}))
pipeline = Pipeline(ScriptedDetector(find), ScriptedClassifier(brightness), margin=0.0)
video_command.load_pipeline = lambda *names, **options: pipeline
sys.exit(cli.main(sys.argv[1:]))
"""

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Runs ``twostage video`` on a source in a process that is killed, or may write so much."""

    def run(source: Path, out: str, kill_at: int = 0, bytes: int = 0) -> object:
        script = PROCESS.format(kill_at=kill_at, bytes=bytes)
        words = [sys.executable, "-c", script, "video", str(source), "--out", str(tmp_path / out)]
        return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=300)

    return run  # type: ignore[return-value]


@pytest.mark.parametrize("seed", [0, 1])
def test_a_killed_analysis_goes_on_to_the_same_tables(
    run: Run, moving: Path, tmp_path: Path, seed: int
) -> None:
    whole, out = tmp_path / "whole.jsonl", tmp_path / "out.jsonl"
    assert run(moving, whole.name).returncode == 0
    killed_at = random.Random(seed).sample(range(2, 12), 2)
    for kill_at in killed_at:
        assert run(moving, out.name, kill_at=kill_at).returncode == -9
        assert not out.exists() and notes_path(out).stat().st_size > 0
    finished = run(moving, out.name)
    assert finished.returncode == 0 and f"{sum(killed_at) - 2} of them noted" in finished.stdout
    assert out.read_bytes() == whole.read_bytes()
    assert tracks_path(out).read_bytes() == tracks_path(whole).read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith("out")) == [
        "out.jsonl",
        "out.tracks.jsonl",
    ]


def test_a_disk_that_is_full_ends_with_one_line_and_the_next_call_goes_on(
    run: Run, moving: Path, tmp_path: Path
) -> None:
    failed = run(moving, "out.jsonl", bytes=9000)
    assert failed.returncode == 2 and "File too large" in failed.stderr
    assert len(failed.stderr.strip().splitlines()) == 1 and not (tmp_path / "out.jsonl").exists()
    finished = run(moving, "out.jsonl")
    assert finished.returncode == 0 and "of them noted before" in finished.stdout
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 40


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, squares_pipeline: Pipeline) -> None:
    """``twostage video`` in this process, with stand-ins."""
    monkeypatch.setattr(video_command, "load_pipeline", lambda *names, **options: squares_pipeline)


def test_a_cut_off_video_ends_with_status_1_and_a_table_of_its_beginning(
    here: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = [frame([(5 + 3 * i, 20, 30, 250)]) for i in range(30)]
    whole = write_video(tmp_path / "a.mp4", images, options={"movflags": "faststart"})
    cut, out = tmp_path / "cut.mp4", tmp_path / "out.jsonl"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 2 // 3])
    assert cli.main(["video", str(cut), "--out", str(out)]) == 1
    error = capsys.readouterr().err.strip()
    assert len(error.splitlines()) == 1 and "cut off" in error
    assert 3 < len(out.read_text().splitlines()) < 30


def no_frames(path: Path) -> None:
    """Write a video whose stream holds no frame."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", 10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        container.mux(stream.encode(None))


def sound_only(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", 16000, layout="mono")
        container.mux(stream.encode(None))


@pytest.mark.parametrize("make", [no_frames, sound_only, lambda path: path.write_bytes(b"")])
def test_what_holds_no_frame_is_refused_in_one_line(
    make: Callable[[Path], object], here: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make(tmp_path / "a.mp4")
    assert cli.main(["video", str(tmp_path / "a.mp4"), "--out", str(tmp_path / "out.csv")]) == 2
    error = capsys.readouterr().err.strip()
    assert len(error.splitlines()) == 1 and "a.mp4" in error
    assert not (tmp_path / "out.csv").exists()


@pytest.fixture
def stalling(tmp_path: Path) -> Iterator[str]:
    """The address of a stream that gives two seconds of video, then nothing."""
    images = [frame([(10 + i, 20, 30, 250)]) for i in range(20)]
    content = write_video(tmp_path / "stream.ts", images).read_bytes()
    ended = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "video/mp2t")
            self.end_headers()
            self.wfile.write(content)
            self.wfile.flush()
            ended.wait(60)

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/live.ts"
    ended.set()
    server.shutdown()


def test_a_stream_that_stalls_ends_with_one_line_and_what_was_seen(
    here: None,
    stalling: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(job, "open_frames", partial(open_frames, stall=2.0))
    out = tmp_path / "out.jsonl"
    assert cli.main(["video", stalling, "--out", str(out)]) == 1
    error = capsys.readouterr().err.strip()
    assert len(error.splitlines()) == 1 and "stalled" in error
    assert len(out.read_text().splitlines()) >= 1
