"""The one thread in which the models run."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from functools import partial

import pytest

from twostage.worker import Worker


@pytest.fixture
def worker() -> Iterator[Worker]:
    running = Worker()
    yield running
    running.close()


def test_work_of_several_threads_runs_one_at_a_time_in_the_order_of_asking(worker: Worker) -> None:
    order, busy, gate = list[int](), threading.Lock(), threading.Event()

    def work(number: int) -> None:
        assert busy.acquire(blocking=False)
        gate.wait(10)
        time.sleep(0.002)
        order.append(number)
        busy.release()

    threads = [threading.Thread(target=worker.run, args=(partial(work, n),)) for n in range(8)]
    for thread in threads:
        thread.start()
        time.sleep(0.005)
    gate.set()
    for thread in threads:
        thread.join()
    assert order == list(range(8))


def test_an_error_reaches_who_asked_and_the_worker_goes_on(worker: Worker) -> None:
    with pytest.raises(ZeroDivisionError):
        worker.run(lambda: 1 / 0)
    assert worker.run(lambda: 2) == 2


def test_an_interrupted_block_waits_for_work_that_has_begun(worker: Worker) -> None:
    begun, ended = threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        time.sleep(0.05)
        ended.set()

    with pytest.raises(KeyboardInterrupt), worker.submitted(work):
        begun.wait(10)
        raise KeyboardInterrupt
    assert ended.is_set()


def test_an_interrupted_block_drops_work_that_has_not_begun(worker: Worker) -> None:
    gate, ran = threading.Event(), threading.Event()
    with worker.submitted(partial(gate.wait, 10)) as other:
        with pytest.raises(KeyboardInterrupt), worker.submitted(ran.set):
            raise KeyboardInterrupt
        gate.set()
        assert other.result()
    assert worker.run(lambda: True) and not ran.is_set()
