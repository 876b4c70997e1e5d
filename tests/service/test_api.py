"""The routes of the service, with stand-ins for the models."""

from __future__ import annotations

import base64
import io
import json
import math
import struct
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from faces.pipeline import Pipeline
from faces.scope import Scope
from faces.sinks import result_to_dict
from faces.types import Box, Detection
from service.database import Database
from service.tables import Face
from service.tables import Image as Row
from tests.service.conftest import Start, png
from tests.stand_ins import ScriptedClassifier, ScriptedDetector, probabilities
from video.mood import Smoother
from video.tables import ROW_COLUMNS


def files(*contents: bytes) -> list[tuple[str, tuple[str, bytes]]]:
    return [("image_buf", (f"{n}.png", data)) for n, data in enumerate(contents)]


def test_predict_answers_what_analyze_writes_and_ids(start: Start, image: bytes) -> None:
    client = start()
    answer = client.post("/v1/predict", files={"image_buf": ("a.png", image)})
    assert answer.status_code == 200
    (found,) = answer.json()["results"]
    pipeline = Pipeline(ScriptedDetector(), ScriptedClassifier())
    expected = result_to_dict(pipeline.analyze(image, "a.png"))
    assert len(found.pop("image_id")) == 32
    assert [face.pop("face_index") for face in found["faces"]] == [1, 2]
    assert found | {"seconds": 0} == expected | {"seconds": 0}


def test_predict_takes_several_files_and_names_the_unreadable_one(
    start: Start, image: bytes
) -> None:
    answer = start().post("/v1/predict", files=files(image, b"no image", png(30)))
    assert answer.status_code == 200
    first, second, third = answer.json()["results"]
    assert [first["source"], second["source"], third["source"]] == ["0.png", "1.png", "2.png"]
    assert "image" in second["error"] and "faces" not in second
    assert (first["width"], third["width"]) == (64, 30)
    assert first["image_id"] != third["image_id"]


def test_predict_refuses_when_no_image_can_be_read(start: Start) -> None:
    answer = start().post("/v1/predict", files=files(b"no image"))
    assert answer.status_code == 422
    assert "not an image" in answer.json()["detail"]


def test_options_annotate_crop_threshold(start: Start, image: bytes) -> None:
    classifier = ScriptedClassifier(probabilities(happy=0.45, sad=0.35))
    client = start(classifier=classifier)
    options = {"annotate_image": "true", "crop_image": "1", "threshold": "happy=0.5,sad=0.2"}
    (found,) = client.post("/v1/predict", files=files(image), data=options).json()["results"]
    assert [face["labels"] for face in found["faces"]] == [["sad"], ["sad"]]
    assert Image.open(io.BytesIO(base64.b64decode(found["annotated"]))).size == (64, 48)
    crop = Image.open(io.BytesIO(base64.b64decode(found["faces"][0]["crop"])))
    assert crop.size == (25, 25)  # TWO_FACES's first box is 20×25


def test_detail_and_min_face_reach_the_detector(start: Start, image: bytes) -> None:
    class Scaling(ScriptedDetector):
        def with_scope(self, scope: Scope) -> Scaling:
            other = Scaling()
            other.scope = scope
            return other

        scope = Scope("full", 99)

        def smallest_face(self, width: int, height: int) -> float:
            return self.scope.min_face

    client = start(detector=Scaling())
    for data, smallest in (({}, 12), ({"min_face": "24", "detail": "fast"}, 24)):
        (found,) = client.post("/v1/predict", files=files(image), data=data).json()["results"]
        assert found["smallest_face"] == smallest
    for data in ({"min_face": "1"}, {"detail": "slow"}):
        assert client.post("/v1/predict", files=files(image), data=data).status_code == 422


def test_no_detector_takes_the_image_as_one_face(start: Start, image: bytes) -> None:
    classifier = ScriptedClassifier()
    answer = start(classifier=classifier).post(
        "/v1/predict", files=files(image), data={"no_detector": "true"}
    )
    (face,) = answer.json()["results"][0]["faces"]
    assert face["box"] == [0, 0, 64, 48] and face["score"] == 1
    assert classifier.crops[0].shape == (64, 64, 3)


def test_feedback_of_a_sender_replaces_the_one_before(start: Start, image: bytes) -> None:
    client = start()
    image_id = client.post("/v1/predict", files=files(image)).json()["results"][0]["image_id"]
    said = {"image_id": image_id, "face_index": 2, "feedback": "joy"}
    for feedback in ("joy", "joy", ["sad", "fear"]):
        answer = client.post("/v1/feedback", json=said | {"feedback": feedback})
        assert answer.status_code == 200
    assert answer.json()["feedback"] == ["fear", "sad"]
    client.post("/v1/feedback", json=said | {"sender": "anna"})
    client.post("/v1/feedback", data=said | {"face_index": "1", "feedback": "not a face"})
    assert client.get("/v1/feedback/stats").json() == {
        **{"images": 1, "faces": 2, "feedback": 3, "senders": 2},
        "emotions": {"fear": 1, "happy": 1, "not a face": 1, "sad": 1},
    }


