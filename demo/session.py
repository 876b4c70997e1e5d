"""What the page keeps for one visitor: photos and what was found in them, within bounds.

Nothing here imports Streamlit, and no photo is ever written to disk.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Container, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import PIL.Image

from demo.corrections import Correction
from faces.crops import CROP_MARGIN, crop_face
from faces.draw import shrink
from faces.images import read_image
from faces.paths import ImageError
from faces.pipeline import Image, Located, Merged, Pipeline
from faces.scope import Scope
from faces.types import Box, Detection, ImageResult

FILE_BYTES = 100 << 20
"""Maximum size of one photo's file."""

PHOTO_BYTES = 256 << 20
"""Bytes kept of a visitor's photos; beyond them the oldest are dropped, but not their results."""

RENDERING_BYTES = 24 << 20
"""Bytes kept of what can be made again from a photo: previews, maps."""

SMALL_BYTES = 24 << 20
"""Bytes kept of crops and thumbnails, so that those of all photos are at hand."""

UNDO_SECONDS = 30.0
"""How long removed photos can be had back."""

ANALYSIS_BYTES = 48 << 20
"""Bytes kept of results: some six thousand photos with two faces each."""

SCORE_FLOOR = 0.05
"""Boxes with a lower score are not even shown as suppressed."""

PREVIEW_SIDES = (640, 1280)
"""Minimum and maximum of the longer side of what the page shows, in pixels."""

THUMBNAIL_SIDE = 256
"""Maximum of the longer side of a thumbnail, in pixels."""

LARGEST_CROP = 512
"""Maximum side of the crop that is kept of a corrected face, in pixels, as the service's."""

CARD_SIDE = 192
"""Maximum side of a face on its card, in pixels."""

DROPPED = (
    f"was dropped: this page keeps the newest {PHOTO_BYTES >> 20} MB of photos; add it again to "
    "see it under these settings, or use the command line for large collections"
)


TOO_LARGE = b"twostage: too large"
"""Comes in place of a file that is larger than ``FILE_BYTES``."""

TOO_MANY = b"twostage: too many"
"""Comes in place of a file for which the server has no room."""

_REFUSED = {
    TOO_LARGE: f"is larger than {FILE_BYTES >> 20} MB, the limit of this page; scale it down, or "
    "use the command line",
    TOO_MANY: "was not taken: this page holds as many photos as it can; remove some and add it "
    "again, or use the command line for large collections",
}


@dataclass(frozen=True)
class Photo:
    """A photo on the page. Its bytes lie in the ``Session`` alone, so that they can be freed."""

    name: str  # what the page and the result files call it; no two photos of a session share it
    digest: str  # a hash of its content
    file_name: str  # of the file that was uploaded


@dataclass(frozen=True)
class Choice:
    """The settings on which the models' answers depend."""

    detector: str  # its name
    classifier: str  # its name
    device: str  # where both run
    margin: float = CROP_MARGIN  # of the crops, see ``faces.crops``
    score: float | None = None  # the minimum score of a face; None means the detector's own
    scope: Scope = Scope()  # noqa: RUF009  (frozen); how closely the detector looks
    whole: bool = False  # each photo is one face; the detector does not run


@dataclass(frozen=True)
class Proposals:
    """What stage 1 says about a photo."""

    located: Located  # detections from ``SCORE_FLOOR`` on
    own_score: float  # the detector's ``score_threshold``
    read_seconds: float  # wall-clock time of decoding the photo

    def faces(self, score: float | None) -> Located:
        """Return the detections that count as faces; None means the detector's own score."""
        return self.located.above(self.own_score if score is None else score)


@dataclass(frozen=True)
class Analysis:
    """What both stages say about a photo."""

    result: ImageResult  # as ``twostage analyze``'s, but from left to right
    weak: tuple[Detection, ...]  # detections whose score is too low to count as faces
    merged: tuple[Merged, ...]  # boxes that were dropped because one of the faces has a better one
    seconds: dict[str, float]  # wall-clock time of each step: ``read``, ``detect``, ``classify``


