"""What the page keeps for a visitor, without the page."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from demo import session as sessions
from demo.session import DROPPED, TOO_LARGE, TOO_MANY, Analysis, Cache, Choice, Photo, Session
from faces.pipeline import Merged, Pipeline, WholeImage
from faces.scope import Scope
from faces.types import Box, Detection

CHOICE = Choice("one", "flat", "cpu")


SAMPLE = ("sample.png", b"")


class Detector:
    """Proposes three boxes, the first two of which count as faces."""

    name = "one"
    score_threshold = 0.5

    def __init__(self) -> None:
        self.calls = 0
        self.proposed: tuple[float, ...] = (0.9, 0.5, 0.4)

    def detect(
        self, images: Sequence[np.ndarray], min_score: float | None = None
    ) -> list[list[Detection]]:
        self.calls += 1
        least = self.score_threshold if min_score is None else min_score
        sides = [min(image.shape[:2]) for image in images]
        return [
            [Detection(Box(0, 0, side, side), s) for s in self.proposed if s >= least]
            for side in sides
        ]


class Classifier:
    """Tells the brightness of a crop: white is happy, black sad."""

    name = "flat"

    def __init__(self) -> None:
        self.crops: list[np.ndarray] = []

    def probabilities(self, crops: Sequence[np.ndarray]) -> np.ndarray:
        self.crops += crops
        rows = np.zeros((len(crops), 7), np.float32)
        rows[:, 3] = [crop.mean() / 255 for crop in crops]
        rows[:, 4] = 1 - rows[:, 3]
        return rows


def picture(width: int = 60, height: int = 40, shade: int = 128, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, height), (shade, shade, shade)).save(file, kind)
    return file.getvalue()


def pipeline(choice: Choice = CHOICE) -> Pipeline:
    return Pipeline(Detector(), Classifier(), margin=choice.margin)


def analyzed(session: Session, photo: Photo, choice: Choice = CHOICE) -> Analysis:
    session.analyze(photo, choice, pipeline(choice))
    known = session.known(photo, choice)
    assert isinstance(known, Analysis)
    return known


def test_analysis_equals_the_pipeline_s_result() -> None:
    session, data = Session(SAMPLE), picture()
    session.add([("a.png", data)])
    found = analyzed(session, session.photos[0]).result
    with Image.open(io.BytesIO(data)) as opened:
        expected = Pipeline(Detector(), Classifier()).analyze(np.array(opened), "a.png")
    assert found.faces == expected.faces and len(found.faces) == 2
    assert (found.source, found.width, found.height) == ("a.png", 60, 40)
    assert found.seconds > 0


def test_each_stage_runs_only_when_its_own_choices_change() -> None:
    session, detector, classifier = Session(SAMPLE), Detector(), Classifier()
    session.add([("a.png", picture())])
    photo = session.photos[0]
    lower = Choice("one", "flat", "cpu", score=0.3)
    wider = Choice("one", "flat", "cpu", margin=0.5)
    for choice in (CHOICE, lower, wider):
        assert session.known(photo, choice) is None
        session.analyze(photo, choice, Pipeline(detector, classifier, margin=choice.margin))
    assert detector.calls == 1
    assert [len(crop) for crop in classifier.crops] == [40, 40, 40, 40, 40, 80, 80]
    found = session.known(photo, lower)
    assert isinstance(found, Analysis) and found.weak == ()
    found = session.known(photo, CHOICE)
    assert isinstance(found, Analysis) and [d.score for d in found.weak] == [0.4]
    assert list(found.seconds) == ["read", "detect", "classify"]
    assert found.result.seconds == pytest.approx(
        found.seconds["detect"] + found.seconds["classify"]
    )
    same = Choice("one", "flat", "cpu", score=0.45)  # between two boxes: the same faces
    assert session.known(photo, same) == found


def test_merged_boxes_of_faces_are_kept_where_the_detector_tells_them() -> None:
    class Explaining(Detector):
        def explain(
            self, image: np.ndarray, min_score: float | None = None
        ) -> tuple[list[Detection], list[Merged]]:
            found = self.detect([image], min_score)[0]
            return found, [Merged(detection, into) for into, detection in enumerate(found)]

    session, data = Session(SAMPLE), picture()
    session.add([("a.png", data)])
    (photo,) = session.photos
    for choice, faces in ((CHOICE, 2), (Choice("one", "flat", "cpu", score=0.6), 1)):
        session.analyze(photo, choice, Pipeline(Explaining(), Classifier()))
        found = session.known(photo, choice)
        assert isinstance(found, Analysis) and len(found.result.faces) == faces
        assert [box.into for box in found.merged] == list(range(faces))
        assert len(found.weak) == 3 - faces
    other = Session(SAMPLE)
    other.add([("a.png", data)])
    assert found.result.faces == analyzed(other, photo).result.faces[:1]


def test_a_detector_whose_own_score_is_below_the_floor_keeps_its_faces() -> None:
    detector, session = Detector(), Session(SAMPLE)
    detector.score_threshold = 0.01
    detector.proposed += (0.02,)
    session.add([("a.png", picture())])
    session.analyze(session.photos[0], CHOICE, Pipeline(detector, Classifier()))
    found = session.known(session.photos[0], CHOICE)
    assert isinstance(found, Analysis) and len(found.result.faces) == 4


def test_fresh_photos_are_asked_for_once_under_the_choice_last_shown() -> None:
    session = Session(SAMPLE)
    session.add([("a.png", picture())])
    assert session.take_fresh() is None  # nothing was shown yet
    session.choice = CHOICE
    assert session.take_fresh() is None
    session.add([("b.png", picture(shade=1))])
    assert session.take_fresh() == CHOICE
    assert session.take_fresh() is None


def test_analysed_or_cancelled_photos_are_not_wanted() -> None:
    session = Session(SAMPLE)
    session.add([("a.png", picture())])
    (photo,) = session.photos
    assert session.wants(photo, CHOICE)
    session.cancelled = CHOICE
    assert not session.wants(photo, CHOICE)
    assert session.wants(photo, Choice("one", "flat", "cpu", margin=0.5))
    session.cancelled = None
    analyzed(session, photo)
    assert not session.wants(photo, CHOICE)


def test_a_bad_file_is_remembered_with_its_cause() -> None:
    session = Session(SAMPLE)
    session.add([("cut.png", picture()[:40])])
    session.analyze(session.photos[0], CHOICE, pipeline())
    assert "truncated" in str(session.known(session.photos[0], CHOICE))


@pytest.mark.parametrize(
    ("mark", "cause"), [(TOO_LARGE, "is larger than 100 MB"), (TOO_MANY, "was not taken")]
)
def test_the_mark_of_a_refused_upload_is_told_as_its_cause(mark: bytes, cause: str) -> None:
    session = Session(SAMPLE)
    session.add([("large.jpg", mark)])
    session.analyze(session.photos[0], CHOICE, pipeline())
    assert cause in str(session.known(session.photos[0], CHOICE))


def test_a_cleared_session_keeps_nothing() -> None:
    session = Session(SAMPLE)
    session.add([("a.png", picture())])
    analyzed(session, session.photos[0])
    photo = session.photos[0]
    session.clear()
    assert session.photos == [] and session.photo_bytes == 0
    assert session.known(photo, CHOICE) == DROPPED
    assert len(session.renderings) == session.renderings.size == 0


def test_photos_that_come_later_stand_before_earlier_ones() -> None:
    session = Session(SAMPLE)
    for names in ("ab", "cd"):
        session.add((name, picture(shade=ord(name))) for name in names)
    assert [photo.name for photo in session.photos] == ["c", "d", "a", "b"]


def test_the_same_file_again_moves_to_the_front() -> None:
    session = Session(SAMPLE)
    for name in ("a.png", "b.png", "a.png"):
        session.add([(name, picture())])
    assert [photo.name for photo in session.photos] == ["a.png", "b.png"]
    assert session.photos[0].digest == session.photos[1].digest


def test_files_of_equal_names_are_numbered_and_keep_their_numbers() -> None:
    session = Session(SAMPLE)
    session.add(("x/a.b.png", picture(shade=shade)) for shade in range(3))
    names = ["x/a.b.png", "x/a.b (2).png", "x/a.b (3).png"]
    assert [photo.name for photo in session.photos] == names
    session.add([("x/a.b.png", picture(shade=1))])
    assert [photo.name for photo in session.photos] == [names[1], names[0], names[2]]
    session.add([(names[2], picture(shade=9))])
    assert session.photos[0].name == "x/a.b (3) (2).png"


def test_the_sample_is_shown_while_there_is_no_photo() -> None:
    session = Session(("sample.png", picture()))
    (sample,) = session.shown
    assert analyzed(session, sample).result.source == "sample.png"
    session.add([("a.png", picture(shade=1))])
    assert session.shown == session.photos and session.photo_bytes == len(picture(shade=1))
    session.remove(session.photos)
    assert session.shown == [sample] and session.read(sample).shape == (40, 60, 3)


def test_removed_photos_leave_nothing() -> None:
    session = Session(SAMPLE)
    for name, shade in (("a.png", 1), ("same.png", 1), ("b.png", 2)):
        session.add([(name, picture(shade=shade))])
        analyzed(session, session.photos[0])
    other, same, first = session.photos
    session.remove([other])
    assert isinstance(session.known(other, CHOICE), Analysis)  # until it cannot be had back
    session.remove([first])
    assert session.known(other, CHOICE) == DROPPED
    session.remove([same])
    session.forget_removed()
    assert len(session.small) == session.small.size == 0
    assert len(session.renderings) == session.renderings.size == 0
    assert session.known(same, CHOICE) == DROPPED


def test_removed_photos_can_be_had_back_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    session = Session(SAMPLE)
    for shade in (1, 2):
        session.add([(f"{shade}.png", picture(shade=shade))])
        session.correct(
            session.photos[0], CHOICE, analyzed(session, session.photos[0]).result, 1, "sad"
        )
    before = list(session.photos)
    session.remove(before)
    assert session.removed == before and session.photo_bytes > 0
    session.undo()
    assert session.photos == before and not session.removed and len(session.corrections) == 2
    assert all(isinstance(session.known(photo, CHOICE), Analysis) for photo in before)
    session.remove(before[:1])
    session.forget_removed(after=60.0)
    assert session.removed
    session.forget_removed(after=0.0)
    session.undo()
    assert session.photos == before[1:] and len(session.corrections) == 1
    session.remove(session.photos)
    session.add([("3.png", picture(shade=3))])
    session.undo()
    assert [photo.name for photo in session.photos] == ["3.png"]


def test_faces_stand_from_left_to_right_and_merged_boxes_follow() -> None:
    class Mirrored(Detector):
        def explain(
            self, image: np.ndarray, min_score: float | None = None
        ) -> tuple[list[Detection], list[Merged]]:
            found = [Detection(Box(x, 0, x + 9, 9), 0.9 - x / 100) for x in (0, 20, 10)]
            found.sort(key=lambda one: -one.score)
            found = [Detection(Box(40 - d.box.x1, 0, 49 - d.box.x1, 9), d.score) for d in found]
            return found, [Merged(found[0], 0)]

    session = Session(SAMPLE)
    session.add([("a.png", picture())])
    session.analyze(session.photos[0], CHOICE, Pipeline(Mirrored(), Classifier()))
    known = session.known(session.photos[0], CHOICE)
    assert isinstance(known, Analysis)
    assert [face.box.x1 for face in known.result.faces] == [20, 30, 40]
    assert known.merged[0].into == 2  # that of the highest score stands at the right


def test_a_correction_is_kept_changed_and_taken_back() -> None:
    session = Session(SAMPLE)
    session.add([("a.png", picture(shade=255))])
    photo = session.photos[0]
    result = analyzed(session, photo).result
    made = session.correct(photo, CHOICE, result, 2, "sad")
    assert made and (made.face, made.label, made.predicted) == (2, "sad", "happy")
    assert made.image_id == photo.digest and len(photo.digest) == 32
    session.correct(photo, CHOICE, result, 2, "not a face")
    assert session.corrected(photo, result) == {1: "not a face", 2: "not a face"}  # one box
    assert session.correct(photo, CHOICE, result, 2, "") is None
    assert session.corrected(photo, result) == {} == session.corrections


def test_settings_of_how_to_look_have_results_of_their_own() -> None:
    session, detector = Session(SAMPLE), Detector()
    session.add([("a.png", picture())])
    photo = session.photos[0]
    closer = Choice("one", "flat", "cpu", scope=Scope("full"))
    whole = Choice("one", "flat", "cpu", whole=True)
    for choice in (CHOICE, closer):
        session.analyze(photo, choice, Pipeline(detector, Classifier()))
    session.analyze(photo, whole, Pipeline(WholeImage(), Classifier()))
    assert detector.calls == 2
    assert len(analyzed(session, photo, CHOICE).result.faces) == 2
    found = session.known(photo, whole)
    assert isinstance(found, Analysis)
    assert [face.box.as_tuple() for face in found.result.faces] == [(0, 0, 60, 40)]


def test_photos_over_the_bound_drop_the_oldest_but_not_their_results(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = [picture(shade=shade, kind="BMP") for shade in range(6)]
    monkeypatch.setattr(sessions, "PHOTO_BYTES", 3 * len(data[0]))
    session = Session(SAMPLE)
    for index, content in enumerate(data):
        session.add([(f"{index}.bmp", content)])
        analyzed(session, session.photos[0])
    assert [session.holds(photo) for photo in session.photos] == [True] * 3 + [False] * 3
    old = session.photos[-1]
    assert isinstance(session.known(old, CHOICE), Analysis)
    assert session.known(old, Choice("other", "flat", "cpu")) == DROPPED
    session.add([("0.bmp", data[0])])
    assert session.photos[0] == old and session.holds(old)
    assert session.photos[-1].name == "1.bmp" and not session.holds(session.photos[-1])


def test_photos_that_wait_for_their_analysis_are_not_dropped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sessions, "PHOTO_BYTES", 1)
    session = Session(SAMPLE)
    session.add((f"{index}.png", picture(shade=index)) for index in range(5))
    assert all(session.holds(photo) for photo in session.photos)
    for photo in session.photos:
        assert analyzed(session, photo).result.faces
    assert [session.holds(photo) for photo in session.photos] == [True] + [False] * 4


def test_one_photo_larger_than_the_bound_is_still_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "PHOTO_BYTES", 10)
    session = Session(SAMPLE)
    session.add([("a.png", picture())])
    assert analyzed(session, session.photos[0]).result.faces


def test_renderings_dropped_from_the_cache_are_made_again() -> None:
    session = Session(SAMPLE)
    session.renderings.limit = session.small.limit = 1
    session.add([("a.png", picture(1500, 1000))])
    photo = session.photos[0]
    analysis = analyzed(session, photo)
    for _ in range(2):
        with Image.open(io.BytesIO(session.preview(photo))) as preview:
            assert preview.size == (1280, 853)
        crops = session.crops(photo, CHOICE, analysis.result)
        assert len(crops) == 2
        with Image.open(io.BytesIO(crops[0])) as crop:
            assert crop.size == (sessions.CARD_SIDE, sessions.CARD_SIDE)


@pytest.mark.parametrize("size", [(1, 1), (20_000, 3), (80, 60), (640, 400)])
def test_any_size_is_kept_at_a_bounded_one(size: tuple[int, int]) -> None:
    session = Session(SAMPLE)
    session.add([("a.png", picture(*size))])
    analysis = analyzed(session, session.photos[0])
    with Image.open(io.BytesIO(session.preview(session.photos[0]))) as preview:
        assert 640 <= max(preview.size) <= 1280
    with Image.open(
        io.BytesIO(session.crops(session.photos[0], CHOICE, analysis.result)[0])
    ) as crop:
        assert crop.width == crop.height <= sessions.CARD_SIDE


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 40)), max_size=60), st.integers(40, 90))
def test_a_cache_never_exceeds_its_limit_and_drops_the_least_recently_used(
    steps: list[tuple[int, int]], limit: int
) -> None:
    cache, model = Cache(limit), dict[int, int]()
    for key, size in steps:
        if size % 5 == 0 and key in model:  # a look-up
            assert cache.get(key) == model[key]
            model[key] = model.pop(key)
        else:
            cache.put(key, size, size)
            model.pop(key, None)
            model[key] = size
            while sum(model.values()) > limit:
                del model[next(iter(model))]
        assert cache.keys() == list(model)
        assert cache.size == sum(model.values()) <= limit
