"""A key acts once: its repeat is answered as the first success was, and with another request it is refused."""

from typing import Any

import pytest

from service.engine.domain.errors import Refusal
from service.engine.domain.field_types import encode_field
from service.engine.domain.outcomes import RECALL
from service.engine.operations import assign, checkout, gift, lock, redeem, rollback, unassign
from service.engine.operations.base import Operation
from service.engine.operations.batch import parse_records, prepare_records
from service.engine.operations.caller import Caller
from service.server.in_redis.workspace_state import CLAIM_MS, Workspace
from tests.harness.script_runner import NOW_MS
from tests.harness.shop import Shop


async def _story(shop: Shop) -> list[tuple[Operation, str | None, dict[str, Any]]]:
    """One request of each operation that takes a key, all of which succeed in this order."""
    await shop.put_workspace(coupons_per_order=2)
    book = await shop.book("CODE-1", "CODE-2", "CODE-3", discount={"type": "fixed", "value_e4": 10_000})
    await shop.book("CODE-4", "CODE-5", max_redemptions_per_code=3)
    gifts = {"giftBookId": str((await shop.book("GIFT-1", "GIFT-2")).book_id)}
    await shop.book("CODE-6")
    _, held = await shop.lock("CODE-3", "ann", lockSeconds=10)
    token = {"lockToken": held["lockToken"]}
    spent = (await shop.redeem("CODE-4", "bob", orderId="A-1"))[1]["redemptionId"]
    await shop.redeem("CODE-4", "cat", orderId="A-2")
    return [
        (assign.ASSIGN_CODE, "CODE-1", {"userId": "ann"}),
        (assign.ASSIGN_CODE, "CODE-1", {"userId": "ann"}),
        (assign.ASSIGN_ANY, None, {"bookId": str(book.book_id), "userId": "ann"}),
        (lock.LOCK, "CODE-1", {"userId": "ann", "orderId": "A-9"}),
        (lock.LOCK, "CODE-1", {"userId": "ann", "orderId": "A-9"}),
        (lock.EXTEND, "CODE-3", {**token, "lockSeconds": 60}),
        (redeem.REDEEM, "CODE-1", {"userId": "ann", "orderId": "A-9", "orderValue": "20", "metadata": {"a": "b c"}}),
        (redeem.REDEEM, "CODE-1", {"userId": "ann", "orderId": "A-9", "orderValue": "20"}),
        (lock.UNLOCK, "CODE-3", token),
        (rollback.ROLLBACK, spent, {"reason": "why not", "restore": False}),
        (rollback.ROLLBACK_ORDER, "A-2", {}),
        (assign.ASSIGN_CODE, "CODE-5", {"userId": "eve"}),
        (unassign.UNASSIGN, "CODE-5", {}),
        (gift.GIFT, "ann", {"orderId": "A-9", "bookId": gifts["giftBookId"]}),
        (checkout.CHECKOUT, None, {"userId": "ann", "orderId": "A-8", "orderValue": "5", "code": "CODE-6", **gifts}),
    ]


_ENDED = {3, 4, 5, 11}
"""Requests of the story whose lock or assignment a later one has ended."""


async def test_a_replay_is_the_first_answer_to_the_byte(still: Shop) -> None:
    """Each operation's repeat under its key has the same status and bytes, is marked as replayed and changes nothing,
    whatever else has happened since (test_repeats.py has what ends it); with another fingerprint it is refused. The
    event's line `i` is what Redis stores under the key, with `@.` for the event itself; its `r` names the key."""
    story = await _story(still)
    first = []
    for n, (operation, code, body) in enumerate(story):
        await still.wait(3)
        before = len(await still.events())
        answer = await still.raw(operation, code, key=f"key {n}", **body)
        assert answer[2] is False
        first.append(answer)
        assert await still.raw(operation, code, key=f"key {n}", **body) == (*answer[:2], True)
        stored = (await still.everything())[f"{still.caller.prefix}i:key {n}"]
        assert stored.startswith("f ")
        events = await still.events()
        if len(events) > before:
            event = await still.last_event()
            assert event["i"].replace(" @.", f" @{events[-1][0]}") == stored
            assert f'"key":"key {n}"' in event["r"]
            assert '"op":"' in event["r"]
    statuses = [201, 200, 201, 201, 200, 200, 201, 200, 204, 200, 200, 201, 200, 201, 201]
    assert [answer[0] for answer in first] == statuses
    await still.wait(3_600_000)
    await still.add(still.books[0], "CODE-1", active=False)
    before = await still.everything()
    for n, (operation, code, body) in enumerate(story):
        if n not in _ENDED:
            assert await still.raw(operation, code, key=f"key {n}", **body) == (*first[n][:2], True)
        with pytest.raises(Refusal, match="idempotency_key_reused"):
            await still.raw(operation, code, key=f"key {n}", fingerprint="g", **body)
    assert await still.everything() == before


