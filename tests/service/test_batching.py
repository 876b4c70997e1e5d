"""The queue before the models: batches, bounds, cancelling, closing."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from faces.images import ImageError
from faces.pipeline import Pipeline
from service.batching import Batcher, BusyError
from service.models import Choice
from tests.service.conftest import Start, png
from tests.stand_ins import TWO_FACES, ScriptedClassifier, ScriptedDetector


class Gate:
    """A pipeline whose detector waits until the test opens it."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.began = threading.Event()
        self.detector = ScriptedDetector(self._answer)
        self.classifier = ScriptedClassifier()

    def _answer(self, image: Any) -> Any:
        self.began.set()
        assert self.opened.wait(20)
        return TWO_FACES

    def pipeline(self, choice: Choice) -> Pipeline:
        return Pipeline(self.detector, self.classifier)


def run(gate: Gate, test: Callable[[Batcher], Awaitable[None]], waiting: int = 8) -> None:
    async def whole() -> None:
        batcher = Batcher(gate.pipeline, max_waiting=waiting, max_batch=4, max_pixels=100_000)
        try:
            await test(batcher)
        finally:
            gate.opened.set()
            await batcher.close()

    asyncio.run(whole())


ONE = [("a.png", png())]


def test_what_waits_runs_together_all_crops_in_one_call() -> None:
    gate = Gate()

    async def test(batcher: Batcher) -> None:
        first = batcher.submit(ONE, Choice())
        await asyncio.to_thread(gate.began.wait, 20)
        rest = [batcher.submit(ONE, Choice())[0] for _ in range(6)]
        gate.opened.set()
        results = await asyncio.gather(*first, *rest)
        assert [len(one.result.faces) for one in results] == [2] * 7

    run(gate, test)
    assert gate.detector.calls == [1, 4, 2]
    assert gate.classifier.calls == [2, 8, 4]


def test_a_full_queue_refuses() -> None:
    gate = Gate()

    async def test(batcher: Batcher) -> None:
        batcher.submit(ONE, Choice())
        await asyncio.to_thread(gate.began.wait, 20)
        waiting = batcher.submit(ONE * 3, Choice())
        with pytest.raises(BusyError):
            batcher.submit(ONE, Choice())
        assert batcher.full
        waiting[0].cancel()  # who leaves makes room
        assert not batcher.full
        batcher.submit(ONE, Choice())

    run(gate, test, waiting=3)


def test_cancelled_requests_are_not_computed() -> None:
    gate = Gate()

    async def test(batcher: Batcher) -> None:
        batcher.submit(ONE, Choice())
        await asyncio.to_thread(gate.began.wait, 20)
        left = batcher.submit(ONE * 2, Choice())
        (stays,) = batcher.submit(ONE, Choice())
        for answer in left:
            answer.cancel()
        gate.opened.set()
        await stays

    run(gate, test)
    assert gate.detector.calls == [1, 1]


def test_requests_of_another_choice_have_a_batch_of_their_own() -> None:
    gate = Gate()

    async def test(batcher: Batcher) -> None:
        batcher.submit(ONE, Choice())
        await asyncio.to_thread(gate.began.wait, 20)
        answers = [batcher.submit(ONE, Choice(min_face=size))[0] for size in (12, 24, 12, 24, 24)]
        gate.opened.set()
        await asyncio.gather(*answers)

    run(gate, test)
    assert gate.detector.calls == [1, 2, 3]


def test_an_unreadable_or_too_large_image_fails_alone() -> None:
    gate = Gate()
    gate.opened.set()

    async def test(batcher: Batcher) -> None:
        images = [("a", png()), ("b", b"no image"), ("c", png(1000, 101)), ("d", png())]
        outcomes = await asyncio.gather(*batcher.submit(images, Choice()), return_exceptions=True)
        assert [isinstance(one, ImageError) for one in outcomes] == [False, True, True, False]

    run(gate, test)


def test_a_batch_is_split_where_its_pixels_are_too_many() -> None:
    gate = Gate()
    gate.opened.set()

    async def test(batcher: Batcher) -> None:
        await asyncio.gather(*batcher.submit([("a", png(300, 300))] * 2, Choice()))

    run(gate, test)
    assert gate.detector.calls == [1, 1]


def test_closing_finishes_what_waits_and_takes_nothing_more() -> None:
    gate = Gate()

    async def test(batcher: Batcher) -> None:
        answers = batcher.submit(ONE * 2, Choice())
        gate.opened.set()
        await batcher.close()
        assert all(answer.done() for answer in answers)
        with pytest.raises(BusyError):
            batcher.submit(ONE, Choice())

    async def whole() -> None:
        await test(Batcher(gate.pipeline, max_waiting=8, max_batch=4, max_pixels=10**6))

    asyncio.run(whole())


def test_a_full_service_answers_503_with_retry_after(start: Start) -> None:
    gate = Gate()
    client = start(detector=gate.detector, max_waiting=1, max_batch=1)
    threads = [
        threading.Thread(
            target=client.post, args=("/v1/predict",), kwargs={"files": {"image_buf": ONE[0]}}
        )
        for _ in range(2)
    ]
    threads[0].start()
    assert gate.began.wait(20)
    threads[1].start()
    for _ in range(200):
        answer = client.get("/metrics").text
        if "twostage_waiting 1.0" in answer:
            break
    refused = client.post("/v1/predict", files={"image_buf": ONE[0]})
    gate.opened.set()
    for thread in threads:
        thread.join()
    assert refused.status_code == 503 and int(refused.headers["Retry-After"]) > 0


def test_a_request_beyond_its_time_gets_504(start: Start) -> None:
    gate = Gate()
    client = start(detector=gate.detector, seconds=0.3)
    answer = client.post("/v1/predict", files={"image_buf": ONE[0]})
    gate.opened.set()
    assert answer.status_code == 504
