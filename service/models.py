"""The models that requests may name, loaded at their first use and kept."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

import twostage
from faces.command import UserError
from faces.pipeline import (
    Detector,
    EmotionClassifier,
    Image,
    Pipeline,
    ScalingDetector,
    WholeImage,
)
from faces.scope import MIN_FACE, Scope
from faces.types import Detection
from service.metrics import timed
from service.settings import Settings
from twostage.model_zoo import ShippedModel, classifier_facts, shipped_models

DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class Choice:
    """Which models run, and on what; requests of one choice share a batch.

    Attributes:
        detector: a shipped detector, or "default".
        classifier: a shipped classifier, or "default".
        detail: how closely the detector looks, see ``faces.scope.DETAILS``.
        min_face: the smallest faces it looks for, see ``faces.scope.Scope``.
        no_detector: each image is one face; stage 1 does not run.
    """

    detector: str = DEFAULT
    classifier: str = DEFAULT
    detail: str = "standard"
    min_face: float = MIN_FACE
    no_detector: bool = False


class Models:
    """Loads models and joins them to pipelines; safe to use from several threads.

    Requests name shipped models only, so that none makes the service open a folder.

    Args:
        settings: the defaults, the device, and how many faces an image may have.
        load_detector: for tests.
        load_classifier: for tests.
    """

    def __init__(
        self,
        settings: Settings,
        load_detector: Callable[[str, str | None], Detector] = twostage.load_detector,
        load_classifier: Callable[[str, str | None], EmotionClassifier] = twostage.load_classifier,
    ) -> None:
        self._settings = settings
        self._loaders: dict[str, Callable[[str, str | None], Any]] = {
            "detector": load_detector,
            "classifier": load_classifier,
        }
        self._loaded: dict[tuple[str, str], Any] = {}
        self._lock = threading.Lock()

    def check(self, choice: Choice) -> None:
        """Check that a request may name these models.

        Raises:
            UserError: there is no shipped model of that name.
        """
        for stage, name in (("detector", choice.detector), ("classifier", choice.classifier)):
            names = (DEFAULT, *shipped_models(stage))
            if name not in names:
                raise UserError(f"{stage}: there is none of this name, only {', '.join(names)}")

    def pipeline(self, choice: Choice) -> Pipeline:
        """Return both stages, loading what is missing.

        Raises:
            UserError: a model cannot be loaded.
        """
        classifier = self._model("classifier", choice.classifier)
        detector = WholeImage() if choice.no_detector else self._model("detector", choice.detector)
        kind = TimedDetector
        if isinstance(detector, ScalingDetector):
            detector = detector.with_scope(Scope(choice.detail, choice.min_face))
            kind = ScalingTimedDetector
        return Pipeline(kind(detector, self._settings.max_faces), TimedClassifier(classifier))

    def names(self, choice: Choice) -> tuple[str, str]:
        """Return what the database calls the two models."""
        settings = self._settings
        detector = _named("detector", choice.detector, settings.detector)
        classifier = _named("classifier", choice.classifier, settings.classifier)
        return ("none" if choice.no_detector else detector), classifier

    def weights(self, choice: Choice) -> dict[str, str]:
        """Return model → sha256 of its weights, of those that have weights of their own."""
        return dict(_hashes(*self.names(choice)))

    def listing(self) -> dict[str, list[dict[str, Any]]]:
        """Return what ``GET /v1/models`` says: per stage the models, the default first."""
        settings = self._settings
        chosen = {"detector": settings.detector, "classifier": settings.classifier}
        return {
            f"{stage}s": [
                {
                    "name": name,
                    "about": model.about,
                    "default": name == _named(stage, DEFAULT, chosen[stage]),
                    "loaded": (stage, name) in self._loaded,
                    "sha256": _sha256(model),
                }
                for name, model in shipped_models(stage).items()
            ]
            for stage in ("detector", "classifier")
        }

    def _model(self, stage: str, name: str) -> Any:
        default = getattr(self._settings, stage)
        key = (stage, _named(stage, name, default))
        with self._lock:
            if key not in self._loaded:
                self._loaded[key] = self._loaders[stage](key[1], self._settings.device)
            return self._loaded[key]


class TimedDetector:
    """A detector that is timed, and of whose faces only so many are kept."""

    def __init__(self, detector: Detector, max_faces: int) -> None:
        self.name = detector.name
        self.score_threshold = detector.score_threshold
        self._detector = detector
        self._max_faces = max_faces

    def detect(
        self, images: Sequence[Image], min_score: float | None = None
    ) -> list[list[Detection]]:
        """Find the faces of each image, see ``Detector``."""
        with timed("detect"):
            found = self._detector.detect(images, min_score)
        return [faces[: self._max_faces] for faces in found]


class ScalingTimedDetector(TimedDetector):
    """The same of a detector that can tell which faces are too small for it."""

    def with_scope(self, scope: Scope) -> Detector:
        """Return it with another scope, see ``ScalingDetector``."""
        assert isinstance(self._detector, ScalingDetector)
        return ScalingTimedDetector(self._detector.with_scope(scope), self._max_faces)

    def smallest_face(self, width: int, height: int) -> float:
        """Return the shorter side of the smallest faces, see ``ScalingDetector``."""
        assert isinstance(self._detector, ScalingDetector)
        return self._detector.smallest_face(width, height)


class TimedClassifier:
    """A classifier whose time is measured."""

    def __init__(self, classifier: EmotionClassifier) -> None:
        self.name = classifier.name
        self._classifier = classifier

    def probabilities(self, crops: Sequence[Image]) -> NDArray[np.float32]:
        """Return the probabilities, see ``EmotionClassifier``."""
        with timed("classify"):
            return self._classifier.probabilities(crops)


def _named(stage: str, name: str, default: str) -> str:
    name = default if name == DEFAULT else name
    return next(iter(shipped_models(stage))) if name == DEFAULT else name


def _sha256(model: ShippedModel) -> str:
    return "" if model.classical else str(model.card()["sha256"])


@cache
def _hashes(detector: str, classifier: str) -> dict[str, str]:
    """Return model → sha256 of its weights, as they were when it was used first."""
    hashes: dict[str, str] = {}
    shipped = shipped_models("classifier").get(classifier)
    if shipped is not None:
        hashes[classifier] = _sha256(shipped)
    else:
        with suppress(UserError, OSError):
            hashes.update(classifier_facts(classifier)["weights_sha256"])
    found = shipped_models("detector").get(detector)
    if found is not None and not found.classical:
        hashes[detector] = _sha256(found)
    return hashes