async def test_stored_answers_do_not_name_the_requests_user(still: Shop) -> None:
    """The stored entry of a success does not name the user, whatever the id is; its repeat does."""
    for n, user in enumerate(("%-", "@1-2", "@.", "%d", "0", "a=b")):
        user_id = "-" if user == "%-" else user.replace("%", "")
        codes = [f"CODE-{n}{letter}" for letter in "ABCDEF"]
        book = await still.book(*codes)
        order = {"userId": user_id, "orderId": f"A-{n}"}
        asked: list[tuple[Operation, str | None, dict[str, Any]]] = [
            (lock.LOCK, codes[0], order),
            (assign.ASSIGN_CODE, codes[1], {"userId": user_id}),
            (assign.ASSIGN_CODE, codes[1], {"userId": user_id}),
            (assign.ASSIGN_ANY, None, {"bookId": str(book.book_id), "userId": user_id}),
            (gift.GIFT, user_id, {"bookId": str(book.book_id), "orderId": f"B-{n}"}),
            (checkout.CHECKOUT, None, order | {"orderValue": "5", "code": codes[0], "giftBookId": str(book.book_id)}),
        ]
        for place, (operation, code, body) in enumerate(asked):
            key = f"{n} {place}"
            first = await still.raw(operation, code, key=key, **body)
            kept = (await still.everything())[f"{still.caller.prefix}i:{key}"]
            assert encode_field(user_id) not in kept.split(" ")[2:], (operation.request.__name__, kept)
            assert await still.raw(operation, code, key=key, **body) == (*first[:2], True)


async def test_only_the_first_event_of_an_order_carries_the_key(still: Shop) -> None:
    """A rollback of an order under a key makes one event for each redemption, and the first has what is kept."""
    await still.put_workspace(coupons_per_order=2)
    await still.book("CODE-1", "CODE-2")
    for code in ("CODE-1", "CODE-2"):
        await still.redeem(code, "ann", orderId="A-1")
    first = await still.raw(rollback.ROLLBACK_ORDER, "A-1", key="k")
    events = (await still.read_outbox_entries())[-2:]
    assert ["i" in fields for _, fields in events] == [True, False]
    assert await still.raw(rollback.ROLLBACK_ORDER, "A-1", key="k") == (*first[:2], True)


async def test_a_refusal_is_not_kept(still: Shop) -> None:
    """A refused request leaves its key free, for itself and for another; so every refusal of every operation."""
    book = await still.book("CODE-1", valid_from_ms=NOW_MS + 1, require_assignment=True)
    await still.refuses("not_started", still.redeem("CODE-1", "ann", key="k"))
    await still.refuses("not_started", still.lock("CODE-1", "ann", key="k"))
    await still.refuses("lock_lost", still.extend("CODE-1", "x", key="k"))
    await still.refuses("order_not_found", still.rollback_order("A-1", key="k"))
    await still.change(book, valid_from_ms=None)
    assert (await still.assign_any(book, "ann", key="k"))[0] == 201
    await still.refuses("idempotency_key_reused", still.redeem("CODE-1", "ann", key="k", fingerprint="g"))
    assert (await still.redeem("CODE-1", "ann", key="other"))[0] == 201


@pytest.mark.parametrize("uses", [1, 2])
async def test_an_unlock_that_released_nothing_leaves_nothing(still: Shop, uses: int) -> None:
    """Of a lock that never was, was released before or has expired, an unlock succeeds, again and again, and neither
    stores its key nor changes anything else."""
    await still.book("CODE-1", max_redemptions_per_code=uses)
    tokens = ["never-was"]
    for _ in range(2):
        tokens.append((await still.lock("CODE-1", "ann", lockSeconds=10))[1]["lockToken"])
        if len(tokens) == 2:
            assert await still.raw(lock.UNLOCK, "CODE-1", key="released", lockToken=tokens[1]) == (204, None, False)
            assert await still.raw(lock.UNLOCK, "CODE-1", key="released", lockToken=tokens[1]) == (204, None, True)
    await still.wait(10_001)
    before = await still.everything()
    for token in tokens * 2:
        assert await still.raw(lock.UNLOCK, "CODE-1", key=f"key of {token}", lockToken=token) == (204, None, False)
    assert await still.everything() == before


