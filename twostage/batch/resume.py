"""Result files that a stopped or killed run leaves in a state from which another goes on.

Beside ``faces.jsonl`` lies ``faces.jsonl.run``, the journal: a header that says what the file is
made with, then a line per batch of images. Results go to ``faces.jsonl.part``, are flushed to the
disk, and only then the batch's line is written. So after kill -9, or a power cut, the journal tells
up to where the part is complete. When the run ends, the part becomes ``faces.jsonl``; an older file
of that name stands until then.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import itertools
import json
import os
import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from faces.files import publish, regular_file
from faces.paths import ImageError
from faces.sinks import CsvSink, JsonLinesSink, Sink, SinkError, Threshold
from faces.types import ImageResult
from twostage.batch import columns

Entry = ImageResult | ImageError

LINES: dict[str, type[Sink]] = {".jsonl": JsonLinesSink, ".csv": CsvSink}
PARQUET = ".parquet"
RESUMABLE = (*LINES, PARQUET)
"""Extensions of the result files that can be resumed."""

PARQUET_ROWS, PARQUET_SECONDS = 20_000, 60.0
"""A part file of a table is written when it has so many rows, or after so many seconds."""


def is_resumable(out: str) -> bool:
    """Tell whether a result file of this name can be resumed."""
    return out.lower().endswith(RESUMABLE)


def key_of(source: str) -> bytes:
    """Return 16 bytes that stand for an image's name."""
    return blake2b(source.encode("utf-8", "surrogateescape"), digest_size=16).digest()


def differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Say in which settings two headers differ; ``device`` and ``created`` may."""
    keys = [key for key in {**before, **now} if key not in ("device", "created")]
    return [
        f"{key} {_short(before.get(key))} there, {_short(now.get(key))} now"
        for key in keys
        if before.get(key) != now.get(key)
    ]


def check_settings(path: Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    """Check that a result file was made with the settings of now.

    Raises:
        SinkError: it was not; the message says what differs.
    """
    if differing := differences(before, now):
        raise SinkError(
            f"{path}: was made with other settings: {'; '.join(differing)}; give the "
            "same, name another file, or begin again without --resume"
        )


def journal_of(path: Path) -> Path:
    """Return the journal that lies beside a result file."""
    return path.with_name(f"{path.name}.run")


def lock_journal(journal: Path) -> tuple[int, bool]:
    """Open a journal for this process alone; returns its descriptor and whether it was there.

    Raises:
        SinkError: another process has it.
        OSError: it cannot be opened.
    """
    while True:
        existed = journal.exists()
        descriptor = os.open(journal, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise SinkError(
                f"{journal.with_suffix('')}: another run is writing it; wait for it, or name "
                "another file"
            ) from None
        except OSError:
            return descriptor, existed  # a file system without locks
        # another process may have removed the file before it was locked here
        with contextlib.suppress(FileNotFoundError):
            if os.fstat(descriptor).st_ino == journal.stat().st_ino:
                return descriptor, existed
        os.close(descriptor)


def _short(value: Any) -> str:
    if not isinstance(value, dict):
        return str(value)
    parts = (f"{k}={v[:12] if isinstance(v, str) else v}" for k, v in value.items())
    return " ".join(parts) or "none"


class Store(ABC):
    """Where results grow: the place that is written to, and the target that it becomes."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self.part = target.with_name(f"{target.name}.part")
        self.stopped = target.with_name(f"{target.name}.stopped")

    @abstractmethod
    def size(self, place: Path) -> int:
        """Return how far a place is written, in the unit of the journal's ``end``."""

    def is_changed(self, end: int) -> bool:
        """Tell whether the target is not what a run that came to ``end`` has left."""
        return False

    @abstractmethod
    def begin(self, end: int, *, again: bool) -> int:
        """Open the part for writing from ``end`` on; returns its end.

        Args:
            end: what lies behind it is cut off.
            again: go on with the part, or with a copy of the target where there is no part.
        """

    @abstractmethod
    def is_due(self, entries: Sequence[Entry]) -> bool:
        """Tell whether entries that wait should be written now."""

    @abstractmethod
    def append(self, entries: Sequence[Entry], end: int) -> int:
        """Write entries from ``end`` on; they are on the disk when it returns the new end."""

    @abstractmethod
    def publish(self, end: int) -> None:
        """Cut the part at ``end`` and let it become the target."""

    def forget(self, sources: Sequence[str], before: int) -> None:  # noqa: B027
        """Remove the rows of failures that are tried again, as far as they stand before ``before``.

        Files of lines hold no failures.
        """


