"""Several processes that train one network: NCCL on GPUs, gloo on CPUs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist

from networks.device import usable_device


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """Join the other processes where ``torchrun`` started this one; leave them at the end."""
    if "WORLD_SIZE" in os.environ:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def rank_and_count() -> tuple[int, int]:
    """Return this process's number, from 0, and how many there are."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def own_device(name: str | None) -> torch.device:
    """Return the device of that name, or the best there is; of several GPUs, this process's."""
    name = usable_device(name)
    if name == "cuda" and "LOCAL_RANK" in os.environ:
        name = usable_device(f"cuda:{os.environ['LOCAL_RANK']}")
    return torch.device(name)


def from_first_process(entry: dict[str, float]) -> dict[str, float]:
    """Return the first process's entry: others' running statistics differ by their last batch."""
    if not dist.is_initialized():
        return entry
    shared = [entry]
    dist.broadcast_object_list(shared, src=0)
    return shared[0]


def in_any_process(flag: bool, device: torch.device) -> bool:
    """Tell whether a flag is set in one of the processes, so that all stop after the same step."""
    if not dist.is_initialized():
        return flag
    shared = torch.tensor(float(flag), device=device)
    dist.all_reduce(shared, dist.ReduceOp.MAX)
    return bool(shared)
