"""Detectors on small photos and on large images of the same faces: accuracy and time by size.

Annotated photos are measured as they are, then laid side by side on canvases of every ``--sizes``
(``eval.mosaics``), which are measured in the same way. Contestants and rounds are those of
benchmarks.detectors.

Definitions
    size: of the canvases; "own" are the photos, whose time is that of 640×480 pixels.
    ap50, coverage, false, duplicates: as in eval.detection. Per photo: of those that lie on the
        canvases, which have the same number at every size.
    coverage_lost: coverage of the photos at their own size, less that on the canvases.
    ms_per_image: as in benchmarks.detectors, of canvases.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks import detectors
from benchmarks.peers.detectors import DETECTORS
from benchmarks.rounds import contest
from eval.data import options
from eval.data.detections import with_min_size
from eval.data.images import AnnotatedImages
from eval.mosaics import lay_out, shuffled, write_set
from eval.records import report
from eval.records.plots import panels, save
from eval.records.sections import DETECTOR_SIZES
from faces import command
from faces.coco import GroundTruth, load_coco
from faces.command import UserError
from faces.provenance import command_line

COMMAND = "benchmarks.detector_sizes"

OWN, OWN_TIMED = "own", (640, 480)
SIZES = (640, 480, 1600, 1200, 3200, 2400, 4000, 3000, 5656, 4242)
"""Widths and heights from 0.3 to 24 megapixels."""


def parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    result = options.make_parser(COMMAND, __doc__)
    options.add_photo_options(result)
    result.add_argument("--min-size", type=command.positive_pixels, default=0.0, metavar="PX")
    result.add_argument(
        "--detector", nargs="+", action="extend", required=True, metavar="NAME|RUN", help="ours"
    )
    result.add_argument(
        "--peers", nargs="*", choices=DETECTORS, default=list(DETECTORS)[:3], help="default: three"
    )
    result.add_argument(
        "--sizes", type=int, nargs="+", default=SIZES, metavar="W H", help="of the canvases"
    )
    contest.add_options(result)
    return result


def benchmark(arguments: argparse.Namespace, made_by: str) -> int:
    """Do what the command line ``made_by`` asks; returns the exit status."""
    contest.check_options(arguments)
    if len(arguments.sizes) % 2 or not 1 <= min(arguments.sizes) <= max(arguments.sizes) <= 10_000:
        raise UserError("--sizes: give pairs of width and height, of 1 to 10000 pixels")
    options.load_detectors(arguments.detector, "cpu")  # refuses unknown ones before the wait
    truth = load_coco(arguments.coco)
    about = {
        "coco": str(truth.path),
        "fingerprint": truth.fingerprint,
        "min_size": arguments.min_size,
        "photos": len(truth.scenes),
        "unreadable": 0,
    } | contest.conditions(arguments, made_by)
    rows = [row | about for row in measure(arguments, truth)]
    DETECTOR_SIZES.publish(arguments, rows, draw)
    return 0


def measure(arguments: argparse.Namespace, truth: GroundTruth) -> Iterator[report.Row]:
    """Measure every detector on the photos, then on the canvases of each size: one row each."""
    images = AnnotatedImages(shuffled(truth, 0), arguments.images, strict=True)
    own: dict[str, float] = {}
    for row in measure_size(arguments, arguments.coco, arguments.images, OWN_TIMED):
        own[row["detector"]] = row["coverage"]
        yield row | {"size": OWN} | per_photo(row, len(truth.scenes))
    widths, heights = arguments.sizes[::2], arguments.sizes[1::2]
    for width, height in zip(widths, heights, strict=True):
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            write_set(lay_out(images, width, height), folder)
            coco = folder / "annotations.json"
            for row in measure_size(arguments, coco, folder / "images", (width, height)):
                yield (
                    row
                    | {"size": f"{width}×{height}", "megapixels": width * height / 1e6}
                    | {"coverage_lost": own[row["detector"]] - row["coverage"]}
                    | {"ms_per_megapixel": row["ms_per_image"] * 1e6 / (width * height)}
                    | per_photo(row, len(truth.scenes))
                )


def measure_size(
    arguments: argparse.Namespace, coco: Path, images: Path, size: tuple[int, int]
) -> list[report.Row]:
    """Return what ``benchmarks.detectors`` measures on a set of images, timed at a size."""
    here = argparse.Namespace(**vars(arguments) | {"coco": coco, "images": images, "size": size})
    if arguments.keep is not None:
        here.keep = arguments.keep / f"{size[0]}x{size[1]}"
        here.keep.mkdir(exist_ok=True)
    return detectors.measure(here, with_min_size(load_coco(coco), arguments.min_size))


def per_photo(row: report.Row, photos: int) -> report.Row:
    """Return a row's errors per photo instead of per canvas."""
    return {
        "false_per_photo": row["false_per_image"] * row["images_for_false"] / photos,
        "duplicates_per_photo": row["duplicates_per_image"] * row["images"] / photos,
    }


def draw(rows: Sequence[report.Row], path: Path) -> None:
    """Draw AP50 and time beside the canvases' size, a line per detector."""
    figure, axes = panels(2, side=4.8)
    canvases = [row for row in rows if row["size"] != OWN]
    for name in dict.fromkeys(row["detector"] for row in canvases):
        line = [row for row in canvases if row["detector"] == name]
        pixels = [row["megapixels"] for row in line]
        ours = line[0]["ours"]
        style = {"marker": "o" if ours else "s", "linewidth": 2 if ours else 1}
        axes[0].plot(pixels, [100 * row["ap50"] for row in line], label=Path(name).name, **style)
        axes[1].plot(pixels, [row["ms_per_image"] / 1000 for row in line], **style)
    axes[0].set(title="AP50 (%)", xscale="log")
    axes[1].set(title="seconds per image", xscale="log", yscale="log")
    for panel in axes:
        panel.grid(alpha=0.3)
    axes[0].legend(fontsize=8)
    figure.supxlabel(contest.title("megapixels of the image", rows[0]), size=10)
    save(figure, path)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    arguments = parser().parse_args(argv)
    return command.run(COMMAND, lambda: benchmark(arguments, command_line(COMMAND, argv)))


if __name__ == "__main__":
    sys.exit(main())
