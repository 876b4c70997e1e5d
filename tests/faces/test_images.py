"""Every kind of file that users have: read right, or refused with the cause."""

from __future__ import annotations

import io
import os
import pickle
import struct
import threading
import time
import warnings
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps, TiffImagePlugin, features

from faces.images import MAX_PIXELS, ImageError, image_size, read_image, read_images

H, W = 24, 40


def smooth(height: int = H, width: int = W) -> np.ndarray:
    """A picture that JPEG keeps well and that no flip or rotation leaves as it is."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([x * 255 // (width), y * 255 // (height), (x + y) * 2 % 256], axis=-1).astype(
        np.uint8
    )


def encode(picture: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def close(actual: np.ndarray, expected: np.ndarray, tolerance: int) -> None:
    assert actual.dtype == np.uint8 and actual.shape == expected.shape
    assert actual.flags.c_contiguous and actual.flags.writeable
    difference = np.abs(actual.astype(int) - expected.astype(int))
    assert difference.max() <= tolerance, difference.max()


def refusal(source: object, **options: object) -> str:
    with pytest.raises(ImageError) as info:
        read_image(source, **options)
    return str(info.value)


# --- sources ---


def test_path_text_bytes_and_streams_agree(tmp_path: Path) -> None:
    data = encode(Image.fromarray(smooth()), "PNG")
    path = tmp_path / "ein Gesicht – 顔.png"
    path.write_bytes(data)
    with path.open("rb") as stream:
        stream.read(10)
        for source in (path, str(path), data, io.BytesIO(data), stream):
            close(read_image(source), smooth(), 0)
        assert not stream.closed


def test_stream_that_cannot_be_rewound() -> None:
    data = encode(Image.fromarray(smooth()), "PNG")
    reader, writer = os.pipe()
    thread = threading.Thread(target=lambda: (os.write(writer, data), os.close(writer)))
    thread.start()
    with os.fdopen(reader, "rb") as stream:
        close(read_image(stream), smooth(), 0)
    thread.join()


def test_name_in_messages(tmp_path: Path) -> None:
    assert refusal(b"", name="upload.jpg").startswith("upload.jpg: ")
    assert refusal(io.BytesIO(b"")).startswith("image: ")
    path = tmp_path / "empty.jpg"
    path.touch()
    assert refusal(path) == f"{path}: is empty (0 bytes); get it again"


def test_arrays_are_taken_as_they_are() -> None:
    image = smooth()
    assert read_image(image) is image
    flipped = read_image(image[:, ::-1])
    close(flipped, image[:, ::-1], 0)
    assert flipped.flags.c_contiguous
    image.flags.writeable = False
    copied = read_image(image)
    assert copied.flags.writeable and np.array_equal(copied, image)


@pytest.mark.parametrize(
    ("array", "cause"),
    [
        (np.zeros((4, 5), np.uint8), r"got \(4, 5\) uint8; it is grey"),
        (np.zeros((4, 5, 1), np.uint8), "it is grey"),
        (np.zeros((4, 5, 4), np.uint8), "alpha channel: give image"),
        (np.zeros((3, 5, 6), np.uint8), "channels come first"),
        (np.zeros((2, 4, 5, 3), np.uint8), "several images"),
        (np.zeros((4, 5, 3), np.float32), r"float32; scale it to 0…255"),
        (np.zeros((4, 5, 3), np.int64), "int64; scale it"),
        (np.zeros((0, 5, 3), np.uint8), r"got \(0, 5, 3\) uint8$"),
        (np.zeros(3, np.uint8), r"got \(3,\) uint8$"),
        (np.broadcast_to(np.uint8(0), (20_000, 20_000, 3)), "120 million"),
    ],
)
def test_other_arrays_are_refused_with_a_way_out(array: np.ndarray, cause: str) -> None:
    with pytest.raises(ImageError, match=rf"^image: .*{cause}"):
        read_image(array)


@pytest.mark.parametrize("mode", ["RGB", "L", "1", "P", "LA", "RGBA", "CMYK", "I;16", "PA"])
def test_pillow_images_give_what_their_files_give(mode: str) -> None:
    picture = Image.fromarray(smooth()).convert("L" if mode == "I;16" else "RGB")
    picture = picture.convert(mode)
    kind = {"CMYK": "TIFF", "PA": "PNG"}.get(mode, "PNG")
    expected = picture.convert("RGBA" if mode == "PA" else mode)
    close(read_image(picture), read_image(encode(expected, kind)), 0)


def test_pillow_images_are_turned_and_left_as_they_are(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6
    path = tmp_path / "turned.png"
    Image.fromarray(smooth()).save(path, exif=exif)
    with Image.open(path) as opened:
        before = dict(opened.info)
        close(read_image(opened), np.rot90(smooth(), -1), 0)
        assert opened.size == (W, H) and opened.info.keys() == before.keys()
    path.write_bytes(path.read_bytes()[:-60])
    with Image.open(path) as opened, pytest.raises(ImageError, match=r"turned\.png: cannot be dec"):
        read_image(opened)


def test_anything_else_is_refused_by_its_kind() -> None:
    with pytest.raises(ImageError, match="image: a list is no path, bytes, file, array"):
        read_image([[1, 2], [3, 4]])  # type: ignore[arg-type]


def test_error_survives_pickling() -> None:
    error = pickle.loads(pickle.dumps(ImageError("a.jpg", "is empty")))
    assert (error.source, error.cause, str(error)) == ("a.jpg", "is empty", "a.jpg: is empty")


# --- orientation ---

TURNS: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    # From the stored rows to the upright picture, after the EXIF standard's table.
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
    8: lambda a: np.rot90(a, 1),
}


def exif(orientation: object) -> Image.Exif:
    data = Image.Exif()
    data[0x0112] = orientation
    return data


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("kind", "options", "tolerance"),
    [
        ("JPEG", {"quality": 98, "subsampling": 0}, 8),
        ("PNG", {}, 0),
        ("WEBP", {"lossless": True}, 0),
        ("TIFF", {}, 0),
        ("TIFF", {"compression": "tiff_lzw"}, 0),
        ("AVIF", {"quality": 100, "subsampling": "4:4:4"}, 6),
    ],
)
def test_orientation(kind: str, options: dict, tolerance: int, orientation: int) -> None:
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("Pillow without AVIF")
    picture = Image.fromarray(smooth())
    data = encode(picture, kind, exif=exif(orientation), **options)
    close(read_image(data), TURNS[orientation](smooth()), tolerance)
    with Image.open(io.BytesIO(data)) as opened:  # an independent reading of the tag
        close(read_image(data), np.array(ImageOps.exif_transpose(opened).convert("RGB")), 0)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_senseless_orientation_is_ignored(orientation: int) -> None:
    data = encode(Image.fromarray(smooth()), "PNG", exif=exif(orientation))
    close(read_image(data), smooth(), 0)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "block", [b"", b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0" + b"\xab" * 40]
)
def test_broken_exif_does_not_lose_the_picture(block: bytes) -> None:
    data = encode(Image.fromarray(smooth()), "JPEG", quality=98, subsampling=0)
    length = struct.pack(">H", len(block) + 2)
    close(read_image(data[:2] + b"\xff\xe1" + length + block + data[2:]), smooth(), 8)


# --- modes ---


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM"])
def test_lossless_rgb(kind: str) -> None:
    close(read_image(encode(Image.fromarray(smooth()), kind)), smooth(), 0)


def on_white(rgb: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    share = alpha[:, :, None] / 255
    return np.rint(rgb * share + 255 * (1 - share)).astype(np.uint8)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_alpha_is_laid_over_white(kind: str) -> None:
    alpha = np.linspace(0, 255, H * W).reshape(H, W).astype(np.uint8)
    rgba = np.dstack([smooth(), alpha])
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    close(read_image(encode(Image.fromarray(rgba), kind, **options)), on_white(smooth(), alpha), 1)


def test_grey_with_alpha() -> None:
    grey = smooth()[:, :, 0]
    alpha = smooth()[:, :, 1]
    data = encode(Image.fromarray(np.dstack([grey, alpha]), "LA"), "PNG")
    close(read_image(data), on_white(np.dstack([grey] * 3), alpha), 1)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "PPM", "GIF"])
def test_grey(kind: str) -> None:
    grey = smooth()[:, :, 0]
    options = {"quality": 98} if kind in ("JPEG", "WEBP") else {}
    image = read_image(encode(Image.fromarray(grey), kind, **options))
    close(image, np.dstack([grey] * 3), 8)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "PPM"])
def test_one_bit(kind: str) -> None:
    bits = smooth()[:, :, 0] > 100
    image = read_image(encode(Image.fromarray(bits), kind))
    close(image, np.dstack([bits * np.uint8(255)] * 3), 0)


@pytest.mark.parametrize("kind", ["PNG", "GIF", "TIFF", "BMP"])
def test_palette(kind: str) -> None:
    picture = Image.fromarray(smooth()).quantize(32)
    close(read_image(encode(picture, kind)), np.array(picture.convert("RGB")), 0)


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_palette_with_one_transparent_colour(kind: str) -> None:
    indices = (np.arange(H * W).reshape(H, W) % 3).astype(np.uint8)
    picture = Image.fromarray(indices, "P")
    picture.putpalette([200, 10, 20, 30, 100, 40, 50, 60, 150])
    colours = np.array([[200, 10, 20], [255, 255, 255], [50, 60, 150]], np.uint8)
    close(read_image(encode(picture, kind, transparency=1)), colours[indices], 0)


def test_palette_with_graded_transparency() -> None:
    indices = (np.arange(H * W).reshape(H, W) % 3).astype(np.uint8)
    picture = Image.fromarray(indices, "P")
    picture.putpalette([200, 10, 20, 30, 100, 40, 50, 60, 150])
    data = encode(picture, "PNG", transparency=b"\x80\x00\xff")
    rgb = np.array([[200, 10, 20], [30, 100, 40], [50, 60, 150]], np.uint8)[indices]
    alpha = np.array([128, 0, 255], np.uint8)[indices]
    close(read_image(data), on_white(rgb, alpha), 1)


def test_one_transparent_colour_without_palette() -> None:
    rgb = smooth()
    expected = np.where((rgb == rgb[5, 5]).all(axis=2)[:, :, None], np.uint8(255), rgb)
    data = encode(Image.fromarray(rgb), "PNG", transparency=tuple(int(v) for v in rgb[5, 5]))
    close(read_image(data), expected, 0)
    grey = rgb[:, :, 0]
    data = encode(Image.fromarray(grey), "PNG", transparency=int(grey[0, 9]))
    close(read_image(data), np.dstack([np.where(grey == grey[0, 9], np.uint8(255), grey)] * 3), 0)


def png(width: int, height: int, depth: int, colour: int, rows: bytes, *chunks: bytes) -> bytes:
    """A PNG from its raw, unfiltered rows: an encoder that is not Pillow's."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + checksum

    extra = b"".join(chunk(block[:4], block[4:]) for block in chunks)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + header + extra + body + chunk(b"IEND", b"")


