"""The two stages joined, with stand-ins for both."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from faces.crops import crop_face
from faces.draw import PREVIEW_SIDE
from faces.images import ImageError, ImageSource, read_image
from faces.pipeline import Pipeline
from faces.scope import Scope
from faces.types import Box, Detection, ImageResult
from tests.stand_ins import (
    ExplainingScriptedDetector,
    ScriptedClassifier,
    ScriptedDetector,
    brightness,
)

CORNER = [Detection(Box(0, 0, 8, 8), 0.9), Detection(Box(-2, 3, 4, 9.5), 0.6)]


def detector() -> ScriptedDetector:
    """Finds two faces in the top left corner of every image that is not black."""
    return ScriptedDetector(lambda image: CORNER if image.any() else [])


def noise(height: int = 20, width: int = 30, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 256, (height, width, 3), dtype=np.uint8)


def without_times(results: Sequence[ImageResult | ImageError]) -> list[ImageResult]:
    return [replace(r, seconds=0) for r in results if isinstance(r, ImageResult)]


def test_every_face_is_cropped_and_classified() -> None:
    image, classifier = noise(), ScriptedClassifier()
    result = Pipeline(detector(), classifier).analyze(image, "a")
    assert (result.source, result.width, result.height) == ("a", 30, 20)
    assert [face.score for face in result.faces] == [0.9, 0.6]
    assert [face.labels() for face in result.faces] == [["happy"]] * 2
    assert result.faces[0].emotions["happy"] == pytest.approx(0.9)
    assert result.seconds > 0
    for crop, face in zip(classifier.crops, result.faces, strict=True):
        np.testing.assert_array_equal(crop, crop_face(image, face.box))


def test_no_faces_is_a_result_too() -> None:
    result = Pipeline(detector(), ScriptedClassifier()).analyze(np.zeros((9, 9, 3), np.uint8))
    assert result.faces == ()


def test_a_classifier_that_loses_faces_is_noticed() -> None:
    class Lossy(ScriptedClassifier):
        def probabilities(self, crops: Sequence[np.ndarray]) -> np.ndarray:
            return super().probabilities(crops)[:1]

    with pytest.raises(ValueError, match="shorter"):
        Pipeline(detector(), Lossy()).analyze(noise())


def test_every_kind_of_source_gives_the_same_faces(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(noise()).save(path)
    pipeline = Pipeline(detector(), ScriptedClassifier(brightness))
    expected = pipeline.analyze(noise(), str(path))
    with path.open("rb") as file, Image.open(path) as opened:
        sources: list[ImageSource] = [path, str(path), file, opened]
        results = [pipeline.analyze(source) for source in sources]
    results += [pipeline.analyze(path.read_bytes(), str(path))]
    assert without_times(results) == without_times([expected] * 5)
    for source in (noise(), path.read_bytes(), io.BytesIO(path.read_bytes())):
        assert pipeline.analyze(source).source == "image"
    with pytest.raises(ImageError, match=r"none\.jpg: no such file"):
        pipeline.analyze("none.jpg")


def test_batches_give_what_single_images_give_with_one_call_of_each_stage() -> None:
    images = [noise(), np.zeros((9, 9, 3), np.uint8), noise(15, 12, seed=1)]
    found, classifier = detector(), ScriptedClassifier(brightness)
    results = list(Pipeline(found, classifier).analyze_many(images, batch_size=2))
    assert found.calls == [2, 1] and classifier.calls == [2, 2]
    pipeline = Pipeline(detector(), ScriptedClassifier(brightness))
    expected = [pipeline.analyze(image) for image in images]
    assert without_times(results) == without_times(expected)
    assert list(pipeline.analyze_many([])) == []
    with pytest.raises(ValueError, match="at least 1"):
        pipeline.analyze_many(images, batch_size=0)


def test_an_image_that_fails_yields_its_error_in_its_place(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a.png", "none.png", "b.png", "bad.png", "c.png")]
    for path in paths[::2]:
        Image.fromarray(noise()).save(path)
    paths[3].write_bytes(b"")
    pipeline = Pipeline(detector(), ScriptedClassifier())
    for size in (1, 2, 3, 8):
        results = list(pipeline.analyze_many(paths, batch_size=size))
        assert [isinstance(result, ImageError) for result in results] == [False, True] * 2 + [False]
        assert [result.source for result in results] == [str(path) for path in paths]


def test_analyze_many_reads_one_batch_ahead_and_keeps_no_images() -> None:
    taken: list[int] = []

    def endless() -> Iterator[np.ndarray]:
        for number in range(10**9):
            taken.append(number)
            yield noise()

    results = Pipeline(detector(), ScriptedClassifier()).analyze_many(endless(), batch_size=3)
    assert taken == []
    kept = [next(results) for _ in range(4)]
    assert taken == list(range(6))
    assert all(isinstance(one, ImageResult) and one.preview is None for one in kept)


def test_stage_two_goes_on_from_what_stage_one_kept() -> None:
    image, classifier = noise(), ScriptedClassifier()
    pipeline = Pipeline(detector(), classifier, margin=0.1)
    located = pipeline.locate(image, min_score=0.05)
    assert len(located.detections) == 2 and located.merged == ()
    result = pipeline.classify(image, located.above(0.7), "a")
    assert [face.score for face in result.faces] == [0.9]
    crops = [crop_face(image, located.detections[0].box, 0.1)]
    np.testing.assert_array_equal(classifier.crops[0], crops[0])
    assert pipeline.classify_crops([]).shape == (0, 7)


def test_merged_boxes_are_told_where_asked_and_known() -> None:
    pipeline = Pipeline(ExplainingScriptedDetector(CORNER), ScriptedClassifier())
    assert [one.into for one in pipeline.locate(noise(), explain=True).merged] == [0, 1]
    assert pipeline.locate(noise(), explain=True).above(0.7).merged[0].into == 0
    assert pipeline.locate(noise()).merged == ()
    assert Pipeline(detector(), ScriptedClassifier()).locate(noise(), explain=True).merged == ()


def test_crops_of_every_kind_are_made_square(tmp_path: Path) -> None:
    Image.fromarray(noise(8, 6)).save(tmp_path / "crop.png")
    classifier = ScriptedClassifier()
    crops: list[ImageSource] = [noise(8, 6), tmp_path / "crop.png", Image.fromarray(noise(8, 6))]
    assert Pipeline(detector(), classifier).classify_crops(crops).shape == (3, 7)
    assert [crop.shape for crop in classifier.crops] == [(8, 8, 3)] * 3
    with pytest.raises(ImageError, match="grey"):
        Pipeline(detector(), classifier).classify_crops([np.zeros((48, 48), np.uint8)])


def test_many_threads_get_what_one_gets() -> None:
    images = [noise(20 + seed, 30, seed) for seed in range(40)]
    pipeline = Pipeline(detector(), ScriptedClassifier(brightness))
    expected = without_times([pipeline.analyze(image) for image in images])
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(pipeline.analyze, images))
    assert without_times(results) == expected


def shown(result: ImageResult) -> np.ndarray:
    data = result._repr_png_()
    assert data is not None
    return read_image(data)


def test_a_notebook_shows_a_result_as_its_annotated_image(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    image = np.full((900, 1600, 3), 120, np.uint8)
    Image.fromarray(image).save(path)
    box = Detection(Box(400, 300, 800, 700), 0.9)
    pipeline = Pipeline(ScriptedDetector([box]), ScriptedClassifier())
    by_path, by_array = pipeline.analyze(path), pipeline.analyze(image)
    (listed,) = pipeline.analyze_many([path])
    assert isinstance(listed, ImageResult) and by_path.preview is None is listed.preview
    assert by_array.preview is not None and max(by_array.preview.shape) <= PREVIEW_SIDE
    pictures = [shown(result) for result in (by_path, by_array, listed)]
    assert all(np.array_equal(picture, pictures[0]) for picture in pictures)
    assert pictures[0].shape == (450, 800, 3)
    assert (pictures[0][150:350, 190:200] != 120).any() and (pictures[0][:100, :] == 120).all()
    assert "preview" not in repr(by_array)


def test_a_notebook_shows_text_where_the_image_is_gone_or_another(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(noise()).save(path)
    result = Pipeline(detector(), ScriptedClassifier()).analyze(path)
    Image.fromarray(noise(21, 30)).save(path)
    assert result._repr_png_() is None
    path.unlink()
    assert result._repr_png_() is None


class Upright:
    """Finds one face where the top left pixel is bright, surer the brighter it is."""

    name, score_threshold = "upright", 0.5

    def detect(
        self, images: Sequence[np.ndarray], min_score: float | None = None
    ) -> list[list[Detection]]:
        return [[Detection(Box(1, 2, 5, 8), float(image[0, 0, 0]) / 255)] for image in images]

    def smallest_face(self, width: int, height: int) -> float:
        return width / 10

    def with_scope(self, scope: Scope) -> Upright:
        return self


@pytest.mark.parametrize("turned", [0, 90, 180, 270])
def test_rotations_find_the_upright_turn_and_give_boxes_of_the_stored_image(turned: int) -> None:
    upright = np.random.default_rng(0).integers(0, 100, (20, 30, 3), dtype=np.uint8)
    upright[0, 0] = 250
    stored = np.ascontiguousarray(np.rot90(upright, turned // 90))  # to be turned clockwise again
    classifier = ScriptedClassifier()
    result = Pipeline(Upright(), classifier, rotations=True).analyze(stored)
    assert result.turned == turned and len(result.faces) == 1
    np.testing.assert_array_equal(classifier.crops[0], crop_face(upright, Box(1, 2, 5, 8)))
    x1, y1, x2, y2 = map(int, result.faces[0].box.as_tuple())
    seen = np.rot90(stored[y1:y2, x1:x2], -turned // 90)
    np.testing.assert_array_equal(seen, upright[2:8, 1:5])
    many = Pipeline(Upright(), ScriptedClassifier(), rotations=True).analyze_many([stored])
    assert next(many).turned == turned  # type: ignore[union-attr]


class OnTheSide(Upright):
    """Finds one face in high images; in wide ones two, surely, but in boxes that are as wide."""

    def detect(
        self, images: Sequence[np.ndarray], min_score: float | None = None
    ) -> list[list[Detection]]:
        wide = [Detection(Box(1, 2, 9, 7), 0.99), Detection(Box(11, 2, 19, 7), 0.9)]
        high = [Detection(Box(1, 2, 6, 9), 0.98)]
        return [wide if image.shape[1] > image.shape[0] else high for image in images]


def test_rotations_do_not_count_faces_that_are_wider_than_high() -> None:
    image = np.zeros((20, 30, 3), np.uint8)
    result = Pipeline(OnTheSide(), ScriptedClassifier(), rotations=True).analyze(image)
    assert result.turned == 90 and len(result.faces) == 1


def test_results_say_which_faces_are_too_small_to_be_seen() -> None:
    image = np.zeros((20, 30, 3), np.uint8)
    assert Pipeline(Upright(), ScriptedClassifier()).analyze(image).smallest_face == 3
    assert Pipeline(ScriptedDetector(), ScriptedClassifier()).analyze(image).smallest_face is None
    (result,) = Pipeline(Upright(), ScriptedClassifier()).analyze_many([image])
    assert result.smallest_face == 3  # type: ignore[union-attr]
