"""Where ``twostage analyze`` writes: a resumable file, a file of another kind, standard output."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any, Protocol

from faces.command import UserError
from faces.crops import CROP_MARGIN
from faces.sinks import SCHEMA_VERSION, Threshold, json_line, open_sink
from faces.types import ImageResult
from twostage.batch.resume import RESUMABLE, Entry, ResumableOutput, is_resumable

STANDARD = "-"
"""Stands for standard input among the photos, for standard output as ``--out``."""


class Output(Protocol):
    """What takes the results and failures of a run."""

    def write(self, entries: Sequence[Entry]) -> None:
        """Add those of one task."""
        ...

    def is_done(self, name: str) -> bool:
        """Tell whether an image is there from an earlier run."""
        ...


class Nowhere:
    """Takes results and keeps nothing; base of the outputs that cannot be resumed."""

    def write(self, entries: Sequence[Entry]) -> None:
        """Write the results; failures have been told."""
        for entry in entries:
            if isinstance(entry, ImageResult):
                self._write(entry)

    def is_done(self, name: str) -> bool:
        """Return False: each run begins anew."""
        return False

    def _write(self, result: ImageResult) -> None:
        pass


class StandardOutput(Nowhere):
    """Prints JSON lines."""

    def __init__(self, threshold: Threshold) -> None:
        self._threshold = threshold

    def _write(self, result: ImageResult) -> None:
        sys.stdout.buffer.write(json_line(result, self._threshold))
        sys.stdout.buffer.flush()


class FileOutput(Nowhere):
    """A file of a kind that is written from start to end."""

    def __init__(self, out: str, threshold: Threshold, stack: ExitStack) -> None:
        self._sink = stack.enter_context(open_sink(out, threshold))

    def _write(self, result: ImageResult) -> None:
        self._sink.write(result)


def open_output(
    out: str | None,
    threshold: Threshold,
    header: dict[str, Any],
    stack: ExitStack,
    *,
    resume: bool = False,
    retry_failed: bool = False,
) -> Output:
    """Return the output that ``--out`` names.

    Args:
        out: a file, ``-`` for standard output, None for nowhere.
        threshold: from which probability on an emotion is a label.
        header: see ``run_header``.
        stack: closes the file.
        resume: go on with the file.
        retry_failed: try again what failed.

    Raises:
        UserError: it cannot be written, or not be resumed.
    """
    check_resumable(out, resume=resume, retry_failed=retry_failed)
    if out is None:
        return Nowhere()
    if out == STANDARD:
        return StandardOutput(threshold)
    if not is_resumable(out):
        return FileOutput(out, threshold, stack)
    output = ResumableOutput(out, threshold, header, resume=resume, retry_failed=retry_failed)
    return stack.enter_context(output)


def check_resumable(out: str | None, *, resume: bool, retry_failed: bool) -> None:
    """Check ``--resume`` and ``--retry-failed`` against ``--out``.

    Raises:
        UserError: they do not go together; the message names the forms that do.
    """
    forms = ", ".join(RESUMABLE)
    if retry_failed and not resume:
        raise UserError("--retry-failed goes with --resume")
    if resume and out is None:
        raise UserError(f"--resume goes on with a result file; name it with --out (one of {forms})")
    if resume and out is not None and (out == STANDARD or not is_resumable(out)):
        raise UserError(f"--out {out}: cannot be resumed; these forms can: {forms}")


def run_header(
    detector: dict[str, str],
    classifier: dict[str, str],
    threshold: Threshold,
    looks: dict[str, Any],
    *,
    engine: str,
    version: str,
    device: str | None = None,
    shard: str | None = None,
) -> dict[str, Any]:
    """Return what a result file is made with, which ``--resume`` compares.

    Args:
        detector: see ``twostage.model_zoo.fingerprint``; empty where each image is one face.
        classifier: of stage 2.
        threshold: of the labels.
        looks: how stage 1 looks at images: ``detail``, ``min_face``, ``rotations``.
        engine: ``local`` or ``ray``.
        version: of this package.
        device: as named by the user; may differ when a run is resumed.
        shard: ``I/N``, or None for all images.
    """
    return {
        "version": version,
        "schema_version": SCHEMA_VERSION,
        "engine": engine,
        "detector": detector,
        "classifier": classifier,
        "threshold": threshold if isinstance(threshold, float) else dict(threshold),
        "margin": CROP_MARGIN,
        **looks,
        "shard": shard,
        "device": device,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