RAMP = np.linspace(0, 65535, H * W).reshape(H, W).astype(np.uint16)
RAMP_8 = np.rint(RAMP / 257).astype(np.uint8)


def big_endian_rows(samples: np.ndarray) -> bytes:
    return b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)


def test_16_bit_grey_png() -> None:
    data = png(W, H, 16, 0, big_endian_rows(RAMP))
    close(read_image(data), np.dstack([RAMP_8] * 3), 0)


def test_16_bit_grey_png_with_transparent_value() -> None:
    key = RAMP[3, 3]
    data = png(W, H, 16, 0, big_endian_rows(RAMP), b"tRNS" + struct.pack(">H", key))
    grey = np.where(key == RAMP, np.uint8(255), RAMP_8)
    close(read_image(data), np.dstack([grey] * 3), 0)


def test_16_bit_grey_and_alpha_png() -> None:
    samples = np.dstack([RAMP, RAMP.T.reshape(H, W)])
    data = png(W, H, 16, 4, big_endian_rows(samples.reshape(H, -1)))
    expected = on_white(np.dstack([RAMP_8] * 3), np.rint(samples[:, :, 1] / 257).astype(np.uint8))
    close(read_image(data), expected, 2)


@pytest.mark.parametrize(("colour", "channels"), [(2, 3), (6, 4)])
def test_16_bit_colour_png(colour: int, channels: int) -> None:
    samples = np.dstack([RAMP, RAMP[::-1], RAMP[:, ::-1], np.full_like(RAMP, 65535)])
    data = png(W, H, 16, colour, big_endian_rows(samples[:, :, :channels].reshape(H, -1)))
    close(read_image(data), np.rint(samples[:, :, :3] / 257).astype(np.uint8), 1)