class Cache:
    """Values by key, of so many bytes together (``limit``).

    Drops the least recently used first; safe to use from several threads.
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

    ``sample`` is the name and the content of the photo that is shown while there is no other.
    """

    def __init__(self, sample: tuple[str, bytes]) -> None:
        self.photos: list[Photo] = []  # those that came together in their order, the latest first
        self.choice: Choice | None = None  # under which the page was last drawn to its end
        self.cancelled: Choice | None = None  # under which no more photos are to be analysed
        self.round = 0  # how often photos have come
        self._fresh = False
        self._seen: set[str] = set()
        self._known = Cache(ANALYSIS_BYTES)
        self.renderings = Cache(RENDERING_BYTES)  # JPEGs that can be made again, see ``keep``
        self.small = Cache(SMALL_BYTES)  # crops and thumbnails
        # photo's digest and face's box → what the visitor says that it shows
        self.corrections: dict[tuple[str, Box], Correction] = {}
        self.removed: list[Photo] = []  # those that can still be had back
        self._before: list[Photo] = []
        self._removal = 0.0
        self._lock = threading.RLock()
        name, data = sample
        self._sample = Photo(name, _digest(data), name)
        self._files = {self._sample.digest: data}

    @property
    def shown(self) -> list[Photo]:
        """The photos, or the sample alone."""
        return self.photos or [self._sample]

    def add(self, files: Iterable[tuple[str, bytes]]) -> None:
        """Add photos that came together, each a name and a content.

        The same file again moves to the front; another file of the same name gets a number.
        """
        self.forget_removed()
        added: list[Photo] = []
        for name, data in files:
            digest = _digest(data)
            self._files[digest] = data
            same = [p for p in (*added, *self.photos) if (p.file_name, p.digest) == (name, digest)]
            added = [photo for photo in added if photo not in same]
            self.photos = [photo for photo in self.photos if photo not in same]
            taken = {photo.name for photo in (*added, *self.photos)}
            added.append(same[0] if same else Photo(_unique(name, taken), digest, name))
        self.photos = added + self.photos
        self.cancelled = None
        self._fresh = True
        self.round += 1
        self._make_room()

    def holds(self, photo: Photo) -> bool:
        """Tell whether the bytes of a photo are still there."""
        return photo.digest in self._files

    def read(self, photo: Photo) -> Image:
        """Decode a photo, (H, W, 3) uint8 RGB; ImageError if it cannot be read or is not here."""
        data = self._files.get(photo.digest)
        if data is None:
            raise ImageError(photo.name, DROPPED)
        if data in _REFUSED:
            raise ImageError(photo.name, _REFUSED[data])
        return read_image(data, photo.name)

    def take_fresh(self) -> Choice | None:
        """Return ``choice`` if photos have come since the last call, else None."""
        fresh, self._fresh = self._fresh, False
        return self.choice if fresh else None

    @property
    def photo_bytes(self) -> int:
        """The bytes of all photos together."""
        digests = {photo.digest for photo in (*self.photos, *self.removed)}
        return sum(len(self._files.get(digest, b"")) for digest in digests)

    def _make_room(self) -> None:
        """Drop the earliest photos that have been analysed, if all together are too large."""
        for photo in reversed(self.photos[1:]):
            if self.photo_bytes <= PHOTO_BYTES:
                break
            if photo.digest in self._seen and photo.digest != self.photos[0].digest:
                self._files.pop(photo.digest, None)

    def remove(self, photos: Sequence[Photo]) -> None:
        """Remove photos; for ``UNDO_SECONDS`` they can be had back."""
        self.forget_removed()
        with self._lock:
            self._before, self._removal = self.photos, time.monotonic()
            self.removed = [photo for photo in self.photos if photo in photos]
            self.photos = [photo for photo in self.photos if photo not in photos]

    def undo(self) -> None:
        """Have back what was removed last."""
        with self._lock:
            if self.removed:
                self.photos, self.removed = self._before, []

    def forget_removed(self, after: float = 0.0) -> None:
        """Forget what was removed so many seconds ago, and all that was found in it."""
        with self._lock:
            if not self.removed or time.monotonic() - self._removal < after:
                return
            self.removed = self._before = []
            kept = {photo.digest for photo in (*self.photos, self._sample)}
            self._seen &= kept
            self._files = {digest: data for digest, data in self._files.items() if digest in kept}
            self.corrections = {k: one for k, one in self.corrections.items() if k[0] in kept}
            for cache in (self._known, self.renderings, self.small):
                cache.drop([k for k in cache.keys() if isinstance(k, tuple) and k[0] not in kept])

    def clear(self) -> None:
        """Forget all photos and all that was found in any, the sample included."""
        self.photos = self.removed = self._before = []
        self._files = {}
        self.corrections = {}
        for cache in (self._known, self.renderings, self.small):
            cache.drop(cache.keys())

    def known(self, photo: Photo, choice: Choice) -> Analysis | str | None:
        """Return the analysis of a photo; or why there can be none; or None: not analysed yet."""
        failure = self._known.get((photo.digest,))
        if isinstance(failure, str):
            return failure
        proposals = self._known.get(_detector_key(photo, choice))
        analysis = None
        if isinstance(proposals, Proposals):
            faces = len(proposals.faces(choice.score).detections)
            analysis = self._known.get(_key(photo, choice, faces))
        if analysis is None and not self.holds(photo):
            return DROPPED
        return analysis if isinstance(analysis, Analysis) else None

    def wants(self, photo: Photo, choice: Choice) -> bool:
        """Tell whether a photo is still to be analysed, and not cancelled."""
        return self.known(photo, choice) is None and self.cancelled != choice

    def analyze(self, photo: Photo, choice: Choice, pipeline: Pipeline) -> None:
        """Run what is missing of both stages; afterwards ``known`` returns something."""
        # Decode the photo; the cause of a failure is its outcome.
        start = time.perf_counter()
        try:
            image = self.read(photo)
        except ImageError as error:
            self._known.put((photo.digest,), error.cause, 1000)
            return
        finally:
            self._seen.add(photo.digest)
            self._make_room()
        read_seconds = time.perf_counter() - start
        self.keep((photo.digest,), lambda: (_preview(image),))
        self._keep_thumbnail(photo, lambda: image)

        # Stage 1 depends on the detector only, stage 2 also on how many detections are faces.
        proposals = self._known.get(_detector_key(photo, choice))
        if not isinstance(proposals, Proposals):
            own = pipeline.detector.score_threshold
            located = pipeline.locate(image, min(SCORE_FLOOR, own), explain=True)
            proposals = Proposals(located, own, read_seconds)
            size = 500 + 250 * len(located.detections + located.merged)
            self._known.put(_detector_key(photo, choice), proposals, size)
        analysis = classify(image, proposals, choice.score, pipeline, photo.name)

        # Keep the analysis, and the crops while the image is at hand.
        faces, dropped = len(analysis.result.faces), len(analysis.weak) + len(analysis.merged)
        self._known.put(_key(photo, choice, faces), analysis, 500 + 1000 * faces + 10 * dropped)
        self._keep_crops(photo, choice, analysis.result, lambda: image)

    def preview(self, photo: Photo) -> bytes:
        """Return a photo as JPEG, scaled to ``PREVIEW_SIDES``; ImageError if it was dropped."""
        return self.keep((photo.digest,), lambda: (_preview(self.read(photo)),))[0]

    def thumbnail(self, photo: Photo) -> bytes:
        """Return a photo as JPEG, at most ``THUMBNAIL_SIDE`` wide and high.

        Raises:
            ImageError: it was dropped.
        """
        return self._keep_thumbnail(photo, lambda: self.read(photo))

    def _keep_thumbnail(self, photo: Photo, read: Callable[[], Image]) -> bytes:
        def make() -> tuple[bytes, ...]:
            image = read()
            return (jpeg(_resized(image, min(1.0, THUMBNAIL_SIDE / max(image.shape[:2])))),)

        return self.keep((photo.digest,), make, self.small)[0]

    def crops(self, photo: Photo, choice: Choice, result: ImageResult) -> tuple[bytes, ...]:
        """Return what stage 2 saw of each face, as JPEG, at most ``CARD_SIDE`` wide.

        Raises:
            ImageError: the photo was dropped.
        """
        return self._keep_crops(photo, choice, result, lambda: self.read(photo))

    def _keep_crops(
        self, photo: Photo, choice: Choice, result: ImageResult, read: Callable[[], Image]
    ) -> tuple[bytes, ...]:
        def cut() -> tuple[bytes, ...]:
            image = read()
            crops = (crop_face(image, face.box, choice.margin) for face in result.faces)
            return tuple(jpeg(_resized(crop, min(1.0, CARD_SIDE / len(crop)))) for crop in crops)

        return self.keep(_crops_key(photo, choice, len(result.faces)), cut, self.small)

    def correct(
        self, photo: Photo, choice: Choice, result: ImageResult, number: int, label: str
    ) -> Correction | None:
        """Keep what a face really shows; "" takes it back.

        Args:
            photo: in which the face is.
            choice: under which it was found.
            result: what was found.
            number: of the face.
            label: an emotion or ``NOT_A_FACE``.

        Returns:
            What is kept now.

        Raises:
            ImageError: the photo was dropped.
        """
        face = result.faces[number - 1]
        key = photo.digest, face.box
        self.corrections.pop(key, None)
        if not label:
            return None
        file = io.BytesIO()
        crop = shrink(crop_face(self.read(photo), face.box, choice.margin), LARGEST_CROP)
        PIL.Image.fromarray(crop).save(file, "PNG", compress_level=1)
        models = face.emotions.top, choice.classifier, choice.detector, time.time()
        made = Correction(photo.digest, number, label, file.getvalue(), *models)
        self.corrections[key] = made
        return made

    def corrected(self, photo: Photo, result: ImageResult) -> dict[int, str]:
        """Return number of a face → what the visitor says that it shows."""
        found = (self.corrections.get((photo.digest, face.box)) for face in result.faces)
        return {number: one.label for number, one in enumerate(found, start=1) if one}

    def keep(
        self,
        key: tuple[str | float, ...],
        make: Callable[[], tuple[bytes, ...]],
        cache: Cache | None = None,
    ) -> tuple[bytes, ...]:
        """Return JPEGs that can be made again; they are made unless they are kept.

        The key starts with the digest of the photo. They are kept in ``cache``, by default
        ``renderings``.
        """
        cache = self.renderings if cache is None else cache
        kept = cache.get(key)
        if not isinstance(kept, tuple):
            kept = make()
            cache.put(key, kept, sum(map(len, kept)))
        return kept


