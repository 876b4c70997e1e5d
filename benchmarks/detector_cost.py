"""What training X101-FPN costs, by the number of frozen stages.

One row per FREEZE_AT. Counted on the network itself, without data and without a GPU; hours follow
from the speed that Detectron2's model zoo published for the same network. With --rounds the time of
one image on this machine's CPU is measured too.

Definitions
    freeze_at: MODEL.BACKBONE.FREEZE_AT, the stages of the body that stay as they are.
    trained: the parts that change; trained_millions: their parameters.
    forward_gflops: operations of one image of --size in training, multiplications and additions
        of convolutions and matrix products (torch.utils.flop_counter); ROI_HEADS.
        BATCH_SIZE_PER_IMAGE boxes go through the box head.
    training_gflops: the same and twice that of the trained parts, for the two products of the
        backward pass.
    memory_gb: weights, gradients and momentum of what is trained in float32, and what the forward
        pass of SOLVER.IMS_PER_BATCH images of --size keeps for the backward pass.
    zoo_memory_gb: the same with the model zoo's two images per GPU.
    expected_memory_gb: memory_gb, and what the zoo measured beyond zoo_memory_gb with two frozen
        stages (work space, proposals, losses), for each image of the batch.
    v100_hours: SOLVER.MAX_ITER iterations on one V100, if it computes as many operations per second
        as in the zoo's training of this network; evaluations not included.
    cpu_ms_per_image: median processor time of one image of --size from pixels to boxes, random
        weights, with the minimum and the maximum.
"""

from __future__ import annotations

import time
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from benchmarks.rounds.contest import Spread
from eval.data import options
from eval.records import report
from eval.records.sections import DETECTOR_COST
from faces.command import UserError

COMMAND = "benchmarks.detector_cost"

ZOO = {"seconds_per_iteration": 0.638, "pictures_per_gpu": 2, "freeze_at": 2, "memory_gb": 6.7}
"""Faster R-CNN X101-FPN 3x on V100s, from Detectron2's MODEL_ZOO.md (2019)."""

CONFIG = "x101_fpn"
DEPTHS = range(6)


def build(freeze_at: int, device: str) -> tuple[Any, Any]:
    """Return a detector with random (on ``meta``: no) weights, for training, and its config."""
    from detection.modeling.config import build_network, load_config

    keys = ["MODEL.WEIGHTS", "", "MODEL.BACKBONE.FREEZE_AT", str(freeze_at)]
    cfg = load_config(CONFIG, [*keys, "MODEL.DEVICE", device])
    return build_network(cfg), cfg


def forward(model: Any, cfg: Any, images: int, size: tuple[int, int]) -> list[Tensor]:
    """Run body, FPN, RPN head and box head on nothing, and return what comes out.

    The model is on the device ``meta``, where nothing is computed; ``size`` is (width, height),
    multiples of 32.
    """
    width, height = size
    maps = model.backbone(torch.empty(images, 3, height, width, device="meta"))
    levels = [maps[name] for name in cfg.MODEL.RPN.IN_FEATURES]
    logits, deltas = model.proposal_generator.rpn_head(levels)
    cells = cfg.MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION
    boxes = images * cfg.MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE
    pooled = torch.empty(boxes, levels[0].shape[1], cells, cells, device="meta")
    heads = model.roi_heads
    return [*logits, *deltas, *heads.box_predictor(heads.box_head(pooled))]


def flops_by_part(model: Any, cfg: Any, size: tuple[int, int]) -> dict[str, int]:
    """Return the operations of one forward pass by ``modeling.freezing``'s parts."""
    with FlopCounterMode(display=False) as counter:
        forward(model, cfg, 1, size)
    counted = {name: sum(ops.values()) for name, ops in counter.get_flop_counts().items()}
    backbone = type(model.backbone).__name__
    body = f"{backbone}.bottom_up"
    names = ("stem", *model.backbone.bottom_up.stage_names)
    stages = {name: counted[f"{body}.{name}"] for name in names}
    fpn = counted[backbone] - counted[body]
    rpn = counted[type(model.proposal_generator.rpn_head).__name__]
    rest = counted["Global"] - counted[backbone] - rpn
    return stages | {"fpn": fpn, "rpn": rpn, "box head": rest}


