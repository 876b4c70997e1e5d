"""Average precision: by hand, and against pycocotools used the usual way, through files."""

from __future__ import annotations

import contextlib
import io
import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from eval.data.detections import with_min_size
from eval.metrics.average_precision import MAX_DETECTIONS, ap_metrics, match_images, summarise
from eval.metrics.bootstrap import Bootstrap
from faces.coco import AnnotatedImage, Detections, GroundTruthFace, load_coco, load_results
from faces.types import Box

Corners = tuple[float, float, float, float]
FACE: Corners = (0, 0, 100, 100)


def scene(*faces: Corners, ignored: tuple[int, ...] = (), number: int = 1) -> AnnotatedImage:
    made = (GroundTruthFace(Box(*b), "face", i in ignored) for i, b in enumerate(faces))
    return AnnotatedImage(number, f"{number}.png", None, False, tuple(made))


def found(*rows: tuple[Corners, float]) -> Detections:
    return Detections.of(list(rows))


def average_precision(
    images: list[AnnotatedImage], found: list[Detections], max_detections: int = MAX_DETECTIONS
) -> SimpleNamespace:
    return SimpleNamespace(**summarise(match_images(images, found, max_detections=max_detections)))


def test_a_found_face_gives_one() -> None:
    result = average_precision([scene(FACE)], [found((FACE, 0.1))])
    got = (result.ap, result.ap50, result.ap75, result.ap_large)
    assert got == pytest.approx((1, 1, 1, 1))
    assert math.isnan(result.ap_small) and math.isnan(result.ap_medium)


def test_a_loose_box_counts_up_to_its_overlap() -> None:
    result = average_precision([scene(FACE)], [found(((0, 0, 100, 62), 0.9))])
    assert (result.ap, result.ap50, result.ap75) == pytest.approx((0.3, 1, 0))


def test_a_false_one_before_the_right_one_halves_the_precision() -> None:
    other = (300.0, 300.0, 400.0, 400.0)
    faces = scene(FACE, (500, 500, 600, 600))
    result = average_precision([faces], [found((other, 0.9), (FACE, 0.8))])
    assert result.ap50 == pytest.approx(0.5 * 51 / 101)  # 101 recall points, reached up to 0.5


def test_nothing_found_gives_zero_and_nothing_to_find_is_undefined() -> None:
    assert average_precision([scene(FACE)], [found()]).ap == 0
    assert math.isnan(average_precision([scene()], [found((FACE, 0.9))]).ap)
    assert math.isnan(average_precision([scene()], [found()]).ap)


def test_a_picture_without_faces_counts_its_false_detections() -> None:
    scenes = [scene(FACE), scene(number=2)]
    result = average_precision(scenes, [found((FACE, 0.5)), found((FACE, 0.9))])
    assert result.ap50 == pytest.approx(0.5)


def test_any_number_of_detections_on_an_ignored_face_is_ignored() -> None:
    crowd = (200.0, 0.0, 300.0, 100.0)
    detections = found(*[(crowd, 0.9 + i / 100) for i in range(5)], (FACE, 0.5))
    assert average_precision([scene(FACE, crowd, ignored=(1,))], [detections]).ap == pytest.approx(
        1
    )


def test_crowds_of_more_than_a_hundred_faces_count_in_full() -> None:
    boxes = [
        (x * 20.0, y * 20.0, x * 20.0 + 10, y * 20.0 + 10) for x in range(15) for y in range(10)
    ]
    detections = found(*[(box, 0.9) for box in boxes])
    assert average_precision([scene(*boxes)], [detections]).ap == pytest.approx(1)
    capped = average_precision([scene(*boxes)], [detections], max_detections=100)
    assert capped.ap50 == pytest.approx(67 / 101)


@pytest.mark.parametrize("seed", range(4))
def test_agrees_with_pycocotools_on_files(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for image in range(1, 13):
        for _ in range(rng.integers(0, 6)):
            box = [*rng.uniform(0, 300, 2), *rng.uniform(8, 150, 2)]
            truth.append(
                {
                    "id": len(truth) + 1,
                    "image_id": image,
                    "category_id": int(rng.integers(1, 3)),
                    "bbox": box,
                    "area": box[2] * box[3],
                    "iscrowd": int(rng.random() < 0.2),
                }
            )
            for _ in range(rng.integers(0, 3)):
                near = list(np.array(box) + rng.uniform(-8, 8, 4))
                near[2:] = [max(side, 1.0) for side in near[2:]]
                row = {"image_id": image, "category_id": 1, "bbox": near}
                results.append(row | {"score": float(rng.random())})
    images = [{"id": i, "file_name": f"{i}.png"} for i in range(1, 13)]
    categories = [{"id": 1, "name": "sad"}, {"id": 2, "name": "happy"}]
    document = {"images": images, "annotations": truth, "categories": categories}
    (tmp_path / "truth.json").write_text(json.dumps(document))
    (tmp_path / "results.json").write_text(json.dumps(results))
    small = 40.0
    for face in truth:  # the definition of --min-size, in COCO's own terms
        if min(face["bbox"][2:]) < small:
            face["iscrowd"] = 1
    (tmp_path / "marked.json").write_text(json.dumps(document))
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(tmp_path / "marked.json"))
        evaluation = COCOeval(coco, coco.loadRes(str(tmp_path / "results.json")), "bbox")
        evaluation.params.useCats = 0
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    expected = [math.nan if v == -1 else v for v in evaluation.stats[:6]]

    loaded = with_min_size(load_coco(tmp_path / "truth.json"), small)
    by_image = load_results(tmp_path / "results.json", loaded.images)
    result = average_precision(list(loaded.images), [by_image[s.id] for s in loaded.images])
    got = (result.ap, result.ap50, result.ap75)
    sizes = (result.ap_small, result.ap_medium, result.ap_large)
    assert [*got, *sizes] == pytest.approx(expected, nan_ok=True)
    assert 0 < result.ap < 1


