"""What processes count together: the sums, and that they never fall."""

import multiprocessing
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess

import pytest

from service.common.tally import IN_FLIGHT, Tally
from service.operations.accounting import NOBODY, Answers, now_s

_SPAWN = multiprocessing.get_context("spawn")


def _count(tally: Tally, done: Connection) -> None:
    """Count one response in a block of this process, and live until killed."""
    tally.take_block()
    tally.own[200] += 1
    tally.own[IN_FLIGHT] = 1
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
    assert [block[200] for block in tally.blocks] == [1, 1]
    killed.kill()
    killed.join()
    assert (tally.total(200), len(tally.living())) == (2, 1)

    start(tally)
    assert [block[200] for block in tally.blocks] == [2, 1]
    assert [block[IN_FLIGHT] for block in tally.living()] == [1, 1]
    with pytest.raises(EOFError):  # this process has no block, and ends
        start(tally)


async def test_a_sum() -> None:
    """A process reports the sum of all, and adds to its own block."""
    tally, answers = Tally(2), Answers()
    tally.blocks[1][200] = tally.blocks[1][418] = 2
    answers.share(tally)
    answers.note(NOBODY, "GET /v1/books", 200, "", "r", now_s())
    family, *_ = answers.collect()
    counts = {sample.labels["status"]: sample.value for sample in family.samples}
    assert (counts["200"], counts["418"], counts["503"]) == (3, 2, 0)


def test_alone() -> None:
    """A single process shares its counts with no other."""
    one, other = Tally(), Tally()
    one.own[200] += 1
    assert (one.total(200), other.total(200)) == (1, 0)
