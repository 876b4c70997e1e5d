"""Whether the compiled light detector gains by several images of one size per call.

Its two networks are measured, which take most of the time: the trunk, which sees the
whole image, and the box head. Between them every image is processed by itself.

Definitions
    pictures_per_batch: in one call of each network, of one size.
    ms_per_image: of both networks, wall clock, for one image of the batch; ms_trunk, ms_box_head:
        of each. Median of a round of two seconds or more; median, minimum and maximum over the
        rounds, whose order turns. The images are noise; there are as many boxes as the detector
        classifies at most.
    ms_difference: to the calls with one image, by the medians.
"""

from __future__ import annotations

import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from benchmarks.rounds.contest import Spread, add_effort, conditions, order
from eval.data import options
from eval.records import report
from eval.records.sections import DETECTOR_BATCHES
from faces.command import UserError
from networks.precision import use_bf16

COMMAND = "benchmarks.detector_batches"
SECONDS = 2.0


def batched_trunk(model: Any) -> Any:
    """Return ``detection.inference.openvino_graphs.trunk`` for several images.

    Returns:
        An ``openvino.Model``. Input: (N, H, W, 3) uint8. The outputs are those of ``trunk``, the
        positions of all images below each other.
    """
    from detection.inference import openvino_graphs
    from networks.openvino import import_openvino

    ops = import_openvino().opset13
    graph = openvino_graphs.trunk(model)
    (one,) = graph.get_parameters()
    added_axis = next(op for op in graph.get_ordered_ops() if op.get_type_name() == "Unsqueeze")
    several = ops.parameter([-1, -1, -1, 3], np.uint8, name="pictures")
    added_axis.output(0).replace(ops.convert(several, np.float32).output(0))
    graph.add_parameters([several])
    graph.remove_parameter(one)
    return graph


def load(config: str, overrides: Sequence[str]) -> tuple[Any, Any]:
    """Return the light detector of a configuration, with random weights, and the configuration."""
    from detection.inference.compiled import compilable
    from detection.modeling.config import build_network, load_config

    cfg = load_config(config, [*overrides, "MODEL.WEIGHTS", "", "MODEL.DEVICE", "cpu"])
    model = build_network(cfg).eval()
    if not compilable(model, cfg):
        raise UserError(f"{config}: is no configuration of the light detector")
    return model, cfg


def calls(model: Any, cfg: Any, size: tuple[int, int], batch: int) -> dict[str, Callable[[], Any]]:
    """Return the calls to measure with so many images, of the size (width, height), by name."""
    from detection.data.mapper import inference_size
    from detection.inference import openvino_graphs
    from detection.inference.compiled import STRIDE
    from networks.openvino import CompiledGraph

    bf16, threads = use_bf16(cfg.MODEL.BF16, model.device), torch.get_num_threads()
    trunk = CompiledGraph(batched_trunk(model), bf16=bf16, threads=threads)
    box_head = CompiledGraph(openvino_graphs.box_head(model), bf16=bf16, threads=threads)
    shape = inference_size(size[1], size[0], cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST)
    height, width = (-(-side // STRIDE) * STRIDE for side in shape)
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (batch, height, width, 3), dtype=np.uint8)
    boxes = batch * cfg.MODEL.RPN.POST_NMS_TOPK_TEST
    pooled = rng.random((boxes, model.roi_heads.box_head.fcs[0].in_features), dtype=np.float32)
    return {"ms_trunk": lambda: trunk(pictures), "ms_box_head": lambda: box_head(pooled)}


def ms(call: Callable[[], Any], seconds: float) -> float:
    """Return the median time of a call in milliseconds, over at least ``seconds`` and 3 calls."""
    call()
    times: list[float] = []
    while len(times) < 3 or sum(times) < seconds:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return 1000 * float(np.median(times))


def measure(
    config: str,
    overrides: Sequence[str],
    size: tuple[int, int],
    batches: Sequence[int],
    rounds: int,
    seconds: float,
) -> list[report.Row]:
    """Measure every size of batch: one row each; the module's docstring defines the keys."""
    model, cfg = load(config, overrides)
    precision = "bfloat16" if use_bf16(cfg.MODEL.BF16, model.device) else "float32"
    every = [calls(model, cfg, size, batch) for batch in batches]
    times: list[list[dict[str, float]]] = [[] for _ in batches]
    for _, index in tqdm(list(order(len(batches), rounds)), unit=" runs", disable=None):
        parts = {name: ms(call, seconds / 2) for name, call in every[index].items()}
        times[index].append({name: value / batches[index] for name, value in parts.items()})
    rows: list[report.Row] = []
    for batch, some in zip(batches, times, strict=True):
        spread = Spread.of([sum(one.values()) for one in some])
        parts = {name: Spread.of([one[name] for one in some]).median for name in some[0]}
        name = " ".join([Path(config).stem, *overrides])
        row = {"detector": name, "pictures_per_batch": batch, **parts, "precision": precision}
        row |= {"ms_per_image": spread.median, "ms_least": spread.low, "ms_most": spread.high}
        rows.append(row)
    single = next((row["ms_per_image"] for row in rows if row["pictures_per_batch"] == 1), None)
    for row in rows:
        row["ms_difference"] = None if single is None else row["ms_per_image"] - single
    return rows


def _add_options(parser: ArgumentParser) -> None:
    parser.set_defaults(device="cpu")
    parser.add_argument("--config-file", default="mobilenet_fpn", help="default %(default)s")
    batches = [1, 2, 4, 8]
    parser.add_argument("--batches", type=options.positive, nargs="+", default=batches, metavar="N")
    options.add_size_option(parser, "the images", (640, 480))
    add_effort(parser, threads=2, rounds=5)
    options.add_out_option(parser)
    options.add_overrides(parser)


def _benchmark(arguments: Namespace) -> None:
    torch.set_num_threads(arguments.threads)
    about = {
        "timed_size": list(arguments.size),
        **conditions(arguments),
        "weights_sha256": {},  # any weights take the same time
    }
    rows = measure(
        arguments.config_file,
        arguments.opts,
        tuple(arguments.size),
        arguments.batches,
        arguments.rounds,
        SECONDS,
    )
    DETECTOR_BATCHES.publish(arguments, [row | about for row in rows])


main = options.Command(COMMAND, __doc__, _add_options, _benchmark)

if __name__ == "__main__":
    raise SystemExit(main())
