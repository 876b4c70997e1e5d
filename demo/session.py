"""What the page keeps for one visitor: photos and what was found in them, within bounds.

Nothing here knows Streamlit, and no photo is ever written to disk.
"""

from __future__ import annotations

import hashlib
import io
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from faces.crops import CROP_MARGIN, crop_face
from faces.images import read_image
from faces.paths import ImageError
from faces.pipeline import Detector, EmotionClassifier, ExplainingDetector, Merged
from faces.types import Detection, EmotionProbabilities, Face, ImageResult

PHOTO_BYTES = 256 << 20
"""So much of a visitor's photos is kept; then the oldest are let go, but not their results."""

PICTURE_BYTES = 24 << 20
"""So much is kept of what can be made anew from a photo: previews, crops, maps."""

ANALYSIS_BYTES = 48 << 20
"""So much is kept of results: some six thousand photos with two faces each."""

SCORE_FLOOR = 0.05
"""Boxes with a lower score are not even shown as suppressed."""

PREVIEW_SIDES = (640, 1280)
"""The longer side of what the page shows, in pixels: at least, at most."""

CARD_SIDE = 192
"""Side of a face's picture on its card, in pixels, at most."""

RELEASED = (
    f"was let go: this page keeps the newest {PHOTO_BYTES >> 20} MB of photos; add it again to see "
    "it under these settings, or use the command line for large collections"
)


@dataclass(frozen=True)
class Photo:
    """A photo as it was uploaded.

    Attributes:
        name: its file's name.
        digest: what tells its content from others'.
        data: its file's bytes; None once it was let go.
    """

    name: str
    digest: str
    data: bytes | None = field(repr=False, compare=False)

    @classmethod
    def of(cls, name: str, data: bytes) -> Photo:
        """Make a photo."""
        return cls(name, hashlib.blake2b(data, digest_size=16).hexdigest(), data)

    def read(self) -> NDArray[np.uint8]:
        """Decode it, (H, W, 3) uint8 RGB, upright.

        Raises:
            ImageError: it cannot be read, or was let go.
        """
        if self.data is None:
            raise ImageError(self.name, RELEASED)
        return read_image(self.data, self.name)


@dataclass(frozen=True)
class Choice:
    """The choices that only the models can answer.

    Attributes:
        detector: its name.
        classifier: its name.
        device: where both run.
        margin: of the crops, see ``faces.crops``.
        score: from which a detection counts as a face; None leaves it to the detector.
    """

    detector: str
    classifier: str
    device: str
    margin: float = CROP_MARGIN
    score: float | None = None


@dataclass(frozen=True)
class Located:
    """What stage 1 says about a photo.

    Attributes:
        width: of the upright photo in pixels.
        height: of the upright photo in pixels.
        detections: from ``SCORE_FLOOR`` on, highest score first.
        merged: what was dropped as further boxes of these; () if the detector cannot tell.
        score: from which the detector itself would show them.
        seconds: what reading and stage 1 took.
    """

    width: int
    height: int
    detections: tuple[Detection, ...]
    merged: tuple[Merged, ...]
    score: float
    seconds: dict[str, float]

    def count(self, score: float | None) -> int:
        """Return how many detections count as faces."""
        least = self.score if score is None else score
        return sum(detection.score >= least for detection in self.detections)


@dataclass(frozen=True)
class Analysis:
    """What both stages say about a photo.

    Attributes:
        result: as ``twostage analyze`` gives it.
        weak: detections whose score is too low to count as faces.
        merged: boxes that were dropped because one of the faces has a better one.
        seconds: what each step took.
    """

    result: ImageResult
    weak: tuple[Detection, ...]
    merged: tuple[Merged, ...]
    seconds: dict[str, float]


