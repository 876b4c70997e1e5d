"""Damage that the decoders pass over is seen, and nothing whole is taken for damaged."""

from __future__ import annotations

import base64
import io
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from faces.images import ImageError, read_image
from faces.intact import MORE_BITS, Jpeg

ROOT = Path(__file__).parents[2]
JPEGS = (
    {},
    {"progressive": True},
    {"quality": 95, "subsampling": 0},
    {"restart_marker_rows": 1},
    {"restart_marker_blocks": 3, "progressive": True},
    {"optimize": True, "quality": 30},
)

HEIC = base64.b64decode(
    "AAAAHGZ0eXBoZWljAAAAAG1pZjFoZWljbWlhZgAAAchtZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0AAAAAAAA"
    "AAAAAAAAAAAAADRpbG9jAAAAAERAAAIAAQAAAAAB7AABAAAAAAAAANUAAgAAAAACwQABAAAAAAAAACQAAAA4aWlu"
    "ZgAAAAAAAgAAABVpbmZlAgAAAAABAABodmMxAAAAABVpbmZlAgAAAQACAABFeGlmAAAAAA5waXRtAAAAAAABAAAB"
    "B2lwcnAAAADmaXBjbwAAAHZodmNDAQNwAAAAkAAAAAAAHvAA/P34+AAADwNgAAEAGEABDAH//wNwAAADAJAAAAMA"
    "AAMAHroCQGEAAQAqQgEBA3AAAAMAkAAAAwAAAwAeoCCBBZbq5Ka5uAhoMCAAAAMDIAAAAwAhYgABAAZEAcFzwIkA"
    "AAATY29scm5jbHgAAQANAAaAAAAAFGlzcGUAAAAAAAAAQAAAAEAAAAAoY2xhcAAAAEAAAAABAAAAMAAAAAEAAAAA"
    "AAAAAv////AAAAACAAAAEHBpeGkAAAAAAwgICAAAAAlpcm90AwAAABlpcG1hAAAAAAAAAAEAAQaBAgMFhIYAAAAa"
    "aXJlZgAAAAAAAAAOY2RzYwACAAEAAQAAAQFtZGF0AAAA0SgBrwngIzUt/+8V//75TyHr1GR07u/Uo/9gaLvf5b/6"
    "gm19+jvTf/ZCO/jib/pOeaqBJTdf/yqsvJoFaZ8AM6LrrvQJ6DIaz9O7f00pG7VEniHhpAgsdIWPqWkd4U2QMoaH"
    "l4yIHBUNGyZkvGGthsSdJG1JnP9zPycUoYm0AzAuZvKOpauyig1ROXM0SVYzRKZEDr2nz1p2e+aUavV9arfEhuuK"
    "FsmI4zSrEIyL4HxXFXTY/P6gFn8/DP92a9a8SXX1r23xww4FnytGjT+4bJu4AAAABkV4aWYAAE1NACoAAAAIAAEB"
    "EgADAAAAAQAGAAAAAAAA"
)
"""64×48 pixels: red, green over blue, white; turned by 90° (irot), and its EXIF data say so too."""


def photo(width: int = 300, height: int = 220) -> Image.Image:
    with Image.open(ROOT / "samples/group.jpg") as image:
        return image.convert("RGB").resize((width, height))