class LinesStore(Store):
    """A file to which lines are added; ``end`` counts bytes."""

    def __init__(self, target: Path, form: Sink) -> None:
        super().__init__(target)
        self._form = form

    def size(self, place: Path) -> int:
        """Return its length in bytes."""
        return place.stat().st_size if place.is_file() else 0

    def is_changed(self, end: int) -> bool:
        """Tell whether its length is another."""
        return end not in (0, self.size(self.target))

    def begin(self, end: int, *, again: bool) -> int:
        """Open the part, see ``Store``."""
        if again and not self.part.exists() and self.target.exists():
            copied = self.part.with_name(f"{self.part.name}.copy")
            shutil.copyfile(self.target, copied)
            publish(copied, self.part)
        with open(self.part, "ab") as file:
            file.truncate(end)
            if end == 0:
                file.write(self._form.head)
        return end or len(self._form.head)

    def is_due(self, entries: Sequence[Entry]) -> bool:
        """Write every task at once."""
        return True

    def append(self, entries: Sequence[Entry], end: int) -> int:
        """Add lines for the results."""
        data = b"".join(self._form.encode(e) for e in entries if isinstance(e, ImageResult))
        # unbuffered: nothing that failed to be written comes back when the file is closed
        with open(self.part, "r+b", buffering=0) as file:
            file.truncate(end)  # behind it lies what an interrupted call has written
            file.seek(end)
            rest = memoryview(data)
            while rest:
                rest = rest[file.write(rest) :]
            os.fsync(file.fileno())
            return file.tell()

    def publish(self, end: int) -> None:
        """Cut the part and move it to the target."""
        os.truncate(self.part, end)
        publish(self.part, self.target)


class ParquetStore(Store):
    """A folder to which Parquet files are added, each written whole; ``end`` counts files."""

    def __init__(self, target: Path, threshold: Threshold) -> None:
        super().__init__(target)
        columns.import_pyarrow()
        if target.exists() and not target.is_dir():
            raise SinkError(f"{target}: is a file; .parquet results are a folder of files")
        self._threshold = threshold
        self._place = target
        self._written = 0
        self._since = time.monotonic()

    def _file(self, number: int) -> Path:
        return self._place / _part_name(number)

    def size(self, place: Path) -> int:
        """Return the number of its files, up to the first that is missing."""
        numbers = itertools.count()
        return next(n for n in numbers if not (place / _part_name(n)).exists())

    def begin(self, end: int, *, again: bool) -> int:
        """Open the part, or the target itself, see ``Store``."""
        # files are only added, so a run that goes on may do so in the target itself
        in_target = not self.part.exists() and (again or not self.target.exists())
        self._place = self.target if in_target else self.part
        self._place.mkdir(parents=True, exist_ok=True)
        wanted = {self._file(number) for number in range(end)}
        for path in self._place.iterdir():
            if path not in wanted and path.name.startswith("part-"):
                path.unlink()
        self._written, self._since = end, time.monotonic()
        return end

    def is_due(self, entries: Sequence[Entry]) -> bool:
        """Collect until a file is worth it."""
        rows = sum(max(1, len(e.faces)) if isinstance(e, ImageResult) else 1 for e in entries)
        return rows >= PARQUET_ROWS or time.monotonic() - self._since >= PARQUET_SECONDS

    def append(self, entries: Sequence[Entry], end: int) -> int:
        """Write a file."""
        rows = (row for entry in entries for row in columns.rows_of(entry, self._threshold))
        columns.write_part(self._file(end), columns.table_of(rows))
        self._written, self._since = end + 1, time.monotonic()
        return end + 1

    def publish(self, end: int) -> None:
        """Let the folder become the target."""
        if end == 0:  # a table without rows still is one
            columns.write_part(self._file(0), columns.table_of([]))
        for number in range(max(end, 1), self._written):
            self._file(number).unlink()
        if self._place == self.part:
            older = self.target.with_name(f"{self.target.name}.old")
            shutil.rmtree(older, ignore_errors=True)
            if self.target.exists():
                self.target.rename(older)
            self.part.rename(self.target)
            shutil.rmtree(older, ignore_errors=True)

    def forget(self, sources: Sequence[str], before: int) -> None:
        """Rewrite the files that hold such rows."""
        for number in range(before):
            columns.drop_failures(self._file(number), sources)


def _part_name(number: int) -> str:
    return f"part-{number:05d}.parquet"


