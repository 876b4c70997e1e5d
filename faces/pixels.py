"""Pillow image → upright RGB pixels, strip by strip, so that no second copy of it is needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

STRIP = 1 << 20
"""Pixels that are converted at a time."""

_BITS_PER_SAMPLE, _PHOTOMETRIC, _ORIENTATION = 258, 262, 274
_WHITE_IS_ZERO = 0

_Strip = Callable[[Image.Image], NDArray[np.uint8]]


def upright_rgb(opened: Image.Image) -> NDArray[np.uint8]:
    """Return the pixels of a decoded image, (H, W, 3) uint8 RGB, turned as its EXIF data say.

    Besides them it takes memory for one strip.

    Raises:
        OSError, ValueError, KeyError: Pillow cannot convert this mode.
    """
    width, height = opened.size
    turn = orientation(opened)
    shape = (width, height, 3) if turn >= 5 else (height, width, 3)
    image = np.empty(shape, np.uint8)
    rows = _before_turning(image, turn)
    convert = _conversion(opened)
    top = 0
    for strip in _strips(opened):
        rows[top : top + strip.height] = convert(strip)
        top += strip.height
    return image


def orientation(opened: Image.Image) -> int:
    """Return the EXIF orientation, 1…8; of a loaded TIFF it is 1, as Pillow has turned it."""
    try:
        value = opened.getexif().get(_ORIENTATION, 1)
    except Exception:  # unreadable EXIF data is no reason to refuse the image
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _before_turning(image: NDArray[np.uint8], turn: int) -> NDArray[np.uint8]:
    """Return the view of an upright image that has the rows of the file."""
    if turn in (2, 3, 6, 7):
        image = image[:, ::-1]
    if turn in (3, 4, 7, 8):
        image = image[::-1]
    return image.transpose(1, 0, 2) if turn >= 5 else image


def _strips(opened: Image.Image) -> Iterator[Image.Image]:
    width, height = opened.size
    rows = max(1, STRIP // width)
    if rows >= height:
        yield opened
        return
    for top in range(0, height, rows):
        yield opened.crop((0, top, width, min(top + rows, height)))


def _conversion(opened: Image.Image) -> _Strip:
    """Return what converts a strip of an image of any of Pillow's modes, to (H, W, 3) or (H, W, 1).

    What depends on the image as a whole is found out here, once.
    """
    mode = opened.mode
    key = opened.info.get("transparency")
    if mode.startswith("I;16"):
        return lambda strip: _grey(_scale_16_bit(opened, np.asarray(strip)), _is_key(strip, key))
    if mode in ("I", "F"):
        if opened.format not in ("TIFF", None):  # PNG and PGM: 16 bits, whatever the mode's width
            return lambda strip: _grey(_to_8_bits(np.clip(np.asarray(strip), 0, 65535)), None)
        low, high = _guess_range(opened)
        return lambda strip: _grey(_scale(np.asarray(strip), low, high), None)
    if isinstance(key, tuple) and max(key) > 255:  # given in 16 bits, which Pillow has dropped
        key = None
    if opened.has_transparency_data and (key is not None or "transparency" not in opened.info):
        return _over_white
    if mode in ("1", "L"):
        return lambda strip: _grey(np.asarray(strip.convert("L")), None)
    return _opaque


def _over_white(strip: Image.Image) -> NDArray[np.uint8]:
    layer = strip.convert("RGBA")
    below = Image.new("RGB", layer.size, "white")
    below.paste(layer, mask=layer.getchannel("A"))
    return np.asarray(below)


def _opaque(strip: Image.Image) -> NDArray[np.uint8]:
    if strip.mode == "RGB":
        return np.asarray(strip)
    if "transparency" in strip.info:
        strip = strip.copy()  # the caller's stays as it is
        del strip.info["transparency"]
    return np.asarray(strip.convert("RGB"))


def _grey(values: NDArray[np.uint8], white: NDArray[np.bool_] | None) -> NDArray[np.uint8]:
    if white is not None:
        values = np.where(white, np.uint8(255), values)
    return values[:, :, None]


def _is_key(strip: Image.Image, key: object) -> NDArray[np.bool_] | None:
    return np.asarray(strip) == key if isinstance(key, int) else None


def _scale_16_bit(opened: Image.Image, samples: NDArray[np.generic]) -> NDArray[np.uint8]:
    tags = getattr(opened, "tag_v2", {})
    if tags.get(_BITS_PER_SAMPLE) == (12,):
        samples = np.minimum(samples, 4095) * np.uint16(16) + samples // 256
    grey = _to_8_bits(samples)
    return 255 - grey if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO else grey


def _to_8_bits(samples: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Scale 0…65535 to 0…255, rounding to the nearest."""
    table: NDArray[np.uint8] = ((np.arange(65536) + 128) // 257).astype(np.uint8)
    return table[samples.astype(np.uint16, copy=False)]


def _guess_range(opened: Image.Image) -> tuple[float, float]:
    """Return which samples are black and white: see ``faces.images``."""
    low, high, whole = np.inf, -np.inf, True
    for strip in _strips(opened):
        samples = np.asarray(strip)
        values = samples.astype(np.float32)
        finite = np.isfinite(values)
        low = min(low, float(values.min(where=finite, initial=np.inf)))
        high = max(high, float(values.max(where=finite, initial=-np.inf)))
        whole = not np.issubdtype(samples.dtype, np.floating)
    if low > high:  # nothing is finite
        return 0.0, 1.0
    if low < 0 or high > 65535:
        return low, high
    if high > 255:
        return 0.0, 65535.0
    return 0.0, 255.0 if high > 1 or whole else 1.0


def _scale(samples: NDArray[np.generic], low: float, high: float) -> NDArray[np.uint8]:
    values = samples.astype(np.float32)
    shares = (np.where(np.isfinite(values), values, low) - low) / np.float32(max(high - low, 1e-30))
    return np.rint(shares * 255).clip(0, 255).astype(np.uint8)