async def test_a_key_lives_as_long_as_the_workspace_says(shop: Shop) -> None:
    """A stored answer has the workspace's time to live, by default 24 hours."""
    await shop.book("CODE-1", "CODE-2")
    await shop.book("TWICE-1", "TWICE-2", max_redemptions_per_code=2)
    for number, hours in ((1, 24), (2, 1)):
        await shop.put_workspace(idempotency_hours=hours)
        for code in (f"CODE-{number}", f"TWICE-{number}"):
            await shop.lock(code, "ann", key=code)
            left = await shop.link.call("PTTL", f"{shop.caller.prefix}i:{code}")
            assert hours * 3_600_000 - 60_000 < left <= hours * 3_600_000


@pytest.fixture
def workspace(still: Shop) -> Workspace:
    """What takes keys for requests off the hot path."""
    return Workspace(still.decider)


async def test_a_request_off_the_hot_path_claims_its_key(still: Shop, workspace: Workspace) -> None:
    """A claimed key is in progress for its request and reused for another; answered, it is replayed, and recorded."""
    caller: Caller = still.caller
    assert await workspace.claim_key(caller, "k", "f") is None
    before = await still.everything()
    await still.refuses("request_in_progress", workspace.claim_key(caller, "k", "f"))
    await still.refuses("idempotency_key_reused", workspace.claim_key(caller, "k", "g"))
    await still.refuses("request_in_progress", still.raw(lock.LOCK, "CODE-1", key="k", userId="ann"))
    assert await still.everything() == before
    await still.wait(7)
    await workspace.store_answer(caller, "k", "f", 201, '{"name":"ä b"}'.encode(), "/v1/books/x")
    event = await still.last_event()
    assert event["d"] == f"K 1 {NOW_MS + 7}"
    assert event["i"] == (await still.everything())[f"{caller.prefix}i:k"]
    assert event["i"].startswith("f 0 201 ")
    assert event["r"] == '{"key":"k","op":"request"}'
    assert await workspace.claim_key(caller, "k", "f") == (201, '{"name":"ä b"}'.encode(), "/v1/books/x")
    await still.refuses("idempotency_key_reused", workspace.claim_key(caller, "k", "g"))
    await workspace.store_answer(caller, "k", "f", 200, b"{}", "")
    assert (await workspace.claim_key(caller, "k", "f") or (0,))[0] == 201  # the first answer stays
    assert await workspace.claim_key(caller, "empty", "f") is None
    await workspace.store_answer(caller, "empty", "f", 204, b"", "")
    assert await workspace.claim_key(caller, "empty", "f") == (204, b"", "")


