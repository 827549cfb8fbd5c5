"""Idempotency keys in Postgres: recorded with their change, and pruned once they expire."""

from typing import Any

import msgspec
import pytest

from service.engine.formats.events import Answered, RequestPart
from service.engine.record.facts import event_writer
from service.engine.record.facts.event_writer import prune_keys
from service.engine.record.facts.fact_reader import key_pages
from tests.integration.recording.record_fixtures import (
    EVENT_MS,
    Record,
    assigned,
    make_workspace,
    redeemed,
    rolled_back,
    unassigned,
)


async def test_an_idempotency_key_is_kept_with_its_change(kept: Record):
    """The event with the stored answer records the key; the other events of the same change do not."""
    part = RequestPart(key="k", op="rollback")
    uses = [redeemed(f"CODE-{i}", order="o", slot=i) for i in (1, 2)]
    await kept.write(*uses)
    first, second = (rolled_back(use, request=part) for use in uses)
    await kept.write(msgspec.structs.replace(first, kept="f 0 body"), second)
    row = await kept.pool.fetchrow("SELECT key, op, epoch, seq, entry FROM idempotency_keys")
    assert tuple(row) == ("k", "rollback", kept.epoch, 3, "f 0 body")


async def test_copy_escapes_special_characters(kept: Record):
    """Postgres returns a backslash in a key, and tabs in an answer and in metadata, unchanged."""
    part = RequestPart(key="k\\N", op="redeem", metadata=msgspec.Raw(b'{"a":\t1}'))
    await kept.write(redeemed("PLAIN", request=RequestPart(key="k", op="redeem"), kept="f 0 @x"))
    await kept.write(redeemed("ODD", request=part, kept="f 0\t@\\x"))
    await kept.write(redeemed("SPACED", request=RequestPart(metadata=part.metadata)))
    row = await kept.pool.fetchrow("SELECT key, entry FROM idempotency_keys WHERE seq = 2")
    assert tuple(row or ()) == ("k\\N", "f 0\t@\\x")
    assert [bytes(fact.request.metadata) for fact in await kept.facts()] == [b"", b'{"a":\t1}', b'{"a":\t1}']


async def test_an_expired_key_can_be_used_again(kept: Record):
    """A key raises `KeyReused` for another change within an hour, and replaces its older row after it."""
    keyed = {"request": RequestPart(key="k", op="redeem"), "kept": "old"}
    hour = 3_600_000
    await kept.write(redeemed("CODE-1", **keyed))
    for again in (redeemed("CODE-2", **keyed, at_ms=EVENT_MS + hour - 1), rolled_back(redeemed(), **keyed)):
        with pytest.raises(event_writer.KeyReused):
            await kept.write(again)
    await kept.write(redeemed("CODE-2", **keyed | {"kept": "new"}, at_ms=EVENT_MS + hour))
    assert await kept.pool.fetchval("SELECT entry FROM idempotency_keys WHERE seq = 2") == "new"
    await kept.pool.execute("UPDATE idempotency_keys SET recorded_at = now() - interval '1 hour'")
    await kept.write(redeemed("CODE-3", **keyed, at_ms=EVENT_MS + hour))
    with pytest.raises(event_writer.NeedsSmallerBatch):
        await kept.write(redeemed("A", **keyed), redeemed("B", **keyed))


@pytest.mark.parametrize(
    ("op", "payload"), [("assign", "book CODE-1 x"), ("gift", "book CODE-1 x"), ("checkout", "@ 2 book CODE-1 x")]
)
async def test_the_key_of_an_assignment_that_was_taken_back(kept: Record, op: str, payload: str):
    """Its request is decided again under its key, and recorded within the hour; not before it was taken back, and not
    for another request. The key of a redemption with a gift stays its own."""

    def keyed(code: str, fingerprint: str = "f") -> Any:
        entry = f"{fingerprint} 0 {payload.replace('CODE-1', code)}"
        return assigned(code, request=RequestPart(key="k", op=op), kept=entry)

    await kept.write(keyed("CODE-1"))
    with pytest.raises(event_writer.KeyReused):
        await kept.write(keyed("CODE-2"))
    await kept.write(unassigned("CODE-1"))
    for other in (keyed("CODE-2", "g"), redeemed("CODE-2", request=RequestPart(key="k", op="redeem"), kept="f 0 @.")):
        with pytest.raises(event_writer.KeyReused):
            await kept.write(other)
    await kept.write(keyed("CODE-2"))
    await kept.write(unassigned("CODE-2"), keyed("CODE-2"))
    row = await kept.pool.fetchrow("SELECT seq, entry FROM idempotency_keys")
    assert tuple(row or ()) == (5, keyed("CODE-2").kept)
    bought = {"request": RequestPart(key="bought", op="checkout"), "kept": "f 0 @. 2 book GIFT-1 x"}
    await kept.write(redeemed("CODE-3", **bought, gift=assigned("GIFT-1", order="o"), order="o"), unassigned("GIFT-1"))
    with pytest.raises(event_writer.KeyReused):
        await kept.write(assigned("GIFT-1", **bought))


async def test_a_key_of_a_test_workspace_can_be_used_again(kept: Record):
    """After a test workspace's clock was set back, its expired key is recorded again, not quarantined."""
    keyed = {"request": RequestPart(key="k", op="redeem"), "kept": "old"}
    await make_workspace(kept.pool)
    await kept.pool.execute("UPDATE workspaces SET mode = 'test'")
    await kept.write(redeemed("CODE-1", **keyed))
    await kept.write(redeemed("CODE-2", **keyed | {"kept": "new"}, at_ms=EVENT_MS - 1))
    assert await kept.pool.fetchval("SELECT entry FROM idempotency_keys") == "new"


async def test_an_answer_off_the_hot_path_is_kept(kept: Record):
    """An event of an answer alone records its key and no fact."""
    await kept.write(
        Answered(epoch=0, seq=0, workspace=1, at_ms=EVENT_MS, request=RequestPart(key="k"), kept="f 0 201 x")
    )
    assert await kept.pool.fetchval("SELECT entry FROM idempotency_keys") == "f 0 201 x"


async def test_live_keys(kept: Record):
    """The keys of a workspace are read back until they expire, and pruned after."""
    await make_workspace(kept.pool)
    await kept.write(*(redeemed(f"CODE-{i}", request=RequestPart(key=f"k{i}"), kept="f 0 @x") for i in range(3)))
    await kept.pool.execute("UPDATE idempotency_keys SET recorded_at = now() - interval '25 hours' WHERE key = 'k1'")
    async with kept.pool.acquire() as connection:
        live = {key.key: key async for page in key_pages(connection, 0) for key in page}
    assert set(live) == {"k0", "k2"}
    assert live["k2"].entry == "f 0 @x"
    assert 23.9 < live["k2"].ttl_ms / 3_600_000 <= 24
    assert [await prune_keys(kept.pool, 10), await prune_keys(kept.pool, 10)] == [1, 0]
