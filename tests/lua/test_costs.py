"""The cost in a script's head is its cost at its bounds; the server counts the commands."""

import re

from service.common.resources import LUA_DIR
from service.engine.hot.fitness import check_server
from tests.harness.worst import CASES
from tests.harness.worst.large_shop import LargeShop
from tests.harness.worst.measuring import count_commands
from tests.lua.conftest import shop_on

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


async def test_scripts_run_as_many_commands_as_their_heads_allow(valkey_for_scripts: str) -> None:
    """In its worst cases a script runs no more commands than its head allows, and in one of them at least a sixth."""
    most: dict[str, int] = {}
    for case in CASES:
        async with shop_on("valkey", valkey_for_scripts, LargeShop) as shop:
            run = await case.prepare(shop, SIZE)
            await shop.ready(run)
            before = await count_commands(shop.link)
            reply = await shop.carry_out(run)
            count = await count_commands(shop.link) - before
        assert reply[0] in case.replies, (case, reply)
        assert case.script != "redo" or reply == [0]  # redo has skipped no event
        assert count <= most_commands(case.script), case
        most[case.script] = max(most.get(case.script, 0), count)
    assert [name for name, count in most.items() if count * 6 < most_commands(name)] == []


async def test_checks_of_the_server_are_not_counted(valkey_for_scripts: str) -> None:
    """A Link checks its server each second, perhaps while a script's commands are counted."""
    async with shop_on("valkey", valkey_for_scripts) as shop:
        before = await count_commands(shop.link)
        await check_server(shop.link.call)
        assert await count_commands(shop.link) == before


def test_every_script_has_its_worst_case() -> None:
    """Each script has a case in the table, and each head has its number of commands; `many` runs its requests'."""
    assert {case.script for case in CASES} == set(HEADS) - {"many"}
    assert all(most_commands(name) > 0 for name in HEADS)
