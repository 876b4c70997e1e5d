"""Measure faces followed through videos: ``python -m eval.video --help``.

The clips are those of ``eval.scenes --video``, whose truth is known by construction. Networks run
once over each frame; each way of smoothing is then computed from the same answers.

Definitions
    mota, idf1, recall, switches: of the tracks, by the package motmetrics; a face counts as found
        at an IoU of match_iou: 0.5, or 0.3 where crops stand for boxes, which detectors draw
        smaller. Faces of which less than 60 % is visible need not be found and do not count.
    accuracy: faces found whose most likely emotion, in this frame alone, is right, of all found.
    mood_accuracy: the same for the smoothed mood.
    settled_…: of the faces that have shown their emotion for a second already.
    flicker, mood_flicker: changes of the most likely emotion, and of the mood, per second and face.
    true_changes: changes of the true emotion per second and face.
    mood_gain: mood_accuracy - accuracy.
    …_ci: 95 % interval, by resampling clips.

Speed is measured by ``benchmarks.video``.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from eval.data import options
from eval.metrics.bootstrap import Bootstrap, Metric, ratio_metric
from eval.records import report
from eval.records.sections import Section, columns
from faces.boxes import MATCH_IOU, iou_matrix
from faces.command import UserError
from faces.emotions import EMOTIONS
from faces.pipeline import Pipeline
from video.analyze import Follower, VideoFace, VideoOptions, look_at, settled, tracking_options
from video.frames import import_av
from video.mood import SmoothingOptions

COMMAND = "eval.video"

SECTION = Section(
    kind="video",
    title="Faces followed through composed clips",
    columns=columns(
        "text: record detector classifier",
        "count: clips detect_every",
        "number: smoothing_seconds",
        "percent: idf1",
        "interval: idf1_ci",
        "percent: mota recall",
        "count: switches",
        "percent: accuracy mood_accuracy",
        "interval: mood_gain_ci",
        "number: flicker mood_flicker true_changes",
    ),
    headings={"idf1_ci": "95 % interval", "mood_gain_ci": "gained by smoothing, 95 %"},
)

TRACK_COUNTS = [
    *("num_objects", "num_predictions", "num_misses", "num_false_positives", "num_switches", "idtp")
]


@dataclass
class _Counts:
    """What is counted in one clip, for one way of smoothing.

    ``tracks`` are motmetrics' counts: ``num_objects``, ``num_misses`` and so on.
    """

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
    tracks: dict[str, float] = field(default_factory=dict)


def look_through(
    pipeline: Pipeline, clips: Sequence[Any], settings: VideoOptions, folder: Path
) -> None:
    """Run the networks over all clips and note their answers, a file per clip."""
    from video.frames import open_frames
    from video.notes import Notes

    for number, clip in enumerate(tqdm(clips, unit=" clips", disable=None)):
        tracking = tracking_options(pipeline, settings)
        follower = Follower(clip.path.name, tracking, settings.smoothing)
        with Notes(folder / f"{number}.notes") as notes:
            notes.begin({"clip": number})
            for look in look_at(pipeline, open_frames(clip.path), settings):
                follower.take(look)
                notes.add(look, {})


def follow(
    pipeline: Pipeline, clips: Sequence[Any], settings: VideoOptions, folder: Path, iou: float
) -> list[_Counts]:
    """Compute tracks and moods from the notes, and hold them against the truth, clip by clip."""
    from video.notes import read_looks

    counts = []
    for number, clip in enumerate(clips):
        tracking = tracking_options(pipeline, settings)
        follower = Follower(clip.path.name, tracking, settings.smoothing)
        looks = read_looks(folder / f"{number}.notes", {"clip": number})
        frames = settled((follower.take(look) for look in looks), settings.smoothing)
        counts.append(count_clip(clip, (frame.faces for frame in frames), iou))
    return counts


def count_clip(clip: Any, answers: Iterable[tuple[VideoFace, ...]], iou: float) -> _Counts:
    """Hold the answers to a clip's frames against its truth; found means an overlap of ``iou``."""
    import motmetrics

    counts = _Counts()
    accumulator = motmetrics.MOTAccumulator(auto_id=True)
    answered: dict[int, list[tuple[int, str, str, str]]] = {}
    shown: dict[int, tuple[int, float]] = {}
    for index, (truth, faces) in enumerate(zip(clip.frames, answers, strict=False)):
        time = index / clip.rate
        for face in truth:
            if shown.get(face.person, (None, 0.0))[0] != face.emotion:
                shown[face.person] = (face.emotion, time)
        for face, one in _add_frame(accumulator, truth, faces, iou):
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
    summary = motmetrics.metrics.create().compute(accumulator, metrics=TRACK_COUNTS)
    counts.tracks = {name: float(summary[name].iloc[0]) for name in TRACK_COUNTS}
    return counts


