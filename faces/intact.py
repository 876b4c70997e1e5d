"""Damage in image files that the decoders pass over in silence.

- JPEG: the bits of a picture that was cut off and closed again run out, and libjpeg fills the rest
  with grey. Its warning does not reach Python, so the file is decoded once more with other bits
  behind its own: only where its own ran out do the pixels change. A progressive file must also
  hold every scan of every component. Where only the end marker lacks, it is supplied.
- PNG: the checksums of the parts that hold the picture.
- JPEG and PNG: a header that claims more pixels than the file's bytes can stand for.
- WebP, AVIF, HEIF: compressed data that end in zeros, which a compressor does not write. These
  formats have no checksum, so other damage that can be decoded stays unseen in them, as it does in
  the middle of a JPEG and in BMP, GIF and TIFF.
"""

from __future__ import annotations

import io
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

ZEROS = bytes(64)
"""Compressed data that end in these were cut off, and the rest of the file never written."""

MORE_BITS = bytes.fromhex("5aa6c3391bd2749e8d61b25c") * 8
"""Any bytes without a marker (FF) among them."""

_END = b"\xff\xd9"
_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
_RESTART = re.compile(rb"\xff[\xd0-\xd7]")
_SEQUENTIAL, _PROGRESSIVE = (0xC0, 0xC1), 0xC2
_DEFLATE_RATIO = 1032
"""Deflate makes no data smaller than this (zlib's technical details)."""


@dataclass
class _Scan:
    components: tuple[int, ...]
    first: int
    last: int
    missing_bits: int
    start: int
    end: int = 0


