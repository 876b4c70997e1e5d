"""The only place that decodes images.

Every image becomes (H, W, 3) uint8 RGB, upright, at its full size. What is read, and how:

- JPEG (MPO too), PNG, WebP, GIF, TIFF, BMP, PPM and its kin, AVIF, HEIC, JPEG 2000, told apart by
  their content; the file's name does not matter. Of animations and multi-page files: the first
  frame.
- The EXIF orientation is applied, in every format that can carry one.
- Transparent pixels are laid over white. Colour profiles are not applied.
- Grey becomes three equal channels. 16-bit values are scaled from 0…65535 to 0…255. The samples of
  32-bit and floating-point TIFFs have no agreed range: the smallest of 0…1 (floats only), 0…255 and
  0…65535 that holds them all is taken, else their own minimum and maximum; what is not finite is
  black.
- Everything else is refused with an ``ImageError``, also what is damaged or cut off: half an image
  is not analysed as if it were whole, as far as the format shows it (``faces.intact``). A JPEG that
  lacks only its end marker is whole.

Any number of threads may read at once. One thing global is changed, on import: Pillow's warnings of
damaged metadata, which name no image, are not shown.
"""

from __future__ import annotations

import io
import os
import re
import stat
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

from faces.intact import Jpeg, ends_in_zeros, problem_of_png
from faces.paths import ImageError, iter_image_paths
from faces.pixels import orientation, upright_rgb

__all__ = ["MAX_PIXELS", "ImageError", "ImageSource", "read_image", "read_images"]

warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")

MAX_PIXELS = 120_000_000
"""Larger images are refused from their header, before any pixel is decoded.

WebP, AVIF and HEIC, whose libraries take more memory, are read up to half as many pixels, JPEG 2000
up to a third.

The largest that is read takes less than a gigabyte of memory while it is decoded.
"""

_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "PPM", "AVIF", "JPEG2000")
_HEAVY = {"WEBP": 2, "AVIF": 2, "HEIF": 2, "JPEG2000": 3}
"""Formats whose libraries take that many times the memory of others."""
_HEIF_BRAND = re.compile(rb"hei[cxms]|hev[cxms]")
_BYTES_PER_PIXEL = 4
"""What Pillow takes for a decoded image."""
_MAX_STREAM_BYTES = 1 << 30
_HEAD_BYTES = 1024

_RAW = "a camera's RAW file"
_FOREIGN: tuple[tuple[int, tuple[bytes, ...], str, str], ...] = (
    (4, (b"ftypcrx",), _RAW, "export it as JPEG"),
    (4, (b"ftypisom", b"ftypmp4", b"ftypqt"), "a video", "save a frame as JPEG"),
    (0, (b"\x1aE\xdf\xa3",), "a video", "save a frame as JPEG"),
    (0, (b"FUJIFILMCCD-RAW", b"II*\x00\x10\x00\x00\x00CR"), _RAW, "export it as JPEG"),
    (0, (b"IIU\x00", b"IIRO", b"IIRS"), _RAW, "export it as JPEG"),
    (0, (b"\xff\x0a", b"\x00\x00\x00\x0cJXL "), "JPEG XL", "convert it to JPEG"),
    (0, (b"8BPS",), "a Photoshop file", "export it as JPEG"),
    (0, (b"%PDF",), "PDF", "export the page as JPEG"),
    (0, (b"%!PS", b"\xc5\xd0\xd3\xc6"), "PostScript", "export it as JPEG"),
    (0, (b"PK\x03\x04",), "a zip archive", "unpack it and take the images in it"),
    (0, (b"\x1f\x8b",), "a gzip archive", "unpack it and take the images in it"),
    (0, (b"\x00\x00\x01\x00",), "an icon (ICO)", "convert it to PNG"),
)
"""Offset, one of which bytes is found there, what such a file is, the way out."""

