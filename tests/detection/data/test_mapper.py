from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from detectron2.data import transforms
from hypothesis import given, settings
from hypothesis import strategies as st

from detection.data.catalog import DataSpec
from detection.data.mapper import (
    CropPlan,
    FaceMapper,
    blur,
    inference_size,
    jitter,
    label_boxes,
    plan_crop,
    resize_for_inference,
    stretch,
)
from detection.modeling.config import load_config
from detection.modeling.ignore_regions import IGNORE

sides = st.integers(20, 900)
seeds = st.integers(0, 2**32 - 1)


@st.composite
def pictures_with_faces(draw: st.DrawFn) -> tuple[int, int, np.ndarray[Any, Any]]:
    width, height = draw(sides), draw(sides)
    boxes = []
    for _ in range(draw(st.integers(0, 3))):
        x1, y1 = draw(st.floats(0, width - 6)), draw(st.floats(0, height - 6))
        boxes.append((x1, y1, draw(st.floats(x1 + 5, width)), draw(st.floats(y1 + 5, height))))
    return width, height, np.array(boxes, dtype=float).reshape(-1, 4)


@given(pictures_with_faces(), seeds, st.sampled_from([0.0, 0.5, 1.0]))
def test_a_crop_shows_a_whole_face_and_stays_in_bounds(
    scene: tuple[int, int, np.ndarray[Any, Any]], seed: int, whole: float
) -> None:
    width, height, faces = scene
    rng = np.random.default_rng(seed)
    plan = plan_crop(
        width, height, faces, rng, size=320, face_sizes=(14, 200), max_zoom=2.5, whole=whole
    )
    side = plan.size / plan.scale
    assert 0 < plan.scale <= 2.5 + 1e-9
    for start, length in ((plan.x, width), (plan.y, height)):
        low, high = sorted((0.0, length - side))
        assert low - 1e-6 <= start <= high + 1e-6
    if whole == 0.0 and len(faces):
        out = plan.boxes(faces)
        inside = (out > -1e-6).all(axis=1) & (out < 320 + 1e-6).all(axis=1)
        larger = (np.maximum(out[:, 2] - out[:, 0], out[:, 3] - out[:, 1]) > 320).any()
        assert inside.any() or larger


@given(
    st.floats(-60, 60), st.floats(-60, 60), st.floats(0.3, 3.0),
    st.integers(10, 60), st.integers(10, 60),
)  # fmt: skip
@settings(max_examples=60)
def test_pixels_and_boxes_move_together(x: float, y: float, scale: float, w: int, h: int) -> None:
    image = np.zeros((120, 160, 3), dtype=np.uint8)
    left, top = 50, 40
    image[top : top + h, left : left + w] = 255
    plan = CropPlan(x, y, scale, 200)
    out = plan.image(image, (0, 0, 0))
    box = plan.boxes(np.array([[left, top, left + w, top + h]], dtype=float))[0]
    bright = out[:, :, 0] > 127
    inner = box.clip(0, 200)
    if (inner[2:] - inner[:2]).min() < 3:
        return
    ys, xs = np.nonzero(bright)
    found = np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])
    assert np.abs(found - inner).max() <= 1.01


def test_outside_the_picture_is_the_fill() -> None:
    out = CropPlan(-10, 0, 1.0, 20).image(np.full((20, 10, 3), 7, np.uint8), (1, 2, 3))
    assert (out[:, :9] == (1, 2, 3)).all()
    assert (out[:, 10:] == 7).all()
    nothing = CropPlan(500, 500, 1.0, 8).image(np.zeros((4, 4, 3), np.uint8), (9, 9, 9))
    assert (nothing == 9).all()


def test_a_crop_at_scale_one_copies_pixels() -> None:
    image = np.random.default_rng(0).integers(0, 255, (40, 50, 3), dtype=np.uint8)
    out = CropPlan(5, 7, 1.0, 30).image(image, (0, 0, 0))
    assert (out == image[7:37, 5:35]).all()


