"""What processes count together: the sums, and that they never fall."""

import tempfile
from collections.abc import Iterator
from typing import IO

import pytest

from service.common.tally import CPU_US, PID, Tally
from service.operations.accounting import NOBODY, Answers, now_s
from service.serving.resource_usage import ResourceUsage


@pytest.fixture
def file() -> Iterator[IO[bytes]]:
    """Where three blocks are kept."""
    with tempfile.TemporaryFile() as file:
        file.truncate(Tally.size_bytes(3))
        yield file


def _counts(answers: Answers) -> dict[str, float]:
    family, *_ = answers.collect()
    return {sample.labels["status"]: sample.value for sample in family.samples}


async def test_a_sum(file: IO[bytes]) -> None:
    """Each process reports the sum of all, and a process that takes over a block counts on."""
    processes: list[Answers] = []
    for block in (0, 1, 1):
        processes.append(Answers())
        processes[-1].share(Tally(3, block, file.fileno()))
        processes[-1].note(NOBODY, "GET /v1/books", 200, "", "r", now_s())
        processes[-1].note(NOBODY, "GET /v1/books", 418, "", "r", now_s())
    assert [_counts(answers)["200"] for answers in processes] == [3, 3, 3]
    assert [_counts(answers)["418"] for answers in processes] == [3, 3, 3]
    assert _counts(processes[0])["503"] == 0


def test_alone() -> None:
    """A single process shares its counts with no other."""
    one, other = Tally(), Tally()
    one.own[200] += 1
    assert (one.total(200), other.total(200)) == (1, 0)


def test_spending(file: IO[bytes]) -> None:
    """CPU time includes ended processes; memory and files are those of the living."""
    tally = Tally(3, 0, file.fileno())
    tally.own[CPU_US], tally.blocks[1][CPU_US] = 1_500_000, 250_000
    tally.blocks[1][PID] = 2**22 + 1  # no pid is as high
    families = {family.name: family.samples[0].value for family in ResourceUsage(tally).collect()}
    assert families == {"scrip_api_processes": 1, "process_cpu_seconds": 1.75}