def classify(
    image: Image, proposals: Proposals, score: float | None, pipeline: Pipeline, name: str
) -> Analysis:
    """Run stage 2 on the proposals of an image that count as faces, those from this score on.

    The faces stand from left to right.
    """
    faces = proposals.faces(score)
    result = pipeline.classify(image, faces, name)
    weak = proposals.located.detections[len(faces.detections) :]
    seconds = {
        "read": proposals.read_seconds,
        "detect": faces.seconds,
        "classify": result.seconds - faces.seconds,
    }
    numbers = result.numbers
    ordered = sorted(zip(numbers, result.faces, strict=True), key=lambda numbered: numbered[0])
    result = replace(result, faces=tuple(face for _, face in ordered))
    merged = (Merged(one.detection, numbers[one.into] - 1) for one in faces.merged)
    return Analysis(result, weak, tuple(merged), seconds)


def jpeg(image: Image) -> bytes:
    """Return an image, (H, W, 3) uint8 RGB, as JPEG; coloured letters stay sharp."""
    file = io.BytesIO()
    PIL.Image.fromarray(image).save(file, "JPEG", quality=90, subsampling=0)
    return file.getvalue()


def preview_factor(width: int, height: int) -> float:
    """Return by how much an image is scaled for the page."""
    low, high = PREVIEW_SIDES
    longer = max(width, height)
    return min(max(longer, low), high) / longer


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def _unique(name: str, taken: Container[str]) -> str:
    """Return a name, with the first free number from 2 on if it is taken."""
    stem, suffix = os.path.splitext(name)
    numbers = (f"{stem} ({number}){suffix}" for number in itertools.count(2))
    return next(one for one in itertools.chain([name], numbers) if one not in taken)


def _detector_key(photo: Photo, choice: Choice) -> tuple[str | float, ...]:
    if choice.whole:
        return photo.digest, "whole"
    scope = choice.scope
    return photo.digest, choice.detector, choice.device, scope.detail, scope.min_face


def _crops_key(photo: Photo, choice: Choice, faces: int) -> tuple[str | float, ...]:
    return *_detector_key(photo, choice), choice.margin, faces


def _key(photo: Photo, choice: Choice, faces: int) -> tuple[str | float, ...]:
    return *_crops_key(photo, choice, faces), choice.classifier, choice.device


def _preview(image: Image) -> bytes:
    return jpeg(_resized(image, preview_factor(image.shape[1], image.shape[0])))


def _resized(image: Image, factor: float) -> Image:
    if factor == 1.0:
        return image
    height, width = (max(1, round(side * factor)) for side in image.shape[:2])
    lanczos = PIL.Image.Resampling.LANCZOS
    scaled = PIL.Image.fromarray(image).resize((width, height), lanczos, reducing_gap=3.0)
    return np.array(scaled)
