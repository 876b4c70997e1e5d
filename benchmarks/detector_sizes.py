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

import tempfile
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks import detectors
from benchmarks.peers.detectors import DETECTORS
from benchmarks.rounds import contest
from eval.data import options
from eval.data.detections import with_min_size
from eval.data.images import AnnotatedImages
from eval.mosaics import shuffled, write_mosaics
from eval.records import report
from eval.records.plots import panels, save
from eval.records.sections import DETECTOR_SIZES
from faces.coco import GroundTruth, load_coco
from faces.command import UserError

COMMAND = "benchmarks.detector_sizes"

OWN, OWN_TIMED = "own", (640, 480)
SIZES = (640, 480, 1600, 1200, 3200, 2400, 4000, 3000, 5656, 4242)
"""Widths and heights from 0.3 to 24 megapixels."""


def _add_options(parser: ArgumentParser) -> None:
    options.add_photo_options(parser)
    options.add_min_size_option(parser)
    options.add_models(parser, "detector", required=True)
    peers = list(DETECTORS)
    parser.add_argument(
        "--peers", nargs="*", choices=peers, default=peers[:3], help="default: the first three"
    )
    parser.add_argument(
        "--sizes",
        type=options.positive,
        nargs="+",
        default=SIZES,
        metavar="W H",
        help="of the canvases in pixels",
    )
    contest.add_options(parser)


def _benchmark(arguments: Namespace) -> None:
    contest.check_peers(arguments.peers)
    if len(arguments.sizes) % 2 or max(arguments.sizes) > 10_000:
        raise UserError("--sizes: give pairs of width and height, of at most 10000 pixels")
    options.load_detectors(arguments.detector, "cpu")  # refuses unknown ones before the wait
    truth = load_coco(arguments.coco)
    about = {
        "coco": str(truth.path),
        "fingerprint": truth.fingerprint,
        "min_size": arguments.min_size,
        "photos": len(truth.images),
        "unreadable": 0,
    } | contest.conditions(arguments)
    rows = [row | about for row in measure(arguments, truth)]
    DETECTOR_SIZES.publish(arguments, rows, draw)


def measure(arguments: Namespace, truth: GroundTruth) -> Iterator[report.Row]:
    """Measure every detector on the photos, then on the canvases of each size: one row each."""
    images = AnnotatedImages(shuffled(truth, 0), arguments.images, strict=True)
    own: dict[str, float] = {}
    for row in measure_size(arguments, arguments.coco, arguments.images, OWN_TIMED):
        own[row["detector"]] = row["coverage"]
        yield row | {"size": OWN} | per_photo(row, len(truth.images))
    widths, heights = arguments.sizes[::2], arguments.sizes[1::2]
    for width, height in zip(widths, heights, strict=True):
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            write_mosaics(images, width, height, folder)
            coco = folder / "annotations.json"
            for row in measure_size(arguments, coco, folder / "images", (width, height)):
                yield (
                    row
                    | {"size": f"{width}×{height}", "megapixels": width * height / 1e6}
                    | {"coverage_lost": own[row["detector"]] - row["coverage"]}
                    | {"ms_per_megapixel": row["ms_per_image"] * 1e6 / (width * height)}
                    | per_photo(row, len(truth.images))
                )


def measure_size(
    arguments: Namespace, coco: Path, images: Path, size: tuple[int, int]
) -> list[report.Row]:
    """Return what ``benchmarks.detectors`` measures on a set of images, timed at a size."""
    here = Namespace(**vars(arguments) | {"coco": coco, "images": images, "size": size})
    if arguments.keep is not None:
        here.keep = arguments.keep / f"{size[0]}x{size[1]}"
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
        look = "o-" if line[0]["ours"] else "s--"
        axes[0].plot(pixels, [100 * row["ap50"] for row in line], look, label=Path(name).name)
        axes[1].plot(pixels, [row["ms_per_image"] / 1000 for row in line], look)
    axes[0].set(title="AP50 (%)", xscale="log")
    axes[1].set(title="seconds per image", xscale="log", yscale="log")
    for panel in axes:
        panel.grid(alpha=0.3)
    axes[0].legend(fontsize=8)
    figure.supxlabel(contest.title("megapixels of the image", rows[0]), size=10)
    save(figure, path)


main = options.Command(COMMAND, __doc__, _add_options, _benchmark)

if __name__ == "__main__":
    raise SystemExit(main())
