"""Seeded damage to pictures of every format, given to ``twostage analyze``.

The n-th picture of a seed is always the same. A right answer is a result or one line of refusal.
"""

from __future__ import annotations

import io
import json
import random
import re
import shutil
import struct
import zlib
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.campaign.process import ROOT, Ended, watch

BATCH = 50
"""Pictures that one process analyses."""

SECONDS_PER_PICTURE = 20.0

_SUMMARY = re.compile(r"(\d+) images? analysed, \d+ faces? found, (\d+) failed")

KINDS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "jpeg": ("RGB", "JPEG", {"quality": 90}),
    "progressive jpeg": ("RGB", "JPEG", {"progressive": True}),
    "jpeg with restarts": ("RGB", "JPEG", {"restart_marker_blocks": 7}),
    "cmyk jpeg": ("CMYK", "JPEG", {}),
    "grey jpeg": ("L", "JPEG", {}),
    "mpo": ("RGB", "MPO", {"save_all": True}),
    "png": ("RGB", "PNG", {}),
    "transparent png": ("RGBA", "PNG", {}),
    "palette png": ("P", "PNG", {"transparency": 3}),
    "two-colour png": ("1", "PNG", {}),
    "16-bit png": ("I;16", "PNG", {}),
    "webp": ("RGB", "WEBP", {"quality": 80}),
    "lossless webp": ("RGBA", "WEBP", {"lossless": True}),
    "gif": ("P", "GIF", {}),
    "tiff": ("RGB", "TIFF", {}),
    "packed tiff": ("RGB", "TIFF", {"compression": "tiff_lzw"}),
    "jpeg tiff": ("RGB", "TIFF", {"compression": "jpeg"}),
    "float tiff": ("F", "TIFF", {}),
    "deflated tiff": ("I;16", "TIFF", {"compression": "tiff_adobe_deflate"}),
    "bmp": ("RGB", "BMP", {}),
    "ppm": ("RGB", "PPM", {}),
    "pgm": ("L", "PPM", {}),
    "avif": ("RGB", "AVIF", {}),
    "jpeg 2000": ("RGB", "JPEG2000", {}),
}
"""Name → mode, format and options of Pillow; HEIC, which Pillow does not write, has none."""


@cache
def sample(kind: str) -> bytes:
    """Return an undamaged picture of a kind, with a face in it."""
    mode, form, options = KINDS[kind]
    with Image.open(ROOT / "samples" / "hopper.jpg") as opened:
        image = opened.convert("RGB").resize((192, 192))
    if mode == "I;16":
        grey = np.asarray(image.convert("L")).astype(np.uint16) * 257
        image = Image.fromarray(grey)
    else:
        image = image.convert(mode)
    file = io.BytesIO()
    exif = Image.Exif()
    exif[274] = 6
    if form in ("JPEG", "PNG", "WEBP", "AVIF"):
        options = {**options, "exif": exif.tobytes()}
    image.save(file, form, **options)
    return file.getvalue()


def _cut(data: bytearray, pick: random.Random) -> bytearray:
    return data[: pick.randrange(len(data))]


def _flip(data: bytearray, pick: random.Random) -> bytearray:
    for _ in range(pick.choice((1, 2, 5, 20, 100))):
        data[pick.randrange(len(data))] ^= 1 << pick.randrange(8)
    return data


def _flip_head(data: bytearray, pick: random.Random) -> bytearray:
    for _ in range(pick.choice((1, 2, 5))):
        data[pick.randrange(min(len(data), 400))] = pick.choice((0, 1, 127, 128, 254, 255))
    return data


def _zero_tail(data: bytearray, pick: random.Random) -> bytearray:
    start = pick.randrange(len(data))
    data[start:] = bytes(len(data) - start)
    return data


def _zero_middle(data: bytearray, pick: random.Random) -> bytearray:
    start = pick.randrange(len(data))
    end = min(len(data), start + pick.choice((1, 16, 512, 4096)))
    data[start:end] = bytes(end - start)
    return data


def _insert(data: bytearray, pick: random.Random) -> bytearray:
    at = pick.randrange(len(data))
    data[at:at] = pick.randbytes(pick.choice((1, 7, 300)))
    return data


def _repeat(data: bytearray, pick: random.Random) -> bytearray:
    start = pick.randrange(len(data))
    piece = data[start : start + pick.choice((8, 64, 4096))]
    data[start:start] = piece * pick.choice((1, 3))
    return data


