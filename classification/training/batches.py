"""What each step of a training sees: varied images and soft targets."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from classification.data.augment import TrainPreset
from classification.data.fer2013 import Fer2013
from classification.data.ferplus import FerPlus
from classification.training.recipe import Recipe
from faces.command import UserError
from faces.emotions import EMOTIONS


class TrainBatches(Dataset[tuple[NDArray[np.uint8], NDArray[np.float32]]]):
    """The training images, one whole batch per step, each a function of (seed, step, rank) alone.

    Item ``step`` is (images (B, 48, 48) uint8, targets (B, 7) float32), B being this process's
    share.
    """

    def __init__(
        self,
        data: Fer2013,
        targets: NDArray[np.float32],
        recipe: Recipe,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.data, self.targets = data, targets
        self.recipe, self.rank, self.world_size = recipe, rank, world_size
        self.steps_per_epoch = len(data.labels) // recipe.batch_size
        if recipe.batch_size % world_size:
            raise UserError(
                f"batch_size {recipe.batch_size} does not divide among {world_size} processes"
            )
        if not self.steps_per_epoch:
            raise UserError(
                f"batch_size {recipe.batch_size} is more than the {len(data.labels)} training "
                "images; lower it: batch_size 8"
            )
        self.preset = TrainPreset(recipe.augment)

    def __getitem__(self, step: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """Return the batch of ``step``, counted from 0 over all epochs."""
        epoch, index = divmod(step, self.steps_per_epoch)
        order = np.random.default_rng((self.recipe.seed, epoch)).permutation(len(self.data.labels))
        size = self.recipe.batch_size
        selected = order[index * size : (index + 1) * size][self.rank :: self.world_size]
        seed = np.random.SeedSequence((self.recipe.seed, step, self.rank)).generate_state(1)[0]
        self.preset.seed(int(seed))
        return (
            np.stack([self.preset(self.data.images[i]) for i in selected]),
            self.targets[selected],
        )


def soft_targets(data: Fer2013, votes: FerPlus | None, share: float) -> NDArray[np.float32]:
    """Blend labels with votes: targets (N, 7) float32, rows sum to 1.

    The ``share`` comes from the votes (None where it is 0); the rest, and all of an image on which
    nobody voted for one of the seven emotions, comes from the label.
    """
    targets = np.eye(len(EMOTIONS), dtype=np.float32)[data.labels]
    if votes is not None and share:
        shares = votes.shares()
        voted = shares.sum(1) > 0
        targets[voted] = (1 - share) * targets[voted] + share * shares[voted]
    return targets