def open_store(out: str, threshold: Threshold) -> Store:
    """Return the store of a resumable result file.

    Raises:
        SinkError: it cannot be written there.
    """
    target = Path(os.path.realpath(out))
    extension = target.suffix.lower()
    if extension in LINES:
        return LinesStore(target, LINES[extension](target, threshold))
    return ParquetStore(target, threshold)


class Record(NamedTuple):
    """What a journal holds.

    Attributes:
        header: see ``run_header``; None where the journal is empty.
        done: keys of the images that are written or failed.
        failed: name → cause of the images that failed.
        retried: names that were tried again, and the ``end`` before which they had failed.
        images: number of images that are written.
        faces: number of their faces.
        end: of the data.
        offset: of the journal, up to which it is valid.
    """

    header: dict[str, Any] | None
    done: set[bytes]
    failed: dict[str, str]
    retried: list[tuple[list[str], int]]
    images: int
    faces: int
    end: int
    offset: int


def read_journal(path: Path | None, size: int | None = None) -> Record:
    """Read a journal, up to its first line that is not whole or whose data are not there.

    Args:
        path: of the journal; it may be missing.
        size: of the data at hand; None trusts the journal.

    Raises:
        UserError: it is no regular file.
    """
    header: dict[str, Any] | None = None
    done: set[bytes] = set()
    failed: dict[str, str] = {}
    retried: list[tuple[list[str], int]] = []
    images = faces = end = offset = 0
    there = path is not None and path.exists()
    with open(regular_file(path), "rb") if path and there else io.BytesIO() as file:
        for line in file:
            entry = _entry_of(line, is_header=header is None)
            if entry is None:
                break
            if header is None:
                header = entry
            elif size is not None and entry["end"] > size:
                break
            elif "retry" in entry:
                names = entry["retry"]
                retried.append((names, entry["end"]))
                done.difference_update(map(key_of, names))
                for name in names:
                    failed.pop(name, None)
            else:
                for name, count in entry["images"]:
                    done.add(key_of(name))
                    images, faces = images + 1, faces + count
                for name, cause in entry["failed"]:
                    done.add(key_of(name))
                    failed[name] = cause
                end = entry["end"]
            offset += len(line)
    return Record(header, done, failed, retried, images, faces, end, offset)


def _entry_of(line: bytes, *, is_header: bool) -> dict[str, Any] | None:
    """Return a journal's line; None if it is not whole, or not as this program writes it."""
    try:
        entry = json.loads(line)
        if not line.endswith(b"\n") or not isinstance(entry, dict):
            return None
        if is_header:
            return entry if entry.get("run") == 1 else None
        names = [name for name, _ in (*entry.get("images", ()), *entry.get("failed", ()))]
        counts = [count for _, count in entry.get("images", ())]
        is_known = "retry" in entry or {"images", "failed"} <= entry.keys()
        texts, numbers = [*names, *entry.get("retry", ())], [entry["end"], *counts]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    fits = all(type(t) is str for t in texts) and all(type(n) is int and n >= 0 for n in numbers)
    return entry if is_known and fits else None


class _At(NamedTuple):
    """Up to where data and journal are complete, and what is still to be written.

    Replaced as a whole, so no interrupt splits it.
    """

    end: int
    offset: int
    waiting: list[Entry]