def _claim(data: bytearray, pick: random.Random) -> bytearray:
    """Let the header claim another size: the sides, in any form that a header may have them."""
    size = pick.choice((0, 1, 2000, 10_900, 30_000, 65_500, 2**20, 2**31 - 1, 2**32 - 1))
    forms = [(f, struct.pack(f, v)) for f in (">I", "<I", ">H", "<H") for v in (192, 191)]
    forms += [("d", b"192")]
    which = pick.choice((1, 2))
    for form, old in forms:
        at = data.find(old, 0, 600)
        if at < 0:
            continue
        limit = 2**32 if form in (">I", "<I") else 2**16
        new = str(size).encode() if form == "d" else struct.pack(form, size % limit)
        found = 0
        while at >= 0 and found < which:
            data[at : at + len(old)] = new
            at, found = data.find(old, at + len(new), 600), found + 1
        break
    return _with_checksums(data)


def _with_checksums(data: bytearray) -> bytearray:
    """Return a PNG with the right checksum in its first part, so that the claim is believed."""
    if data.startswith(b"\x89PNG"):
        data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    return data


def _join(data: bytearray, pick: random.Random) -> bytearray:
    other = sample(pick.choice(list(KINDS)))
    return data[: pick.randrange(len(data))] + other[pick.randrange(len(other)) :]


def _whole(data: bytearray, pick: random.Random) -> bytearray:
    return data


DAMAGE: tuple[Callable[[bytearray, random.Random], bytearray], ...] = (
    *(_whole, _cut, _flip, _flip, _flip_head, _flip_head, _zero_tail, _zero_middle),
    *(_insert, _repeat, _claim, _claim, _join),
)


def picture(seed: int, number: int) -> tuple[str, bytes]:
    """Return the name and the bytes of a damaged picture."""
    pick = random.Random(f"{seed} {number}")
    kind = list(KINDS)[number % len(KINDS)]
    damage = pick.choice(DAMAGE)
    data = damage(bytearray(sample(kind)), pick)
    return f"{number:05d} {kind}{damage.__name__}.jpg", bytes(data)


def fuzz(
    count: int, seed: int, folder: Path, command: Sequence[str] = ("-m", "twostage")
) -> dict[str, Any]:
    """Analyse so many damaged pictures; what goes wrong stays in ``folder/wrong``.

    Returns:
        The campaign's row: ``inputs``; ``answered`` and ``refused``, which add up to them;
        ``tracebacks``, ``hangs`` and ``crashes`` of processes; ``peak_mb``, the largest memory.
    """
    row = dict.fromkeys(
        ("inputs", "answered", "refused", "tracebacks", "hangs", "crashes", "lost"), 0
    )
    peak = 0.0
    for start in range(0, count, BATCH):
        batch = folder / f"{start:05d}"
        batch.mkdir(parents=True)
        numbers = range(start, min(start + BATCH, count))
        for number in numbers:
            name, data = picture(seed, number)
            (batch / name).write_bytes(data)
        out = folder / f"{start:05d}.jsonl"
        words = [*command, "analyze", str(batch), "--out", str(out), "--quiet"]
        ended = watch([*words, "--workers", "1"], 60 + SECONDS_PER_PICTURE * len(numbers))
        found = _counted(ended, out, len(numbers))
        for key, value in found.items():
            row[key] += value
        peak = max(peak, ended.peak_mb)
        if any(found[key] for key in ("tracebacks", "hangs", "crashes", "lost")):
            (folder / f"{start:05d}.error").write_text(ended.error)
        else:
            shutil.rmtree(batch)
    return {"campaign": "pictures", "seed": seed, **row, "peak_mb": round(peak)}


def _counted(ended: Ended, out: Path, count: int) -> dict[str, int]:
    said = _SUMMARY.search(ended.out)
    answered, refused = (int(said[1]), int(said[2])) if said else (0, 0)
    written = len(out.read_text().splitlines()) if out.exists() else 0
    lines = sum(line.startswith("twostage: ") for line in ended.error.splitlines())
    for line in out.read_text().splitlines() if out.exists() else ():
        json.loads(line)
    return {
        "inputs": count,
        "answered": answered,
        "refused": refused,
        "tracebacks": ended.error.count("Traceback (most recent call last)"),
        "hangs": int(ended.hung),
        "crashes": int(ended.status not in (0, 1) and not ended.hung),
        "lost": abs(count - answered - refused) + abs(written - answered) + abs(lines - refused),
    }
