"""The order of a training's samples: a function of seed and iteration, so that a run can go on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count, islice
from typing import Any

import numpy as np
import torch
from detectron2.data import get_detection_dataset_dicts
from detectron2.utils import comm
from torch.utils.data import DataLoader, Dataset

from detection.data.mapper import FaceMapper

Place = tuple[int, int]
"""Place of a sample in the whole training, from 0 on, and index of its record."""


class TrainingSamples:
    """Batches without end: every record once, shuffled, then every record again, and so on.

    ``seed`` decides the order, and with a sample's place what chance does to it. ``start`` are the
    iterations that were done before; set it before the first batch is taken.
    """

    def __init__(self, cfg: Any, seed: int) -> None:
        self.seed = seed
        self.start = 0
        self._records: list[dict[str, Any]] = get_detection_dataset_dicts(
            list(cfg.DATASETS.TRAIN), filter_empty=cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS
        )
        self._mapper = FaceMapper(cfg, is_train=True)
        self._batch = cfg.SOLVER.IMS_PER_BATCH // comm.get_world_size()
        self._grouped: bool = cfg.DATALOADER.ASPECT_RATIO_GROUPING
        self._workers: int = cfg.DATALOADER.NUM_WORKERS

    def __iter__(self) -> Iterator[list[dict[str, Any]]]:
        """Yield this process's batches from iteration ``start`` on."""
        yield from DataLoader(
            _Mapped(self._records, self._mapper, self.seed),
            batch_sampler=islice(self.places(), self.start, None),
            num_workers=self._workers,
            collate_fn=list,
            generator=torch.Generator(),  # else it draws from what the network draws from
        )

    def places(self) -> Iterator[list[Place]]:
        """Yield what each of this process's batches holds, from the first iteration on.

        With ``DATALOADER.ASPECT_RATIO_GROUPING``, a batch holds either wide images or others.
        """
        groups: tuple[list[Place], list[Place]] = ([], [])
        for place, index in islice(self._order(), comm.get_rank(), None, comm.get_world_size()):
            record = self._records[index]
            group = groups[self._grouped and record["width"] > record["height"]]
            group.append((place, index))
            if len(group) == self._batch:
                yield group.copy()
                group.clear()

    def _order(self) -> Iterator[Place]:
        size = len(self._records)
        for epoch in count():
            order = np.random.default_rng((self.seed, epoch)).permutation(size)
            yield from enumerate(order.tolist(), start=epoch * size)

    def seed_of(self, iteration: int) -> int:
        """Return the seed of what the network draws in an iteration, in this process."""
        numbers = (self.seed, iteration, comm.get_rank())
        return int(np.random.SeedSequence(numbers).generate_state(1)[0])


class _Mapped(Dataset[dict[str, Any]]):
    def __init__(self, records: Sequence[dict[str, Any]], mapper: FaceMapper, seed: int) -> None:
        self.records, self.mapper, self.seed = records, mapper, seed

    def __getitem__(self, item: Place) -> dict[str, Any]:
        place, index = item
        return self.mapper(self.records[index], np.random.default_rng((self.seed, 0, place)))
