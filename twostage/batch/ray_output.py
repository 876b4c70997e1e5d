"""The files of a run on Ray: what grows, what is done, and how the whole becomes the output.

Beside ``faces.parquet``, all in a folder that every node sees, lie ``faces.parquet.part``, which
grows, ``faces.parquet.checkpoint``, in which Ray notes the images that are in it, and the journal
``faces.parquet.run``, whose header ``--resume`` compares. Results are in place when the run ends.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from faces.sinks import SinkError
from twostage.batch import columns
from twostage.batch.resume import PARQUET, check_settings, journal_of, lock_journal, read_journal

PENDING = ".pending.parquet"
"""How Ray calls a note of images whose file may not be whole yet."""


class Totals(NamedTuple):
    """What an output holds: images with a result, their faces, images that failed."""

    images: int
    faces: int
    failed: int


class RayOutput:
    """The folder of Parquet files that a run on Ray makes; ``finish`` puts it in place.

    Args:
        out: ends in ``.parquet``.
        header: what it is made with, see ``run_header``.
        resume: go on with what is there; it must have been made with the same header.
        retry_failed: images that failed count as not done.

    Attributes:
        done: number of images that an earlier run did.
        note: what the user should be told of files found.

    Raises:
        SinkError: on entry, where it cannot be written, another process writes it, or what is there
            cannot be resumed.
    """

    def __init__(
        self, out: str, header: dict[str, Any], *, resume: bool = False, retry_failed: bool = False
    ) -> None:
        self.path = Path(os.path.realpath(out))
        if not self.path.name.lower().endswith(PARQUET):
            raise SinkError(f"--out {out}: --engine ray writes {PARQUET} only; end it so")
        if self.path.exists() and not self.path.is_dir():
            raise SinkError(f"{self.path}: is a file; .parquet results are a folder of files")
        self.part = self.path.with_name(f"{self.path.name}.part")
        self.checkpoint = self.path.with_name(f"{self.path.name}.checkpoint")
        self._header = {"run": 1, **header}
        self._resume, self._retry_failed = resume, retry_failed
        self.done = 0
        self.note = ""

    def __enter__(self) -> Self:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._lock, _ = lock_journal(journal_of(self.path))
        except OSError as error:
            raise SinkError(f"{self.path}: cannot be written: {error.strerror}") from error
        try:
            if self._resume and (self.part.exists() or self.path.exists()):
                self._go_on()
            else:
                self._begin()
        except BaseException:
            self._unlock()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._unlock()

    def _unlock(self) -> None:
        if os.fstat(self._lock).st_size == 0:
            journal_of(self.path).unlink(missing_ok=True)
        os.close(self._lock)

    def _begin(self) -> None:
        """Begin anew; the results of a stopped run are set aside."""
        if any(self.part.glob("*.parquet")):
            stopped = self.path.with_name(f"{self.path.name}.stopped")
            shutil.rmtree(stopped, ignore_errors=True)
            self.part.rename(stopped)
            self.note = f"{self.path}: the results of a stopped run are now in {stopped.name}"
        shutil.rmtree(self.checkpoint, ignore_errors=True)
        self._write_journal([])
        self.part.mkdir(exist_ok=True)

    def _go_on(self) -> None:
        """Check that what is there goes on, and prepare it."""
        before = read_journal(journal_of(self.path)).header
        if before is None:
            raise SinkError(
                f"{self.path}: --resume needs {journal_of(self.path).name} beside it, which tells "
                "how it was made; name another file, or begin again without --resume"
            )
        check_settings(self.path, before, self._header)
        if not self.part.exists():
            self._copy_target()
        self._drop_unfinished()
        retried = set(_failures(self.part)) if self._retry_failed else set()
        for path in sorted(self.checkpoint.glob("*.parquet")):
            sources = columns.read_sources(path)
            if not sources.isdisjoint(retried):
                columns.write_sources(path, sorted(sources - retried))
            self.done += len(sources - retried)

    def _copy_target(self) -> None:
        """Let a finished output go on in a new part, which shares its files."""
        shutil.rmtree(self.checkpoint, ignore_errors=True)
        self.checkpoint.mkdir()
        growing = self.part.with_name(f"{self.part.name}.copy")
        shutil.rmtree(growing, ignore_errors=True)
        growing.mkdir()
        for path in columns.part_files(self.path):
            columns.write_sources(self.checkpoint / path.name, sorted(columns.read_sources(path)))
            try:
                os.link(path, growing / path.name)  # files are never changed in place
            except OSError:
                shutil.copyfile(path, growing / path.name)
        growing.rename(self.part)

    def _drop_unfinished(self) -> None:
        """Remove files that were being written, as Ray would."""
        for pending in self.checkpoint.glob(f"*{PENDING}"):
            for path in self.part.glob(f"{pending.name.removesuffix(PENDING)}*"):
                path.unlink()
            pending.unlink()

    def finish(self) -> Totals:
        """Put the results in place, with a journal as of a run without Ray.

        Raises:
            OSError: a file cannot be written; ``--resume`` goes on.
        """
        _drop_stale_failures(self.part)
        files = columns.part_files(self.part)
        if not files:
            columns.write_part(self.part / "part-00000.parquet", columns.table_of([]))
        for number, path in enumerate(files):
            path.rename(self.part / f"part-{number:05d}.parquet")
        totals = self._write_journal(columns.part_files(self.part))
        older = self.path.with_name(f"{self.path.name}.old")
        shutil.rmtree(older, ignore_errors=True)
        if self.path.exists():
            self.path.rename(older)
        self.part.rename(self.path)
        shutil.rmtree(older, ignore_errors=True)
        shutil.rmtree(self.checkpoint, ignore_errors=True)
        return totals

    def _write_journal(self, files: list[Path]) -> Totals:
        """Write the header and, for each file of a finished output, what is in it."""
        total = Counter[str]()
        os.truncate(self._lock, 0)
        with open(os.dup(self._lock), "w", encoding="utf-8") as journal:
            journal.seek(0)
            print(json.dumps(self._header), file=journal)
            for end, path in enumerate(files, start=1):
                counts: Counter[str] = Counter()
                failed: dict[str, str] = {}
                for row in columns.read_rows(path, ["source", "face", "error"]):
                    if row["error"] is not None:
                        failed[row["source"]] = row["error"]
                    else:
                        counts[row["source"]] += row["face"] is not None
                line = {"end": end, "images": list(counts.items()), "failed": list(failed.items())}
                print(json.dumps(line), file=journal)
                total.update(images=len(counts), faces=counts.total(), failed=len(failed))
            journal.flush()
            os.fsync(journal.fileno())
        return Totals(total["images"], total["faces"], total["failed"])


def _failures(folder: Path) -> set[str]:
    """Return the images that failed."""
    rows = columns.read_rows(folder, ["source", "error"])
    return {row["source"] for row in rows if row["error"] is not None}


def _drop_stale_failures(folder: Path) -> None:
    """Remove the failures of images that were tried again; what came of them last stays."""
    failed = _failures(folder)
    later: set[str] = set()
    for path in reversed(columns.part_files(folder)) if failed else ():
        columns.drop_failures(path, later)
        later |= columns.read_sources(path) & failed
