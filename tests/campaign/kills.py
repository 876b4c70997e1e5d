"""Kills (SIGKILL) at seeded moments: what is resumed must end as what was never stopped."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.campaign.process import start, watch
from tests.stand_ins import write_coco, write_fer2013

SECONDS = 600.0
"""A run that takes longer is hung."""

Words = Sequence[str]


class Campaign:
    """Runs a command over and over, kills it, resumes it, and compares what it leaves at the end.

    Args:
        words: of the command that makes ``out``, given whether it resumes.
        progress: tells, of ``out``, how far it is; anything that changes.
        result: of a finished ``out``: what must be the same as without kills.
        seed: of the moments.
        spread: seconds after a step of progress within which the kill comes.
        folder: where all runs lie.
        ending: of the names of what the runs leave.
        status: the right exit status.
    """

    def __init__(
        self,
        words: Callable[[Path, bool], Words],
        progress: Callable[[Path], object],
        result: Callable[[Path], object],
        seed: int,
        spread: float,
        folder: Path,
        ending: str = "",
        status: int = 0,
    ) -> None:
        self._words, self._progress, self._result = words, progress, result
        self._pick = random.Random(seed)
        self._spread, self._folder, self._ending = spread, folder, ending
        self._status = status
        self.errors: list[str] = []
        folder.mkdir(parents=True)

    def run(self, kills: int) -> dict[str, int]:
        """Kill so many times, in as many runs as that takes; returns the figures."""
        found = dict.fromkeys(("kills", "runs", "differing", "tracebacks", "hangs", "crashes"), 0)
        whole = self._folder / f"whole{self._ending}"
        self._finish(whole, False, found)
        expected = self._result(whole)
        while found["kills"] < kills and found["runs"] < 3 * kills:
            out = self._folder / f"run_{found['runs']}{self._ending}"
            resumed, alive = False, True
            for _ in range(min(self._pick.choice((2, 3, 4)), kills - found["kills"])):
                alive = self._kill(out, resumed, found)
                resumed = True
                if not alive:
                    break
            self._finish(out, resumed, found)
            found["runs"] += 1
            if self._result(out) != expected:
                found["differing"] += 1
                self.errors.append(f"{out} differs from {whole}")
        if self.errors:
            (self._folder / "errors.txt").write_text("\n\n".join(self.errors))
        return found

    def _kill(self, out: Path, resumed: bool, found: dict[str, int]) -> bool:
        """Start and kill; False if it had ended before."""
        at = self._progress(out)
        with (self._folder / "said.txt").open("wb") as said:
            process = start(self._words(out, resumed), said, said)
            end = time.monotonic() + SECONDS
            if self._pick.random() < 0.85:  # else while it starts
                while self._progress(out) == at and process.poll() is None:
                    if time.monotonic() > end:
                        found["hangs"] += 1
                        break
                    time.sleep(0.01)
            time.sleep(self._pick.uniform(0, self._spread))
            process.send_signal(signal.SIGKILL)
            status = process.wait()
        text = (self._folder / "said.txt").read_text(errors="replace")
        self._count(status, text, found, (-signal.SIGKILL, *self._statuses(resumed)))
        found["kills"] += status == -signal.SIGKILL
        return status == -signal.SIGKILL

    def _finish(self, out: Path, resumed: bool, found: dict[str, int]) -> None:
        ended = watch(self._words(out, resumed), SECONDS)
        found["hangs"] += ended.hung
        self._count(ended.status, ended.error, found, self._statuses(resumed))

    def _statuses(self, resumed: bool) -> tuple[int, ...]:
        """How a run may end: what failed before a kill is not tried again, so 0 if resumed, too."""
        return (self._status, 0) if resumed else (self._status,)

    def _count(
        self, status: int, said: str, found: dict[str, int], expected: Sequence[int]
    ) -> None:
        if "Traceback (most recent call last)" in said:
            found["tracebacks"] += 1
            self.errors.append(said)
        elif status not in expected:
            found["crashes"] += 1
            self.errors.append(f"status {status}: {said}")


def _size(path: Path) -> object:
    """How far a run is, by the file that it renews after each step."""
    try:
        about = os.stat(path)
        return about.st_mtime_ns, about.st_size, about.st_ino
    except OSError:
        return None


def analyze(
    count: int,
    seed: int,
    folder: Path,
    command: Words = ("-m", "twostage"),
    copies: int = 120,
    forms: Sequence[str] = ("jsonl", "csv", "parquet"),
) -> dict[str, Any]:
    """Kill ``twostage analyze`` while it writes ``copies`` images in each of the forms."""
    from tests.campaign.pictures import sample

    photos = folder / "photos"
    photos.mkdir(parents=True)
    kinds = ("jpeg", "png", "webp", "bmp", "gif")
    for number in range(copies):
        data = sample(kinds[number % len(kinds)])
        (photos / f"{number:03d}.jpg").write_bytes(data if number % 17 else data[:900])
    total: dict[str, int] = {}
    for index, form in enumerate(forms):

        def words(out: Path, resume: bool) -> Words:
            options = ["--quiet", "--workers", "1", *(["--resume"] if resume else [])]
            return [*command, "analyze", str(photos), "--out", str(out), *options]

        campaign = Campaign(
            words,
            lambda out: _size(out.with_name(f"{out.name}.run")),
            _rows,
            seed + index,
            0.6,
            folder / form,
            f".{form}",
            status=1,
        )
        share = count // len(forms) + (index < count % len(forms))
        for key, value in campaign.run(share).items() if share else ():
            total[key] = total.get(key, 0) + value
    return {"campaign": "kills of analyze", "seed": seed, **total}


def _rows(out: Path) -> object:
    """The rows of a result file, without the times."""
    if out.suffix == ".parquet":
        import pyarrow.dataset

        table = pyarrow.dataset.dataset(sorted(out.glob("*.parquet"))).to_table()
        return [{k: v for k, v in row.items() if k != "seconds"} for row in table.to_pylist()]
    if out.suffix == ".csv":
        return out.read_text()
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


def classification(count: int, seed: int, folder: Path) -> dict[str, Any]:
    """Kill ``classification.train``, which saves after each epoch."""
    folder.mkdir(parents=True)
    data = write_fer2013(folder / "fer2013.csv", dict.fromkeys(("Training", "PublicTest"), 140))

    def words(out: Path, resume: bool) -> Words:
        head = ["-m", "classification.train", "--recipe", "classification/recipes/simple_cnn.toml"]
        head += ["--data", str(data), "--out", str(out), "--device", "cpu", "--workers", "0"]
        return [*head, *(["--resume"] if resume else []), "epochs", "8", "batch_size", "14"]

    campaign = Campaign(
        words, lambda out: _size(out / "checkpoint.pt"), _network, seed, 1.0, folder / "runs"
    )
    return {"campaign": "kills of classification.train", "seed": seed, **campaign.run(count)}


def _network(out: Path) -> object:
    return (out / "model.safetensors").read_bytes()


def detection(count: int, seed: int, folder: Path) -> dict[str, Any]:
    """Kill ``detection.train``, which saves every second iteration."""
    from tests.detection.training.test_training import SMALL

    boxes = [((40, 20, 76, 60),), ((20, 30, 60, 80), (80, 20, 120, 60)), ()] * 4
    coco = write_coco(folder / "faces", boxes)

    def words(out: Path, resume: bool) -> Words:
        data = [str(coco.json), str(coco.images)]
        head = ["-m", "detection.train", "--config-file", "mobilenet_fpn", "--num-gpus", "0"]
        head += ["--train-coco", *data, "--val-coco", *data, *(["--resume"] if resume else [])]
        more = ["SOLVER.MAX_ITER", "16", "SOLVER.CHECKPOINT_PERIOD", "2", "TEST.EVAL_PERIOD", "8"]
        return [*head, *SMALL, *more, "DATALOADER.NUM_WORKERS", "0", "OUTPUT_DIR", str(out)]

    campaign = Campaign(
        words, lambda out: _size(out / "last_checkpoint"), _detector, seed, 1.0, folder / "runs"
    )
    return {"campaign": "kills of detection.train", "seed": seed, **campaign.run(count)}


def _detector(out: Path) -> object:
    return [(out / name).read_bytes() for name in ("model.safetensors", "metrics.json")]
