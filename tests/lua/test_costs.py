"""The cost in a script's head is its cost at its bounds; the server counts the commands."""

import re
from collections.abc import Mapping

import pytest

from service.common.resources import LUA_DIR
from service.engine.formats import key_names
from service.engine.hot.fitness import check_server
from service.engine.hot.scripts import JOINED
from service.engine.operations.table import ROWS
from service.server.reconcile.examination import pair_up
from tests.harness.worst import CASES
from tests.harness.worst.crowds import ARGUMENTS, BOUNDED, CROWDS, LOCKS, crowd, keys_to_crowd
from tests.harness.worst.large_shop import METER, LargeShop
from tests.harness.worst.measured import WORST_CPU_MS
from tests.harness.worst.measuring import count_commands
from tests.lua.conftest import shop_on

HEADS = {path.stem: path.read_text().split("]]", 1)[0] for path in sorted(LUA_DIR.glob("*.lua"))}
SIZE = 3_000
"""Of what nothing bounds: with more of it no more commands are run."""
CROWD = 2_500
"""More than any script reads of one hash or set."""


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
        assert case.script != "apply_events" or reply == [0]  # it has skipped no event
        assert count <= most_commands(case.script), case
        most[case.script] = max(most.get(case.script, 0), count)
    assert [name for name, count in most.items() if count * 6 < most_commands(name)] == []


class MeteredShop(LargeShop):
    is_metered = True


PAGED = {"count_storage": 11 * 16}
"""Scripts that read a page of a large hash: HSCAN returns some more than it is told, by chance; their commands."""


@pytest.mark.parametrize("locks", ["past", "later"])
async def test_no_cost_grows_with_what_a_tenant_can_add(valkey_for_scripts: str, locks: str) -> None:
    """With four times as much in each bucket, hash and set no script runs more commands or reads more bytes."""
    for case in CASES:
        costs: list[Mapping[str, int]] = []
        for size in (CROWD, 4 * CROWD):
            async with shop_on("valkey", valkey_for_scripts, MeteredShop) as shop:
                run = await case.prepare(shop, SIZE)
                await shop.ready(run)
                keys = await keys_to_crowd(shop, run)
                if locks == "later" and not LOCKS & keys.keys():
                    break
                await crowd(shop, keys.values(), size, locks=locks)
                await shop.link.call("DEL", METER)
                await shop.carry_out(run)
                costs.append({name: int(n) for name, n in pair_up(await shop.link.call("HGETALL", METER)).items()})
        if costs:
            one, four = costs
            paged = PAGED.get(case.script, 0)
            assert four["commands"] <= one["commands"] + 4 + paged, (case, keys)
            assert four["bytes"] <= one["bytes"] * 1.05 + 200 + 20 * paged, (case, keys)


def test_each_kind_of_key_is_a_variable_or_bounded() -> None:
    """A kind of key can be crowded, or it is named why a tenant can't."""
    assert not CROWDS.keys() & BOUNDED.keys()
    assert CROWDS.keys() | BOUNDED.keys() == key_names.TYPES.keys()


def test_each_argument_is_bounded() -> None:
    """The table names the arguments of all scripts, and no others."""
    heads = [head.partition("\nARGV")[2].partition("\nReply ")[0] for head in HEADS.values()]
    named = {name for head in heads for name in re.findall(r"(?:^|  )\d+ (\w+)", head, re.MULTILINE)}
    assert sorted(" ".join(ARGUMENTS.values()).split()) == sorted(named)


async def test_checks_of_the_server_are_not_counted(valkey_for_scripts: str) -> None:
    """A Link checks its server each second, perhaps while a script's commands are counted."""
    async with shop_on("valkey", valkey_for_scripts) as shop:
        before = await count_commands(shop.link)
        await check_server(shop.link.call)
        assert await count_commands(shop.link) == before


def test_every_script_has_its_worst_case() -> None:
    """Each script has a case in the table, and each head has its number of commands; `many` runs its requests'."""
    assert {case.script for case in CASES} == set(HEADS) - {"run_requests"}
    assert all(most_commands(name) > 0 for name in HEADS)


def test_requests_below_4_ms_join_calls() -> None:
    """Each script has its CPU. Those of requests below 4 ms, and assign_any, join calls with other requests."""
    assert set(WORST_CPU_MS) == set(HEADS) - {"run_requests"}
    scripts = {row.script for row in ROWS}
    assert {name for name in scripts if WORST_CPU_MS[name] < 4} | {"assign_any"} == set(JOINED)