_RAW_SUFFIXES = frozenset(
    ".dng .nef .nrw .arw .sr2 .srf .pef .srw .erf .3fr .dcr .kdc .iiq".split()
)
_NEW_SUBFILE_TYPE, _PHOTOMETRIC = 254, 262
_SUB_IFDS, _DNG_VERSION = 330, 50706
_COLOUR_FILTER_ARRAY, _LINEAR_RAW = 32803, 34892


_Bytes = bytes | bytearray | memoryview
ImageSource = str | os.PathLike[str] | _Bytes | BinaryIO | Image.Image | NDArray[np.uint8]
"""What an image can be read from: see ``read_image``."""


def read_image(
    source: ImageSource, name: str | None = None, *, max_pixels: int = MAX_PIXELS
) -> NDArray[np.uint8]:
    """Read an image, upright and as RGB; the module's docstring says how each kind is treated.

    Args:
        source: a path; the bytes of a file; a binary stream, which is read from its start if it can
            be rewound, else from where it stands, and is left open; a Pillow image; or an array
            (H, W, 3) uint8, which is taken as it is. An array must be upright and in the order red,
            green, blue: nothing can tell that it is not (OpenCV's are blue, green, red).
        name: what error messages call the image; by default ``source_name(source)``.
        max_pixels: larger images are refused, before any pixel is decoded.

    Returns:
        The image, (H, W, 3) uint8 RGB, contiguous and writable. Coordinates of what is found in it
        are those of the upright image at full size.

    Raises:
        ImageError: it cannot be read, for whatever reason; or has more than ``max_pixels``.
    """
    name = name or source_name(source)
    if isinstance(source, np.ndarray):
        return _checked_array(source, name, max_pixels)
    if isinstance(source, Image.Image):
        return _pixels(source, name, max_pixels, lambda error: f"cannot be decoded: {error}")
    with ExitStack() as stack:
        if isinstance(source, _Bytes):
            stream: BinaryIO = io.BytesIO(source)
        elif isinstance(source, str | os.PathLike):
            stream = stack.enter_context(_open_file(os.fspath(source), name))
        elif hasattr(source, "read"):
            stream = _rewound(source, name)
        else:
            kind = type(source).__name__
            raise ImageError(name, f"a {kind} is no path, bytes, file, array or Pillow image")
        try:
            return _decode(stream, name, max_pixels)
        except OSError as error:
            raise ImageError(name, f"cannot be read: {error.strerror or error}") from error


def source_name(source: object) -> str:
    """Return what to call an image: its path, its stream's name, its Pillow file, or "image"."""
    if isinstance(source, str | os.PathLike):
        return os.fspath(source)
    named = getattr(source, "filename" if isinstance(source, Image.Image) else "name", "")
    return str(named) if isinstance(named, str | os.PathLike) and str(named) else "image"


def _checked_array(image: NDArray[Any], name: str, max_pixels: int) -> NDArray[np.uint8]:
    """Return an array that is an image as it is, contiguous; else say how to make it one."""
    shape = image.shape
    way_out = ""
    if image.ndim == 2:
        way_out = "; it is grey: give np.dstack([image] * 3)"
    elif image.ndim == 3 and shape[2] == 1:
        way_out = "; it is grey: give np.repeat(image, 3, axis=2)"
    elif image.ndim == 3 and shape[2] == 4:
        way_out = "; it has an alpha channel: give image[:, :, :3]"
    elif image.ndim == 3 and shape[0] == 3 != shape[2]:
        way_out = "; its channels come first: give image.transpose(1, 2, 0)"
    elif image.ndim == 4:
        way_out = "; these are several images: give one at a time, or use analyze_many"
    elif image.dtype != np.uint8:
        way_out = "; scale it to 0…255 and give image.round().astype(np.uint8)"
    if image.dtype != np.uint8 or image.ndim != 3 or shape[2] != 3 or image.size == 0:
        raise ImageError(
            name, f"expected an array (H, W, 3) uint8 RGB, got {shape} {image.dtype}{way_out}"
        )
    if shape[0] * shape[1] > max_pixels:
        raise ImageError(name, _too_large(shape[1], shape[0], max_pixels))
    return np.require(image, requirements=["C", "W"])  # PyTorch warns of what is read-only


