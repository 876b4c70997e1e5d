"""Where commands run: one process, Detectron2's GPU launcher, or under torchrun."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable

import torch
import torch.distributed as dist
from detectron2.engine import launch
from detectron2.utils import comm

from faces.command import UserError


def run_launched(args: argparse.Namespace, function: Callable[[argparse.Namespace], int]) -> int:
    """Run ``function(args)`` in every process that the options ask for.

    ``--num-gpus 0``, or a machine without GPU, means one process on the CPU. Under torchrun
    (``WORLD_SIZE`` in the environment) this process joins the others, with NCCL on GPUs and gloo on
    CPUs. Returns the exit status; that of this process where there are several.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        join_torchrun(on_gpu=args.num_gpus > 0 and torch.cuda.is_available())
        try:
            return function(args)
        finally:
            dist.destroy_process_group()
    available = torch.cuda.device_count()
    if args.num_gpus > available:
        if args.num_gpus > 1:
            raise UserError(
                f"--num-gpus {args.num_gpus}: there are {available} here; --num-gpus 0 uses the CPU"
            )
        print("no GPU here: running on the CPU (--num-gpus 0 says so explicitly)", file=sys.stderr)
        args.num_gpus = 0
    if args.num_gpus == 0 or args.num_gpus * args.num_machines == 1:
        return function(args)
    launch(
        function,
        args.num_gpus,
        num_machines=args.num_machines,
        machine_rank=args.machine_rank,
        dist_url=args.dist_url,
        args=(args,),
    )
    return 0


def join_torchrun(on_gpu: bool) -> None:
    """Join the processes that torchrun started; tell Detectron2 which share this machine."""
    local_rank, local_size = int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"])
    if on_gpu:
        torch.cuda.set_device(local_rank)
    dist.init_process_group("nccl" if on_gpu else "gloo")
    for machine in range(dist.get_world_size() // local_size):
        ranks = list(range(machine * local_size, (machine + 1) * local_size))
        group = dist.new_group(ranks)
        if dist.get_rank() in ranks:
            comm._LOCAL_PROCESS_GROUP = group


def device_name(args: argparse.Namespace, configured: str) -> str:
    """Return the value for ``MODEL.DEVICE``: ``cuda`` where GPUs are used, else ``cpu``."""
    if args.num_gpus == 0 or not torch.cuda.is_available():
        return "cpu"
    return configured if configured.startswith("cuda") else "cuda"
