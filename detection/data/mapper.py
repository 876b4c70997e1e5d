"""One sample for Detectron2: decode, stretch, crop around a face, flip, jitter, blur, to a tensor.

The geometry is pure (``CropPlan``, ``plan_crop``), so that tests can check it without images.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from detectron2.structures import Boxes, BoxMode, Instances
from numpy.typing import NDArray

from detection.modeling.ignore_regions import IGNORE
from faces.images import read_image
from faces.pipeline import Image

FloatArray = NDArray[np.float64]

MIN_VISIBLE = 0.5
"""A face of which less than this share of the area is inside the crop is ignored."""

AVERAGE_BELOW = 0.8
"""An image that shrinks to less than this is averaged first: bilinear steps alone would alias."""

MIN_FILL = 0.7
"""The longer side of the image never shrinks below this share of the crop."""


BLUR_SIGMA = (0.4, 1.6)
"""Standard deviations of the blur in training, pixels of the network's input."""


@dataclass(frozen=True, slots=True)
class CropPlan:
    """A square window on an image, scaled to a square of ``size`` pixels."""

    x: float  # left edge of the window in the image, pixels; may be negative
    y: float  # top edge
    scale: float  # output pixels per image pixel
    size: int  # side of the output, pixels

    def boxes(self, boxes: FloatArray) -> FloatArray:
        """Map boxes, (N, 4) as (x1, y1, x2, y2), from the image to the output, unclipped."""
        return (boxes - np.array([self.x, self.y, self.x, self.y])) * self.scale

    def image(self, image: Image, fill: tuple[int, int, int]) -> Image:
        """Cut the window, (size, size, 3) uint8, out of an image; outside that all is ``fill``."""
        height, width = image.shape[:2]
        side = self.size / self.scale
        left, top = max(math.floor(self.x) - 1, 0), max(math.floor(self.y) - 1, 0)
        right = min(math.ceil(self.x + side) + 1, width)
        bottom = min(math.ceil(self.y + side) + 1, height)
        out: Image = np.full((self.size, self.size, 3), fill, dtype=np.uint8)
        if right <= left or bottom <= top:
            return out
        # averaged where it shrinks much
        part, scale = image[top:bottom, left:right], self.scale
        if scale < AVERAGE_BELOW:
            small = (max(round(part.shape[1] * scale), 1), max(round(part.shape[0] * scale), 1))
            shrunk = cv2.resize(part, small, interpolation=cv2.INTER_AREA)
            sx, sy = small[0] / part.shape[1], small[1] / part.shape[0]
        else:
            shrunk, sx, sy = part, 1.0, 1.0
        # pixel centres lie at +0.5: output centre u+0.5 = ((left + (v+0.5)/sx) - x) * scale
        matrix = np.array(
            [
                [scale / sx, 0, (left + 0.5 / sx - self.x) * scale - 0.5],
                [0, scale / sy, (top + 0.5 / sy - self.y) * scale - 0.5],
            ]
        )
        cv2.warpAffine(  # into ``out``, which stays ``fill`` around it
            shrunk,
            matrix,
            (self.size, self.size),
            dst=out,
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_TRANSPARENT,
        )
        return out


def plan_crop(
    width: int,
    height: int,
    faces: FloatArray,
    rng: np.random.Generator,
    *,
    size: int,
    face_sizes: tuple[float, float],
    max_zoom: float,
    whole: float,
) -> CropPlan:
    """Select a window: the whole image, or one around a random face at a random size.

    The selected face lies wholly inside the window (unless it is larger).

    Args:
        width: of the image, pixels.
        height: of the image, pixels.
        faces: boxes (N, 4) that a window may be built around; N may be 0.
        rng: source of chance.
        size: side of the output, pixels.
        face_sizes: the selected face's longer side in the output is drawn log-uniformly from this
            range.
        max_zoom: the image is never enlarged more than this.
        whole: probability of showing the whole image.
    """
    fit = size / max(width, height)
    if rng.random() < whole or not len(faces):
        scale = min(fit * math.exp(rng.uniform(math.log(MIN_FILL), math.log(1.1))), max_zoom)
        x1, y1, x2, y2 = 0.0, 0.0, float(width), float(height)
    else:
        x1, y1, x2, y2 = faces[rng.integers(len(faces))]
        target = math.exp(rng.uniform(math.log(face_sizes[0]), math.log(face_sizes[1])))
        scale = min(max(target / max(x2 - x1, y2 - y1), MIN_FILL * fit), max_zoom)
    side = size / scale
    x, y = _place(x1, x2, side, width, rng), _place(y1, y2, side, height, rng)
    return CropPlan(x, y, scale, size)