@pytest.mark.parametrize(
    ("change", "status", "words"),
    [
        ({"face_index": 3}, 404, "no such face"),
        ({"face_index": 0}, 422, "face_index"),
        ({"image_id": "0" * 32}, 404, "no such face"),
        ({"image_id": "../../etc/passwd"}, 422, "image_id"),
        ({"feedback": "grumpy"}, 422, "feedback"),
        ({"feedback": ["happy", "not a face"]}, 422, "stands alone"),
        ({"feedback": []}, 422, "feedback"),
        ({"extra": 1}, 422, "field"),
    ],
)
def test_wrong_feedback_is_refused(
    start: Start, image: bytes, change: dict[str, object], status: int, words: str
) -> None:
    client = start()
    image_id = client.post("/v1/predict", files=files(image)).json()["results"][0]["image_id"]
    said = {"image_id": image_id, "face_index": 1, "feedback": "happy"}
    answer = client.post("/v1/feedback", json=said | change)
    assert answer.status_code == status
    assert words in answer.json()["detail"]


def test_delete_forgets_the_image_and_its_feedback(start: Start, image: bytes) -> None:
    client = start()
    image_id = client.post("/v1/predict", files=files(image)).json()["results"][0]["image_id"]
    client.post("/v1/feedback", json={"image_id": image_id, "face_index": 1, "feedback": "sad"})
    assert client.delete(f"/v1/images/{image_id}").status_code == 204
    assert client.delete(f"/v1/images/{image_id}").status_code == 404
    stats = client.get("/v1/feedback/stats").json()
    assert (stats["images"], stats["faces"], stats["feedback"]) == (0, 0, 0)


@pytest.mark.parametrize("keep", ["none", "feedback", "all"])
def test_keep_decides_what_the_database_holds(
    start: Start, image: bytes, tmp_path: Path, keep: str
) -> None:
    client = start(keep=keep)
    answer = client.post("/v1/predict", files={"image_buf": ("private name.png", image)})
    assert f"keep={keep}" in answer.headers["X-Twostage-Privacy"]
    image_id = answer.json()["results"][0]["image_id"]
    client.post("/v1/feedback", json={"image_id": image_id, "face_index": 1, "feedback": "sad"})
    database = Database(f"sqlite:///{tmp_path}/service.sqlite3")
    database.clean_up(90, now=time.time() + 25 * 3600)
    with_feedback, without = crops_of(database, image_id)
    assert with_feedback == (keep != "none")
    assert without == (keep == "all")
    stored = b"".join(path.read_bytes() for path in tmp_path.glob("service.sqlite3*"))
    assert (image[:200] in stored) == (keep == "all")
    assert b"private name" not in stored


def crops_of(database: Database, image_id: str) -> list[bool]:
    from sqlalchemy import select
    from sqlalchemy.orm import Session

    with Session(database._engine) as session:
        query = select(Face.crop).where(Face.image_id == image_id).order_by(Face.number)
        return [crop is not None for crop in session.scalars(query)]


def test_after_the_retention_period_nothing_is_left(
    start: Start, image: bytes, tmp_path: Path
) -> None:
    client = start(retain_days=10)
    client.post("/v1/predict", files=files(image))
    database = Database(f"sqlite:///{tmp_path}/service.sqlite3")
    assert database.clean_up(10, now=time.time() + 9 * 86400) == 0
    assert database.clean_up(10, now=time.time() + 11 * 86400) == 1
    assert client.get("/v1/feedback/stats").json()["images"] == 0


def test_models_health_and_metrics(start: Start, image: bytes) -> None:
    client = start()
    listing = client.get("/v1/models").json()
    assert listing["detectors"][0]["name"] == "mobilenet_fpn" and listing["detectors"][0]["default"]
    assert client.get("/v1/health/live").json() == {"status": "live"}
    client.post("/v1/predict", files=files(image))
    assert client.get("/v1/health").json() == {"status": "ready"}
    text = client.get("/metrics").text
    assert 'twostage_requests_total{route="/v1/predict",status="200"}' in text
    for stage in ("queue", "read", "detect", "classify", "total"):
        assert f'twostage_stage_seconds_count{{stage="{stage}"}}' in text


def test_stream_answers_frames_with_results_and_keeps_nothing(start: Start, image: bytes) -> None:
    client = start()
    with client.websocket_connect("/v1/stream", headers={"host": "localhost"}) as socket:
        socket.send_text(json.dumps({"threshold": 0.5}))
        for data, key in ((image, "faces"), (b"no image", "detail"), (image, "faces")):
            socket.send_bytes(data)
            assert key in json.loads(socket.receive_bytes())
    assert client.get("/v1/feedback/stats").json()["images"] == 0


def test_a_failing_model_answers_500_without_its_words(start: Start, image: bytes) -> None:
    def fail(image: np.ndarray) -> list[Detection]:
        raise RuntimeError("/secret/path of the weights")

    answer = start(detector=ScriptedDetector(fail)).post("/v1/predict", files=files(image))
    assert answer.status_code == 500
    assert answer.json() == {"detail": "the service failed; try again"}


