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
from dataclasses import dataclass

import numpy as np
import PIL.Image

from faces.crops import CROP_MARGIN, crop_face
from faces.images import read_image
from faces.paths import ImageError
from faces.pipeline import Image, Located, Merged, Pipeline
from faces.types import Detection, ImageResult

FILE_BYTES = 100 << 20
"""Maximum size of one photo's file."""

PHOTO_BYTES = 256 << 20
"""Bytes kept of a visitor's photos; beyond them the oldest are dropped, but not their results."""

RENDERING_BYTES = 24 << 20
"""Bytes kept of what can be made again from a photo: previews, crops, maps."""

ANALYSIS_BYTES = 48 << 20
"""Bytes kept of results: some six thousand photos with two faces each."""

SCORE_FLOOR = 0.05
"""Boxes with a lower score are not even shown as suppressed."""

PREVIEW_SIDES = (640, 1280)
"""Minimum and maximum of the longer side of what the page shows, in pixels."""

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

    result: ImageResult  # as ``twostage analyze`` gives it
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
        return sum(len(self._files.get(digest, b"")) for digest in {p.digest for p in self.photos})

    def _make_room(self) -> None:
        """Drop the earliest photos that have been analysed, if all together are too large."""
        for photo in reversed(self.photos[1:]):
            if self.photo_bytes <= PHOTO_BYTES:
                break
            if photo.digest in self._seen and photo.digest != self.photos[0].digest:
                self._files.pop(photo.digest, None)

    def remove(self, photos: Sequence[Photo]) -> None:
        """Forget photos and all that was found in them."""
        self.photos = [photo for photo in self.photos if photo not in photos]
        kept = {photo.digest for photo in (*self.photos, self._sample)}
        self._seen &= kept
        self._files = {digest: data for digest, data in self._files.items() if digest in kept}
        for cache in (self._known, self.renderings):
            cache.drop([k for k in cache.keys() if isinstance(k, tuple) and k[0] not in kept])

    def clear(self) -> None:
        """Forget all photos and all that was found in any, the sample included."""
        self.photos = []
        self._files = {}
        for cache in (self._known, self.renderings):
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

        return self.keep(_crops_key(photo, choice, len(result.faces)), cut)

    def keep(
        self, key: tuple[str | float, ...], make: Callable[[], tuple[bytes, ...]]
    ) -> tuple[bytes, ...]:
        """Return JPEGs that can be made again; they are made unless they are kept.

        The key starts with the digest of the photo.
        """
        kept = self.renderings.get(key)
        if not isinstance(kept, tuple):
            kept = make()
            self.renderings.put(key, kept, sum(map(len, kept)))
        return kept


def classify(
    image: Image, proposals: Proposals, score: float | None, pipeline: Pipeline, name: str
) -> Analysis:
    """Run stage 2 on the proposals of an image that count as faces: those from this score on."""
    faces = proposals.faces(score)
    result = pipeline.classify(image, faces, name)
    weak = proposals.located.detections[len(faces.detections) :]
    seconds = {
        "read": proposals.read_seconds,
        "detect": faces.seconds,
        "classify": result.seconds - faces.seconds,
    }
    return Analysis(result, weak, faces.merged, seconds)


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


def _detector_key(photo: Photo, choice: Choice) -> tuple[str, ...]:
    return photo.digest, choice.detector, choice.device


def _crops_key(photo: Photo, choice: Choice, faces: int) -> tuple[str | float, ...]:
    return *_detector_key(photo, choice), choice.margin, faces


def _key(photo: Photo, choice: Choice, faces: int) -> tuple[str | float, ...]:
    return *_crops_key(photo, choice, faces), choice.classifier


def _preview(image: Image) -> bytes:
    return jpeg(_resized(image, preview_factor(image.shape[1], image.shape[0])))


def _resized(image: Image, factor: float) -> Image:
    if factor == 1.0:
        return image
    height, width = (max(1, round(side * factor)) for side in image.shape[:2])
    lanczos = PIL.Image.Resampling.LANCZOS
    scaled = PIL.Image.fromarray(image).resize((width, height), lanczos, reducing_gap=3.0)
    return np.array(scaled)
