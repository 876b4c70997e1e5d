"""Requests and answers: their fields, checked, and as the OpenAPI description shows them."""

from __future__ import annotations

import json
import math
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from starlette.exceptions import HTTPException

from faces.emotions import EMOTIONS, canonical_emotion
from faces.scope import MIN_FACE
from faces.types import DEFAULT_THRESHOLD
from service.models import DEFAULT, Choice
from service.tables import NOT_A_FACE

T = TypeVar("T", bound=BaseModel)

DEEPEST = 8
"""How deep lists and objects of a request may lie in each other."""


class PredictOptions(BaseModel):
    """What a request to analyse images may say beside the images."""

    model_config = ConfigDict(extra="forbid")

    image_url: str = Field("", max_length=2000, description="Address of one image, http(s)")
    annotate_image: bool = Field(False, description="Answer with the image with boxes, PNG")
    crop_image: bool = Field(False, description="Answer with a PNG of each face")
    threshold: float | dict[str, float] = Field(
        DEFAULT_THRESHOLD,
        description="Probability from which an emotion is a label: a number, or one per emotion",
    )
    detector: str = Field(DEFAULT, max_length=100, description="A name of /v1/models")
    classifier: str = Field(DEFAULT, max_length=100, description="A name of /v1/models")
    detail: Literal["fast", "standard", "full"] = Field(
        "standard", description="How closely to look for small faces in large images"
    )
    min_face: float = Field(
        MIN_FACE, ge=4, le=100_000, description="The smallest faces to look for, in pixels"
    )
    no_detector: bool = Field(False, description="Each image is one face")

    @field_validator("threshold", mode="before")
    @classmethod
    def _numbers_in_text(cls, value: Any) -> Any:
        """Read ``0.4`` and ``happy=0.5,fear=0.2`` of a form."""
        if not isinstance(value, str) or "=" not in value:
            return value
        pairs = [one.partition("=") for one in value.replace(",", " ").split()]
        return {name: number for name, _, number in pairs}

    @field_validator("threshold")
    @classmethod
    def _probabilities(cls, value: float | dict[str, float]) -> float | dict[str, float]:
        numbers = list(value.values()) if isinstance(value, dict) else [value]
        if not all(math.isfinite(number) and 0 <= number <= 1 for number in numbers):
            raise ValueError("expected probabilities within 0..1")
        if isinstance(value, dict):
            return {canonical_emotion(name): number for name, number in value.items()}
        return value

    def choice(self) -> Choice:
        """Return which models shall run."""
        return Choice(self.detector, self.classifier, self.detail, self.min_face, self.no_detector)


class FeedbackRequest(BaseModel):
    """What a person says of a face."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "image_id": "0123456789abcdef0123456789abcdef",
                    "face_index": 1,
                    "feedback": ["happy", "surprise"],
                }
            ]
        },
    )

    image_id: str = Field(pattern="^[0-9a-f]{32}$", description="As /v1/predict answered")
    face_index: int = Field(ge=1, le=100_000, description="As /v1/predict answered, from 1")
    feedback: list[str] = Field(
        min_length=1,
        max_length=7,
        description=f"One or several of {', '.join(EMOTIONS)}; or {NOT_A_FACE!r} alone",
    )
    sender: str = Field(
        "", max_length=200, description="Tells people apart behind one address; stored as a hash"
    )

    @field_validator("feedback", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @field_validator("feedback")
    @classmethod
    def _known(cls, value: list[str]) -> list[str]:
        words = [one.strip().lower().replace("_", " ") for one in value]
        if NOT_A_FACE in words:
            if len(set(words)) > 1:
                raise ValueError(f"{NOT_A_FACE!r} stands alone")
            return [NOT_A_FACE]
        named = {canonical_emotion(word) for word in words}
        return [emotion for emotion in EMOTIONS if emotion in named]


class FaceAnswer(BaseModel):
    """One face."""

    face_index: int = Field(description="From 1, as on the annotated image")
    box: list[float] = Field(description="x1, y1, x2, y2 in pixels of the upright image")
    score: float
    emotions: dict[str, float]
    labels: list[str]
    unsure: bool
    crop: str = Field("", description="PNG in base64, if asked for")


class ImageAnswer(BaseModel):
    """One image: what ``twostage analyze --out .json`` writes, and ids."""

    model_config = ConfigDict(extra="allow")

    image_id: str = ""
    schema_version: int = 0
    source: str
    width: int = 0
    height: int = 0
    seconds: float = 0.0
    faces: list[FaceAnswer] = []
    annotated: str = Field("", description="PNG in base64, if asked for")
    error: str = Field("", description="Stands alone, beside source, if the image cannot be read")


class PredictAnswer(BaseModel):
    """One entry per image, in order."""

    results: list[ImageAnswer]


class FeedbackAnswer(BaseModel):
    """What is stored now."""

    image_id: str
    face_index: int
    feedback: list[str]


class Stats(BaseModel):
    """Numbers of what is stored."""

    images: int
    faces: int
    feedback: int
    senders: int
    emotions: dict[str, int]


class ModelAnswer(BaseModel):
    """A model that requests may name."""

    name: str
    about: str
    default: bool
    loaded: bool
    sha256: str


class ModelsAnswer(BaseModel):
    """The models of both stages, the best first."""

    detectors: list[ModelAnswer]
    classifiers: list[ModelAnswer]


class Health(BaseModel):
    """Whether the service works."""

    status: Literal["live", "ready", "not ready"]


class Problem(BaseModel):
    """Why a request was refused."""

    detail: str


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the entries of refusals in the OpenAPI description."""
    everywhere = (401, 403, 421, 429)
    return {status: {"model": Problem} for status in sorted({*statuses, *everywhere})}


def parse_json(body: bytes) -> Any:
    """Parse strict JSON that is not deeper than ``DEEPEST``.

    Raises:
        HTTPException: it is something else; status 400.
    """
    try:
        value = json.loads(body, parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise HTTPException(400, "the body is no JSON") from None
    if _depth(value) > DEEPEST:
        raise HTTPException(400, "the JSON is nested too deeply")
    return value


def check(kind: type[T], fields: Any) -> T:
    """Return checked fields.

    Raises:
        HTTPException: a field is not as it should be; status 422, without what was sent.
    """
    if not isinstance(fields, dict):
        raise HTTPException(422, "expected an object")
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        problem = error.errors(include_input=False, include_url=False, include_context=False)[0]
        known = [str(part) for part in problem["loc"] if str(part) in kind.model_fields]
        name = known[0] if known else "a field"
        text = problem["msg"].removeprefix("Value error, ")
        raise HTTPException(422, f"{name}: {text[:300]}") from None


def _refuse(word: str) -> Any:
    raise ValueError(word)


def _depth(value: Any) -> int:
    """Return how deep lists and objects lie in each other, without recursion."""
    deepest, rest = 0, [(value, 1)]
    while rest:
        one, depth = rest.pop()
        if isinstance(one, dict | list):
            deepest = max(deepest, depth)
            if depth <= DEEPEST:
                inner = one.values() if isinstance(one, dict) else one
                rest += [(item, depth + 1) for item in inner]
    return deepest