class Cache:
    """Values by key; the least recently used make room for new ones; safe to use in threads.

    Args:
        limit: bytes of all values together.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.size = 0
        self._values: OrderedDict[Hashable, tuple[object, int]] = OrderedDict()
        self._lock = threading.RLock()

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: Hashable) -> object | None:
        """Return a value, or None."""
        with self._lock:
            if key not in self._values:
                return None
            self._values.move_to_end(key)
            return self._values[key][0]

    def put(self, key: Hashable, value: object, size: int) -> None:
        """Keep a value of so many bytes; one over the limit replaces all others."""
        with self._lock:
            self.drop([key])
            self._values[key] = value, size
            self.size += size
            while self.size > self.limit and len(self._values) > 1:
                self.drop([next(iter(self._values))])

    def drop(self, keys: Iterable[Hashable]) -> None:
        """Forget values."""
        with self._lock:
            for key in keys:
                _, size = self._values.pop(key, (None, 0))
                self.size -= size

    def keys(self) -> list[Hashable]:
        """Return all keys, the least recently used first."""
        return list(self._values)


class Session:
    """The photos of one visitor and what was found in them.

    Attributes:
        photos: in the order of their coming.
        pictures: what can be made anew from them, see ``keep``.
        choice: the one under which the page was last drawn to its end, if it was.
        cancelled: the choice under which no more photos are to be analysed, if any.
        round: how often photos have come.
    """

    def __init__(self) -> None:
        self.photos: list[Photo] = []
        self.choice: Choice | None = None
        self.cancelled: Choice | None = None
        self.round = 0
        self._fresh = False
        self._seen: set[str] = set()
        self._known = Cache(ANALYSIS_BYTES)
        self.pictures = Cache(PICTURE_BYTES)

    def add(self, name: str, data: bytes) -> None:
        """Take a photo in; the same one again takes its own place."""
        photo = Photo.of(name, data)
        same = photo.name, photo.digest
        self.photos = [p for p in self.photos if (p.name, p.digest) != same] + [photo]
        self.cancelled = None
        self._fresh = True
        self._make_room()

    def take_fresh(self) -> Choice | None:
        """Return ``choice`` if photos have come since the last call, else None."""
        fresh, self._fresh = self._fresh, False
        return self.choice if fresh else None

    def _make_room(self) -> None:
        """Let the oldest photos go that have been analysed, if all together are too large."""
        total = sum(len(photo.data or b"") for photo in self.photos)
        for index, photo in enumerate(self.photos[:-1]):
            if total <= PHOTO_BYTES:
                break
            if photo.digest in self._seen:
                total -= len(photo.data or b"")
                self.photos[index] = replace(photo, data=None)

    def remove(self, photos: Sequence[Photo]) -> None:
        """Forget photos and all that was found in them."""
        self.photos = [photo for photo in self.photos if photo not in photos]
        kept = {photo.digest for photo in self.photos}
        self._seen &= kept
        for cache in (self._known, self.pictures):
            cache.drop([k for k in cache.keys() if isinstance(k, tuple) and k[0] not in kept])

    def known(self, photo: Photo, choice: Choice) -> Analysis | str | None:
        """Return the analysis of a photo; or why there can be none; or None: not analysed yet."""
        failure = self._known.get((photo.digest,))
        if isinstance(failure, str):
            return failure
        located = self._known.get(_place_key(photo, choice))
        analysis = None
        if isinstance(located, Located):
            analysis = self._known.get(_key(photo, choice, located.count(choice.score)))
        if analysis is None and photo.data is None:
            return RELEASED
        return analysis if isinstance(analysis, Analysis) else None

    def wants(self, photo: Photo, choice: Choice) -> bool:
        """Tell whether a photo is still to be analysed, and not cancelled."""
        return self.known(photo, choice) is None and self.cancelled != choice

    def analyze(
        self, photo: Photo, choice: Choice, detector: Detector, classifier: EmotionClassifier
    ) -> None:
        """Run what is missing of both stages; afterwards ``known`` returns something."""
        self._seen.add(photo.digest)
        self._make_room()
        start = time.perf_counter()
        try:
            image = photo.read()
        except ImageError as error:
            self._known.put((photo.digest,), error.cause, 1000)
            return
        read = time.perf_counter() - start
        self.keep((photo.digest,), lambda: (_preview(image),))
        located = self._known.get(_place_key(photo, choice))
        if not isinstance(located, Located):
            located = locate(image, detector, read)
            size = 500 + 250 * len(located.detections + located.merged)
            self._known.put(_place_key(photo, choice), located, size)
        count = located.count(choice.score)
        analysis, crops = classify(photo.name, image, located, count, classifier, choice.margin)
        key = _key(photo, choice, count)
        dropped = len(analysis.weak) + len(analysis.merged)
        self._known.put(key, analysis, 500 + 1000 * count + 10 * dropped)
        pictures = _crops_key(photo, choice, count)
        self.keep(pictures, lambda: tuple(_card_picture(crop) for crop in crops))

    def preview(self, photo: Photo) -> bytes:
        """Return a photo as JPEG, scaled to ``PREVIEW_SIDES``.

        Raises:
            ImageError: it was let go.
        """
        return self.keep((photo.digest,), lambda: (_preview(photo.read()),))[0]

    def crops(self, photo: Photo, choice: Choice, result: ImageResult) -> tuple[bytes, ...]:
        """Return what stage 2 saw of each face, as JPEG, at most ``CARD_SIDE`` wide.

        Raises:
            ImageError: the photo was let go.
        """

        def cut() -> tuple[bytes, ...]:
            image = photo.read()
            crops = (crop_face(image, f.detection.box, choice.margin) for f in result.faces)
            return tuple(_card_picture(crop) for crop in crops)

        return self.keep(_crops_key(photo, choice, len(result.faces)), cut)

    def keep(
        self, key: tuple[str | float, ...], make: Callable[[], tuple[bytes, ...]]
    ) -> tuple[bytes, ...]:
        """Return pictures that can be made anew; they are made if they are not kept.

        Args:
            key: starts with the digest of the photo.
            make: returns the files.
        """
        kept = self.pictures.get(key)
        if not isinstance(kept, tuple):
            kept = make()
            self.pictures.put(key, kept, sum(map(len, kept)))
        return kept


def locate(image: NDArray[np.uint8], detector: Detector, read: float) -> Located:
    """Run stage 1 on a picture, (H, W, 3) uint8 RGB, which took ``read`` seconds to read."""
    start = time.perf_counter()
    least = min(SCORE_FLOOR, detector.score_threshold)
    if isinstance(detector, ExplainingDetector):
        detections, merged = detector.explain(image, least)
    else:
        detections, merged = detector.detect([image], least)[0], []
    seconds = {"read": read, "detect": time.perf_counter() - start}
    height, width = image.shape[:2]
    threshold = detector.score_threshold
    return Located(width, height, tuple(detections), tuple(merged), threshold, seconds)


def classify(
    name: str,
    image: NDArray[np.uint8],
    located: Located,
    count: int,
    classifier: EmotionClassifier,
    margin: float,
) -> tuple[Analysis, list[NDArray[np.uint8]]]:
    """Run stage 2 on the ``count`` most confident detections of a picture.

    Returns:
        The analysis, and the crop of each face, (S, S, 3) uint8 RGB.
    """
    start = time.perf_counter()
    shown, weak = located.detections[:count], located.detections[count:]
    crops = [crop_face(image, detection.box, margin) for detection in shown]
    cut = time.perf_counter()
    rows = classifier.probabilities(crops)
    end = time.perf_counter()
    faces = (
        Face(d, EmotionProbabilities.from_row(row)) for d, row in zip(shown, rows, strict=True)
    )
    seconds = {**located.seconds, "crop": cut - start, "classify": end - cut}
    total = located.seconds["detect"] + end - start
    result = ImageResult(name, located.width, located.height, total, tuple(faces))
    merged = tuple(box for box in located.merged if box.into < count)
    return Analysis(result, weak, merged, seconds), crops


def jpeg(image: NDArray[np.uint8]) -> bytes:
    """Return a picture, (H, W, 3) uint8 RGB, as JPEG; coloured letters stay sharp."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=90, subsampling=0)
    return file.getvalue()