def test_16_bit_colour_png_with_transparent_colour_is_opaque() -> None:
    samples = np.dstack([RAMP, RAMP[::-1], RAMP[:, ::-1]])
    key = b"tRNS" + struct.pack(">HHH", 40000, 40000, 40000)
    data = png(W, H, 16, 2, big_endian_rows(samples.reshape(H, -1)), key)
    close(read_image(data), np.rint(samples / 257).astype(np.uint8), 1)


@pytest.mark.parametrize("bits", [2, 4])
def test_low_depth_grey_png(bits: int) -> None:
    rows = b"".join(bytes([0, *[0b00011011] * 5]) for _ in range(H))
    image = read_image(png(5 * 8 // bits, H, bits, 0, rows))
    row = [0, 85, 170, 255] * 5 if bits == 2 else [17, 187] * 5
    close(image, np.broadcast_to(np.array(row, np.uint8)[None, :, None], (H, len(row), 3)), 0)


@pytest.mark.parametrize("mode", ["I;16", "I;16B"])
def test_16_bit_grey_tiff(mode: str) -> None:
    samples = RAMP.astype(">u2" if mode == "I;16B" else "<u2")
    picture = Image.frombytes(mode, (W, H), samples.tobytes())
    close(read_image(encode(picture, "TIFF")), np.dstack([RAMP_8] * 3), 0)


def tiff(
    samples: np.ndarray, *, photometric: int = 1, sample_format: int = 1, **tags: int
) -> bytes:
    """An uncompressed little-endian TIFF of one strip: an encoder that is not Pillow's."""
    height, width = samples.shape[:2]
    channels = samples.shape[2] if samples.ndim == 3 else 1
    bits = samples.dtype.itemsize * 8
    data = samples.astype(samples.dtype.newbyteorder("<")).tobytes()
    after = 8 + len(data)
    per_channel = struct.pack(f"<{channels}H", *[bits] * channels)
    formats = struct.pack(f"<{channels}H", *[sample_format] * channels)
    long = channels > 2
    entries = [
        (256, 4, 1, struct.pack("<I", width)),
        (257, 4, 1, struct.pack("<I", height)),
        (258, 3, channels, struct.pack("<I", after) if long else per_channel),
        (259, 3, 1, struct.pack("<H", 1)),
        (262, 3, 1, struct.pack("<H", photometric)),
        (273, 4, 1, struct.pack("<I", 8)),
        (277, 3, 1, struct.pack("<H", channels)),
        (278, 4, 1, struct.pack("<I", height)),
        (279, 4, 1, struct.pack("<I", len(data))),
        (339, 3, channels, struct.pack("<I", after + len(per_channel)) if long else formats),
    ]
    entries += [(int(tag[1:]), 4, 1, struct.pack("<I", value)) for tag, value in tags.items()]
    extra = per_channel + formats if long else b""
    directory = struct.pack("<H", len(entries)) + b"".join(
        struct.pack("<HHI", tag, kind, count) + value.ljust(4, b"\0")
        for tag, kind, count, value in sorted(entries)
    )
    start = after + len(extra)
    return b"II*\0" + struct.pack("<I", start) + data + extra + directory + b"\0" * 4


def test_16_bit_tiff_where_white_is_zero() -> None:
    image = read_image(tiff(RAMP, photometric=0))
    close(image, np.dstack([255 - RAMP_8] * 3), 0)


def test_12_bit_tiff() -> None:
    samples = RAMP >> 4
    pairs = samples.reshape(-1, 2)
    first, second = pairs[:, 0], pairs[:, 1]
    packed = np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], axis=1)
    rows = packed.astype(np.uint8).reshape(H, W * 3 // 2)
    data = tiff(rows)
    widths = (struct.pack("<HHII", 256, 4, 1, v) for v in (W * 3 // 2, W))
    depths = (struct.pack("<HHIHH", 258, 3, 1, v, 0) for v in (8, 12))
    data = data.replace(*widths).replace(*depths)
    expected = np.rint(samples / 4095 * 255).astype(np.uint8)
    close(read_image(data), np.dstack([expected] * 3), 1)


def test_16_bit_colour_tiff() -> None:
    samples = np.dstack([RAMP, RAMP[::-1], RAMP[:, ::-1]])
    image = read_image(tiff(samples, photometric=2))
    close(image, np.rint(samples / 257).astype(np.uint8), 1)


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        (RAMP.astype(np.int32), RAMP / 257),
        ((RAMP // 257).astype(np.int32), RAMP // 257),
        (RAMP.astype(np.int32) * 1000, RAMP / 257),
        (RAMP.astype(np.int32) - 30000, RAMP / 257),
        (np.zeros((H, W), np.int32), np.zeros((H, W))),
        (np.full((H, W), 70000, np.int32), np.zeros((H, W))),
    ],
)
def test_32_bit_tiff(samples: np.ndarray, expected: np.ndarray) -> None:
    image = read_image(tiff(samples, sample_format=2))
    close(image, np.dstack([np.rint(expected).astype(np.uint8)] * 3), 1)


@pytest.mark.parametrize("scale", [1.0, 255.0, 65535.0, 1e6])
def test_float_tiff(scale: float) -> None:
    samples = (RAMP / 65535 * scale).astype(np.float32)
    expected = np.dstack([RAMP_8] * 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        close(read_image(tiff(samples, sample_format=3)), expected, 1)
        samples[2, 2:5] = np.nan, np.inf, -np.inf
        expected[2, 2:5] = 0
        close(read_image(tiff(samples, sample_format=3)), expected, 1)


def test_16_bit_pgm() -> None:
    header = b"P5\n%d %d\n65535\n" % (W, H)
    close(read_image(header + RAMP.astype(">u2").tobytes()), np.dstack([RAMP_8] * 3), 0)
    dark = np.full((H, W), 200, np.uint16)  # stays dark: the range is the format's
    close(read_image(header + dark.astype(">u2").tobytes()), np.full((H, W, 3), 1, np.uint8), 0)


def test_cmyk_jpeg_as_adobe_writes_it() -> None:
    cmyk = Image.fromarray(smooth()).convert("CMYK")
    data = encode(cmyk, "JPEG", quality=98, subsampling=0)
    assert b"Adobe" in data
    close(read_image(data), smooth(), 10)


def test_cmyk_with_black() -> None:
    c, m, y, k = (np.full((H, W), v, np.uint8) for v in (51, 102, 0, 128))
    picture = Image.merge("CMYK", [Image.fromarray(v) for v in (c, m, y, k)])
    expected = [round(255 * (1 - v / 255) * (1 - 128 / 255)) for v in (51, 102, 0)]
    for data in (encode(picture, "JPEG", quality=100), encode(picture, "TIFF")):
        close(read_image(data), np.broadcast_to(np.array(expected, np.uint8), (H, W, 3)), 3)


def test_ycck_jpeg() -> None:
    """As Photoshop writes it: inks inverted, their complements as YCbCr, Adobe transform 2."""
    # inks c = 255 - r, …, k = 0; inverted: r, g, b, 255; the complements of the first three:
    complements = ImageOps.invert(Image.fromarray(smooth())).convert("YCbCr")
    stored = [*complements.split(), Image.new("L", (W, H), 255)]
    inverted = [ImageOps.invert(band) for band in stored]  # as Pillow inverts what it writes
    data = encode(Image.merge("CMYK", inverted), "JPEG", quality=98, subsampling=0)
    marker = data.index(b"Adobe")
    assert data[marker + 11] == 0
    data = data[: marker + 11] + b"\x02" + data[marker + 12 :]
    close(read_image(data), smooth(), 10)


def test_lab_tiff() -> None:
    samples = np.zeros((H, W, 3), np.uint8)  # L* from 0 to 255, a* and b* signed
    samples[:, :, 0] = 136  # L* = 53.3: sRGB's grey 127
    close(read_image(tiff(samples, photometric=8)), np.full((H, W, 3), 127, np.uint8), 3)
    samples[:] = np.array([53.24 * 2.55, 80.09, 67.2]).astype(np.uint8)  # sRGB's red
    red = np.broadcast_to(np.uint8([255, 0, 0]), (H, W, 3))
    close(read_image(tiff(samples, photometric=8)), red, 12)


# --- several frames: the first ---


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("GIF", {}),
        ("WEBP", {"lossless": True}),
        ("PNG", {}),
        ("TIFF", {}),
        ("MPO", {"quality": 98}),
    ],
)
def test_first_frame(kind: str, options: dict) -> None:
    colours = [(200, 30, 40), (10, 220, 50), (20, 30, 240)]
    first, *others = [Image.new("RGB", (W, H), colour) for colour in colours]
    data = encode(first, kind, save_all=True, append_images=others, **options)
    with Image.open(io.BytesIO(data)) as opened:
        assert opened.n_frames == 3
    close(read_image(data), np.array(first), 3)


# --- names and sizes ---


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP"])
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".txt", ""])
def test_wrong_suffix(tmp_path: Path, kind: str, suffix: str) -> None:
    path = tmp_path / f"picture{suffix}"
    path.write_bytes(encode(Image.new("RGB", (W, H), (255, 0, 0)), kind))
    close(read_image(path), np.broadcast_to(np.uint8([255, 0, 0]), (H, W, 3)), 2)


