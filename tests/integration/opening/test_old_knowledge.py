"""Processes and servers with an older state decide nothing: after Postgres was restored, Redis was replaced, or a
process was stopped (docs/internals/decisions/0047-fencing.md, docs/internals/decisions/0074-older-postgres.md)."""

import asyncio
import json
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

import pytest

from service.engine.domain.errors import Refusal
from service.engine.formats.redemption_id import event_text_of
from service.engine.hot import decider
from service.engine.hot.fencing import FRESH_S, Nonce, parse_nonce
from service.engine.hot.projection import RedisProjector
from service.engine.hot.scripts import SERVING, Scripts
from service.engine.operations import coupon_view, redeem, rollback
from service.engine.record.facts.recorded_wait import Recorded
from service.engine.record.partitions.partition_rows import read_partition, take_lease
from service.server.api import configuration_writes
from service.server.api.context import Context
from service.server.api.durability import wait_until_recorded
from tests.harness.script_runner import CallingLink
from tests.harness.waiting import PATIENCE_S, elapse, wait_until
from tests.integration.opening.opening_fixtures import PartitionSetup, assert_blocked, restored, without


async def _lead_to(setup: PartitionSetup, keys: dict[bytes, tuple[bytes, int]], scripts: Scripts | None) -> None:
    """Let Redis's address lead to a server with these keys and scripts."""
    await setup.redis.script_flush()
    await setup.put_back(keys)
    for text in scripts.texts.values() if scripts else ():
        await setup.redis.script_load(text)


def _event_of(redemption: dict[str, str]) -> str:
    return event_text_of(UUID(redemption["redemptionId"]))


async def test_an_older_redis_with_an_epoch_of_the_same_number(setup: PartitionSetup, older: str) -> None:
    """A restored Postgres draws the same epoch again for another Redis; the first Redis then decides nothing, is
    rebuilt, its own events go into quarantine, and their codes are blocked."""
    await setup.reopen()
    await setup.do(redeem.REDEEM, "CODE-39", userId="ann")  # in the other Redis the opening adds an event here
    lost = json.loads(await setup.do(redeem.REDEEM, "CODE-40", userId="ann"))
    await setup.record()
    row = await read_partition(setup.pool, 0)
    first, scripts = await setup.snapshot(), await setup.scripts()
    fences = {await take_lease(setup.pool, 0, "first") for _ in range(9)}

    async with restored(setup, older):
        await _lead_to(setup, {}, None)
        await setup.reopen()
        assert (await read_partition(setup.pool, 0)).epoch == row.epoch
        new = json.loads(await setup.do(redeem.REDEEM, "CODE-41", userId="bob", orderId="order-1"))
        assert _event_of(new) == _event_of(lost)
        assert await setup.refusal(rollback.ROLLBACK, lost["redemptionId"]) == "redemption_not_found"
        await setup.record()
        assert not fences & {await take_lease(setup.pool, 0, "second") for _ in range(99)}
        whole = await setup.everything()

        await _lead_to(setup, first, scripts)
        assert await setup.refusal(coupon_view.READ, "CODE-9") == "recovering"
        await setup.reopen()
        aside = [b"CODE-39", b"CODE-40"]
        assert without(await setup.everything(), *aside) == without(whole, *aside)
        await assert_blocked(setup, "CODE-39", "CODE-40")
        assert await setup.pool.fetchval("SELECT count(*) FROM quarantine") == 2
        undone = json.loads(await setup.do(rollback.ROLLBACK_ORDER, "order-1"))  # not what the older outbox had there
        assert [one["code"] for one in undone["items"]] == ["CODE-41"]


async def test_an_epoch_is_used_on_the_connection_that_it_was_learnt_on(setup: PartitionSetup) -> None:
    """On a new connection the API reads the epoch from Postgres before it uses it."""
    before = setup.link.generation
    await setup.redis.client_kill_filter(_type="normal", skipme=True)

    async def is_connected() -> bool:
        return setup.link.generation > before

    await wait_until(is_connected)
    assert await setup.refusal(coupon_view.READ, "CODE-9") == "recovering"
    await setup.learn()
    assert await setup.do(coupon_view.READ, "CODE-9")


async def test_only_the_redis_that_decided_can_confirm_that_all_is_recorded(setup: PartitionSetup) -> None:
    """After another opening the outbox may lack the decision: its end being recorded proves nothing about it."""
    recorded = Recorded(setup.pool)
    context = cast("Context", SimpleNamespace(decider=setup.decider, recorded=recorded))
    moment = setup.decider.moment(0)
    await setup.do(redeem.REDEEM, "CODE-40", userId="ann")
    await setup.record()
    assert await wait_until_recorded(context, setup.caller, moment, wait_s=1)
    await setup.reopen()
    assert not await wait_until_recorded(context, setup.caller, moment, wait_s=1)
    assert await wait_until_recorded(context, setup.caller, setup.decider.moment(0), wait_s=1)
    await recorded.close()