def _place(low: float, high: float, side: float, length: int, rng: np.random.Generator) -> float:
    """Return the start of a random interval of length ``side`` around (or in) [low, high].

    It stays inside [0, length] or, where it is longer, contains that.
    """
    a, b = sorted((high - side, low))
    first, last = sorted((0.0, length - side))
    return min(max(float(rng.uniform(a, b)), first), last)


def stretch(
    image: Image, boxes: FloatArray, most: float, rng: np.random.Generator
) -> tuple[Image, FloatArray]:
    """Change an image's aspect ratio, as web pages do that squeeze photos into a square.

    Width over height of the (H, W, 3) uint8 image is multiplied by up to 1 + ``most``, or divided
    by it (log-uniformly); the area stays. Boxes, (N, 4) as (x1, y1, x2, y2), go along. Chance is
    not asked where ``most`` is 0.
    """
    if most <= 0:
        return image, boxes
    factor = math.exp(rng.uniform(-0.5, 0.5) * math.log1p(most))
    height, width = image.shape[:2]
    new = (max(round(height / factor), 1), max(round(width * factor), 1))
    x, y = new[1] / width, new[0] / height
    return resize(image, *new), boxes * [x, y, x, y]


def label_boxes(
    boxes: FloatArray, ignored: NDArray[np.bool_], size: tuple[int, int], min_face: float
) -> tuple[FloatArray, NDArray[np.int64]]:
    """Clip boxes to the output and decide which are faces to learn.

    Args:
        boxes: (N, 4) in output pixels, unclipped.
        ignored: (N,) those that the data set itself says to ignore.
        size: (height, width) of the output.
        min_face: boxes whose shorter side is below this are ignored, pixels.

    Returns:
        The clipped boxes that have area, (M, 4), and their class, (M,): 0 = face, ``IGNORE``.
    """
    height, width = size
    clipped = boxes.clip(0.0, np.array([width, height, width, height], dtype=np.float64))
    sides, full = clipped[:, 2:] - clipped[:, :2], boxes[:, 2:] - boxes[:, :2]
    visible = sides.prod(axis=1) / np.maximum(full.prod(axis=1), 1e-9)
    skip = ignored | (visible < MIN_VISIBLE) | (full.min(axis=1, initial=np.inf) < min_face)
    classes = np.where(skip, IGNORE, 0)
    there = (sides > 0.5).all(axis=1)
    return clipped[there], classes[there]


def jitter(image: Image, strength: float, rng: np.random.Generator) -> Image:
    """Vary brightness, contrast and saturation of an RGB or BGR image; a tenth go grey."""
    if strength <= 0:
        return image
    out = image.astype(np.float32)
    brightness, contrast, saturation = rng.uniform(1 - strength, 1 + strength, 3)
    if rng.random() < 0.1:
        saturation = 0.0
    grey = out.mean(axis=2, keepdims=True)
    out = grey + (out - grey) * saturation
    mean = out.mean()
    out = (mean + (out - mean) * contrast) * brightness
    result: Image = out.clip(0, 255).astype(np.uint8)
    return result


def blur(image: Image, rng: np.random.Generator) -> Image:
    """Blur an image (H, W, 3) by a Gaussian, of a width drawn from ``BLUR_SIGMA``."""
    blurred = cv2.GaussianBlur(image, (0, 0), float(rng.uniform(*BLUR_SIGMA)))
    return blurred.astype(np.uint8, copy=False)