@pytest.mark.parametrize("size", [(1, 1), (20_000, 1), (1, 20_000)])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "GIF", "BMP"])
def test_extreme_sizes(kind: str, size: tuple[int, int]) -> None:
    image = read_image(encode(Image.new("RGB", size, (0, 0, 255)), kind))
    close(image, np.broadcast_to(np.uint8([0, 0, 255]), (size[1], size[0], 3)), 2)


@pytest.mark.slow
def test_largest_picture_that_is_read() -> None:
    side = int(MAX_PIXELS**0.5)
    data = encode(Image.new("L", (side, side), 77), "JPEG")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        image = read_image(data)
    assert image.shape == (side, side, 3) and (image[::99, ::99] == 77).all()


def bombs() -> dict[str, bytes]:
    """Headers that promise 20,000 x 20,000 pixels, with little or nothing behind them."""
    n = 20_000
    sof = b"\xff\xc0" + struct.pack(">HBHHB", 17, 8, n, n, 3) + b"\1\x11\0\2\x11\0\3\x11\0"
    return {
        "png": png(n, n, 8, 2, zlib.compress(b"")),
        "just over": png(12_001, 10_000, 1, 0, b""),
        "jpeg": b"\xff\xd8" + sof + b"\xff\xda" + b"\0" * 100,
        "gif": b"GIF89a" + struct.pack("<HHBBB", n, n, 0, 0, 0) + b"," + b"\0" * 40,
        "bmp": b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, n, n, 1, 24, *[0] * 6),
        "ppm": b"P6\n20000 20000\n255\n",
        "tiff": tiff(np.zeros((2, 2), np.uint8)).replace(
            struct.pack("<HHII", 256, 4, 1, 2), struct.pack("<HHII", 256, 4, 1, 10**9)
        ),
        "webp": b"RIFF\x20\0\0\0WEBPVP8X\x0a\0\0\0\2\0\0\0"
        + (16_382).to_bytes(3, "little") * 2
        + b"ANIM\6\0\0\0\0\0\0\0\0\0",
    }