@given(sides, sides, st.floats(0.01, 2.0), seeds)
def test_stretching_keeps_the_area_and_the_faces_in_their_places(
    width: int, height: int, most: float, seed: int
) -> None:
    image = np.zeros((height, width, 3), np.uint8)
    boxes = np.array([[0, 0, width, height], [width / 4, 0, width / 2, height / 2]], dtype=float)
    out, moved = stretch(image, boxes, most, np.random.default_rng(seed))
    rows, columns = out.shape[:2]
    assert moved[0].tolist() == pytest.approx([0, 0, columns, rows])
    assert moved[1].tolist() == pytest.approx([columns / 4, 0, columns / 2, rows / 2])
    rounding = 1 + 1 / min(rows, columns, width, height)
    change = (columns / rows) / (width / height)
    assert 1 / ((1 + most) * rounding) <= change <= (1 + most) * rounding
    assert width * height / rounding**2 <= rows * columns <= width * height * rounding**2


def test_a_stretched_face_is_where_its_box_says() -> None:
    image = np.zeros((200, 100, 3), np.uint8)
    image[60:120, 20:70] = 255
    ratios = []
    for seed in range(40):
        out, ((x1, y1, x2, y2),) = stretch(
            image, np.array([[20.0, 60, 70, 120]]), 0.5, np.random.default_rng(seed)
        )
        rows, columns = np.nonzero(out[:, :, 0] > 127)
        edges = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        assert edges == pytest.approx((x1, y1, x2, y2), abs=1)
        ratios.append((x2 - x1) / (y2 - y1) / (50 / 60))
    assert 1 / 1.52 < min(ratios) < 0.75 and 1.3 < max(ratios) < 1.52
    same, boxes = stretch(image, np.zeros((0, 4)), 0.0, np.random.default_rng(0))
    assert same is image and boxes.shape == (0, 4)


def test_labels() -> None:
    boxes = np.array(
        [
            [10, 10, 30, 30],  # a face
            [-15, 10, 5, 30],  # a quarter is visible
            [-5, 10, 15, 30],  # three quarters are
            [10, 10, 14, 30],  # too narrow
            [200, 10, 220, 30],  # outside
            [10, 10, 30, 30],  # ignored by the data
        ],
        dtype=float,
    )
    ignored = np.array([False] * 5 + [True])
    kept, classes = label_boxes(boxes, ignored, (100, 120), min_face=7)
    assert classes.tolist() == [0, IGNORE, 0, IGNORE, IGNORE]
    assert kept[1].tolist() == [0, 10, 5, 30] and kept[2].tolist() == [0, 10, 15, 30]
    kept, classes = label_boxes(np.zeros((0, 4)), np.zeros(0, bool), (5, 5), 7)
    assert kept.shape == (0, 4) and classes.shape == (0,)


@given(st.integers(1, 4000), st.integers(1, 4000))
def test_input_sizes_are_detectron2s(height: int, width: int) -> None:
    ours = inference_size(height, width, 480, 800)
    assert min(ours) >= 1 and max(ours) <= 800
    picture = np.broadcast_to(np.uint8(0), (height, width, 3))
    theirs = transforms.ResizeShortestEdge([480, 480], 800).get_transform(picture)
    assert ours == (max(theirs.new_h, 1), max(theirs.new_w, 1))


@pytest.mark.parametrize("shape", [(1, 1), (1, 5000), (5000, 1), (3, 7)])
def test_the_strangest_shapes_can_be_resized(shape: tuple[int, int]) -> None:
    out = resize_for_inference(np.zeros((*shape, 3), np.uint8), 96, 128)
    assert out.dtype == np.uint8 and out.ndim == 3 and 1 <= max(out.shape[:2]) <= 128


def test_jitter_keeps_shape_and_type() -> None:
    image = np.random.default_rng(0).integers(0, 255, (8, 9, 3), dtype=np.uint8)
    assert jitter(image, 0.0, np.random.default_rng(0)) is image
    for seed in range(20):
        out = jitter(image, 0.4, np.random.default_rng(seed))
        assert out.shape == image.shape and out.dtype == np.uint8


def test_blur_keeps_shape_and_brightness_and_takes_detail() -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    for seed in range(5):
        out = blur(image, np.random.default_rng(seed))
        assert out.shape == image.shape and out.dtype == np.uint8
        assert abs(out.mean() - image.mean()) < 2
        assert out.std() < 0.98 * image.std()


