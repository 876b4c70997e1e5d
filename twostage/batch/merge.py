"""``twostage merge``: the result files of shards become one."""

from __future__ import annotations

import argparse
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from faces.command import UserError, printable
from faces.files import publish, regular_file, write_text
from twostage.batch.resume import (
    PARQUET,
    RESUMABLE,
    Record,
    differences,
    journal_of,
    key_of,
    read_journal,
)


def merge(inputs: Sequence[Path], out: Path) -> int:
    """Join result files into a new one, one after the other; returns the number of its images.

    Args:
        inputs: result files of one kind with their journals; or folders that hold such files.
        out: the new file, of the same kind; its journal is made, too.

    Raises:
        UserError: there are none, they were made with other settings than each other, an image is
            in two of them, a run has not ended, or ``out`` exists.
    """
    extension = out.suffix.lower()
    if extension not in RESUMABLE:
        raise UserError(f"--out {out}: end it in one of {', '.join(RESUMABLE)}")
    if out.exists():
        raise UserError(f"--out {out}: exists; remove it, or name another file")
    files = list(_result_files(inputs, extension))
    if not files:
        raise UserError(f"{', '.join(map(str, inputs))}: no result files {extension} there")
    records = [_checked(path) for path in files]
    _check_settings(files, records)
    _check_images(files, records)
    out.parent.mkdir(parents=True, exist_ok=True)
    end = _join_tables(files, out) if extension == PARQUET else _join_lines(files, out)
    write_text(journal_of(out), "".join(_journal_lines(files, records, end)))
    return sum(record.images for record in records)


def _result_files(inputs: Sequence[Path], extension: str) -> Iterator[Path]:
    for path in inputs:
        if path.suffix.lower() == extension:
            if not path.exists():
                raise UserError(f"{path}: no such result file")
            yield path
        elif path.is_dir():
            yield from sorted(one for one in path.iterdir() if one.suffix.lower() == extension)
        else:
            raise UserError(f"{path}: neither a folder nor a result file {extension}")


def _checked(path: Path) -> Record:
    """Return the journal of a finished result file."""
    record = read_journal(journal_of(path))
    if record.header is None:
        raise UserError(f"{path}: {journal_of(path).name} beside it is missing or damaged")
    if path.with_name(f"{path.name}.part").exists():
        raise UserError(f"{path}: its run has not ended; go on with it and --resume first")
    return record


def _check_settings(files: Sequence[Path], records: Sequence[Record]) -> None:
    first = _settings(records[0])
    for path, record in zip(files[1:], records[1:], strict=True):
        if differing := differences(first, _settings(record)):
            raise UserError(
                f"{path}: was made with other settings than {files[0]}: {'; '.join(differing)}"
            )
    shards = [(record.header or {}).get("shard") for record in records]
    counts = {shard.partition("/")[2] for shard in shards if shard}
    for count in counts:
        missing = [n for n in range(1, int(count) + 1) if f"{n}/{count}" not in shards]
        if missing:
            names = ", ".join(f"{number}/{count}" for number in missing)
            raise UserError(f"shards are missing: {names}; run them first")


def _settings(record: Record) -> dict[str, Any]:
    return {key: value for key, value in (record.header or {}).items() if key != "shard"}


def _check_images(files: Sequence[Path], records: Sequence[Record]) -> None:
    seen: set[bytes] = set()
    for path, record in zip(files, records, strict=True):
        if twice := seen & record.done:
            names = (name for line in _entries(path) for name in _names(line))
            name = next(name for name in names if key_of(name) in twice)
            raise UserError(f"{path}: {name} is also in a file before it; leave one of them out")
        seen |= record.done


def _entries(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the lines of a journal after its header, one in memory at a time."""
    with journal_of(path).open(encoding="utf-8") as file:
        next(file)
        for line in file:
            yield json.loads(line)


def _names(line: dict[str, Any]) -> Iterable[str]:
    return [name for name, _ in (*line.get("images", ()), *line.get("failed", ()))]


def _join_lines(files: Sequence[Path], out: Path) -> int:
    """Write files of lines below each other, the first line of a ``.csv`` once."""
    part = out.with_name(f"{out.name}.part")
    with part.open("wb") as joined:
        for number, path in enumerate(files):
            with regular_file(path).open("rb") as file:
                if number and out.suffix.lower() == ".csv":
                    file.readline()
                while block := file.read(1 << 20):
                    joined.write(block)
        joined.flush()
        end = joined.tell()
    publish(part, out)
    return end


def _join_tables(files: Sequence[Path], out: Path) -> int:
    """Link, or copy, the files of tables into one folder."""
    part = out.with_name(f"{out.name}.part")
    part.mkdir(exist_ok=True)
    count = 0
    for path in files:
        for one in sorted(path.glob("part-*.parquet")):
            target = part / f"part-{count:05d}.parquet"
            target.unlink(missing_ok=True)
            try:
                os.link(one, target)  # files are never changed in place
            except OSError:
                shutil.copyfile(one, target)
            count += 1
    part.rename(out)
    return count


def _journal_lines(files: Sequence[Path], records: Sequence[Record], end: int) -> Iterator[str]:
    """Yield the lines of the joint journal; all data are there from the start."""
    header = {**(records[0].header or {}), "shard": None}
    yield json.dumps(header) + "\n"
    for path, record in zip(files, records, strict=True):
        failed = dict(record.failed)
        for line in _entries(path):
            if "retry" in line:
                continue
            # of a failure that was tried again only what came of it last
            last = [one for one in line["failed"] if failed.get(one[0]) == one[1]]
            for name, _ in last:
                del failed[name]
            yield json.dumps({"end": end, "images": line["images"], "failed": last}) + "\n"


def add_merge_command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
) -> None:
    """Add ``twostage merge``."""
    command = commands.add_parser("merge", help="join the result files of shards")
    command.add_argument(
        "inputs", nargs="+", type=Path, metavar="DIR", help="folders of result files, or files"
    )
    command.add_argument("--out", type=Path, required=True, metavar="FILE", help="the new file")
    command.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    count = merge(args.inputs, args.out)
    print(f"wrote {printable(str(args.out))}: {count} images")
    return 0