@pytest.mark.parametrize("kind", bombs())
def test_decompression_bomb(kind: str) -> None:
    start = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        message = refusal(bombs()[kind])
    if kind not in ("webp", "gif"):  # their decoders reject the stub itself
        assert "120 million" in message and "scale it down" in message
    assert time.process_time() - start < 1


def test_pillow_settings_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    before = Image.MAX_IMAGE_PIXELS
    data = encode(Image.fromarray(smooth()), "JPEG")
    for source in (data, data[: len(data) // 2], bombs()["png"]):
        try:
            read_image(source)
        except ImageError:
            pass
    from PIL import ImageFile

    assert before == Image.MAX_IMAGE_PIXELS and ImageFile.LOAD_TRUNCATED_IMAGES is False


# --- damage ---


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("JPEG", {}),
        ("JPEG", {"progressive": True}),
        ("PNG", {}),
        ("GIF", {}),
        ("WEBP", {"lossless": True}),
        ("WEBP", {}),
        ("TIFF", {}),
        ("BMP", {}),
        ("PPM", {}),
        ("JPEG2000", {}),
        ("AVIF", {}),
    ],
)
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_truncated(tmp_path: Path, kind: str, options: dict, share: float) -> None:
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("Pillow without AVIF")
    noise = np.random.default_rng(1).integers(0, 256, (80, 90, 3), dtype=np.uint8)
    data = encode(Image.fromarray(noise), kind, **options)
    path = tmp_path / "cut.jpg"
    path.write_bytes(data[: int(len(data) * share)])
    message = refusal(path)
    assert str(path) in message and "truncated" in message
    assert "file is truncated (image" not in message  # Pillow says it, too
    assert "\n" not in message


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP"])
def test_only_the_first_bytes(kind: str) -> None:
    data = encode(Image.fromarray(smooth()), kind)
    for length in range(1, 30):
        assert "\n" not in refusal(data[:length])


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP"]),
    st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=8),
)
@pytest.mark.filterwarnings("ignore")
def test_flipped_bytes_are_read_or_refused(kind: str, changes: list[tuple[int, int]]) -> None:
    data = bytearray(encode(Image.fromarray(smooth()), kind))
    for position, value in changes:
        data[position % len(data)] = value
    try:
        image = read_image(bytes(data))
    except ImageError:
        return
    assert image.ndim == 3 and image.dtype == np.uint8


