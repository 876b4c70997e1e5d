"""The mean of several networks' weights, which is one network (Wortsman et al., ICML 2022)."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from faces.command import UserError


def run_share(text: str) -> tuple[str, float]:
    """Parse RUN=SHARE, one member of a mean of runs, the share in 0..1, for argparse."""
    name, _, number = text.rpartition("=")
    try:
        share = float(number)
    except ValueError:
        share = math.nan
    if not name or not 0 < share <= 1:
        raise argparse.ArgumentTypeError(f"{text}: not RUN=SHARE with a share above 0 and up to 1")
    return name, share


def add_members(parser: argparse.ArgumentParser) -> None:
    """Add what a command averages: RUN=SHARE, at least one."""
    parser.add_argument(
        "members", nargs="+", type=run_share, metavar="RUN=SHARE", help="a run folder"
    )


def check_shares(shares: Sequence[float]) -> None:
    """Raise a ``UserError`` unless shares sum to 1, to within 1e-6."""
    if not math.isclose(math.fsum(shares), 1, abs_tol=1e-6):
        raise UserError("the shares do not sum to 1; change them")


def weighted_mean(members: Iterable[tuple[Mapping[str, Tensor], float]]) -> dict[str, Tensor]:
    """Return the mean of networks' weights, one network in memory at a time.

    Members are weights by name, and a share; all have the same names and shapes. Floating-point
    values become float32; others, such as counters, are the first member's.
    """
    mean: dict[str, Tensor] = {}
    for state, share in members:
        for name, value in state.items():
            if not value.is_floating_point():
                mean.setdefault(name, value.clone())
            else:
                before = mean.get(name, torch.zeros_like(value, dtype=torch.float32))
                mean[name] = before + share * value.float()
    return mean