def preview_factor(width: int, height: int) -> float:
    """Return by how much a picture is scaled for the page."""
    low, high = PREVIEW_SIDES
    longer = max(width, height)
    return min(max(longer, low), high) / longer


def _place_key(photo: Photo, choice: Choice) -> tuple[str, ...]:
    return photo.digest, choice.detector, choice.device


def _crops_key(photo: Photo, choice: Choice, count: int) -> tuple[str | float, ...]:
    return *_place_key(photo, choice), choice.margin, count


def _key(photo: Photo, choice: Choice, count: int) -> tuple[str | float, ...]:
    return *_crops_key(photo, choice, count), choice.classifier


def _preview(image: NDArray[np.uint8]) -> bytes:
    return jpeg(_resized(image, preview_factor(image.shape[1], image.shape[0])))


def _card_picture(crop: NDArray[np.uint8]) -> bytes:
    return jpeg(_resized(crop, min(1.0, CARD_SIDE / len(crop))))


def _resized(image: NDArray[np.uint8], factor: float) -> NDArray[np.uint8]:
    if factor == 1.0:
        return image
    height, width = (max(1, round(side * factor)) for side in image.shape[:2])
    lanczos = Image.Resampling.LANCZOS
    return np.array(Image.fromarray(image).resize((width, height), lanczos, reducing_gap=3.0))