class FaceMapper:
    """A record of the catalog → what Detectron2's models take; for training and for testing.

    In training, ``INPUT.STRETCH``, the crop of ``INPUT.FACE_CROP`` or Detectron2's resize of the
    whole image, then flip, jitter and blur. Regions to ignore go along as instances of class
    ``IGNORE`` where the model knows how to skip them (``FaceRPN``); else they are dropped, as in
    Detectron2.
    """

    def __init__(self, cfg: Any, is_train: bool) -> None:
        self.is_train = is_train
        self.format: str = cfg.INPUT.FORMAT
        self.crop = cfg.INPUT.FACE_CROP.clone()
        self.flip = cfg.INPUT.RANDOM_FLIP != "none"
        self.stretch: float = cfg.INPUT.STRETCH
        self.jitter: float = cfg.INPUT.COLOUR_JITTER
        self.blur: float = cfg.INPUT.BLUR
        self.min_face: float = cfg.INPUT.MIN_FACE
        mean = cfg.MODEL.PIXEL_MEAN
        self.fill = (round(mean[0]), round(mean[1]), round(mean[2]))
        self.knows_ignore = cfg.MODEL.PROPOSAL_GENERATOR.NAME == "FaceRPN"
        self.train_sizes: tuple[int, ...] = tuple(np.atleast_1d(cfg.INPUT.MIN_SIZE_TRAIN).tolist())
        self.sampling: str = cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING
        self.max_train_size: int = cfg.INPUT.MAX_SIZE_TRAIN
        self.test_sizes: tuple[int, int] = (cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST)

    def __call__(
        self, record: dict[str, Any], rng: np.random.Generator | None = None
    ) -> dict[str, Any]:
        """Read and transform one record; ``image`` is (3, H, W) uint8 in ``INPUT.FORMAT``.

        Chance, ``rng``, is needed in training only.
        """
        image = read_image(record["file_name"])
        if self.format == "BGR":
            image = np.ascontiguousarray(image[:, :, ::-1])
        out = {key: record[key] for key in ("file_name", "image_id", "width", "height")}
        if not self.is_train:
            out["height"], out["width"] = image.shape[:2]
            return out | {"image": to_tensor(resize_for_inference(image, *self.test_sizes))}
        assert rng is not None
        image, boxes, classes = self._train_sample(image, record, rng)
        instances = Instances(image.shape[:2])
        instances.gt_boxes = Boxes(torch.as_tensor(boxes, dtype=torch.float32).reshape(-1, 4))
        instances.gt_classes = torch.as_tensor(classes)
        if not self.knows_ignore:
            instances = instances[instances.gt_classes != IGNORE]
        return out | {"image": to_tensor(image), "instances": instances}

    def _train_sample(
        self, image: Image, record: dict[str, Any], rng: np.random.Generator
    ) -> tuple[Image, FloatArray, NDArray[np.int64]]:
        # the faces, and how much the image is stretched
        annotations = record["annotations"]
        boxes = np.array(
            [BoxMode.convert(a["bbox"], a["bbox_mode"], BoxMode.XYXY_ABS) for a in annotations],
            dtype=np.float64,
        ).reshape(-1, 4)
        ignored = np.array([bool(a.get("iscrowd", 0)) for a in annotations], dtype=bool)
        image, boxes = stretch(image, boxes, self.stretch, rng)
        # a crop around a face, or the whole image at a random size
        if self.crop.ENABLED:
            plan = plan_crop(
                image.shape[1],
                image.shape[0],
                boxes[~ignored],
                rng,
                size=self.crop.SIZE,
                face_sizes=self.crop.FACE_SIZES,
                max_zoom=self.crop.MAX_ZOOM,
                whole=self.crop.WHOLE,
            )
            image, boxes = plan.image(image, self.fill), plan.boxes(boxes)
        else:
            height, width = image.shape[:2]
            image = resize_for_inference(image, self._train_size(rng), self.max_train_size)
            x, y = image.shape[1] / width, image.shape[0] / height
            boxes = boxes * [x, y, x, y]
        # mirrored, then labelled as what it shows
        if self.flip and rng.random() < 0.5:
            image = np.ascontiguousarray(image[:, ::-1])
            boxes = boxes[:, [2, 1, 0, 3]] * [-1, 1, -1, 1] + [image.shape[1], 0] * 2
        height, width = image.shape[:2]
        boxes, classes = label_boxes(boxes, ignored, (height, width), self.min_face)
        # colours and sharpness
        image = jitter(image, self.jitter, rng)
        if rng.random() < self.blur:
            image = blur(image, rng)
        return image, boxes, classes

    def _train_size(self, rng: np.random.Generator) -> int:
        """Draw the shorter side of a whole image, as ``INPUT.MIN_SIZE_TRAIN_SAMPLING`` says."""
        if self.sampling == "range":
            low, high = self.train_sizes
            return int(rng.integers(low, high + 1))
        return int(rng.choice(self.train_sizes))


def inference_size(height: int, width: int, shortest: int, longest: int) -> tuple[int, int]:
    """Return the (height, width) of the network's input: Detectron2's rule, at least 1 px.

    The shorter side becomes ``shortest`` unless the longer one would then exceed ``longest``.
    """
    scale = min(shortest / min(height, width), longest / max(height, width))
    return max(int(height * scale + 0.5), 1), max(int(width * scale + 0.5), 1)


def resize_for_inference(image: Image, shortest: int, longest: int) -> Image:
    """Resize an (H, W, 3) uint8 image by the rule of ``inference_size``."""
    height, width = image.shape[:2]
    return resize(image, *inference_size(height, width, shortest, longest))


def resize(image: Image, height: int, width: int) -> Image:
    """Return an image (H, W, 3) uint8 at another size; shrinking much averages, against aliases.

    For training and use alike; ``CropPlan.image`` follows the same rule.
    """
    scale = min(height / image.shape[0], width / image.shape[1])
    method = cv2.INTER_AREA if scale < AVERAGE_BELOW else cv2.INTER_LINEAR
    resized = cv2.resize(image, (width, height), interpolation=method)
    return resized.astype(np.uint8, copy=False)


def to_tensor(image: Image) -> torch.Tensor:
    """Return an (H, W, 3) image as a (3, H, W) tensor of the same type."""
    return torch.as_tensor(np.ascontiguousarray(image.transpose(2, 0, 1)))
