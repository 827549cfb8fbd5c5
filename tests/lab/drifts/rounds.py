"""A round: differences are made, each of its kind, then reported and repaired."""

import asyncio
import re
from typing import Any

from service.engine.formats import key_names
from service.engine.formats.coupon_state import Class
from tests.harness.comparing import compared
from tests.harness.drifts import DriftWorkspace, Kind, Subject, make
from tests.harness.service_fixture import database
from tests.harness.waiting import wait_until
from tests.lab.drifts import in_postgres, in_redis

KINDS: dict[str, Kind] = in_redis.KINDS | in_postgres.KINDS
AT_ONCE = 4
TRIES = 4
"""While the merchant goes on changing things a comparison may come to no word about a book's counters; another does."""
_PARAMETER = re.compile(r"(?<!:):(\w+)")
"""`::` is a cast."""

_CURSOR = "SELECT cursor_epoch, cursor_seq FROM partitions WHERE id = $1"

Named = dict[str, set[Class]]
"""By thing, the classes in which it differs."""


async def run_round(workspace: DriftWorkspace, replica_url: str) -> list[str]:
    """Make a drift of each kind; return what is wrong. A comparison must report just these until the repair."""
    subjects = await _subjects(workspace)
    await _recorded(workspace)
    expected: Named = {}
    ways: dict[str, str] = {}
    for name, subject in zip(KINDS, subjects, strict=True):
        await drift(KINDS[name], subject)
        for thing, classes in KINDS[name].expected(subject).items():
            expected.setdefault(thing, set()).update(classes)
            ways[thing] = name
    named, wrong = await _look(workspace, repair=False, replica_url=replica_url)
    wrong += _describe(_less(expected, named), "not found", ways)
    wrong += _describe(_less(named, expected), "found", ways)
    wrong += (await _look(workspace, repair=True))[1]
    left, more = await _look(workspace, repair=False)
    wrong += [*more, *_describe(left, "found once mended", ways)]
    return wrong


async def drift(kind: Kind, subject: Subject) -> None:
    if not isinstance(kind.change, str):
        with subject.workspace.service.redis() as redis:
            kind.change(redis, subject)
        return
    names = list(dict.fromkeys(_PARAMETER.findall(kind.change)))
    statement = _PARAMETER.sub(lambda match: f"${names.index(match[1]) + 1}", kind.change)
    async with database(subject.workspace.service.run.facts["databaseUrl"]) as connection:
        status = await connection.execute(statement, *(subject.values[name] for name in names))
    assert status.split()[-1] == "1", (status, kind)


async def _look(workspace: DriftWorkspace, *, repair: bool, replica_url: str | None = None) -> tuple[Named, list[str]]:
    """What a comparison names, and what is wrong with how it ends."""
    named: Named = {}
    wrong: list[str] = []
    for _ in range(TRIES):
        outcome, differences = await compared(workspace.service, repair=repair, replica_url=replica_url)
        for difference, state in differences:
            named.setdefault(difference.thing, set()).update(difference.classes)
            if (state == "mended") != repair:
                wrong.append(f"{difference.thing}: {state} {difference.unsafe}")
        if not outcome.unsettled:
            return named, wrong
    return named, [*wrong, "some things were never still"]


async def _subjects(workspace: DriftWorkspace) -> list[Subject]:
    """One for each, some at a time."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(name: str) -> Subject:
        async with gate:
            return await asyncio.to_thread(make, workspace, KINDS[name].state)

    return list(await asyncio.gather(*map(one, KINDS)))


async def _recorded(workspace: DriftWorkspace) -> None:
    """Wait until Postgres has Redis's decisions, and Redis the configuration: a late write would undo a drift."""
    service, mine = workspace.service, workspace.service.partition
    with service.redis() as redis:
        entries: Any = redis.xrevrange(key_names.outbox(mine), count=1)
    tail = tuple(map(int, entries[0][0].split("-")))

    async def is_recorded() -> bool:
        return tuple((await service.fetch(_CURSOR, mine))[0]) >= tail

    await wait_until(is_recorded, "the record")
    await service.projected()


def _less(these: Named, those: Named) -> Named:
    """What of these isn't among those."""
    return {thing: more for thing, classes in these.items() if (more := classes - those.get(thing, set()))}


def _describe(named: Named, what: str, ways: dict[str, str]) -> list[str]:
    return [f"{ways.get(thing)}: {thing}: {sorted(classes)} {what}" for thing, classes in named.items()]