@settings(max_examples=200)
@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with pytest.raises(ImageError):
        read_image(data)


# --- what is no picture ---


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"Dear Sir,\nplease find attached\n", "text file"),
        ("Grüße, \u9854".encode(), "text file"),
        (b'{"a": 1}', "text file"),
        (b"<!DOCTYPE html><html><body>404</body></html>", "web page"),
        (b'<?xml version="1.0"?>\n<svg xmlns="x"></svg>', "SVG"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0" * 90, "HEIC is not supported; convert"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic" + b"\0" * 90, "HEIC"),
        (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom" + b"\0" * 90, "RAW"),
        (b"II*\0\x10\0\0\0CR\2\0" + b"\0" * 90, "RAW"),
        (b"FUJIFILMCCD-RAW 0201FF" + b"\0" * 90, "RAW"),
        (b"\0\0\0\x1cftypisom\0\0\2\0" + b"\0" * 90, "video"),
        (b"%PDF-1.7\n%\xe2\xe3", "PDF"),
        (b"PK\3\4" + b"\0" * 90, "zip archive"),
        (b"\x7fELF" + b"\0" * 90, "no image of a known format"),
    ],
)
def test_other_files(data: bytes, words: str) -> None:
    message = refusal(data, name="file.jpg")
    assert message.startswith("file.jpg: ") and words in message