def test_the_share_of_blurred_samples_is_the_configurations(faces: Any) -> None:
    record = DataSpec("coco", faces.coco, faces.images).load()[1]

    def samples(share: str) -> list[torch.Tensor]:
        mapper = FaceMapper(load_config("mobilenet_fpn", ["INPUT.BLUR", share]), is_train=True)
        return [mapper(record, np.random.default_rng(i))["image"] for i in range(12)]

    sharp, some, all_of_them = (samples(share) for share in ("0.0", "0.5", "1.0"))
    equal = [torch.equal(one, other) for one, other in zip(sharp, some, strict=True)]
    assert 0 < sum(equal) < 12
    assert not any(torch.equal(*pair) for pair in zip(sharp, all_of_them, strict=True))


def test_the_configuration_stretches(faces: Any) -> None:
    record = DataSpec("coco", faces.coco, faces.images).load()[1]
    ratios: dict[str, set[float]] = {}
    for most in ("0.0", "0.5"):
        cfg = load_config("mobilenet_fpn", ["INPUT.FACE_CROP.ENABLED", "False"])
        cfg.merge_from_list(["INPUT.STRETCH", most])
        mapper = FaceMapper(cfg, is_train=True)
        shapes = [mapper(record, np.random.default_rng(i))["image"].shape for i in range(8)]
        ratios[most] = {round(shape[2] / shape[1], 2) for shape in shapes}
    assert len(ratios["0.0"]) == 1 and len(ratios["0.5"]) > 3


@pytest.mark.parametrize("crop", ["True", "False"])
def test_training_samples(faces: Any, crop: str) -> None:
    cfg = load_config(
        "mobilenet_fpn",
        [
            *("INPUT.FACE_CROP.ENABLED", crop, "INPUT.MIN_SIZE_TRAIN", "(120,)"),
            *("INPUT.STRETCH", "0.5"),
        ],
    )
    mapper = FaceMapper(cfg, is_train=True)
    record = DataSpec("coco", faces.coco, faces.images).load()[1]
    for seed in range(20):
        sample = mapper(record, np.random.default_rng(seed))
        image, instances = sample["image"], sample["instances"]
        assert image.dtype == torch.uint8 and image.shape[0] == 3
        assert instances.image_size == tuple(image.shape[1:])
        for x1, y1, x2, y2 in instances.gt_boxes[instances.gt_classes == 0].tensor.tolist():
            patch = image[:, int(y1) : int(y2), int(x1) : int(x2)].float()
            assert patch.mean() > image.float().mean()  # the disc is brighter than the noise


def test_samples_are_repeatable(faces: Any) -> None:
    mapper = FaceMapper(load_config("mobilenet_fpn"), is_train=True)
    record = DataSpec("coco", faces.coco, faces.images).load()[1]

    def sample(seed: int) -> Any:
        return mapper(record, np.random.default_rng(seed))["image"]

    assert torch.equal(sample(8), sample(8)) and not torch.equal(sample(8), sample(9))


def test_ignored_regions_are_dropped_for_a_model_that_cannot_skip_them(faces: Any) -> None:
    record = DataSpec("coco", faces.coco, faces.images).load()[1]
    record["annotations"][0]["iscrowd"] = 1
    for name, expected in (("FaceRPN", {IGNORE}), ("RPN", set())):
        cfg = load_config(
            "mobilenet_fpn", ["MODEL.PROPOSAL_GENERATOR.NAME", name, "INPUT.FACE_CROP.WHOLE", "1"]
        )
        sample = FaceMapper(cfg, is_train=True)(record, np.random.default_rng(0))
        assert set(sample["instances"].gt_classes.tolist()) == expected


def test_the_colour_order_is_the_configurations(faces: Any) -> None:
    record = DataSpec("coco", faces.coco, faces.images).load()[1]
    images = [
        FaceMapper(load_config("mobilenet_fpn", ["INPUT.FORMAT", order]), is_train=False)(record)[
            "image"
        ]
        for order in ("RGB", "BGR")
    ]
    assert (images[0] == images[1].flip(0)).all()
    assert not (images[0] == images[1]).all()