def encode(image: Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def cut(data: bytes, share: float) -> bytes:
    """Return a JPEG up to a share of its scan data."""
    start = data.index(b"\xff\xda") + 14
    return data[: start + int((len(data) - 2 - start) * share)]


def refused(data: bytes) -> str:
    with pytest.raises(ImageError) as caught:
        read_image(data, "a.jpg")
    return str(caught.value)


@pytest.mark.parametrize("options", JPEGS)
@pytest.mark.parametrize("share", [0.05, 0.3, 0.6, 0.9])
def test_a_jpeg_that_was_cut_and_closed_again_is_refused(options: dict, share: float) -> None:
    part = cut(encode(photo(), **options), share)
    assert "the file is truncated" in refused(part + b"\xff\xd9")
    assert "the file is truncated" in refused(part)
    assert "the file is truncated" in refused(part + bytes(20_000))


@pytest.mark.parametrize("options", JPEGS)
@pytest.mark.parametrize("size", [(300, 220), (1, 1), (17, 9)])
@pytest.mark.parametrize("ending", [b"", b"\xff"])
def test_a_jpeg_that_lacks_only_its_end_marker_is_read(
    options: dict, size: tuple[int, int], ending: bytes
) -> None:
    data = encode(photo(*size), **options)
    assert data.endswith(b"\xff\xd9")
    whole = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    assert np.array_equal(read_image(data[:-2] + ending), whole)


@pytest.mark.parametrize("options", JPEGS)
def test_whole_jpegs_with_plain_grey_ends_are_read(options: dict) -> None:
    image = photo()
    image.paste((128, 128, 128), (0, 100, 300, 220))
    for each in (image, image.convert("L"), image.convert("CMYK"), Image.new("RGB", (99, 50))):
        read_image(encode(each, **options))


@pytest.mark.parametrize("options", [{}, {"progressive": True}])
def test_bytes_between_scan_and_end_marker_do_no_harm(options: dict) -> None:
    data = encode(photo(), **options)
    padded = data[:-2] + bytes(7) + MORE_BITS + data[-2:] + b"a camera's preview"
    assert np.array_equal(read_image(padded), read_image(data))


def test_missing_scans_of_a_progressive_jpeg_are_noticed() -> None:
    data = encode(photo(), progressive=True)
    last = data.rindex(b"\xff\xda")
    assert "parts of the scan data are missing" in refused(data[:last] + b"\xff\xd9")


@pytest.mark.parametrize("options", [{}, {"progressive": True}])
def test_a_header_that_claims_more_than_the_bytes_can_hold_is_refused(options: dict) -> None:
    data = bytearray(encode(photo(64, 64), **options))
    frame = data.index(b"\xff\xc2" if options else b"\xff\xc0")
    data[frame + 5 : frame + 9] = (10_900).to_bytes(2, "big") * 2
    assert "cannot hold 10900x10900 pixels" in refused(bytes(data))
    header = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", bytes.fromhex("00002a9400002a940802000000"))
    small = chunk(b"IDAT", zlib.compress(bytes(10_000)))
    assert "cannot hold 10900x10900 pixels" in refused(header + small + chunk(b"IEND", b""))


def chunk(kind: bytes, body: bytes) -> bytes:
    checksum = zlib.crc32(kind + body).to_bytes(4, "big")
    return len(body).to_bytes(4, "big") + kind + body + checksum


@pytest.mark.parametrize("data", [b"\xff\xd8\xff", b"\xff\xd8\xff\xe0\0", b"\xff\xd8\xff\xd9"])
def test_what_does_not_parse_is_left_to_pillow(data: bytes) -> None:
    assert Jpeg.parse(data) is None
    refused(data)


@pytest.mark.parametrize("kind", [b"IHDR", b"IDAT", b"PLTE"])
def test_a_png_with_a_wrong_checksum_is_refused(kind: bytes) -> None:
    data = bytearray(encode(photo().quantize(), "PNG"))
    at = data.index(kind)
    length = int.from_bytes(data[at - 4 : at], "big")
    data[at + 4 + length] ^= 1
    assert "checksum" in refused(bytes(data)) or kind == b"IHDR"


@pytest.mark.parametrize("options", [{}, {"compress_level": 0}])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_a_png_with_a_zeroed_tail_is_refused(options: dict, share: float) -> None:
    data = encode(photo(), "PNG", **options)
    kept = data[: int(len(data) * share)]
    refused(kept + bytes(len(data) - len(kept)))


def test_a_png_with_too_few_rows_is_refused() -> None:
    rows = zlib.compress(bytes(301 * 3 * 100))
    header = chunk(b"IHDR", (300).to_bytes(4, "big") + (220).to_bytes(4, "big") + b"\x08\2\0\0\0")
    refused(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", rows) + chunk(b"IEND", b""))


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("WEBP", {}),
        ("WEBP", {"lossless": True}),
        ("WEBP", {"save_all": True, "append_images": [photo().rotate(90)]}),
        ("AVIF", {}),
    ],
)
def test_data_that_end_in_zeros_are_refused(kind: str, options: dict) -> None:
    options = dict(options)
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("Pillow without AVIF")
    data = encode(photo(), kind, **options)
    read_image(data)
    if "save_all" not in options:
        assert "truncated" in refused(data[:-200] + bytes(200))
    else:  # the first frame's data
        end = data.index(b"VP8 ")
        end += 8 + int.from_bytes(data[end + 4 : end + 8], "little")
        assert "end in zeros" in refused(data[: end - 200] + bytes(200) + data[end:])
    for colour in ("black", "white"):
        options.pop("append_images", None)
        read_image(encode(Image.new("RGB", (640, 480), colour), kind, **options))


def test_heic_is_read_upright() -> None:
    pytest.importorskip("pi_heif")
    image = read_image(HEIC, "phone.heic")
    assert image.shape == (64, 48, 3)  # turned once, not twice
    corners = image[8, 8], image[8, -8], image[-8, 8], image[-8, -8]
    strongest = [tuple(np.flatnonzero(corner > 150)) for corner in corners]
    assert strongest == [(2,), (0,), (0, 1, 2), (1,)]
    assert "HEIC file is damaged" in refused(HEIC[:300])
    assert "end in zeros" in refused(HEIC[:-100] + bytes(100))


def test_without_its_package_heic_is_refused_with_the_way_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "pi_heif", None)
    assert "HEIC needs the package pi-heif, or convert it" in refused(HEIC)


MEMORY = """
import sys
from faces.images import read_image
def peak():
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) << 10
read_image("samples/group.jpg")
before = peak()
print(read_image(sys.argv[1]).size // 3, peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("kind", ["float.tif", "rgba.png", "turned.jpg", "progressive.jpg"])
def test_the_largest_image_takes_less_than_a_gigabyte(tmp_path: Path, kind: str) -> None:
    side = 4000
    grey = np.add.outer(np.arange(side), np.arange(side)).astype(np.uint8)
    layer, path = Image.fromarray(grey), tmp_path / kind
    exif = Image.Exif()
    exif[274] = 6
    if kind == "float.tif":
        Image.fromarray(grey.astype(np.float32)).save(path, compression="tiff_deflate")
    elif kind == "rgba.png":
        Image.merge("RGBA", [layer] * 4).save(path, compress_level=1)
    else:
        image = Image.merge("RGB", [layer] * 3)
        image.save(path, exif=exif.tobytes(), progressive=kind.startswith("prog"))
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(path)], cwd=ROOT, capture_output=True, text=True
    )
    pixels, taken = map(int, done.stdout.split())
    fixed = 25 << 20  # strips and tables, whatever the size
    assert (taken - fixed) * 120e6 / pixels + fixed < 1e9


def test_damaged_exif_data_print_nothing(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6
    block = b"Exif\0\0" + exif.tobytes()[6:]
    for name, bad in (
        ("cut.jpg", block[:-6]),
        ("many.jpg", block.replace(b"\1\0\0\0", b"\2\0\0\0")),
    ):
        photo(64, 48).save(tmp_path / name, exif=bad)
    code = "import sys; from faces.images import read_image; [read_image(p) for p in sys.argv[1:]]"
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, tmp_path.iterdir())],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