class ResumableOutput:
    """An open result file that can be resumed; leave the ``with`` block to finish it.

    Args:
        out: ends in one of ``RESUMABLE``.
        threshold: from which probability on an emotion is a label.
        header: what the file is made with, see ``run_header``.
        resume: go on with what is there; it must have been made with the same header.
        retry_failed: images that failed count as not done.

    Attributes:
        before: what was there, of a run that goes on.
        note: what the user should be told of files found.

    Raises:
        UserError: on entry, where the file cannot be written, another process writes it, or what is
            there cannot be resumed; by ``write`` and on leaving, where writing fails.
    """

    def __init__(
        self,
        out: str,
        threshold: Threshold,
        header: dict[str, Any],
        *,
        resume: bool = False,
        retry_failed: bool = False,
    ) -> None:
        self._store = open_store(out, threshold)
        self._path = self._store.target
        self._header = {"run": 1, **header}
        self._resume, self._retry_failed = resume, retry_failed
        self.journal = journal_of(self._path)
        self.before = read_journal(None)
        self.note = ""
        self._had_target = self._had_journal = False
        self._begun = self._again = False
        self._at = _At(0, 0, [])

    def __enter__(self) -> Self:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._lock, self._had_journal = lock_journal(self.journal)
        except OSError as error:
            raise SinkError(f"{self._path}: cannot be written: {error.strerror}") from error
        try:
            self._look()
        except BaseException:
            self._unlock()
            raise
        return self

    def _look(self) -> None:
        """Find out what an earlier run left."""
        store = self._store
        self._had_target = self._path.exists()
        has_part = store.part.exists()
        found = read_journal(self.journal, store.size(store.part if has_part else self._path))
        if not self._resume:
            if has_part and found.images:
                self.note = (
                    f"{self._path}: the {found.images} images of a stopped run, with which "
                    f"--resume would have gone on, are now in {store.stopped.name}"
                )
            return
        if found.header is None:
            if self._had_target and not self._had_journal and not has_part:
                raise SinkError(
                    f"{self._path}: --resume needs {self.journal.name} beside it, which tells how "
                    "it was made; name another file, or begin again without --resume"
                )
            return
        check_settings(self._path, found.header, self._header)
        if not has_part and self._had_target and store.is_changed(found.end):
            raise SinkError(
                f"{self._path}: was changed after the run that made it, so --resume cannot tell "
                "what is in it; name another file, or begin again without --resume"
            )
        if not has_part and not self._had_target:
            found = read_journal(None)
        self.before = found
        self._again = found.offset > 0

    def is_done(self, name: str) -> bool:
        """Tell whether an image was written, or failed and is not to be tried again."""
        if self._retry_failed and name in self.before.failed:
            return False
        return key_of(name) in self.before.done

    def write(self, entries: Sequence[Entry]) -> None:
        """Add the results and failures of a batch; after a crash all of it is there, or nothing."""
        self._at.waiting.extend(entries)
        if self._store.is_due(self._at.waiting):
            self._commit()

    def _begin(self) -> None:
        """Prepare part and journal, at the first result: until then nothing has changed."""
        store, before = self._store, self.before
        if self.note:
            if store.stopped.is_dir():
                shutil.rmtree(store.stopped)
            store.part.rename(store.stopped)
        if self._again:
            os.truncate(self._lock, before.offset)
            end = store.begin(before.end, again=True)
            self._at = _At(end, before.offset, self._at.waiting)
            self._begun = True
            if self._retry_failed and before.failed:
                line = {"retry": list(before.failed), "end": end}
                self._note(line, end, self._at.waiting)
                before.retried.append((list(before.failed), end))
            for names, limit in before.retried:
                store.forget(names, limit)
            return
        os.truncate(self._lock, 0)
        end = store.begin(0, again=False)
        self._begun = True
        self._note(self._header, end, self._at.waiting)

    def _commit(self) -> None:
        try:
            if not self._begun:
                self._begin()
            if not self._at.waiting:
                return
            entries = list(self._at.waiting)
            end = self._store.append(entries, self._at.end)
            line = {
                "end": end,
                "images": [[e.source, len(e.faces)] for e in entries if isinstance(e, ImageResult)],
                "failed": [[e.source, e.cause] for e in entries if isinstance(e, ImageError)],
            }
            self._note(line, end, [])
        except OSError as error:
            raise SinkError(
                f"{self._path}: writing failed: {_reason(error)}; what was finished is in "
                f"{self._store.part.name}, go on with --resume"
            ) from error

    def _note(self, line: dict[str, Any], end: int, waiting: list[Entry]) -> None:
        """Add a line to the journal, which then has the data up to ``end``, without ``waiting``."""
        data = json.dumps(line, allow_nan=False).encode() + b"\n"
        written = 0
        while written < len(data):
            written += os.pwrite(self._lock, data[written:], self._at.offset + written)
        os.fsync(self._lock)
        self._at = _At(end, self._at.offset + len(data), waiting)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if isinstance(error, SinkError):
                return
            if error is None or self._at.waiting:
                self._commit_rest(error)
            if not self._begun:
                return
            # a stopped run leaves an older file as it is, unless it went on with it
            if error is None or self._again or not self._had_target:
                os.truncate(self._lock, self._at.offset)
                self._store.publish(self._at.end)
        except OSError as failure:
            raise SinkError(
                f"{self._path}: writing failed: {_reason(failure)}; go on with --resume"
            ) from failure
        finally:
            self._unlock()

    def _commit_rest(self, error: BaseException | None) -> None:
        unfinished = self._again and self._store.part.exists()
        if self._at.waiting or unfinished or not self._again:
            self._commit()

    def _unlock(self) -> None:
        if not self._begun and not self._again and os.fstat(self._lock).st_size == 0:
            self.journal.unlink(missing_ok=True)
        os.close(self._lock)


def _reason(error: OSError) -> str:
    """Return the system's words; pyarrow puts its own around them."""
    return os.strerror(error.errno) if error.errno else str(error)