def read_images(
    paths: Sequence[str],
    on_error: Callable[[ImageError], None],
    exclude: str | os.PathLike[str] | None = None,
) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Read the images that a user names, one at a time, past those that cannot be read.

    Args:
        paths: files, folders and patterns, see ``iter_image_paths``.
        on_error: called once for everything that failed: an image, or a path that names none.
        exclude: a folder whose images are passed over, see ``iter_image_paths``.

    Yields:
        (path, image) of every image that could be read, in order.
    """
    for path in iter_image_paths(paths, exclude):
        try:
            if isinstance(path, ImageError):
                raise path
            image = read_image(path)
        except ImageError as error:
            on_error(error)
        else:
            yield str(path), image


def _open_file(path: str, name: str) -> BinaryIO:
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            raise ImageError(name, "is a folder, not an image")
        if not stat.S_ISREG(mode):  # opening a pipe would wait for its other end
            raise ImageError(name, "is no regular file")
        return open(path, "rb")
    except FileNotFoundError:
        raise ImageError(name, "no such file") from None
    except PermissionError:
        raise ImageError(name, "no permission to read it") from None
    except OSError as error:
        raise ImageError(name, f"cannot be opened: {error.strerror}") from error
    except ImageError:
        raise
    except ValueError as error:  # a null character in the name
        raise ImageError(name, f"cannot be opened: {error}") from error


def _rewound(stream: BinaryIO, name: str) -> BinaryIO:
    try:
        stream.seek(0)
        return stream
    except (AttributeError, OSError):  # OSError includes io.UnsupportedOperation
        data = stream.read(_MAX_STREAM_BYTES + 1)
    if len(data) > _MAX_STREAM_BYTES:
        raise ImageError(name, f"is longer than {_MAX_STREAM_BYTES >> 20} MiB; save it as a file")
    return io.BytesIO(data)


def image_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Return (width, height) in pixels of the upright image in a file, from its header.

    An ``ImageError`` says that it is no image; damage behind the header stays unseen.
    """
    name = os.fspath(path)
    with _open_file(name, name) as stream, _opened(stream, name)[0] as picture:
        if picture.format != "TIFF":  # Pillow turns those while it decodes them
            width, height = picture.size
            return (height, width) if orientation(picture) >= 5 else (width, height)
    height, width = read_image(name).shape[:2]
    return width, height


def _decode(stream: BinaryIO, name: str, max_pixels: int) -> NDArray[np.uint8]:
    stream, jpeg = _whole_jpeg(stream)
    opened, head = _opened(stream, name)
    with opened:
        taken = _BYTES_PER_PIXEL * opened.width * opened.height
        if jpeg and taken + jpeg.coefficient_bytes > MAX_PIXELS * 2 * _BYTES_PER_PIXEL:
            cause = f"a progressive JPEG of {opened.width}x{opened.height} pixels takes too much"
            raise ImageError(name, f"{cause} memory; save it as baseline JPEG, or scale it down")
        return _pixels(
            opened,
            name,
            max_pixels,
            lambda error: _damage(error, stream, head),
            lambda: _load_intact(opened, stream, jpeg),
        )


def _whole_jpeg(stream: BinaryIO) -> tuple[BinaryIO, Jpeg | None]:
    """Return a file with its end marker, and what its markers say if it is a JPEG."""
    start = stream.read(3)
    stream.seek(0)
    if start != b"\xff\xd8\xff":
        return stream, None
    data = stream.read(_MAX_STREAM_BYTES >> 2)
    jpeg = Jpeg.parse(data)
    if jpeg is not None and not jpeg.ended:
        return io.BytesIO(jpeg.data), jpeg
    stream.seek(0)
    return stream, jpeg


