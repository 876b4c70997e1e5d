"""Random requests: what the OpenAPI description allows, and 500 broken ones; none gives a 5xx."""

from __future__ import annotations

import json
import random
import struct
from typing import Any

import pytest

from tests.service.conftest import Listen, Start, png


@pytest.fixture
def address(listen: Listen) -> str:
    """A service with stand-ins behind a real socket."""
    return listen(per_minute=0, seconds=20)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_service_keeps_to_its_description(address: str) -> None:
    schemathesis = pytest.importorskip("schemathesis")
    from hypothesis import HealthCheck, Phase, settings
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi.checks import (
        content_type_conformance,
        response_schema_conformance,
        status_code_conformance,
    )

    checks = [
        *(not_a_server_error, status_code_conformance),
        *(content_type_conformance, response_schema_conformance),
    ]
    schema = schemathesis.openapi.from_url(f"{address}/openapi.json")
    tried = set()
    for found in schema.get_all_operations():
        operation = found.ok()

        @settings(
            max_examples=40,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @(__import__("hypothesis").given(case=operation.as_strategy()))
        def check(case: Any) -> None:
            case.call_and_validate(checks=checks)

        check()
        tried.add(operation.path)
    assert len(tried) == 8


def broken(number: int) -> dict[str, Any]:
    """Return a request whose body is damaged, by its number."""
    pick = random.Random(number)
    boundary = b"----b"
    form = (
        b"------b\r\nContent-Disposition: form-data; name=\"image_buf\"; filename=\"a.png\"\r\n"
        b"Content-Type: image/png\r\n\r\n" + png(20, 20) + b"\r\n------b\r\n"
        b"Content-Disposition: form-data; name=\"threshold\"\r\n\r\n0.4\r\n------b--\r\n"
    )  # fmt: skip
    feedback = {"image_id": "0" * 32, "face_index": 1, "feedback": ["happy"]}
    kind, body = pick.choice(
        [
            (b"multipart/form-data; boundary=" + boundary, form),
            (b"application/json", json.dumps(feedback).encode()),
            (b"application/json", b'{"image_url": "http://127.0.0.1/a.jpg", "threshold": 0.3}'),
            (b"application/x-www-form-urlencoded", b"image_id=0&face_index=1&feedback=sad"),
        ]
    )
    damaged = bytearray(body)
    for _ in range(pick.randint(1, 12)):
        at = pick.randrange(len(damaged) or 1)
        match pick.randrange(4):
            case 0:
                damaged[at : at + 1] = bytes([pick.randrange(256)])
            case 1:
                del damaged[at : at + pick.randrange(1, 40)]
            case 2:
                damaged[at:at] = damaged[at : at + pick.randrange(1, 40)]
            case 3:
                words = [
                    b"\x00",
                    b"[[[",
                    b"1e999",
                    b"NaN",
                    b"\xff\xfe",
                    b"------b\r\n",
                    b"\r\n\r\n",
                ]
                damaged[at:at] = pick.choice(words)
    return {"content": bytes(damaged), "headers": {"Content-Type": kind.decode()}}


def test_400_broken_bodies_give_no_5xx(start: Start) -> None:
    client = start(per_minute=0)
    statuses: dict[int, int] = {}
    for number in range(400):
        path = "/v1/feedback" if number % 3 == 0 else "/v1/predict"
        answer = client.post(path, **broken(number))
        statuses[answer.status_code] = statuses.get(answer.status_code, 0) + 1
        assert answer.status_code < 500, (number, answer.text)
    assert {400, 422} <= set(statuses)


def damage(pick: random.Random, data: bytes) -> bytes:
    """Return data with a piece changed, lost or doubled; now and then whole."""
    at, length = pick.randrange(len(data) or 1), pick.randrange(1, 30)
    piece = data[at : at + length]
    changed = (bytes(pick.randrange(256) for _ in piece), b"", piece + piece, piece)
    return data[:at] + pick.choice(changed) + data[at + length :]


def test_100_streams_of_broken_messages_fail_nothing(start: Start) -> None:
    client = start(per_minute=0)
    before = client.get("/metrics").text.split("twostage_errors_total ")[1].split()[0]
    said: dict[str, int] = {}
    for number in range(100):
        pick = random.Random(number)
        greeting = {"threshold": 0.4, "follow": pick.random() < 0.5, "min_face": 20}
        first = json.dumps(greeting).encode()
        if pick.random() < 0.4:
            first = damage(pick, first)
        with client.websocket_connect("/v1/stream", headers={"host": "localhost"}) as socket:
            socket.send_text(first.decode("utf-8", "replace"))
            for turn in range(4):
                frame = struct.pack(">d", turn) * greeting["follow"] + png(20, 20)
                if pick.random() < 0.1:
                    socket.send_text("a frame")
                else:
                    socket.send_bytes(damage(pick, frame))
                message = socket.receive()
                if message["type"] == "websocket.close":
                    break
                answer = json.loads(message.get("bytes") or message["text"])
                kind = "detail" if "detail" in answer else "faces"
                said[kind] = said.get(kind, 0) + 1
    assert said["detail"] > 50 and said["faces"] > 50
    errors = client.get("/metrics").text.split("twostage_errors_total ")[1].split()[0]
    assert errors == before
    assert client.post("/v1/predict", files={"image_buf": png()}).status_code == 200
