"""What processes count together: the sums, and that they never fall."""

import multiprocessing
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess

import pytest

from service.common.tally import IN_FLIGHT, MAX_NAMES, Tally
from service.server.answers.accounting import NOBODY, Answers, now_s
from service.serving.request_metrics import RequestMetrics

_SPAWN = multiprocessing.get_context("spawn")
_NAME = ("requests", "GET /v1/books")


def _count(tally: Tally, done: Connection) -> None:
    """Count one response in a block of this process, and live until killed."""
    tally.take_block()
    tally.own.add(_NAME)
    tally.own.cells[IN_FLIGHT] = 1
    done.send(None)
    done.recv()


@pytest.fixture
def start() -> Iterator[Callable[[Tally], SpawnProcess]]:
    """Start a process that has counted one response."""
    started: list[SpawnProcess] = []

    def start(tally: Tally) -> SpawnProcess:
        ours, its = _SPAWN.Pipe()
        started.append(process := _SPAWN.Process(target=_count, args=(tally, its), daemon=True))
        process.start()
        its.close()
        ours.recv()
        kept.append(ours)
        return process

    kept: list[Connection] = []
    yield start
    for process in started:
        process.kill()
        process.join()


def test_processes(start: Callable[[Tally], SpawnProcess]) -> None:
    """Each process has a block of its own. The one that replaces a killed process continues its counts."""
    tally = Tally(2)
    killed, _ = start(tally), start(tally)
    assert [dict(block.counts()) for block in tally.blocks] == [{_NAME: 1}, {_NAME: 1}]
    killed.kill()
    killed.join()
    assert (tally.counts()[_NAME], len(tally.living()), tally.total(IN_FLIGHT)) == (2, 1, 1)

    start(tally)
    assert [dict(block.counts()) for block in tally.blocks] == [{_NAME: 2}, {_NAME: 1}]
    assert tally.total(IN_FLIGHT) == 2
    with pytest.raises(EOFError):  # this process has no block, and ends
        start(tally)


async def test_a_sum() -> None:
    """A process reports the sum of all, and adds to its own block."""
    tally, answers = Tally(2), Answers()
    tally.blocks[1].add(("requests", "GET /v1/coupons/{code}", "none", "2xx", "ok"), 2)
    answers.share(tally)
    answers.note(NOBODY, "GET /v1/coupons/{code}", 200, "", "r", now_s())
    requests, *_ = RequestMetrics(answers).collect()
    assert [sample.value for sample in requests.samples] == [3]
    assert (len(list(tally.blocks[0].counts())), len(list(tally.blocks[1].counts()))) == (1, 1)


def test_alone() -> None:
    """A single process shares its counts with no other."""
    one, other = Tally(), Tally()
    one.own.add(_NAME)
    assert (one.counts()[_NAME], other.counts()[_NAME]) == (1, 0)


def test_too_many_names() -> None:
    """Counters beyond the bound, and those of long names, count as `other`."""
    tally = Tally()
    for number in range(MAX_NAMES):
        tally.own.add(("requests", str(number), "ok"))
    tally.own.add(("requests", "x" * 200, "ok"))
    counts = tally.counts()
    assert len(counts) < MAX_NAMES
    assert (counts["requests", "0", "ok"], sum(counts.values())) == (1, MAX_NAMES + 1)
    assert counts["requests", "other", "other"] > 1