def kept_bytes(model: Any, cfg: Any, images: int, size: tuple[int, int]) -> int:
    """Return how much the forward pass of a batch keeps for the backward pass, without weights."""
    kept: dict[int, Any] = {}
    weights = {parameter.untyped_storage()._cdata for parameter in model.parameters()}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in weights:
            kept[storage._cdata] = storage  # held, so that no other takes its number
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        outputs = forward(model, cfg, images, size)
    del outputs
    return sum(storage.nbytes() for storage in kept.values())


def row(freeze_at: int, size: tuple[int, int]) -> report.Row:
    """Count one row; the module's docstring defines the numbers."""
    from detection.modeling.freezing import parameters_by_part

    model, cfg = build(freeze_at, "meta")
    numbers = parameters_by_part(model)
    changing = sum(number["trained"] for number in numbers.values())
    weights = 4 * sum(number["all"] for number in numbers.values()) + 8 * changing
    trained = [name for name, number in numbers.items() if number["trained"]]
    flops = flops_by_part(model, cfg, size)
    training = sum(flops.values()) + 2 * sum(flops[name] for name in trained)
    batch, zoo_batch = cfg.SOLVER.IMS_PER_BATCH, int(ZOO["pictures_per_gpu"])
    return {
        "freeze_at": freeze_at,
        "trained": ", ".join(trained),
        "trained_millions": changing / 1e6,
        "forward_gflops": sum(flops.values()) / 1e9,
        "training_gflops": training / 1e9,
        "memory_gb": (weights + kept_bytes(model, cfg, batch, size)) / 1e9,
        "zoo_memory_gb": (weights + kept_bytes(model, cfg, zoo_batch, size)) / 1e9,
        "iterations": cfg.SOLVER.MAX_ITER,
        "pictures_per_iteration": batch,
    }


def add_estimates(rows: Sequence[report.Row]) -> None:
    """Add ``v100_hours`` and ``expected_memory_gb``, from what the zoo measured."""
    like_zoo = next(one for one in rows if one["freeze_at"] == ZOO["freeze_at"])
    images = ZOO["pictures_per_gpu"]
    per_second = like_zoo["training_gflops"] * images / ZOO["seconds_per_iteration"]
    uncounted = (ZOO["memory_gb"] - like_zoo["zoo_memory_gb"]) / images
    for one in rows:
        batch = one["pictures_per_iteration"]
        gflops = one["training_gflops"] * one["iterations"] * batch
        one["v100_hours"] = gflops / per_second / 3600
        one["expected_memory_gb"] = one["memory_gb"] + uncounted * batch


def cpu_ms(size: tuple[int, int], rounds: int) -> Spread:
    """Measure one image of noise on the CPU; ``rounds`` times after a first one."""
    from detection.modeling.random_start import measure_norms

    model, _ = build(0, "cpu")
    width, height = size
    image = torch.randint(0, 256, (3, height, width), dtype=torch.uint8)
    given = [{"image": image, "height": height, "width": width}]
    measure_norms(model, lambda: given)
    model.eval()
    times = []
    with torch.inference_mode():
        for turn in tqdm(range(rounds + 1), unit=" images", disable=None):
            start = time.process_time()
            model(given)
            if turn:
                times.append(1000 * (time.process_time() - start))
    return Spread.of(times)


def _add_options(parser: ArgumentParser) -> None:
    parser.set_defaults(device="cpu")
    options.add_size_option(parser, "the images, multiples of 32", (1088, 800))
    parser.add_argument("--rounds", type=int, default=0, help="on the CPU; default none")
    parser.add_argument("--threads", type=options.positive, default=1, help="default %(default)s")
    options.add_out_option(parser)


def _benchmark(arguments: Namespace) -> None:
    if any(side % 32 for side in arguments.size):
        raise UserError("--size: two multiples of 32, as the FPN takes them")
    torch.set_num_threads(arguments.threads)
    size = tuple(arguments.size)
    rows = [row(depth, size) for depth in tqdm(DEPTHS, disable=None)]
    add_estimates(rows)
    about: report.Row = {"detector": CONFIG, "counted_size": list(size)}
    if arguments.rounds > 0:
        about |= cpu_ms(size, arguments.rounds).keys("cpu_ms") | {"precision": "float32"}
    DETECTOR_COST.publish(arguments, [one | about for one in rows])


main = options.Command(COMMAND, __doc__, _add_options, _benchmark)

if __name__ == "__main__":
    raise SystemExit(main())
