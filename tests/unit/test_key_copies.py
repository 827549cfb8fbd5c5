"""Copies of keys, many at once."""

import asyncio
from collections.abc import Sequence

from service.hot.key_copies import KEYS_A_RUN, RUNS_AT_ONCE, _run_all
from tests.waiting import wait_until


async def test_a_slow_run_does_not_delay_the_others() -> None:
    """While one run waits for the server, the others go on: RUNS_AT_ONCE in all, and each name once."""
    names = [str(number) for number in range(3 * RUNS_AT_ONCE * KEYS_A_RUN + 1)]
    done, in_flight, most, answers = list[str](), 0, 0, asyncio.Event()

    async def run(some: Sequence[str]) -> None:
        nonlocal in_flight, most
        in_flight += 1
        most = max(most, in_flight)
        await (answers.wait() if some[0] == "0" else asyncio.sleep(0))
        in_flight -= 1
        done.extend(some)

    copying = asyncio.create_task(_run_all(names, run, RUNS_AT_ONCE))
    await wait_until(lambda: len(done) == len(names) - KEYS_A_RUN)
    answers.set()
    await copying
    assert sorted(done) == sorted(names)
    assert most == RUNS_AT_ONCE
