"""The service behind a real socket: clients that leave, stall or trickle; several processes."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from service import protocol
from tests.service.conftest import Listen, png
from tests.service.test_batching import Gate

ROOT = Path(__file__).parents[2]


def connect(address: str) -> socket.socket:
    place = urlsplit(address)
    return socket.create_connection((place.hostname, place.port), timeout=20)


def request(body: bytes) -> bytes:
    form = (
        b'--b\r\nContent-Disposition: form-data; name="image_buf"; filename="a"\r\n\r\n'
        + body
        + b"\r\n--b--\r\n"
    )
    head = (
        "POST /v1/predict HTTP/1.1\r\nHost: localhost\r\n"
        f"Content-Type: multipart/form-data; boundary=b\r\nContent-Length: {len(form)}\r\n\r\n"
    )
    return head.encode() + form


def waiting(address: str) -> float:
    text = httpx.get(f"{address}/metrics").text
    found = re.search(r"^twostage_waiting (\S+)$", text, re.MULTILINE)
    assert found is not None
    return float(found[1])


def eventually(address: str, count: float) -> None:
    for _ in range(400):
        if waiting(address) == count:
            return
        time.sleep(0.02)
    raise AssertionError(f"{waiting(address)} wait, not {count}")


def test_the_image_of_a_client_that_left_is_not_analysed(listen: Listen) -> None:
    gate = Gate()
    address = listen(detector=gate.detector)
    stays, leaves = connect(address), connect(address)
    stays.sendall(request(png()))
    assert gate.began.wait(20)
    leaves.sendall(request(png()))
    eventually(address, 1)
    leaves.close()
    eventually(address, 0)
    gate.opened.set()
    assert b"200 OK" in stays.recv(100)
    stays.close()
    assert gate.detector.calls == [1]


def test_a_body_that_trickles_gets_408(listen: Listen) -> None:
    address = listen(upload_seconds=0.5)
    with connect(address) as client:
        client.sendall(request(png())[:300])
        answer = client.recv(1000)
    assert b" 408 " in answer


def test_a_head_that_trickles_is_hung_up_on(
    listen: Listen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.4)
    address = listen()
    with connect(address) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: local")
        start = time.monotonic()
        assert client.recv(100) == b""
        assert time.monotonic() - start < 5
    assert httpx.get(f"{address}/v1/health/live").status_code == 200


def test_more_bytes_than_said_or_allowed_end_the_connection(listen: Listen) -> None:
    address = listen(max_bytes=100_000)
    with connect(address) as client:
        client.sendall(
            b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
            b"Content-Type: multipart/form-data; boundary=b\r\n\r\n"
        )
        piece = b"10000\r\n" + bytes(0x10000) + b"\r\n"
        answer = b""
        try:
            for _ in range(100):
                client.sendall(piece)
            answer = client.recv(1000)
        except (BrokenPipeError, ConnectionResetError):
            answer = answer or b" 413 "  # it was cut off while sending
    assert b" 413 " in answer or b" 400 " in answer
    assert httpx.get(f"{address}/v1/health/live").status_code == 200


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_several_processes_share_a_port_a_database_and_the_counts(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = ["serve", "--port", str(port), "--processes", "2", "--classifier", "fast"]
    words += ["--database", f"sqlite:///{tmp_path}/s.sqlite3"]
    process = subprocess.Popen(
        [sys.executable, "-m", "twostage", *words], cwd=ROOT, stderr=subprocess.DEVNULL
    )
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            assert process.poll() is None
            try:
                if httpx.get(f"{url}/v1/health").status_code == 200:
                    break
            except httpx.TransportError:
                pass
            time.sleep(0.2)
        for _ in range(6):  # each on a new connection
            answer = httpx.post(f"{url}/v1/predict", files={"image_buf": png()}, timeout=60)
            assert answer.status_code == 200
        assert httpx.get(f"{url}/v1/feedback/stats").json()["images"] == 6
        counted = 'twostage_requests_total{route="/v1/predict",status="200"} 6.0'
        assert counted in httpx.get(f"{url}/metrics").text
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