def random_set(seed: int, pictures: int) -> tuple[list[AnnotatedImage], list[Detections]]:
    """Return pictures with faces, ignored ones among them, and detections near and far."""
    rng = np.random.default_rng(seed)
    scenes, detections = [], []
    for number in range(pictures):
        count = int(rng.integers(0, 5))
        corners = rng.uniform(0, 300, (count, 2))
        faces = np.hstack([corners, corners + rng.uniform(10, 120, (count, 2))])
        near = np.repeat(faces, 2, axis=0) + rng.uniform(-6, 6, (2 * count, 4))
        far = rng.uniform(400, 500, (3, 2))
        boxes = np.vstack([near, np.hstack([far, far + 20])])
        ignored = tuple(np.flatnonzero(rng.random(count) < 0.2).tolist())
        scenes.append(scene(*map(tuple, faces.tolist()), ignored=ignored, number=number))
        detections.append(Detections(boxes, rng.random(len(boxes))))
    return scenes, detections


def test_weights_count_pictures_as_repeating_them_does() -> None:
    """pycocotools on a resampled set, each picture as often as it was drawn, gives the same."""
    scenes, detections = random_set(0, 15)
    matches = match_images(scenes, detections, areas=("all",))["all"]
    metrics = ap_metrics(matches)
    weights = Bootstrap.of(15, resamples=6, seed=3).weights
    for row in weights:
        chosen = np.repeat(np.arange(15), row.astype(int))
        truth, results = coco_of([scenes[i] for i in chosen], [detections[i] for i in chosen])
        with contextlib.redirect_stdout(io.StringIO()):
            coco = COCO()
            coco.dataset = truth
            coco.createIndex()
            evaluation = COCOeval(coco, coco.loadRes(results), "bbox")
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        got = [float(metrics[name](row[None])[0]) for name in ("ap", "ap50", "ap75")]
        assert got == pytest.approx(list(evaluation.stats[:3]))
    together = metrics["ap"](weights)
    assert together == pytest.approx([float(metrics["ap"](row[None])[0]) for row in weights])


def coco_of(
    scenes: list[AnnotatedImage], detections: list[Detections]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return COCO's truth and results of pictures numbered in their order."""

    def xywh(box: Any) -> list[float]:
        return [box[0], box[1], box[2] - box[0], box[3] - box[1]]

    truth: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for number, (one, scored) in enumerate(zip(scenes, detections, strict=True), start=1):
        for face in one.faces:
            row = {"id": len(truth) + 1, "image_id": number, "category_id": 1}
            area = {"area": face.box.area, "iscrowd": int(face.ignored)}
            truth.append(row | {"bbox": xywh(face.box.as_tuple())} | area)
        for box, score in zip(scored.boxes.tolist(), scored.scores.tolist(), strict=True):
            row = {"image_id": number, "category_id": 1, "bbox": xywh(box)}
            results.append(row | {"score": score})
    images = [{"id": number} for number in range(1, len(scenes) + 1)]
    categories = [{"id": 1, "name": "face"}]
    return {"images": images, "annotations": truth, "categories": categories}, results


def test_an_interval_holds_the_figure_and_ends_at_it_without_chance() -> None:
    scenes, detections = random_set(1, 40)
    metrics = ap_metrics(match_images(scenes, detections, areas=("all",))["all"])
    bootstrap = Bootstrap.of(40, resamples=200)
    low, high = bootstrap.interval(metrics["ap50"])
    assert 0 < low < bootstrap.value(metrics["ap50"]) < high < 1
    perfect = [Detections(s.boxes[~s.ignored], np.ones(int((~s.ignored).sum()))) for s in scenes]
    sure = ap_metrics(match_images(scenes, perfect, areas=("all",))["all"])
    assert bootstrap.interval(sure["ap"]) == pytest.approx((1, 1))
    value, (low, high) = bootstrap.difference(sure["ap50"], metrics["ap50"])
    assert 0 < low < value < high < 1
