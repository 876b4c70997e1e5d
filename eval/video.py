"""Measure faces followed through videos: ``python -m eval.video --help``.

The clips are those of ``eval.scenes --video``, whose truth is known by construction. Networks run
once over each frame; each way of smoothing is then computed from the same answers.

Definitions
    mota, idf1, switches: of the tracks, by the package motmetrics; a face counts as found at IoU
        0.5. Faces of which less than 60 % is visible need not be found and do not count.
    accuracy: faces found whose most likely emotion, in this frame alone, is right, of all found.
    mood_accuracy: the same for the smoothed mood; faces without a track keep their own answer.
    settled_…: of the faces that have shown their emotion for a second already.
    flicker, mood_flicker: changes of the most likely emotion, and of the mood, per second and face.
    true_changes: changes of the true emotion per second and face.
    frames_per_second: decoded, detected, followed and classified; ms_detect, ms_classify, ms_rest
        per frame.
"""

from __future__ import annotations

import time as clock
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from eval.data import options
from eval.records import report
from eval.records.sections import Section, columns
from faces.boxes import MATCH_IOU, iou_matrix
from faces.command import UserError
from faces.emotions import EMOTIONS
from faces.pipeline import Pipeline
from video.analyze import Follower, VideoFace, VideoOptions, look_at, tracking_options
from video.mood import SmoothingOptions

COMMAND = "eval.video"

SECTION = Section(
    kind="video",
    title="Faces followed through composed clips",
    columns=columns(
        "text: record detector classifier",
        "count: clips detect_every",
        "number: smoothing_seconds smoothing_lead",
        "percent: mota idf1",
        "count: switches",
        "percent: accuracy mood_accuracy settled_accuracy settled_mood_accuracy",
        "number: flicker mood_flicker true_changes frames_per_second",
    ),
)


@dataclass
class _Counts:
    """What is counted over all clips, for one way of smoothing."""

    found: int = 0
    right: int = 0
    mood_right: int = 0
    settled: int = 0
    settled_right: int = 0
    settled_mood_right: int = 0
    changes: int = 0
    mood_changes: int = 0
    true_changes: int = 0
    seconds: float = 0.0
    accumulators: list[Any] = field(default_factory=list)


def look_through(
    pipeline: Pipeline, clips: Sequence[Any], settings: VideoOptions, folder: Path
) -> dict[str, float]:
    """Run the networks over all clips and note their answers, a file per clip.

    Returns:
        ``frames``, and seconds per stage: ``all``, ``detect``, ``classify``.
    """
    from video.frames import open_frames
    from video.notes import Notes

    spent = dict.fromkeys(("frames", "all", "detect", "classify"), 0.0)
    for number, clip in enumerate(clips):
        tracking = tracking_options(pipeline, settings)
        follower = Follower(clip.path.name, tracking, settings.smoothing, looks=False)
        with Notes(folder / f"{number}.notes") as notes:
            notes.begin({"clip": number})
            start = clock.perf_counter()
            for look in look_at(pipeline, open_frames(clip.path), settings):
                follower.take(look)
                spent["frames"] += 1
                spent["detect"] += look.seconds[0]
                spent["classify"] += look.seconds[1]
                notes.add(look, {})
            spent["all"] += clock.perf_counter() - start
    return spent


def follow(
    pipeline: Pipeline, clips: Sequence[Any], settings: VideoOptions, folder: Path
) -> _Counts:
    """Compute tracks and moods from the notes, and hold them against the truth."""
    from video.notes import read_looks

    counts = _Counts()
    for number, clip in enumerate(clips):
        tracking = tracking_options(pipeline, settings)
        follower = Follower(clip.path.name, tracking, settings.smoothing, looks=False)
        looks = read_looks(folder / f"{number}.notes", {"clip": number})
        _count_clip(counts, clip, (follower.take(look).faces for look in looks))
    return counts


def _count_clip(counts: _Counts, clip: Any, answers: Iterator[tuple[VideoFace, ...]]) -> None:
    import motmetrics

    accumulator = motmetrics.MOTAccumulator(auto_id=True)
    answered: dict[int, list[tuple[int, str, str, str]]] = {}
    shown: dict[int, tuple[int, float]] = {}
    for index, (truth, faces) in enumerate(zip(clip.frames, answers, strict=False)):
        time = index / clip.rate
        for face in truth:
            if shown.get(face.person, (None, 0.0))[0] != face.emotion:
                shown[face.person] = (face.emotion, time)
        pairs = _add_frame(accumulator, truth, faces)
        for face, one in pairs:
            emotion = EMOTIONS[face.emotion]
            settled = time - shown[face.person][1] >= 1.0
            right, mood_right = one.face.emotions.top == emotion, one.mood == emotion
            counts.found += 1
            counts.right += right
            counts.mood_right += mood_right
            counts.settled += settled
            counts.settled_right += settled and right
            counts.settled_mood_right += settled and mood_right
            answer = (index, one.face.emotions.top, one.mood, emotion)
            answered.setdefault(face.person, []).append(answer)
    for rows in answered.values():
        for before, after in pairwise(rows):
            if after[0] == before[0] + 1:
                counts.seconds += 1 / clip.rate
                counts.changes += before[1] != after[1]
                counts.mood_changes += before[2] != after[2]
                counts.true_changes += before[3] != after[3]
    counts.accumulators.append(accumulator)


