"""Sources → frames: times, rotation, sampling, going on, and what is broken."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

av = pytest.importorskip("av", reason="the extra video is not installed")

from faces.command import UserError  # noqa: E402
from tests.video.conftest import frame, write_video  # noqa: E402
from video.frames import Frame, Frames, LatestFrames, open_frames, upright  # noqa: E402


def numbered(count: int) -> Iterator[np.ndarray]:
    """Frames whose brightness tells their number."""
    return (np.full((32, 48, 3), 10 * i + 20, np.uint8) for i in range(count))


def numbers(frames: Frames) -> list[int]:
    return [round((float(one.image.mean()) - 20) / 10) for one in frames]


def test_a_video_gives_all_frames_with_their_times(tmp_path: Path) -> None:
    frames = open_frames(write_video(tmp_path / "a.mp4", numbered(12)))
    found = list(frames)
    assert [one.index for one in found] == list(range(12))
    assert [one.time for one in found] == pytest.approx(np.arange(12) / 10)
    assert found[0].image.shape == (32, 48, 3) and frames.problems == []
    assert frames.rate == pytest.approx(10) and frames.seconds == pytest.approx(1.2)


def test_a_varying_frame_rate_keeps_its_times(tmp_path: Path) -> None:
    times = [0, 40, 500, 540, 2000]
    path = write_video(tmp_path / "a.mkv", numbered(5), times=times)
    assert [one.time for one in open_frames(path)] == pytest.approx([t / 1000 for t in times])


@pytest.mark.parametrize("every", [0.25, 0.3, 1.0])
def test_sampling_takes_the_first_frame_of_each_interval(tmp_path: Path, every: float) -> None:
    path = write_video(tmp_path / "a.mp4", numbered(20))
    taken = [one.time for one in open_frames(path, every)]
    expected = [t for i, t in enumerate(np.arange(20) / 10)
                if i == 0 or int(t / every + 1e-6) > int((t - 0.1) / every + 1e-6)]  # fmt: skip
    assert taken == pytest.approx(expected)


@pytest.mark.parametrize("every", [None, 0.3])
@pytest.mark.parametrize("stopped", [0, 3, 5])
def test_going_on_begins_with_the_last_frame_and_misses_none(
    tmp_path: Path, every: float | None, stopped: int
) -> None:
    path = write_video(tmp_path / "a.mp4", numbered(20))
    whole = list(open_frames(path, every))
    rest = list(open_frames(path, every, (whole[stopped].index, whole[stopped].time)))
    assert [(one.index, one.time) for one in rest] == [(o.index, o.time) for o in whole[stopped:]]


def test_rotated_frames_stand_upright(monkeypatch: pytest.MonkeyPatch) -> None:
    image = np.zeros((4, 6, 3), np.uint8)
    image[0, 0] = 255

    class Turned:
        rotation = -90

        def to_ndarray(self, format: str) -> np.ndarray:
            return image

    found = upright(Turned())  # type: ignore[arg-type]
    assert found.shape == (6, 4, 3) and found[0, 3, 0] == 255  # turned clockwise


def test_an_animated_gif_gives_its_frames(tmp_path: Path) -> None:
    images = [Pillow.fromarray(image) for image in numbered(4)]
    path = tmp_path / "a.gif"
    images[0].save(path, save_all=True, append_images=images[1:], duration=200)
    found = list(open_frames(path))
    assert [one.time for one in found] == pytest.approx([0, 0.2, 0.4, 0.6])


def test_a_folder_is_read_in_the_order_of_its_numbers(tmp_path: Path) -> None:
    for i, image in enumerate(numbered(12)):
        Pillow.fromarray(image).save(tmp_path / f"{i}.png")
    (tmp_path / "3.png").write_bytes(b"broken")
    frames = open_frames(tmp_path)
    assert numbers(frames) == [0, 1, 2, 4, 5, 6, 7, 8, 9, 10, 11]
    assert len(frames.problems) == 1 and "3.png" in frames.problems[0]


def test_a_cut_off_video_gives_what_is_there_and_says_so(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    noise = (rng.integers(0, 255, (64, 96, 3), dtype=np.uint8) for _ in range(30))
    whole = write_video(tmp_path / "a.mp4", noise, options={"movflags": "faststart"})
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    frames = open_frames(cut)
    assert 0 < len(list(frames)) < 30
    assert len(frames.problems) == 1 and "cut off" in frames.problems[0]


def test_a_video_cut_off_before_its_index_is_refused(tmp_path: Path) -> None:
    whole = write_video(tmp_path / "a.mp4", numbered(10))
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with pytest.raises(UserError, match=r"cut\.mp4: cannot be read as a video"):
        open_frames(cut)


def test_sound_alone_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", 8000, layout="mono")
        samples = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), "s16", "mono")
        samples.sample_rate = 8000
        container.mux(stream.encode(samples))
    with pytest.raises(UserError, match="holds no video stream"):
        open_frames(path)


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("missing.mp4", "no such file or folder"),
        ("camera:77", "camera"),
        ("http://127.0.0.1:9/a.mp4", "cannot be opened"),
    ],
)
def test_what_is_not_there_is_refused_in_one_line(source: str, says: str) -> None:
    with pytest.raises(UserError, match=says) as error:
        open_frames(source, stall=2.0)
    assert source in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"no video at all" * 100])
def test_files_that_are_no_videos_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    with pytest.raises(UserError, match="cannot be"):
        open_frames(path)


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no images"):
        open_frames(tmp_path)


class Camera(Frames):
    """Gives a frame every 10 ms, then stalls until the test lets it end."""

    def __init__(self, count: int) -> None:
        super().__init__("camera", live=True)
        self.count, self.go = count, threading.Event()

    def __iter__(self) -> Iterator[Frame]:
        for index in range(self.count):
            time.sleep(0.01)
            yield Frame(index, index / 100, frame([]))
        self.go.wait(5)


def test_a_slow_reader_gets_the_newest_frame_and_the_rest_is_counted() -> None:
    camera = Camera(30)
    latest = LatestFrames(camera, stall=5.0)
    seen = []
    for one in latest:
        seen.append(one.index)
        if one.index == 29:
            camera.go.set()
        time.sleep(0.05)
    assert seen == sorted(seen) and seen[-1] == 29 and len(seen) < 30
    assert latest.dropped == 30 - len(seen)


def test_a_stream_that_stalls_ends_with_a_line() -> None:
    camera = Camera(3)
    latest = LatestFrames(camera, stall=0.3)
    assert [one.index for one in latest][-1] == 2
    assert latest.problems == ["camera: stalled: no frame for 0.3 seconds"]
    camera.go.set()
