"""Erasing a user step by step: with the worker killed at each, traffic in between, and Redis rebuilt."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
from asyncpg.pool import Pool

from service.engine.formats.key_names import bucket, outbox
from service.engine.hot.connection import Broken
from service.engine.hot.projection import RedisProjector
from service.engine.operations import assign, lock, redeem, rollback, unassign
from service.engine.record.changes import changes_since
from service.engine.record.partitions.partition_rows import LeaseRow
from service.engine.worker import write_behind
from service.engine.worker.lease_keeper import Lease
from service.engine.worker.opening import restorer
from service.engine.worker.projection_catchup import projector_of
from service.engine.worker.projector import PROJECTING
from service.engine.worker.set_aside import SetAside
from service.engine.worker.waiting import NotYet
from service.engine.worker.write_behind import Flusher
from service.server.in_postgres.code_rows import add_codes
from service.server.in_postgres.user_deletion import Erasure, begin_erasure, is_erased, pending_erasures
from service.server.in_postgres.user_rows import patch_user
from service.server.in_postgres.workspace_rows import create_workspace
from service.server.requests.code_requests import CodeLine
from service.server.tasks import user_eraser
from service.server.tasks.user_eraser import Eraser
from tests.harness.waiting import running, wait_until
from tests.integration.opening.opening_fixtures import Life, PartitionSetup
from tests.integration.recording.flush_fixtures import has_recorded
from tests.integration.recording.record_fixtures import take_partition

_FACTS = "assignments unassignments redemptions rollbacks".split()
TABLES = [*_FACTS, *"codes users idempotency_keys quarantine erasures report_users".split()]


class DyingPool:
    """A pool whose worker dies before its n-th statement."""

    def __init__(self, pool: Pool, life: Life) -> None:
        self._pool, self._life = pool, life

    def __getattr__(self, name: str) -> Any:
        self._life.step()
        return getattr(self._pool, name)


async def begin(setup: PartitionSetup, user: str) -> str:
    """Record everything and begin the deletion; return the pseudonym."""
    await setup.record()
    last = await setup.decider.read_tail(0)
    return await begin_erasure(setup.pool, setup.caller.workspace, 0, user, last)


@asynccontextmanager
async def start_eraser(setup: PartitionSetup, left: int = -1) -> AsyncIterator[Eraser]:
    """The eraser of a worker that dies after so many steps."""
    life = Life(left)
    async with setup.server() as server:
        eraser = Eraser(DyingPool(setup.pool, life), server, await setup.scripts())  # type: ignore[arg-type]
        await eraser.load()
        server.life = life
        yield eraser


async def erase(setup: PartitionSetup, left: int = -1) -> None:
    """Erase users as a worker that dies after so many steps. Raises Broken when it did."""
    async with start_eraser(setup, left) as eraser:
        while users := await pending_erasures(setup.pool, 0, 100):
            await eraser.erase(users)


async def traces(setup: PartitionSetup, user: str) -> list[str]:
    """Return what still names the user: keys of Redis except the outbox, and tables."""
    values = await setup.values()
    names = [name.decode() for name, value in values.items() if user in f"{name!r} {value!r}"]
    for table in TABLES:
        rows = await setup.pool.fetch(f"SELECT row_to_json({table})::text AS row FROM {table}")
        names += [table for row in rows if user in row["row"]]
    return names


async def live(setup: PartitionSetup, user: str, n: int) -> str:
    """Do all that a user can, except lock; return the id of a redemption that stands."""
    for code in (f"A{n}-1", f"A{n}-2", f"A{n}-3"):
        await setup.do(assign.ASSIGN_CODE, code, f"a-{code}", userId=user)
    await setup.do(unassign.UNASSIGN, f"A{n}-2", f"u-{n}")
    stands = await setup.do(redeem.REDEEM, f"A{n}-4", f"r-{n}", userId=user, orderId=f"{n}-1", orderValue="10.00")
    await setup.do(redeem.REDEEM, f"A{n}-5", userId=user, orderId=f"{n}-2")
    await setup.do(rollback.ROLLBACK_ORDER, f"{n}-2", f"b-{n}")
    await patch_user(setup.pool, setup.caller.workspace, 0, user, {"max_coupons": 50})
    return json.loads(stands)["redemptionId"]


async def stock(setup: PartitionSetup, rounds: int) -> None:
    """Add codes for so many users, each of whom owns one."""
    for n in range(rounds):
        lines = [CodeLine(f"A{n}-{k}") for k in range(1, 10)] + [CodeLine(f"A{n}-MINE", owner_id=f"zoe{n}-")]
        await add_codes(setup.pool, setup.caller.workspace, 0, 1, lines)
    await project(setup)


@asynccontextmanager
async def projecting(setup: PartitionSetup) -> AsyncIterator[RedisProjector]:
    """A projector on a connection of its own."""
    async with setup.server() as server:
        yield projector_of(server, await setup.scripts())


async def project(setup: PartitionSetup) -> None:
    """Project configuration to Redis, as the worker does."""
    async with projecting(setup) as projector:
        async for change in changes_since(setup.pool, 0, await projector.read_last_version(0)):
            await restorer.project(projector, 0, change, SetAside(setup.pool, 0, PROJECTING))


async def test_killed_at_each_step_and_begun_again(setup: PartitionSetup) -> None:
    """Whatever step the worker dies at, with Redis lost or not, the next worker erases the whole user."""
    await stock(setup, 60)
    left, done = 0, False
    while not done:
        user = f"zoe{left}-"
        await live(setup, user, left)
        await setup.do(lock.LOCK, f"A{left}-1", f"l-{left}", userId=user)
        pseudonym = await begin(setup, user)
        await project(setup)
        try:
            await erase(setup, left)
            done = True
        except Broken:
            if left % 4 == 1:
                await setup.rebuild()
        assert await begin(setup, user) == pseudonym or done
        await erase(setup)
        assert await is_erased(setup.pool, setup.caller.workspace, pseudonym)
        assert await traces(setup, user) == []
        owned = await setup.pool.fetchval("SELECT owner_id FROM codes WHERE code = $1", f"A{left}-MINE")
        assert owned == pseudonym
        left += 1
    assert left > 20
    assert await setup.pool.fetch("SELECT * FROM quarantine") == []


async def test_a_rebuilt_redis_is_the_same(setup: PartitionSetup) -> None:
    """After an erasure Redis holds what a rebuild from Postgres holds."""
    await stock(setup, 1)
    redemption = await live(setup, "zoe0-", 0)
    pseudonym = await begin(setup, "zoe0-")
    await project(setup)
    await erase(setup)
    await setup.record()
    before = await setup.everything()
    await setup.rebuild()
    assert await setup.everything() == before
    rolled_back = json.loads(await setup.do(rollback.ROLLBACK, redemption))
    assert (rolled_back["userId"], rolled_back["ipAddress"], rolled_back["userAgent"]) == (pseudonym, None, None)


async def test_what_happens_while_it_is_erased_is_recorded(setup: PartitionSetup) -> None:
    """Unassigns and rollbacks before, between and after both erasings are all recorded, and none names the user."""
    await stock(setup, 1)
    redemption = await live(setup, "zoe0-", 0)
    await begin(setup, "zoe0-")
    await project(setup)
    await setup.do(unassign.UNASSIGN, "A0-3")
    await setup.record()
    left = 0
    coupon = b""
    while b" deleted-" not in coupon:
        with pytest.raises(Broken):
            await erase(setup, left)
        left += 1
        coupon = cast("bytes", await setup.redis.get(f"{setup.caller.prefix}c:A0-1") or b"")
    with pytest.raises(Broken):
        await erase(setup, left + 3)  # the owner's code and the redemptions, too
    for code in ("A0-1", "A0-MINE"):
        await setup.do(unassign.UNASSIGN, code)
    await setup.do(rollback.ROLLBACK, redemption)
    await setup.do(assign.ASSIGN_CODE, "A0-1", userId="bob")
    await setup.record()
    assert await setup.pool.fetch("SELECT * FROM quarantine") == []
    assert await setup.pool.fetchval("SELECT count(*) FROM unassignments WHERE user_id LIKE 'deleted-%'") >= 1
    await erase(setup)
    assert await traces(setup, "zoe0-") == []
    stands = "SELECT user_id FROM open_assignments WHERE code = 'A0-1'"
    assert [row["user_id"] for row in await setup.pool.fetch(stands)] == ["bob"]


async def test_a_user_who_comes_back_is_another(setup: PartitionSetup) -> None:
    """Changes after the request of a deletion are a new user's; the next deletion gives another pseudonym."""
    await stock(setup, 1)
    await live(setup, "zoe0-", 0)
    first = await begin(setup, "zoe0-")
    await project(setup)
    await setup.do(unassign.UNASSIGN, "A0-3")
    await setup.do(assign.ASSIGN_CODE, "A0-3", userId="zoe0-")
    await setup.do(assign.ASSIGN_CODE, "A0-6", userId="zoe0-")
    await setup.do(unassign.UNASSIGN, "A0-6")
    await setup.do(redeem.REDEEM, "A0-7", userId="zoe0-", orderId="new")
    await patch_user(setup.pool, setup.caller.workspace, 0, "zoe0-", {"max_coupons": 7})
    await add_codes(setup.pool, setup.caller.workspace, 0, 1, [CodeLine("A0-NEW", owner_id="zoe0-")])
    await setup.record()
    await project(setup)
    await erase(setup)
    w, users = setup.caller.workspace, ("zoe0-", first)
    for table, column, codes in (
        ("assignments", "user_id", [["A0-3", "A0-6"], ["A0-1", "A0-2", "A0-3"]]),
        ("unassignments", "user_id", [["A0-6"], ["A0-2", "A0-3"]]),
        ("redemptions", "user_id", [["A0-7"], ["A0-4", "A0-5"]]),
        ("rollbacks", "user_id", [[], ["A0-5"]]),
        ("codes", "owner_id", [["A0-NEW"], ["A0-MINE"]]),
    ):
        sql = f"SELECT code FROM {table} WHERE workspace = $1 AND {column} = $2 ORDER BY code"
        assert [[row["code"] for row in await setup.pool.fetch(sql, w, user)] for user in users] == codes, table
    counts: Any = await setup.redis.hgetall(f"{setup.caller.prefix}u:zoe0-")
    assert (counts[b"a1"], counts[b"h1"]) == (b"2", b"2")
    spent: Any = await setup.redis.hget(f"{setup.caller.prefix}o:{bucket('zoe0-')}", "1/zoe0-")
    assert spent == b"1"
    assert counts[b"cap"].endswith(b" 7")
    second = await begin(setup, "zoe0-")
    await project(setup)
    await erase(setup)
    assert (await traces(setup, "zoe0-"), second == first) == ([], False)