@pytest.mark.parametrize(
    "tags",
    [{"t50706": 1}, {"t254": 1, "t330": 8}],
)
def test_raw_file_that_looks_like_a_tiff(tags: dict[str, int]) -> None:
    data = tiff(smooth(), photometric=2, **tags)
    assert "RAW" in refusal(data)
    close(read_image(tiff(smooth(), photometric=2, t254=0)), smooth(), 0)


def test_raw_suffix_of_a_tiff(tmp_path: Path) -> None:
    path = tmp_path / "DSC_0001.NEF"
    path.write_bytes(tiff(smooth(), photometric=2))
    assert "RAW" in refusal(path)
    path.write_bytes(encode(Image.fromarray(smooth()), "JPEG"))
    assert read_image(path).shape == (H, W, 3)


def test_missing_folder_pipe_and_bad_names(tmp_path: Path) -> None:
    assert "no such file" in refusal(tmp_path / "none.jpg")
    assert "is a folder" in refusal(tmp_path)
    os.mkfifo(tmp_path / "pipe.jpg")
    assert "no regular file" in refusal(tmp_path / "pipe.jpg")
    (tmp_path / "dangling.jpg").symlink_to("nowhere")
    assert "no such file" in refusal(tmp_path / "dangling.jpg")
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    assert "cannot be opened" in refusal(tmp_path / "loop.jpg")
    assert "cannot be opened" in refusal("a" * 5000)
    assert "cannot be opened" in refusal("a\0b.jpg")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_no_permission(tmp_path: Path) -> None:
    path = tmp_path / "locked.jpg"
    path.touch(mode=0)
    assert "no permission" in refusal(path)


