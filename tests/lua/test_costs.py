"""What a script's head says that it costs is what it costs at its bounds: commands are counted by the server."""

import re
from collections.abc import AsyncIterator

import pytest
import redis

from loadtests.worst.ground import Ground
from loadtests.worst.measuring import commands
from loadtests.worst.table import CASES, Case
from service.common.resources import LUA_DIR
from service.hot.connection import Link

HEADS = {path.stem: path.read_text().split("]]", 1)[0] for path in sorted(LUA_DIR.glob("*.lua"))}
SIZE = 3_000
"""Of what nothing bounds: with more of it no more commands are run."""


def most_commands(name: str) -> int:
    """What the head allows: so many, some for each of at most so many things, and some more."""
    cost = " ".join(HEADS[name].rpartition("\nCost  ")[2].split()).replace(",", "")
    (least,) = re.findall(r"at most (\d+) commands?\b", cost)
    each = re.findall(r"\b(\d+) for each of at most (\d+)\b", cost)
    more = re.findall(r"\b(\d+) more\b", cost)
    return int(least) + sum(int(some) * int(things) for some, things in each) + sum(map(int, more))


@pytest.fixture
async def ground(valkey_for_scripts: str) -> AsyncIterator[Ground]:
    """A shop without a bound to it."""
    with redis.Redis.from_url(valkey_for_scripts) as client:
        client.flushdb()
    link = Link(valkey_for_scripts, "tests")
    await link.start()
    yield await Ground(link).open()
    await link.stop()


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.script}: {case.bound.format(size='many')}")
async def test_a_script_runs_as_many_commands_as_its_head_says(ground: Ground, case: Case) -> None:
    """In the worst case that there is, it runs no more commands than its head allows."""
    run = await case.prepare(ground, SIZE)
    await ground.ready(run)
    before = await commands(ground)
    reply = await ground.carry_out(run)
    assert reply[0] in case.replies, reply
    assert case.script != "redo" or reply == [0]  # none was left out
    assert await commands(ground) - before <= most_commands(case.script)


async def test_no_head_allows_far_more_than_is_run(ground: Ground) -> None:
    """Of each script some case runs at least a sixth of what its head allows: so that heads stay true."""
    ran: dict[str, int] = {}
    for case in CASES:
        await ground.link.call("FLUSHALL")
        shop = await Ground(ground.link).open()
        run = await case.prepare(shop, SIZE)
        await shop.ready(run)
        before = await commands(shop)
        await shop.carry_out(run)
        ran[case.script] = max(ran.get(case.script, 0), await commands(shop) - before)
    assert [name for name, count in ran.items() if count * 6 < most_commands(name)] == []


def test_every_script_has_its_worst_case() -> None:
    """Each script has a case in the table, and each head says how many commands it runs."""
    assert {case.script for case in CASES} == set(HEADS)
    assert all(most_commands(name) > 0 for name in HEADS)
