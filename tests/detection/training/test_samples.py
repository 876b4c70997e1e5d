"""The order of a training's samples, checked without images."""

from __future__ import annotations

from itertools import islice
from typing import Any

import pytest
from detectron2.data import DatasetCatalog
from detectron2.utils import comm

from detection.modeling.config import load_config
from detection.training.samples import Place, TrainingSamples

SIZE = 10


@pytest.fixture(autouse=True)
def data() -> str:
    """Register ten annotated images that exist nowhere; every other one is wide."""
    name = "test_samples_set"
    if name not in DatasetCatalog.list():
        DatasetCatalog.register(
            name,
            lambda: [
                {"file_name": str(i), "width": 60 if i % 2 else 40, "height": 50}
                for i in range(SIZE)
            ],
        )
    return name


def places(data: str, seed: int = 1, batches: int = 10, **changes: Any) -> list[list[Place]]:
    cfg = load_config("mobilenet_fpn", ["SOLVER.IMS_PER_BATCH", "4"])
    cfg.DATASETS.TRAIN = (data,)
    cfg.DATALOADER.merge_from_list([x for pair in changes.items() for x in pair])
    return list(islice(TrainingSamples(cfg, seed).places(), batches))


def test_every_epoch_holds_every_record_once_in_another_order(data: str) -> None:
    flat = [index for batch in places(data) for _, index in batch]
    epochs = [flat[start : start + SIZE] for start in range(0, len(flat), SIZE)]
    assert all(sorted(epoch) == list(range(SIZE)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4


def test_the_order_follows_from_the_seed(data: str) -> None:
    assert places(data) == places(data)
    assert places(data) != places(data, seed=2)


def test_places_count_on_so_that_chance_never_repeats(data: str) -> None:
    assert [place for batch in places(data) for place, _ in batch] == list(range(40))


def test_grouped_batches_hold_images_of_one_orientation(data: str) -> None:
    batches = places(data, ASPECT_RATIO_GROUPING=True)
    assert all(len({index % 2 for _, index in batch}) == 1 for batch in batches)
    assert all(len(batch) == 4 for batch in batches)


def test_processes_share_out_what_one_would_see(data: str, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = places(data)
    monkeypatch.setattr(comm, "get_world_size", lambda: 2)
    shared = []
    for rank in range(2):
        monkeypatch.setattr(comm, "get_rank", lambda rank=rank: rank)
        shared.append(places(data))
    for one, first, second in zip(alone, *shared, strict=True):
        assert sorted(one) == sorted(first + second)


def test_the_networks_seeds_differ_by_iteration(data: str) -> None:
    cfg = load_config("mobilenet_fpn")
    cfg.DATASETS.TRAIN = (data,)
    samples = TrainingSamples(cfg, 3)
    assert len({samples.seed_of(i) for i in range(100)}) == 100
    assert samples.seed_of(7) == TrainingSamples(cfg, 3).seed_of(7)