async def covered(setup: PartitionSetup, user: str) -> bool:
    """Whether Redis has the deletion's cap, which older changes can't overwrite."""
    cap: Any = await setup.redis.hget(f"{setup.caller.prefix}u:{user}", "cap")
    return cap is not None and cap.endswith(b" -")


async def test_an_older_change_of_the_cap_comes_late(setup: PartitionSetup) -> None:
    """A change of the cap from before the deletion writes nothing, however late it reaches Redis."""
    row = await patch_user(setup.pool, setup.caller.workspace, 0, "ann", {"max_coupons": 1})
    await begin(setup, "ann")
    left = 0
    while not await covered(setup, "ann"):
        with pytest.raises((Broken, NotYet)):
            await erase(setup, left)
        left += 1
    async with projecting(setup) as projector:
        await projector.user(row)
    await project(setup)
    await erase(setup)
    assert await traces(setup, '"ann"') == []
    assert await setup.redis.exists(f"{setup.caller.prefix}u:ann") == 0


async def test_it_waits_for_what_was_changed_and_decided_before(
    setup: PartitionSetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The erasure waits for owners whose codes are not in Redis yet, and for events that are not recorded."""
    monkeypatch.setattr(user_eraser, "WAIT_S", 0.05)
    await add_codes(setup.pool, setup.caller.workspace, 0, 1, [CodeLine("LATE-1", owner_id="zoe-")])
    await begin(setup, "zoe-")
    with pytest.raises(NotYet):
        await erase(setup)
    await project(setup)
    await setup.do(assign.ASSIGN_CODE, "CODE-50", userId="bob")
    with pytest.raises(NotYet):
        await erase(setup)
    await setup.record()
    await erase(setup)
    assert await traces(setup, "zoe-") == []


async def test_quarantined_events_are_erased(setup: PartitionSetup) -> None:
    """The pseudonym replaces the user in quarantined events; their other fields stay."""
    w = setup.caller.workspace
    rows = [
        (f"A {w} 1 CODE-1 zoe 5 9", '{"ip":"192.0.2.7","ua":"x","key":"k","op":"assign"}'),
        (f"A {w + 1} 1 CODE-1 zoe 5 9", '{"ip":"192.0.2.7"}'),
        (f"R {w} 1 CODE-1 zoe zoe", "no JSON"),
        ("nonsense", "zo"),
    ]
    for seq, (d, r) in enumerate(rows):
        await setup.pool.execute(
            "INSERT INTO quarantine VALUES (0, 0, $1, 'refused', 'r', $2, $3)",
            *(seq, d.encode(), r.encode()),
        )
    gone = await begin(setup, "zoe")
    await project(setup)
    await erase(setup)
    kept = await setup.pool.fetch("SELECT d, r FROM quarantine ORDER BY seq")
    assert [(row["d"].decode(), row["r"].decode()) for row in kept] == [
        (f"A {w} 1 CODE-1 {gone} 5 9", '{"key":"k","op":"assign"}'),
        rows[1],
        (f"R {w} 1 CODE-1 {gone} zoe", "{}"),
        rows[3],
    ]


async def test_nothing_of_a_deleted_user_stays_in_a_quiet_outbox(
    setup: PartitionSetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without further events the outbox keeps its last entry alone, which names no user; not before KEEP_S."""
    monkeypatch.setattr(write_behind, "BLOCK_MS", 5)
    await begin(setup, "ann")
    await project(setup)
    await erase(setup)
    flusher = Flusher(setup.outbox, setup.pool, 0, await take_partition(setup.pool))

    async def length() -> int:
        return await setup.redis.xlen(outbox(0))

    async def quiet() -> bool:
        return await length() == 1

    before = await length()
    async with running(flusher.run()):
        await wait_until(lambda: has_recorded(flusher, before - 1))
        for _ in range(3):
            await flusher.start()
        assert await length() == before
        monkeypatch.setattr(write_behind, "KEEP_S", -1)
        await wait_until(quiet)
    left: Any = await setup.redis.xrange(outbox(0))
    ((_, fields),) = left
    assert fields[b"e"].startswith(b"K ")
    await flusher.start()
    assert await flusher.step() == 0


async def test_a_slow_deletion_delays_no_other_workspace(
    setup: PartitionSetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a user's deletion hangs, users of another workspace are deleted; of its own workspace all wait."""
    own = setup.caller.workspace
    async with setup.pool.acquire() as connection:
        other = (await create_workspace(connection, "other")).workspace
    slow = await begin(setup, "ann")
    begun = await setup.decider.read_tail(0)
    theirs = await begin_erasure(setup.pool, other, 0, "ann", begun)
    await project(setup)
    is_over, lease, replace = asyncio.Event(), Lease(), Eraser._replace_in_redis

    async def hang(its: Any, user: Erasure) -> None:
        if user.workspace == own:
            await is_over.wait()
        await replace(its, user)

    monkeypatch.setattr(Eraser, "_replace_in_redis", hang)

    async def are_erased(workspace: int, *pseudonyms: str) -> bool:
        lease.observe(LeaseRow(0, None, 1, confirmed=True, due=frozenset({"erasing"})))
        await setup.record()
        return all([await is_erased(setup.pool, workspace, one) for one in pseudonyms])

    async with start_eraser(setup) as eraser, running(eraser.run(lease)):
        await wait_until(lambda: are_erased(other, theirs))
        later = await begin_erasure(setup.pool, own, 0, "u0", begun)
        more = await begin_erasure(setup.pool, other, 0, "bob", begun)
        await project(setup)
        await wait_until(lambda: are_erased(other, more))
        assert not await are_erased(own, slow)
        assert not await are_erased(own, later)
        is_over.set()
        await wait_until(lambda: are_erased(own, slow, later))