class _Link(CallingLink):
    """A connection that runs a function while a request is in flight."""

    def __init__(self, setup: PartitionSetup, meanwhile: Callable[[], Any], history: str) -> None:
        self._link, self._meanwhile, self.history = setup.link, meanwhile, history
        self.generation, self.fsynced = setup.link.generation, False

    async def call(self, *command: Any) -> Any:
        reply = await self._link.call(*command)
        self._meanwhile()
        return reply


async def _followed(setup: PartitionSetup, history: str = "") -> tuple[int, str]:
    """Load the scripts of the epoch as for a Redis with replicas; the epoch and its nonce."""
    row = await read_partition(setup.pool, 0)
    nonce = str(Nonce(row.nonce[:16], "postgres", history or setup.link.history))
    for text in Scripts(0, row.epoch, nonce, SERVING).texts.values():
        await setup.redis.script_load(text)
    return row.epoch, nonce


async def test_where_redis_has_replicas_only_a_fresh_epoch_is_used(
    setup: PartitionSetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With replicas the epoch from Postgres must be younger than FRESH_S, at the request and at its reply."""
    monkeypatch.setitem(FRESH_S, "postgres", PATIENCE_S)  # half a second is short on a busy machine
    epoch, nonce = await _followed(setup)
    setup.decider.learn(0, epoch, nonce, polled_at=time.monotonic() - FRESH_S["postgres"])
    assert await setup.refusal(coupon_view.READ, "CODE-9") == "recovering"
    setup.decider.learn(0, epoch, nonce)
    assert await setup.do(coupon_view.READ, "CODE-9")
    own = parse_nonce(nonce)
    other = str(own._replace(random=own.random[::-1]))  # the same one would be a turn of the epoch
    for meanwhile in (
        lambda: setup.decider.learn(0, epoch + 1, other),
        lambda: monkeypatch.setitem(FRESH_S, "postgres", -1),
    ):
        setup.decider = decider.Decider(_Link(setup, meanwhile, setup.link.history))  # type: ignore[arg-type]
        setup.decider.learn(0, epoch, nonce)
        assert await setup.refusal(coupon_view.READ, "CODE-9") == "outcome_unknown"


async def test_a_script_looks_at_the_servers_history(setup: PartitionSetup, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scripts reject a primary whose replication history has changed, though its gate and scripts are the same."""
    monkeypatch.setitem(FRESH_S, "postgres", PATIENCE_S)
    epoch, nonce = await _followed(setup, "f" * 40)
    setup.decider = decider.Decider(_Link(setup, lambda: None, ""))  # type: ignore[arg-type]
    setup.decider.learn(0, epoch, nonce)
    assert await setup.refusal(coupon_view.READ, "CODE-9") == "recovering"


class _Changes:
    """Changes of the API, and what they have written to Redis."""

    def __init__(self, setup: PartitionSetup) -> None:
        self.projector = RedisProjector(setup.decider.run)
        self._context = SimpleNamespace(
            deciding=SimpleNamespace(open={0}), decider=setup.decider, projector=self.projector
        )
        self.written: list[int] = []

    def begin(self) -> configuration_writes.Change:
        return configuration_writes.Change(cast("Context", self._context), 0)

    async def write(self, version: int) -> None:
        self.written.append(version)

    async def write_slowly(self, version: int) -> None:
        await asyncio.Event().wait()
        await self.write(version)


@pytest.fixture
def changes(setup: PartitionSetup) -> _Changes:
    return _Changes(setup)


async def test_a_change_after_another_epoch_opened_is_not_put_into_redis(
    setup: PartitionSetup, changes: _Changes
) -> None:
    """The API does not project a change that began in another epoch, though Redis has its version."""
    change = changes.begin()
    await setup.reopen()
    version = await changes.projector.read_last_version(0)
    with pytest.raises(Refusal, match="outcome_unknown"):
        await change.project(version, changes.write(version))
    assert changes.written == []


@pytest.mark.parametrize("what", ["Postgres", "Redis"])
async def test_a_change_that_takes_too_long_is_left_to_the_worker(
    changes: _Changes, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """The API does not write a change to Redis when it is MAX_AGE_S old, nor goes on writing it. It waits until the
    worker has done so, for CATCH_UP_S at most."""
    first = await changes.projector.read_last_version(0) + 1
    await changes.begin().project(first, changes.write(first))
    monkeypatch.setattr(configuration_writes, "MAX_AGE_S", 0.0 if what == "Postgres" else 0.1)
    write = changes.write if what == "Postgres" else changes.write_slowly
    async with asyncio.TaskGroup() as tasks:
        late = tasks.create_task(changes.begin().project(first + 1, write(first + 1)))
        await elapse(0.3, "a change that is not in Redis")
        assert not late.done()
        await changes.projector.advance_config(0, first + 1)
    monkeypatch.setattr(configuration_writes, "CATCH_UP_S", 0.2)
    with pytest.raises(Refusal, match="outcome_unknown"):
        await changes.begin().project(first + 2, write(first + 2))
    assert changes.written == [first]
