"""The live locks of a coupon are listed, the first to end first, and reading them changes nothing."""

from service.engine.formats import key_names
from service.server.in_redis.workspace_state import LiveLock, LiveLocks
from tests.harness.script_runner import NOW_MS
from tests.harness.shop import Shop

NONE = LiveLocks(0, [])


async def test_live_locks_are_listed(still: Shop, uses: int | None) -> None:
    """A lock has its holder, order, start and end; a renewal keeps the start. Ended and released ones are left out."""
    await still.book("CODE-1", max_redemptions_per_code=uses)
    assert await still.live_locks("CODE-1") == await still.live_locks("NEVER-WAS") == NONE
    _, lock = await still.lock("CODE-1", "-", orderId="A-1", lockSeconds=10)
    await still.wait(1000)
    await still.extend("CODE-1", lock["lockToken"], lockSeconds=20)
    first = LiveLock("-", "A-1", NOW_MS, NOW_MS + 21_000)
    assert await still.live_locks("CODE-1") == LiveLocks(1, [first])
    if uses == 1:
        await still.wait(20_000)
        assert await still.live_locks("CODE-1") == NONE
        return
    _, other = await still.lock("CODE-1", "bob", lockSeconds=30)
    await still.lock("CODE-1", "eve", lockSeconds=5)
    await still.wait(5000)
    second = LiveLock("bob", None, NOW_MS + 1000, NOW_MS + 31_000)
    assert await still.live_locks("CODE-1") == LiveLocks(2, [first, second])
    await still.unlock("CODE-1", other["lockToken"])
    assert await still.live_locks("CODE-1") == LiveLocks(1, [first])


async def test_at_most_twenty_are_listed(still: Shop) -> None:
    """Of more than 20 live locks those that end first are listed, and all are counted."""
    await still.book("CODE-1", max_redemptions_per_code=None)
    for number in range(22):
        await still.lock("CODE-1", f"u{number}", lockSeconds=100 - number)
    total, first = await still.live_locks("CODE-1")
    assert (total, [lock.user_id for lock in first]) == (22, [f"u{number}" for number in range(21, 1, -1)])


async def test_what_is_missing(still: Shop) -> None:
    """A holder whose lock is missing is left out; without the workspace it is recovering, for unknown codes, too."""
    await still.book("CODE-1", max_redemptions_per_code=None)
    await still.lock("CODE-1", "ann", lockSeconds=10)
    await still.lock("CODE-1", "bob", lockSeconds=20)
    w = still.caller.prefix
    text = await still.link.call("HGET", key_names.locks(w, "CODE-1"), "ann -")
    await still.link.call("HDEL", key_names.locks(w, "CODE-1"), "ann -")
    assert [lock.user_id for lock in (await still.live_locks("CODE-1")).first] == ["bob"]
    await still.link.call("HSET", key_names.locks(w, "CODE-1"), "ann -", text)
    await still.link.call("RENAME", key_names.settings(w), "aside")
    await still.refuses("recovering", still.live_locks("NEVER-WAS"))
    await still.link.call("RENAME", "aside", key_names.settings(w))