def test_no_permission_as_the_system_reports_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def deny(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "stat", deny)
    assert "no permission" in refusal("locked.jpg")


# --- threads, speed, batches ---


def test_threads() -> None:
    pictures = [smooth(20 + i, 30 + i) for i in range(12)]
    good = [encode(Image.fromarray(p), "PNG") for p in pictures]
    bad = encode(Image.fromarray(smooth()), "JPEG")[:400]

    def read(index: int) -> bool:
        if index % 3 == 2:
            return "truncated" in refusal(bad)
        return np.array_equal(read_image(good[index % 12]), pictures[index % 12])

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read, range(200)))


def test_12_megapixels_take_less_than_a_second() -> None:
    rows = np.random.default_rng(0).integers(0, 256, (75, 100, 3), dtype=np.uint8)
    photo = Image.fromarray(rows).resize((4000, 3000), Image.Resampling.BICUBIC)
    data = encode(photo, "JPEG", quality=90, exif=exif(6))

    def seconds() -> float:
        start = time.process_time()
        assert read_image(data).shape == (4000, 3000, 3)
        return time.process_time() - start

    assert min(seconds() for _ in range(3)) < 1


def test_a_batch_goes_on(tmp_path: Path) -> None:
    for name in ("a.png", "c.png"):
        (tmp_path / name).write_bytes(encode(Image.fromarray(smooth()), "PNG"))
    (tmp_path / "b.png").write_bytes(b"")
    errors: list[ImageError] = []
    names = [
        name for name, _ in read_images([str(tmp_path), str(tmp_path / "none")], errors.append)
    ]
    assert names == [str(tmp_path / "a.png"), str(tmp_path / "c.png")]
    assert [error.source for error in errors] == [str(tmp_path / "b.png"), str(tmp_path / "none")]


def test_tiff_tags_used_here_are_the_standard_ones() -> None:
    assert TiffImagePlugin.PHOTOMETRIC_INTERPRETATION == 262


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize("ending", ["jpg", "png", "tif", "webp"])
def test_the_size_from_the_header_is_that_of_the_upright_image(
    tmp_path: Path, ending: str, orientation: int
) -> None:
    path = tmp_path / f"image.{ending}"
    exif = Image.Exif()
    exif[274] = orientation
    Image.new("RGB", (30, 20)).save(path, exif=exif)
    height, width = read_image(path).shape[:2]
    assert image_size(path) == (width, height)
    assert (width, height) == ((20, 30) if orientation >= 5 else (30, 20))


def test_a_file_that_is_no_image_has_no_size(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"text")
    for name in ("a.jpg", "absent.jpg"):
        with pytest.raises(ImageError, match=name):
            image_size(tmp_path / name)
