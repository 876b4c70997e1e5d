"""Whether the compiled light detector gains by several pictures of one size at a time.

Its two networks are measured, which take most of the time: what looks at the whole picture, and
what judges boxes. Between them every picture is looked at by itself.

Definitions
    pictures_per_batch: in one call of each network, of one size.
    ms_per_image: of both networks, wall clock, for one picture of the batch; ms_trunk, ms_box_head:
        of each. Median of a round of two seconds or more; median, least and most over the rounds,
        whose order turns. The pictures are noise, the boxes as many as the detector looks at most.
    ms_difference: to the calls with one picture, by the medians.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from benchmarks.rounds.contest import Spread
from eval.records import report
from faces.command import UserError, run
from faces.provenance import command_line

COMMAND = "benchmarks.detector_batches"
SECONDS = 2.0

COLUMNS = {
    "detector": "text",
    "pictures_per_batch": "count",
    "ms_trunk": "number",
    "ms_box_head": "number",
    "ms_per_image": "number",
    "ms_least": "number",
    "ms_most": "number",
    "ms_difference": "number",
    "threads": "count",
}


def batched_trunk(model: Any) -> Any:
    """Return ``detection.inference.openvino_graphs.trunk`` for several pictures.

    Returns:
        An ``openvino.Model``. Input: (N, H, W, 3) uint8. The outputs are those of ``trunk``, the
        places of all pictures below each other.
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


def calls(
    config: str, overrides: Sequence[str], size: tuple[int, int], batch: int
) -> dict[str, Callable[[], Any]]:
    """Return the calls to measure: name → the call.

    Args:
        config: a configuration of the light detector; its weights do not matter.
        overrides: key, value, key, value, … of it.
        size: of the photos, (width, height).
        batch: pictures per call.
    """
    from detectron2.modeling import build_model

    from detection.data.mapper import inference_size
    from detection.inference import openvino_graphs
    from detection.inference.compiled import STRIDE, compilable
    from detection.modeling.config import load_config
    from networks.openvino import CompiledGraph
    from networks.precision import use_bf16

    cfg = load_config(config, [*overrides, "MODEL.WEIGHTS", "", "MODEL.DEVICE", "cpu"])
    model = build_model(cfg).eval()
    if not compilable(model, cfg):
        raise UserError(f"{config}: is no configuration of the light detector")
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
) -> list[report.Run]:
    """Measure every size of batch: one row each, with the keys of ``COLUMNS``."""
    every = [calls(config, overrides, size, batch) for batch in batches]
    times: list[list[dict[str, float]]] = [[] for _ in batches]
    order = [
        (turn + place) % len(batches) for turn in range(rounds) for place in range(len(batches))
    ]
    for index in tqdm(order, unit=" runs", disable=None):
        parts = {name: ms(call, seconds / 2) for name, call in every[index].items()}
        times[index].append({name: value / batches[index] for name, value in parts.items()})
    rows: list[report.Run] = []
    for batch, some in zip(batches, times, strict=True):
        spread = Spread.of([sum(one.values()) for one in some])
        parts = {name: Spread.of([one[name] for one in some]).median for name in some[0]}
        name = " ".join([Path(config).stem, *overrides])
        row = {"detector": name, "pictures_per_batch": batch, **parts}
        row |= {"ms_per_image": spread.median, "ms_least": spread.low, "ms_most": spread.high}
        rows.append(row)
    single = next((row["ms_per_image"] for row in rows if row["pictures_per_batch"] == 1), None)
    for row in rows:
        row["ms_difference"] = None if single is None else row["ms_per_image"] - single
    return rows


def parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    result = argparse.ArgumentParser(
        prog=f"python -m {COMMAND}",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    result.add_argument("--config-file", default="mobilenet_fpn", help="default %(default)s")
    result.add_argument("--batches", type=int, nargs="+", default=[1, 2, 4, 8], metavar="N")
    result.add_argument("--size", type=int, nargs=2, default=(640, 480), metavar=("W", "H"))
    result.add_argument("--threads", type=int, default=2, help="default %(default)s")
    result.add_argument("--rounds", type=int, default=5, help="default %(default)s")
    result.add_argument("--out", type=Path, metavar="FILE.json", help="write the figures there")
    result.add_argument(
        "opts", nargs=argparse.REMAINDER, help="KEY VALUE pairs that override the configuration"
    )
    return result


def benchmark(arguments: argparse.Namespace, made_by: str) -> int:
    """Do what the command line ``made_by`` asks; returns the exit status."""
    report.check_out(arguments.out)
    numbers = (*arguments.batches, *arguments.size, arguments.threads, arguments.rounds)
    if min(numbers) < 1:
        raise UserError("batches, sizes, threads and rounds must be 1 or more")
    torch.set_num_threads(arguments.threads)
    load_before = os.getloadavg()[0]
    try:
        rows = measure(
            arguments.config_file,
            arguments.opts,
            tuple(arguments.size),
            arguments.batches,
            arguments.rounds,
            SECONDS,
        )
    except UserError as error:
        raise UserError(str(error)) from error
    about = {
        "timed_size": list(arguments.size),
        "rounds": arguments.rounds,
        "load_before": load_before,
        "weights_sha256": {},  # any weights take the same time
    } | report.provenance(made_by)
    rows = [row | about for row in rows]
    if arguments.out is not None:
        report.write_report(arguments.out, rows)
    print(report.table(rows, COLUMNS))
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    arguments = parser().parse_args(argv)
    return run(COMMAND, lambda: benchmark(arguments, command_line(COMMAND, argv)))


if __name__ == "__main__":
    sys.exit(main())
