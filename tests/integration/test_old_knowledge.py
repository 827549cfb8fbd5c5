"""Nothing is decided by what processes and servers know of an older state: after Postgres was restored, Redis was
replaced, or a process stood still (docs/decisions/0014-old-knowledge.md)."""

import json
import time
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any, cast
from urllib.parse import urlsplit

import pytest

from service.api import configuration_writes
from service.api.context import Context
from service.domain.errors import Refusal
from service.hot import decider
from service.hot.projection import RedisProjector
from service.hot.scripts import PROJECTION, SERVING, Scripts, nonce_of
from service.operations import coupon_view, redeem, rollback
from service.record import pool as postgres
from service.record.partitions.partition_rows import read_partition, take_lease
from tests.integration.flush_fixtures import until
from tests.integration.opening_fixtures import Place


async def _lead_to(place: Place, keys: dict[bytes, tuple[bytes, int]], scripts: Scripts | None) -> None:
    """Redis's address leads to a server that holds these."""
    await place.redis.script_flush()
    await place.put_back(keys)
    for text in scripts.texts.values() if scripts else ():
        await place.redis.script_load(text)


async def test_an_older_redis_with_an_epoch_of_the_same_number(
    place: Place, database_url: str, new_database: Callable[..., Awaitable[str]]
) -> None:
    """Postgres is restored and counts its epochs again, for another Redis. When the first one comes back, it decides
    nothing: it is rebuilt, and what it alone knew is set aside."""
    await place.pool.close()
    backup = await new_database(urlsplit(database_url).path[1:])
    place.pool = await postgres.connect(database_url)
    await place.open()
    await place.learn()
    lost = json.loads(await place.do(redeem.REDEEM, "CODE-40", userId="ann"))
    await place.record()
    row = await read_partition(place.pool, 0)
    first, scripts = await place.snapshot(), Scripts(0, row.epoch, row.nonce, [*SERVING, *PROJECTION])
    fences = {await take_lease(place.pool, 0, "first", 0) for _ in range(9)}
    await place.pool.close()

    async with await postgres.connect(backup) as place.pool:
        await _lead_to(place, {}, None)
        await place.open()
        await place.learn()
        assert (await read_partition(place.pool, 0)).epoch == row.epoch
        await place.do(redeem.REDEEM, "CODE-41", userId="bob")  # its event has the number of the one that is lost
        with pytest.raises(Refusal, match="redemption_not_found"):
            await place.do(rollback.ROLLBACK, lost["redemptionId"])
        await place.record()
        assert not fences & {await take_lease(place.pool, 0, "second", 0) for _ in range(99)}
        whole = await place.everything()

        await _lead_to(place, first, scripts)
        with pytest.raises(Refusal, match="recovering"):
            await place.do(coupon_view.READ, "CODE-9")
        await place.open()
        await place.learn()
        assert await place.everything() == whole
        assert await place.pool.fetchval("SELECT count(*) FROM quarantine") == 1


async def test_an_epoch_is_used_on_the_connection_that_it_was_learnt_on(place: Place) -> None:
    """The next connection may lead to a server that an older epoch was opened on: Postgres is asked again first."""
    before = place.link.generation
    await place.redis.client_kill_filter(_type="normal", skipme=True)  # type: ignore[no-untyped-call]

    async def is_connected() -> bool:
        return place.link.generation > before

    await until(is_connected)
    with pytest.raises(Refusal, match="recovering"):
        await place.do(coupon_view.READ, "CODE-9")
    await place.learn()
    assert await place.do(coupon_view.READ, "CODE-9")


class _Link:
    """A connection on which something happens while a request is under way."""

    def __init__(self, place: Place, meanwhile: Callable[[], Any], history: str) -> None:
        self._link, self._meanwhile, self.history = place.link, meanwhile, history
        self.generation, self.fsynced = place.link.generation, False

    async def call(self, *command: Any) -> Any:
        reply = await self._link.call(*command)
        self._meanwhile()
        return reply


async def _followed(place: Place, history: str = "") -> tuple[int, str]:
    """The epoch as it is where Redis has replicas; its scripts are loaded."""
    row = await read_partition(place.pool, 0)
    nonce = nonce_of(row.nonce[:16], history or place.link.history, followed=True)
    for text in Scripts(0, row.epoch, nonce, SERVING).texts.values():
        await place.redis.script_load(text)
    return row.epoch, nonce


async def test_where_redis_has_replicas_only_a_fresh_epoch_is_used(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What Postgres said must be younger than FRESH_S when a request is sent, and when its reply comes."""
    epoch, nonce = await _followed(place)
    place.decider.learn(0, epoch, nonce, asked_at=time.monotonic() - decider.FRESH_S)
    with pytest.raises(Refusal, match="recovering"):
        await place.do(coupon_view.READ, "CODE-9")
    place.decider.learn(0, epoch, nonce)
    assert await place.do(coupon_view.READ, "CODE-9")
    for meanwhile in (
        lambda: place.decider.learn(0, epoch + 1, nonce),
        lambda: monkeypatch.setattr(decider, "FRESH_S", -1),
    ):
        place.decider = decider.Decider(_Link(place, meanwhile, place.link.history))  # type: ignore[arg-type]
        place.decider.learn(0, epoch, nonce)
        with pytest.raises(Refusal, match="outcome_unknown"):
            await place.do(coupon_view.READ, "CODE-9")


async def test_a_script_looks_at_the_servers_history(place: Place) -> None:
    """A primary that was a replica for a moment has another's data: its gate and scripts are as they were."""
    epoch, nonce = await _followed(place, "f" * 40)
    place.decider = decider.Decider(_Link(place, lambda: None, ""))  # type: ignore[arg-type]
    place.decider.learn(0, epoch, nonce)
    with pytest.raises(Refusal, match="recovering"):
        await place.do(coupon_view.READ, "CODE-9")


@pytest.mark.parametrize("meanwhile", ["time passes", "another epoch opens"])
async def test_a_change_that_took_too_long_is_not_put_into_redis(
    place: Place, monkeypatch: pytest.MonkeyPatch, meanwhile: str
) -> None:
    """Postgres may have been restored since the change began, and Redis compared with it: the worker projects it."""
    put: list[str] = []

    async def write() -> None:
        put.append("a change")

    shown = SimpleNamespace(open_partitions={0}, decider=place.decider, projector=RedisProjector(place.decider.run))
    await configuration_writes.Change(cast("Context", shown), 0).project(1, write())
    assert put == ["a change"]
    change = configuration_writes.Change(cast("Context", shown), 0)
    if meanwhile == "time passes":
        monkeypatch.setattr(configuration_writes, "MAX_AGE_S", 0)
    else:
        await place.open()
        await place.learn()
    with pytest.raises(Refusal, match="outcome_unknown"):
        await change.project(2, write())
    assert put == ["a change"]