def test_one_bad_image_does_not_fail_those_in_its_batch(start: Start) -> None:
    def fail_on_small(image: np.ndarray) -> list[Detection]:
        if image.shape[1] < 20:
            raise RuntimeError("too small")
        return [Detection(Box(1, 1, 5, 5), 0.9)]

    client = start(detector=ScriptedDetector(fail_on_small))
    assert client.post("/v1/predict", files=files(png(30), png(10))).status_code == 500
    assert client.post("/v1/predict", files=files(png(30))).status_code == 200


def test_the_description_names_every_route(start: Start) -> None:
    described = start().get("/openapi.json").json()
    assert set(described["paths"]) == {
        "/v1/predict",
        "/v1/feedback",
        "/v1/feedback/stats",
        "/v1/images/{image_id}",
        "/v1/models",
        "/v1/health",
        "/v1/health/live",
        "/v1/health/ready",
    }


def test_stored_rows_say_which_models_and_weights(
    start: Start, image: bytes, tmp_path: Path
) -> None:
    from sqlalchemy import select
    from sqlalchemy.orm import Session

    start().post("/v1/predict", files=files(image))
    database = Database(f"sqlite:///{tmp_path}/service.sqlite3")
    with Session(database._engine) as session:
        row = session.scalars(select(Row)).one()
        assert (row.detector, row.classifier) == ("mobilenet_fpn", "blend")
        assert set(row.weights) == {"mobilenet_fpn", "blend"}
        assert row.options["threshold"] == 0.3


def test_a_followed_stream_answers_the_rows_of_videos(start: Start) -> None:
    happy = 0.9
    classifier = ScriptedClassifier(lambda crop: probabilities(happy=happy))
    client = start(classifier=classifier)
    with client.websocket_connect("/v1/stream", headers={"host": "localhost"}) as socket:

        def answer(time: float, data: bytes) -> dict[str, Any]:
            socket.send_bytes(struct.pack(">d", time) + data)
            found: dict[str, Any] = json.loads(socket.receive_bytes())
            return found

        socket.send_text(json.dumps({"follow": True, "source": "camera:0"}))
        first = answer(0.0, png())
        assert [tuple(row) for row in first["faces"]] == [tuple(ROW_COLUMNS)] * 2
        assert [row["track"] for row in first["faces"]] == [1, 2]
        # as `twostage video` smooths
        happy = 0.1
        row = answer(0.1, png())["faces"][0]
        assert row["happy"] == pytest.approx(0.1)
        alone = Smoother()
        alone.update(probabilities(happy=0.9), 0.0)
        expected = alone.update(probabilities(happy=0.1), 0.1)["happy"]
        assert row["smoothed_happy"] == pytest.approx(expected, abs=1e-5)
        assert 0.1 < expected < 0.9
        for time in (-1.0, math.nan, math.inf, 1e300):
            assert "time" in answer(time, png())["detail"]
        socket.send_bytes(b"short")
        assert "time" in json.loads(socket.receive_bytes())["detail"]
        assert "not an image" in answer(0.2, b"no image")["detail"]
        assert answer(0.3, png())["faces"][0]["track"] == 1
        assert answer(0.0, png())["faces"][0]["smoothed_happy"] == 0.1  # it started over
    assert client.get("/v1/feedback/stats").json()["images"] == 0


@pytest.mark.parametrize("first", ["[]", "{}}", '{"follow": 3}', '{"source": 1}', '{"who": 1}'])
def test_a_stream_with_a_wrong_first_message_says_why_and_ends(start: Start, first: str) -> None:
    with start().websocket_connect("/v1/stream", headers={"host": "localhost"}) as socket:
        socket.send_text(first)
        assert json.loads(socket.receive_text())["detail"]
        assert socket.receive()["type"] == "websocket.close"


def test_the_live_page_shows_what_it_was_told(start: Start, tmp_path: Path) -> None:
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(b"0123456789")
    client = start(live={"source": str(clip), "overlay": "emoji", "options": {"min_face": 20}})
    told = client.get("/live/settings").json()
    assert (told["source"], told["overlay"], told["every"]) == ("clip.mp4", "emoji", 0)
    assert told["columns"] == list(ROW_COLUMNS) and told["options"] == {"min_face": 20}
    part = client.get("/live/source", headers={"Range": "bytes=2-4"})
    assert (part.status_code, part.content) == (206, b"234")
    glyph = client.get("/live/emoji/happy.png")
    assert Image.open(io.BytesIO(glyph.content)).mode == "RGBA"
    assert client.get("/live/emoji/..%2Fhappy.png").status_code == 404
    assert client.get("/live/emoji/joy.png").status_code == 404


def test_a_service_shows_no_file(start: Start) -> None:
    client = start(token="correct horse battery staple")
    assert client.get("/live/source").status_code == 404
    assert client.get("/live/settings").json()["source"] == ""