@dataclass
class Jpeg:
    """What the markers of a JPEG file say, up to the end of its first image.

    ``data`` is the file, whose end marker is supplied if that lacks, and ``ended`` whether it has
    one.
    """

    data: bytes
    ended: bool = False
    _frame: int = 0
    _size: tuple[int, int] = (0, 0)
    _sampling: dict[int, tuple[int, int]] = field(default_factory=dict)
    _restart: int = 0
    _scans: list[_Scan] = field(default_factory=list)

    @classmethod
    def parse(cls, data: bytes) -> Jpeg | None:
        """Read the markers; None if they do not follow each other as they should."""
        jpeg = cls(data)
        try:
            jpeg._parse()
        except (IndexError, ValueError):
            return None
        return jpeg if jpeg._scans and jpeg._sampling else None

    @property
    def coefficient_bytes(self) -> int:
        """How much memory libjpeg takes while it collects the scans of a progressive file."""
        if len(self._scans) < 2:
            return 0
        return 128 * sum(self._blocks(each) for each in self._sampling)

    def problem_before(self) -> str:
        """Say what the file lacks that is seen before it is decoded; empty if nothing."""
        # the bits of the shortest codes
        least = {_PROGRESSIVE: 1, **dict.fromkeys(_SEQUENTIAL, 2)}.get(self._frame, 0)
        held = 8 * sum(scan.end - scan.start for scan in self._scans)
        if held < least * sum(self._blocks(each) for each in self._sampling):
            width, height = self._size
            return f"truncated, {held // 8:,} bytes cannot hold {width}x{height} pixels"
        if not least:  # arithmetic codes, which can be shorter than a bit
            return ""

        # the scans
        if not self.ended and self.data[: -len(_END)].endswith(ZEROS):
            return "truncated, it ends in zeros"
        if self._lacks_scans():
            return "truncated, parts of the scan data are missing"
        return self._problem_of_bits(4) if self._frame == _PROGRESSIVE else ""

    def problem_after(self, decoded: Image.Image) -> str:
        """Say what the image as it was read shows to be missing; empty if nothing."""
        if self._frame in _SEQUENTIAL and (not self.ended or _is_flat_at_the_end(decoded)):
            return self._problem_of_bits(8)  # where bits have run out, all that follows is grey
        return ""

    def _problem_of_bits(self, share: int) -> str:
        plain, longer = (_small(data, share) for data in (self.data, self._with_more_bits()))
        return "" if plain == longer else "truncated, the scan data end before the image does"

    def _parse(self) -> None:
        at, data = 2, self.data
        while True:
            if at >= len(data) or data[at:] == b"\xff":
                self.data = data[:at] + _END
                return
            if data[at] != 0xFF:
                raise ValueError("no marker")
            kind = data[at + 1]
            if kind == 0xFF:  # padding
                at += 1
                continue
            if kind == 0xD9:
                self.ended, self.data = True, data[: at + 2]
                return
            length = int.from_bytes(data[at + 2 : at + 4], "big")
            body = data[at + 4 : at + 2 + length]
            if length < 2 or len(body) != length - 2:
                raise ValueError("a part is cut off")
            at += 2 + length
            if 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC):
                self._frame = kind
                self._size = int.from_bytes(body[3:5], "big"), int.from_bytes(body[1:3], "big")
                parts = (body[6 + 3 * i : 9 + 3 * i] for i in range(body[5]))
                self._sampling = {part[0]: (part[1] >> 4, part[1] & 15) for part in parts}
            elif kind == 0xDD:
                self._restart = int.from_bytes(body[:2], "big")
            elif kind == 0xDA:
                ids = tuple(body[1 + 2 * i] for i in range(body[0]))
                first, last, bits = body[-3:]
                scan = _Scan(ids, first, last, bits & 15, at)
                self._scans.append(scan)
                found = _MARKER.search(data, at)
                at = scan.end = found.start() if found else len(data) - data.endswith(b"\xff")

    def _blocks(self, component: int) -> int:
        """Return how many 8×8 blocks a component has by itself."""
        across, down = self._sampling[component]
        most = [max(each[axis] for each in self._sampling.values()) for axis in (0, 1)]
        width = -(-self._size[0] * across // (8 * most[0]))
        return width * -(-self._size[1] * down // (8 * most[1]))

    def _lacks_scans(self) -> bool:
        """Tell whether a component, a coefficient's last bit or a restart interval is missing."""
        wanted = {(each, place) for each in self._sampling for place in range(64)}
        for scan in self._scans:
            last = scan.last if self._frame == _PROGRESSIVE else 63
            if not scan.missing_bits or self._frame != _PROGRESSIVE:
                places = range(scan.first, last + 1)
                wanted -= {(each, place) for each in scan.components for place in places}
        if wanted:
            return True
        scan = self._scans[-1]
        if not self._restart or len(self._scans) > 1 or len(scan.components) != len(self._sampling):
            return False
        most = [max(each[axis] for each in self._sampling.values()) for axis in (0, 1)]
        units = -(-self._size[0] // (8 * most[0])) * -(-self._size[1] // (8 * most[1]))
        if len(self._sampling) == 1:
            units = self._blocks(next(iter(self._sampling)))
        restarts = sum(1 for _ in _RESTART.finditer(self.data, scan.start, scan.end))
        return restarts < -(-units // self._restart) - 1

    def _with_more_bits(self) -> bytes:
        """Return the file with other bits behind those of every scan and restart interval."""
        pieces, at = [], 0
        for scan in self._scans:
            held = self.data[scan.start : scan.end]
            bits = _RESTART.sub(lambda marker: MORE_BITS + marker[0], held)
            pieces += [self.data[at : scan.start], bits, MORE_BITS]
            at = scan.end
        return b"".join([*pieces, self.data[at:]])


def _is_flat_at_the_end(decoded: Image.Image) -> bool:
    """Tell whether the last block of 8×8 pixels has one colour."""
    width, height = decoded.size
    corner = decoded.crop(((width - 1) // 8 * 8, (height - 1) // 8 * 8, width, height))
    ranges = [band.getextrema() for band in corner.split()]
    return all(high - low <= 3 for low, high in ranges)  # type: ignore[operator]


def _small(data: bytes, share: int) -> bytes | None:
    """Return the pixels of a JPEG at 1/share of its size; None if it cannot be decoded."""
    try:
        with JpegImageFile(io.BytesIO(data)) as image:
            image.draft(None, (max(1, image.width // share), max(1, image.height // share)))
            return image.tobytes()
    except Exception:  # whatever Pillow raises on files that are cut
        return None


def problem_of_png(stream: BinaryIO, bits: int, size: tuple[int, int]) -> str:
    """Say which part of a PNG is damaged; empty if none is.

    A pixel has ``bits`` at least, and the image ``size`` (width, height) pixels.
    """
    held = 0
    stream.seek(8)
    while len(head := stream.read(8)) == 8:
        length, kind = int.from_bytes(head[:4], "big"), head[4:]
        if kind == b"IEND":
            break
        checksum, rest = zlib.crc32(kind), length
        while rest and (piece := stream.read(min(rest, 1 << 20))):
            checksum, rest = zlib.crc32(piece, checksum), rest - len(piece)
        stored = stream.read(4)
        held += length if kind == b"IDAT" else 0
        shows = kind in (b"IHDR", b"PLTE", b"IDAT", b"tRNS")
        if shows and len(stored) == 4 and int.from_bytes(stored, "big") != checksum:
            return f"damaged, wrong checksum in {kind.decode()}"
    if held * _DEFLATE_RATIO < size[1] * -(-size[0] * bits // 8):
        return f"truncated, {held:,} bytes cannot hold {size[0]}x{size[1]} pixels"
    return ""


def ends_in_zeros(stream: BinaryIO) -> bool:
    """Tell whether the compressed data of a WebP, AVIF or HEIF file were zeroed at their end."""
    stream.seek(0)
    riff = stream.read(4) == b"RIFF"
    parts = _riff_parts(stream, 12) if riff else _boxes(stream)
    for start, end in parts:
        stream.seek(max(start, end - len(ZEROS)))
        if stream.read(end - stream.tell()) == ZEROS:
            return True
    return False


def _riff_parts(stream: BinaryIO, at: int) -> Iterator[tuple[int, int]]:
    """Yield (start, end) of the image data of a WebP's first frame."""
    stream.seek(at)
    while len(head := stream.read(8)) == 8:
        start, length = at + 8, int.from_bytes(head[4:], "little")
        if head[:4] == b"ANMF":
            yield from _riff_parts(stream, start + 16)
            return
        if head[:4] in (b"VP8 ", b"VP8L"):
            yield start, start + length
            return
        at = start + length + length % 2
        stream.seek(at)


def _boxes(stream: BinaryIO) -> Iterator[tuple[int, int]]:
    """Yield (start, end) of the media data of an AVIF or HEIF file."""
    size, at = stream.seek(0, io.SEEK_END), 0
    while at + 8 <= size:
        stream.seek(at)
        head = stream.read(16)
        length, header = int.from_bytes(head[:4], "big"), 8
        if length == 1:
            length, header = int.from_bytes(head[8:16], "big"), 16
        end = size if length == 0 else at + length
        if end < at + header:
            return
        if head[4:8] == b"mdat":
            yield at + header, min(end, size)
        at = end