def _add_frame(
    accumulator: Any, truth: Sequence[Any], faces: Sequence[VideoFace], iou: float
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
        if not (overlap[hidden, j] >= iou).any() or (overlap[visible, j] >= iou).any()
    ]
    tracked = [j for j in counted if faces[j].track is not None]
    distances = 1 - overlap[np.ix_(visible, tracked)]
    distances[distances > 1 - iou] = np.nan
    people = [truth[i].person for i in visible]
    accumulator.update(people, [faces[j].track for j in tracked], distances)
    pairs = []
    for i in visible if counted else []:
        best = counted[int(overlap[i, counted].argmax())]
        if overlap[i, best] >= iou:
            pairs.append((truth[i], faces[best]))
    return pairs


def summarise(clips: Sequence[_Counts]) -> report.Row:
    """Return the metrics of one way of smoothing, with 95 % intervals by resampling clips."""

    def of(part: str, whole: str) -> Metric:
        return ratio_metric([getattr(c, part) for c in clips], [getattr(c, whole) for c in clips])

    def tracks(*names: str) -> NDArray[np.float64]:
        return np.asarray(sum(np.array([one.tracks[name] for one in clips]) for name in names))

    objects = tracks("num_objects")
    wrong = tracks("num_misses", "num_false_positives", "num_switches")
    metrics = {
        "mota": ratio_metric(objects - wrong, objects),
        "idf1": ratio_metric(2 * tracks("idtp"), objects + tracks("num_predictions")),
        "recall": ratio_metric(objects - tracks("num_misses"), objects),
        "accuracy": of("right", "found"),
        "mood_accuracy": of("mood_right", "found"),
        "settled_accuracy": of("settled_right", "settled"),
        "settled_mood_accuracy": of("settled_mood_right", "settled"),
        "flicker": of("changes", "seconds"),
        "mood_flicker": of("mood_changes", "seconds"),
        "true_changes": of("true_changes", "seconds"),
    }
    sampled = Bootstrap.of(len(clips))
    gain = sampled.difference(metrics["mood_accuracy"], metrics["accuracy"])
    return {
        **sampled.values(metrics),
        "mood_gain": gain[0],
        "mood_gain_ci": gain[1],
        "switches": int(tracks("num_switches").sum()),
        "faces": sum(one.found for one in clips),
    }


def _add_options(parser: ArgumentParser) -> None:
    text = "of eval.scenes --video"
    parser.add_argument("--clips", type=Path, required=True, metavar="DIR", help=text)
    options.add_models(parser, "detector")
    options.add_models(parser, "classifier")
    text = "as of twostage video; several are compared (default 1)"
    parser.add_argument(
        "--detect-every", type=options.positive, nargs="+", default=[1], metavar="N", help=text
    )
    default = SmoothingOptions()
    text = "seconds to either side to try (default %(default)s)"
    parser.add_argument(
        "--smoothing", type=float, nargs="+", default=[default.seconds], metavar="S", help=text
    )
    options.add_common_options(parser)


def _evaluate(arguments: Namespace) -> None:
    from eval.data.clips import read_clips

    import_av()
    try:
        import motmetrics  # noqa: F401
    except ImportError as error:
        raise UserError(f"{COMMAND} needs motmetrics; run `make setup EXTRAS=video`") from error
    if min(arguments.smoothing) < 0:
        raise UserError("--smoothing must be 0 or more")
    clips, info = read_clips(arguments.clips)
    iou = float(info.get("match_iou", MATCH_IOU))
    detectors = options.load_detectors(arguments.detector or ["default"], arguments.device)
    classifiers = options.load_classifiers(arguments.classifier or ["default"], arguments.device)
    rows = []
    for detector in detectors:
        for classifier in classifiers:
            pipeline = Pipeline(detector, classifier)
            about: report.Row = {"detector": detector.name, "classifier": classifier.name}
            about |= {"clips": len(clips)}
            about |= {"match_iou": iou, "clips_command": info["command"]}
            rows += [about | row for row in _measure(pipeline, clips, arguments, iou)]
    SECTION.publish(arguments, rows)
    print(f"\n{info['limits']}")


def _measure(
    pipeline: Pipeline, clips: Sequence[Any], arguments: Namespace, iou: float
) -> Iterator[report.Row]:
    """Yield a row per way of detecting and smoothing."""
    for detect_every in arguments.detect_every:
        with TemporaryDirectory() as folder:
            settings = VideoOptions(detect_every=detect_every)
            look_through(pipeline, clips, settings, Path(folder))
            for seconds in arguments.smoothing:
                tried = replace(settings, smoothing=SmoothingOptions(seconds))
                counts = follow(pipeline, clips, tried, Path(folder), iou)
                yield {
                    "detect_every": detect_every,
                    "smoothing_seconds": seconds,
                    **summarise(counts),
                }


main = options.Command(COMMAND, __doc__, _add_options, _evaluate)

if __name__ == "__main__":
    raise SystemExit(main())