def _load_intact(opened: Image.Image, stream: BinaryIO, jpeg: Jpeg | None) -> None:
    """Decode an image; raise an ``OSError``, or what a plugin raises, where it is damaged."""
    problem = jpeg.problem_before() if jpeg else ""
    at = stream.tell()
    if opened.format == "PNG":
        bits = {"1": 1, "P": 1, "L": 1, "RGB": 24, "RGBA": 32}.get(opened.mode, 8)
        problem = problem_of_png(stream, bits, opened.size)
    if opened.format in ("WEBP", "AVIF", "HEIF") and ends_in_zeros(stream):
        problem = "truncated, its data end in zeros"
    if problem:
        raise OSError(problem)
    stream.seek(at)
    opened.load()
    if jpeg and (problem := jpeg.problem_after(opened)):
        raise OSError(problem)


def _opened(stream: BinaryIO, name: str) -> tuple[Image.Image, bytes]:
    """Return an image of a kind that is read, its header read, and the first bytes of its file."""
    head = stream.read(_HEAD_BYTES)
    if not head:
        raise ImageError(name, "is empty (0 bytes); get it again")
    for offset, marks, kind, way_out in _FOREIGN:
        if head.startswith(marks, offset):
            raise ImageError(name, f"{kind} is not supported; {way_out}")
    # Pillow's plugins raise nearly every exception there is on damaged files.
    opened: Image.Image | None
    try:
        if head[4:8] == b"ftyp" and _HEIF_BRAND.search(head, 8, 64):
            opened = _open_heif(stream, name)
        else:
            opened = _open_image(stream, head)
    except ImageError:
        raise
    except Exception as error:
        raise ImageError(name, _damage(error, stream, head)) from error
    if opened is None:
        raise ImageError(name, _no_image(head))
    return opened, head


def _pixels(
    opened: Image.Image,
    name: str,
    max_pixels: int,
    damage: Callable[[Exception], str],
    load: Callable[[], object] | None = None,
) -> NDArray[np.uint8]:
    """Return the upright pixels of an opened image, which are decoded now.

    Args:
        opened: its header is read.
        name: what messages call it.
        max_pixels: images with more are refused.
        damage: puts into words what ``load`` raises.
        load: decodes the image; by default its own method.
    """
    width, height = opened.size
    if width < 1 or height < 1:
        raise ImageError(name, f"has no pixels ({width}x{height})")
    _check_size(opened.size, name, opened.format, max_pixels)
    if _is_raw(opened, name):
        raise ImageError(name, f"{_RAW} is not supported; export it as JPEG")
    try:
        (load or opened.load)()
    except MemoryError as error:
        raise ImageError(name, f"not enough memory for {width}x{height} pixels") from error
    except Exception as error:
        raise ImageError(name, damage(error)) from error
    try:
        return upright_rgb(opened)
    except MemoryError as error:
        raise ImageError(name, f"not enough memory for {width}x{height} pixels") from error
    except (OSError, ValueError, KeyError) as error:
        cause = f"pixels of kind {opened.mode} are not supported ({error}); save it as RGB"
        raise ImageError(name, cause) from error


