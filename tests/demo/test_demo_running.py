"""The one thread in which the models run."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from demo import controls
from demo.analysis import in_turn, submitted


@pytest.fixture(autouse=True)
def worker(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with ThreadPoolExecutor(1) as pool:
        monkeypatch.setattr(controls, "worker", lambda: pool)
        yield


def test_work_comes_one_at_a_time_in_the_order_of_asking() -> None:
    order, busy, gate = list[int](), threading.Lock(), threading.Event()

    def work(number: int) -> None:
        assert busy.acquire(blocking=False)
        gate.wait(10)
        time.sleep(0.002)
        order.append(number)
        busy.release()

    threads = [threading.Thread(target=in_turn, args=(partial(work, n),)) for n in range(8)]
    for thread in threads:
        thread.start()
        time.sleep(0.005)
    gate.set()
    for thread in threads:
        thread.join()
    assert order == list(range(8))


def test_an_error_is_the_askers_and_ends_nothing() -> None:
    with pytest.raises(ZeroDivisionError):
        in_turn(lambda: 1 / 0)
    assert in_turn(lambda: 2) == 2


def test_a_script_that_is_stopped_waits_for_its_photo() -> None:
    begun, ended = threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        time.sleep(0.05)
        ended.set()

    with pytest.raises(KeyboardInterrupt), submitted(work):
        begun.wait(10)
        raise KeyboardInterrupt
    assert ended.is_set()


def test_a_script_that_is_stopped_does_not_wait_for_those_before_it() -> None:
    gate, ran = threading.Event(), threading.Event()
    other = controls.worker().submit(gate.wait, 10)
    with pytest.raises(KeyboardInterrupt), submitted(ran.set):
        raise KeyboardInterrupt
    gate.set()
    assert other.result()
    assert in_turn(lambda: True) and not ran.is_set()