def _add_frame(
    accumulator: Any, truth: Sequence[Any], faces: Sequence[VideoFace]
) -> list[tuple[Any, VideoFace]]:
    """Give a frame to motmetrics; return the visible faces that were found, with their answers."""
    from eval.data.clips import VISIBLE

    overlap = iou_matrix(
        [face.box.as_tuple() for face in truth], [one.face.box.as_tuple() for one in faces]
    )
    visible = [i for i, face in enumerate(truth) if face.visible >= VISIBLE]
    hidden = [i for i in range(len(truth)) if i not in visible]
    # what lies on a face that does not count, and on no other, does not count either
    counted = [
        j
        for j in range(len(faces))
        if not (overlap[hidden, j] >= MATCH_IOU).any() or (overlap[visible, j] >= MATCH_IOU).any()
    ]
    tracked = [j for j in counted if faces[j].track is not None]
    distances = 1 - overlap[np.ix_(visible, tracked)]
    distances[distances > 1 - MATCH_IOU] = np.nan
    people = [truth[i].person for i in visible]
    accumulator.update(people, [faces[j].track for j in tracked], distances)
    pairs = []
    for i in visible if counted else []:
        best = counted[int(overlap[i, counted].argmax())]
        if overlap[i, best] >= MATCH_IOU:
            pairs.append((truth[i], faces[best]))
    return pairs


def summarise(counts: _Counts) -> report.Row:
    """Return the metrics of one way of smoothing."""
    import motmetrics

    names = ["mota", "idf1", "num_switches"]
    table = motmetrics.metrics.create().compute_many(
        counts.accumulators, metrics=names, generate_overall=True
    )
    tracks = table.loc["OVERALL"]

    def share(part: float, whole: float) -> float:
        return part / whole if whole else float("nan")

    return {
        "mota": float(tracks["mota"]),
        "idf1": float(tracks["idf1"]),
        "switches": int(tracks["num_switches"]),
        "faces": counts.found,
        "accuracy": share(counts.right, counts.found),
        "mood_accuracy": share(counts.mood_right, counts.found),
        "settled_accuracy": share(counts.settled_right, counts.settled),
        "settled_mood_accuracy": share(counts.settled_mood_right, counts.settled),
        "flicker": share(counts.changes, counts.seconds),
        "mood_flicker": share(counts.mood_changes, counts.seconds),
        "true_changes": share(counts.true_changes, counts.seconds),
    }


def _add_options(parser: ArgumentParser) -> None:
    text = "of eval.scenes --video"
    parser.add_argument("--clips", type=Path, required=True, metavar="DIR", help=text)
    options.add_models(parser, "detector")
    options.add_models(parser, "classifier")
    text = "as of twostage video"
    parser.add_argument("--detect-every", type=options.positive, default=1, metavar="N", help=text)
    default = SmoothingOptions()
    for option, metavar, value, text in (
        ("--smoothing", "SECONDS", default.seconds, "time constants"),
        ("--lead", "P", default.lead, "leads"),
    ):
        text += " to try (default %(default)s)"
        parser.add_argument(
            option, type=float, nargs="+", default=[value], metavar=metavar, help=text
        )
    options.add_common_options(parser)


def _evaluate(arguments: Namespace) -> None:
    try:
        import motmetrics  # noqa: F401

        from eval.data.clips import read_clips
    except ImportError as error:
        raise UserError(
            f"{COMMAND} needs PyAV and motmetrics; run `make setup EXTRAS=video`"
        ) from error
    if min(arguments.smoothing) < 0 or min(arguments.lead) < 0:
        raise UserError("--smoothing and --lead must be 0 or more")
    clips, info = read_clips(arguments.clips)
    detectors = options.load_detectors(arguments.detector or ["default"], arguments.device)
    classifiers = options.load_classifiers(arguments.classifier or ["default"], arguments.device)
    rows = []
    for detector in detectors:
        for classifier in classifiers:
            pipeline = Pipeline(detector, classifier)
            about: report.Row = {"detector": detector.name, "classifier": classifier.name}
            about |= {"clips": len(clips), "detect_every": arguments.detect_every}
            rows += [about | row for row in _measure(pipeline, clips, arguments)]
    SECTION.publish(arguments, rows)
    print(f"\n{info['limits']}")


def _measure(
    pipeline: Pipeline, clips: Sequence[Any], arguments: Namespace
) -> Iterator[report.Row]:
    """Yield a row per way of smoothing."""
    with TemporaryDirectory() as folder:
        settings = VideoOptions(detect_every=arguments.detect_every)
        spent = look_through(pipeline, clips, settings, Path(folder))
        frames = spent["frames"]
        ms = {
            "ms_detect": 1000 * spent["detect"] / frames,
            "ms_classify": 1000 * spent["classify"] / frames,
            "ms_rest": 1000 * (spent["all"] - spent["detect"] - spent["classify"]) / frames,
        }
        for seconds in arguments.smoothing:
            for lead in arguments.lead:
                smoothing = SmoothingOptions(seconds=seconds, lead=lead)
                tried = VideoOptions(detect_every=arguments.detect_every, smoothing=smoothing)
                counts = follow(pipeline, clips, tried, Path(folder))
                yield {
                    "smoothing_seconds": seconds,
                    "smoothing_lead": lead,
                    "frames_per_second": frames / spent["all"],
                    **ms,
                    **summarise(counts),
                }


main = options.Command(COMMAND, __doc__, _add_options, _evaluate)

if __name__ == "__main__":
    raise SystemExit(main())