def _check_size(size: tuple[int, int], name: str, kind: str | None, most: int) -> None:
    """Raise an ``ImageError`` where an image of a format has more pixels than are read."""
    limit = min(most, MAX_PIXELS // _HEAVY.get(kind or "", 1))
    if size[0] * size[1] > limit:
        raise ImageError(name, _too_large(*size, limit))


def _too_large(width: int, height: int, limit: int) -> str:
    return (
        f"{width}x{height} pixels are more than the {limit / 1e6:g} million that are read; "
        "scale it down"
    )


def _open_image(stream: BinaryIO, head: bytes) -> ImageFile.ImageFile | None:
    """Parse the header with the plugin that recognises the content; None if none does.

    ``Image.open`` does the same but warns of images over ``Image.MAX_IMAGE_PIXELS``, which cannot
    be silenced without changing state that all threads share.
    """
    Image.init()
    failure: Exception | None = None
    for kind in _FORMATS:
        if kind not in Image.OPEN:  # a Pillow built without that library
            continue
        factory, accept = Image.OPEN[kind]
        # An accept function returns a string where the format is known but its library is missing.
        accepted = accept is None or accept(head[:16])
        if isinstance(accepted, str) or not accepted:
            continue
        stream.seek(0)
        try:
            return factory(cast("io.BytesIO", stream), "")
        except Exception as error:
            failure = failure or error
    if failure is not None:
        raise failure
    return None


def _open_heif(stream: BinaryIO, name: str) -> Image.Image:
    """Decode a HEIF image; libheif turns it as it says, so that its EXIF orientation is done."""
    try:
        import pi_heif
    except ImportError:
        raise ImageError(name, "HEIC needs the package pi-heif, or convert it to JPEG") from None
    try:
        stream.seek(0)
        heif = pi_heif.open_heif(stream)
        _check_size(heif.size, name, "HEIF", MAX_PIXELS)
        opened: Image.Image = heif.to_pillow()
    except ImageError:
        raise
    except Exception as error:
        cause = f"the HEIC file is damaged, truncated or of an unsupported kind ({error})"
        raise ImageError(name, f"{cause}; get it again or save it as JPEG") from error
    opened.format = "HEIF"
    opened.info.pop("exif", None)
    return opened


def _damage(error: Exception, stream: BinaryIO, head: bytes) -> str:
    """Say what is wrong with a file that starts like an image but cannot be decoded."""
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, Image.DecompressionBombError):
        return (
            f"has more than the {MAX_PIXELS // 10**6} million pixels that are read; scale it down"
        )
    if head.startswith(b"RIFF"):
        expected = int.from_bytes(head[4:8], "little") + 8
        length = stream.seek(0, io.SEEK_END)
        if length < expected:
            text = f"truncated, {length:,} of {expected:,} bytes"
    if "truncated" in text.lower():
        detail = re.sub("^(image file is )?truncated,?", "", text).strip(" ()")
        return f"the file is truncated{f' ({detail})' if detail else ''}; get it again"
    return (
        f"the file is damaged, truncated or of an unsupported kind ({text}); "
        "get it again or save it as PNG"
    )


def _no_image(head: bytes) -> str:
    lower = head.lower().lstrip(b"\xef\xbb\xbf \t\r\n")
    if b"<svg" in lower:
        return "SVG is not supported; export it as PNG"
    if lower.startswith((b"<!doctype html", b"<html")):
        return "is a web page, not an image; perhaps its download failed"
    if head[4:8] == b"ftyp":
        return "this relative of HEIC or MP4 is not supported; convert it to JPEG"
    if not re.search(rb"[\x00-\x08\x0e-\x1f\x7f]", head):
        return "is a text file, not an image"
    return "is no image of a known format; convert it to JPEG or PNG"


def _is_raw(opened: Image.Image, name: str) -> bool:
    """Tell a camera's RAW file, of which Pillow would show the small preview, from a TIFF."""
    tags = getattr(opened, "tag_v2", None)
    if opened.format != "TIFF" or tags is None:
        return False
    reduced = isinstance(kind := tags.get(_NEW_SUBFILE_TYPE, 0), int) and kind & 1
    return (
        _DNG_VERSION in tags
        or tags.get(_PHOTOMETRIC) in (_COLOUR_FILTER_ARRAY, _LINEAR_RAW)
        or bool(reduced and _SUB_IFDS in tags)
        or os.path.splitext(name)[1].lower() in _RAW_SUFFIXES
    )