async def test_a_workspace_keeps_so_many_bytes(still: Shop) -> None:
    """With all bytes used a new claim is refused until the first hour ends; repeats and hot requests are not."""
    workspace, caller, hour_ms = Workspace(still.decider, 3000), still.caller, 3_600_000
    await still.put_workspace(idempotency_hours=2)
    await still.book("CODE-1")
    for n in range(3):
        assert await workspace.claim_key(caller, f"k{n}", "f") is None
        await workspace.store_answer(caller, f"k{n}", "f", 201, b"x" * 1000, "")
        await workspace.store_answer(caller, f"k{n}", "f", 201, b"x" * 1000, "")  # counts once
    with pytest.raises(Refusal) as refused:
        await workspace.claim_key(caller, "another", "f")
    ends_ms = hour_ms * ((NOW_MS + 2 * hour_ms) // hour_ms + 1) - NOW_MS
    assert (refused.value.code, refused.value.retry_after_ms) == ("key_quota", ends_ms)
    assert (await workspace.claim_key(caller, "k0", "f") or (0,))[0] == 201
    assert (await still.lock("CODE-1", "ann", key="hot"))[0] == 201
    await still.wait(ends_ms - 1)
    await still.refuses("key_quota", workspace.claim_key(caller, "another", "f"))
    await still.wait(1)
    assert await workspace.claim_key(caller, "another", "f") is None


async def test_stored_bytes_count_until_their_hour_is_over(still: Shop) -> None:
    """Each answer counts until the end of the hour in which it expires; a refused claim's Retry-After is the end of the
    first such hour."""
    caller, hour_ms = still.caller, 3_600_000
    workspace, counts = Workspace(still.decider, 2000), f"{caller.prefix}y"
    await still.put_workspace(idempotency_hours=2)
    for n in range(3):
        await workspace.store_answer(caller, f"k{n}", "f", 201, b"x" * 1000, "")
        await still.wait(hour_ms if n < 2 else 0)
    first = NOW_MS // hour_ms + 2
    stored = (await still.everything())[counts]
    assert set(stored) == {str(first + n) for n in range(3)}
    with pytest.raises(Refusal) as refused:
        await workspace.claim_key(caller, "another", "f")
    assert refused.value.retry_after_ms == hour_ms
    total = sum(map(int, stored.values()))
    await still.refuses("key_quota", Workspace(still.decider, total).claim_key(caller, "another", "f"))
    assert await Workspace(still.decider, total + 1).claim_key(caller, "another", "f") is None


async def test_a_claim_is_renewed_whatever_is_kept(still: Shop) -> None:
    """A request that runs isn't ended by others' answers."""
    workspace, caller = Workspace(still.decider, 500), still.caller
    await workspace.claim_key(caller, "long", "f")
    await workspace.claim_key(caller, "k", "f")
    await workspace.store_answer(caller, "k", "f", 201, b"x" * 1000, "")
    await still.refuses("key_quota", workspace.claim_key(caller, "another", "f"))
    await still.wait(CLAIM_MS // 2)
    await workspace.renew_claim(caller, "long", "f")
    await still.wait(CLAIM_MS - 1)
    await still.refuses("request_in_progress", workspace.claim_key(caller, "long", "f"))


async def test_a_claim_that_was_let_go_or_died_is_free(still: Shop, workspace: Workspace) -> None:
    """A refused request releases its key; one that died leaves it for a minute; neither leaves an event."""
    caller = still.caller
    await workspace.claim_key(caller, "k", "f")
    await workspace.release_key(caller, "k", "f")
    assert await workspace.claim_key(caller, "k", "g") is None
    await workspace.release_key(caller, "k", "f")  # one that was late lets nothing of another's go
    await workspace.store_answer(caller, "k", "f", 201, b"{}", "")
    await still.refuses("request_in_progress", workspace.claim_key(caller, "k", "g"))
    left = await still.link.call("PTTL", f"{caller.prefix}i:k")
    assert CLAIM_MS - 10_000 < left <= CLAIM_MS
    await still.wait(CLAIM_MS - 1)
    await still.refuses("request_in_progress", workspace.claim_key(caller, "k", "g"))
    await still.wait(1)
    assert await workspace.claim_key(caller, "k", "f") is None
    assert len(await still.events()) == 1
    # The claim of "late" has ended, and nobody has taken the key.
    await workspace.store_answer(caller, "late", "f", 201, b"{}", "")
    assert await workspace.claim_key(caller, "late", "f") == (201, b"{}", "")
    for key in ("late", "gone"):
        await workspace.renew_claim(caller, key, "f")  # there is no claim of it to renew
    assert await workspace.claim_key(caller, "late", "f") == (201, b"{}", "")
    assert await workspace.claim_key(caller, "gone", "g") is None


async def test_redemptions_that_an_answer_refers_to(still: Shop) -> None:
    """Each is replied with its record and its book's id; of one that isn't in the outbox the facts are asked for."""
    book = await still.book("CODE-1", "CODE-2")
    for code in ("CODE-1", "CODE-2"):
        await still.redeem(code, "ann")
    names = [event[0] for event in await still.events()][-2:]
    command = prepare_records(still.caller, names)
    redemptions = parse_records(await still.decide(command))
    assert {name: (record.split(" ")[4], of) for name, (record, of) in redemptions.items()} == {
        name: (f"CODE-{number}", str(book.book_id)) for number, name in enumerate(names, 1)
    }
    assert (await still.decider.run(0, "read_records", command.keys, (f"{names[0]} 1-999",)))[:2] == [RECALL, "1-999"]
    await still.record()
    assert parse_records(await still.decide(command)) == redemptions


async def test_restored_answers_are_counted_once(still: Shop) -> None:
    """The keys that a recovery brings back count, those off the hot path apart, in the hour in which they end, to the
    millisecond: not one that is here already, but one whose claim is here, or a key of the wrong type."""
    hour_ms, w, answer = 3_600_000, still.caller.prefix, "f 0 201 - {}"
    await still.at(NOW_MS + 999)
    left = hour_ms - 999
    await still.link.call("SET", f"{w}i:known", answer)
    await still.link.call("SET", f"{w}i:claimed", f"f c {NOW_MS}")
    await still.link.call("LPUSH", f"{w}i:list", "x")
    await still.gate("closed")
    ends = {"known": left, "claimed": left, "list": left, "new": left, "sooner": left - 1}
    args = [part for key, left_ms in ends.items() for part in (f"{w}i:{key}", answer, left_ms)]
    assert await still.work("restore_keys", [still.caller.gate], *args, f"{w}i:hot", "f 0 x", left) == [0]
    await still.gate("open")
    stored = await still.everything()
    hour = NOW_MS // hour_ms
    hot = str(len(f"{w}i:hot") + len("f 0 x") + 64)
    assert stored[f"{w}y"] == {str(hour + 1): str(3 * len(answer)), str(hour): str(len(answer)), f"h{hour + 1}": hot}
    assert {stored[f"{w}i:{key}"] for key in ends} == {answer}
