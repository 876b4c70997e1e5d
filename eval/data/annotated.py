"""The pictures of a COCO file, read one at a time and checked; detectors timed on them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from statistics import median

from tqdm import tqdm

from eval.data.images import PictureStore, UnreadableFileError, open_pictures
from faces.coco import AnnotatedImage, Detections, GroundTruth, ImageId
from faces.command import UserError
from faces.images import ImageError, read_image
from faces.pipeline import Detector, Image
from faces.types import Detection


@dataclass(frozen=True)
class ScenePictures:
    """Where each annotated picture lies.

    Attributes:
        store: the folder or zip.
        names: picture → its name in the store.
    """

    store: PictureStore
    names: dict[ImageId, str]


def locate(truth: GroundTruth, path: Path) -> ScenePictures:
    """Find every picture of a COCO file in a folder or zip.

    In a zip, a ``file_name`` may lie in any one folder; in a folder it is relative to that folder.

    Raises:
        UserError: ``path`` is neither, or pictures are missing (the first ones are named).
    """
    store = open_pictures(path)
    known = set(store.names)
    ends: dict[str, list[str]] = {}
    if store.is_zip:
        for name in store.names:
            ends.setdefault(PurePosixPath(name).name, []).append(name)
    names, missing = {}, []
    for scene in truth.scenes:
        wanted = PurePosixPath(scene.file_name).as_posix()
        candidates = [wanted] if wanted in known else []
        if not candidates and store.is_zip:
            nearby = ends.get(PurePosixPath(wanted).name, [])
            candidates = [name for name in nearby if name.endswith(f"/{wanted}")]
        elif not candidates and (path / wanted).is_file():
            candidates = [wanted]
        if len(candidates) > 1:
            raise UserError(
                f"{path}: {scene.file_name} is there more than once ({candidates[0]}, "
                f"{candidates[1]}); unpack it and give the folder of this --coco file"
            )
        if candidates:
            names[scene.id] = candidates[0]
        else:
            missing.append(scene.file_name)
    if missing:
        shown = ", ".join(missing[:3]) + (", …" if len(missing) > 3 else "")
        raise UserError(
            f"{path}: lacks {len(missing)} of the {len(truth.scenes)} pictures of {truth.path}: "
            f"{shown}; give the folder that its file_name entries are relative to as --images"
        )
    return ScenePictures(store, names)


def read_scenes(
    truth: GroundTruth, pictures: ScenePictures, on_error: Callable[[str], None]
) -> Iterator[tuple[AnnotatedImage, Image]]:
    """Read the pictures one at a time, with a progress bar, past those that cannot be used.

    Args:
        truth: the annotations.
        pictures: where the pictures lie.
        on_error: called with one line for each picture that cannot be read, or whose size is not
            the annotated one (its boxes would not fit).

    Yields:
        (scene, upright picture (H, W, 3) uint8 RGB).
    """
    for scene in tqdm(truth.scenes, desc=truth.path.name, unit=" pictures", disable=None):
        label = pictures.store.label(pictures.names[scene.id])
        try:
            image = read_image(pictures.store.read(pictures.names[scene.id]), name=label)
        except ImageError as error:
            on_error(str(error))
            continue
        except UnreadableFileError as error:
            on_error(f"{label}: {error}")
            continue
        size = (image.shape[1], image.shape[0])
        if scene.size is not None and scene.size != size:
            on_error(
                f"{label}: is {size[0]}×{size[1]} pixels, but {truth.path} was made for "
                f"{scene.size[0]}×{scene.size[1]}; its boxes would not fit"
            )
            continue
        yield scene, image


class TimedDetector:
    """A detector whose calls are timed, the first one excepted (it is made twice: warm-up).

    Args:
        detector: the detector.
        min_score: keep detections from this score on; None for its shipped threshold.
    """

    def __init__(self, detector: Detector, min_score: float | None = None) -> None:
        self.detector = detector
        self.min_score = min_score
        self.seconds: list[float] = []

    def __call__(self, image: Image) -> list[Detection]:
        """Return the detections in one picture."""
        if not self.seconds:
            self.detector.detect([image], min_score=self.min_score)
        start = time.perf_counter()
        found = self.detector.detect([image], min_score=self.min_score)[0]
        self.seconds.append(time.perf_counter() - start)
        return found

    @property
    def ms_per_image(self) -> float:
        """Median wall-clock time of a call in milliseconds; nan before the first."""
        return 1000 * median(self.seconds) if self.seconds else float("nan")


def scored(detections: Sequence[Detection]) -> Detections:
    """Return detections as arrays."""
    return Detections.of([(found.box.as_tuple(), found.score) for found in detections])
