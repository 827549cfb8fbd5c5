"""A pseudonym takes a user's place in what Redis keeps; whatever else it keeps stays as it was, and adds up."""

import asyncio
import json
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import msgspec
import pytest

from service.engine.domain.field_types import encode_field
from service.engine.formats import key_names
from service.engine.formats.coupon_record import parse_coupon_record
from service.engine.formats.event_id import NO_EVENT
from service.engine.formats.events import parse_record
from service.engine.formats.idempotency_entry import PACKED_BYTES, without_users
from service.engine.formats.redemption_id import id_from_numbers
from service.engine.hot.decider import interpret_reply
from service.engine.hot.expired_locks import sweep_locks
from service.engine.hot.redis_server import Server
from service.server.in_redis.pseudonyms import KeyChange, UserCoupon, UserEraser, UserRedemption, page_entries
from service.server.in_redis.workspace_state import Workspace
from tests.harness.script_runner import NOW_MS
from tests.harness.shop import Shop, together
from tests.lua.outbox import read_outbox

GONE = "deleted-1"


BOUNDS: dict[str, Any] = {"budgets": [(90, "user", "month")], "use_limits": [(9, "user", "day")]}


class Eraser:
    """What the worker runs, on a shop."""

    def __init__(self, shop: Shop) -> None:
        self.shop, self.server = shop, Server(shop.link, 0)

    async def run(self, _: int, script: str, names: Any, args: Any) -> Any:
        """As the worker's own run."""
        return interpret_reply(await self.shop.work(script, names, *args))

    def of(self, user: str = "ann") -> UserEraser:
        self.shop.erased = True
        return UserEraser(self.run, 0, self.shop.workspace, user, GONE)

    async def spent(self, user: str = "ann") -> list[UserRedemption]:
        """The user's redemptions, as Postgres lists them."""
        outbox = read_outbox(await self.shop.read_outbox_entries(), is_erased=True)
        return [
            UserRedemption(
                event.id,
                event.book,
                event.code,
                name in outbox.rolled_back,
                event.discount_e4,
                event.at_ms if event.counted_ms is None else event.counted_ms,
            )
            for name, event in outbox.redeemed.items()
            if event.user == user and name not in self.shop.pseudonyms and not outbox.rolled_back.get(name)
        ]

    async def count(self, spent: Sequence[UserRedemption], user: str = "ann") -> None:
        await self.of(user).move_redemptions(spent)
        self.shop.pseudonyms |= {str(one.event): GONE for one in spent}

    async def finish(self, spent: Sequence[UserRedemption], user: str = "ann") -> None:
        """Put the pseudonym in what is recorded of them."""
        await self.shop.record()
        for one in spent:
            event = str(one.event)
            record = parse_record(self.shop.recorded[event])
            metadata = msgspec.json.decode(record.request).get("metadata")
            record.user, record.user_bucket = GONE, str(key_names.bucket(GONE))
            record.request = msgspec.json.encode({} if metadata is None else {"metadata": metadata}).decode()
            self.shop.recorded |= {event: str(record), id_from_numbers(*one.event, int(record.at_ms)): str(record)}
        await self.of(user).recall_redemptions(
            max([NO_EVENT, *(one.event for one in spent)]), [one.event for one in spent]
        )

    async def erase(self, user: str = "ann", orders: dict[str, str] | None = None) -> None:
        """All of the user's coupons and redemptions, as Postgres lists them; `orders` that coupons are gifts of."""
        w, everything = self.shop.caller.prefix, await self.shop.everything()
        held: list[UserCoupon] = []
        for name, text in everything.items():
            if name.startswith(f"{w}c:"):
                record, code = parse_coupon_record(text), name.removeprefix(f"{w}c:")
                if record and record.user == encode_field(user):
                    held.append(UserCoupon(code, int(record.assigned_at), (orders or {}).get(code)))
        await self.of(user).move_coupons(held)
        spent = await self.spent(user)
        await self.count(spent, user)
        await self.finish(spent, user)


@pytest.fixture
def eraser(still: Shop) -> Eraser:
    return Eraser(still)


async def none_recorded(keys: Sequence[str]) -> set[str]:
    """Those of some idempotency keys that Postgres doesn't have: all of them."""
    return set(keys)


async def kept(shop: Shop) -> dict[str, Any]:
    """All that Redis holds but the outbox."""
    return {name: value for name, value in (await shop.everything()).items() if name != key_names.outbox(0)}


async def test_an_assigned_coupon(still: Shop, eraser: Eraser, uses: int | None) -> None:
    """It is the pseudonym's since the same moment, with all counts; the user has nothing, and may be given another."""
    book = await still.book("CODE-1", "CODE-2", max_redemptions_per_code=uses, max_codes_per_user=1)
    await still.add(book, "CODE-1", expires_ms=NOW_MS + 10**6)
    await still.assign("CODE-1", "ann")
    coupon, stats = (await still.coupon("CODE-1"))[1], await still.stats(book)
    await eraser.erase()
    assert "ann" not in json.dumps(await kept(still))
    assert (await still.coupon("CODE-1"))[1] == coupon | {"userId": GONE}
    assert await still.stats(book) == stats
    assert (await still.held("ann"), await still.held(GONE)) == (0, 1)
    await still.refuses("coupon_assigned_to_other", still.redeem("CODE-1", "ann"))
    await still.refuses("coupon_assigned_to_other", still.assign("CODE-1", "ann"))
    assert (await still.assign("CODE-2", "ann"))[0] == 201
    assert (await still.unassign("CODE-1"))[1]["userId"] is None


async def test_redemptions(still: Shop, eraser: Eraser, uses: int | None) -> None:
    """They are the pseudonym's, without address and agent; the order's place stays taken; they can be taken back."""
    book = await still.book(
        "CODE-1", "CODE-2", "CODE-3", max_redemptions_per_code=uses, max_redemptions_per_user=2, **BOUNDS
    )
    await still.assign("CODE-1", "ann")
    metadata = {"note": 'a "b" \\ é', "n": [1, None]}
    asked = {"metadata": metadata, "orderValue": "10"}
    redeemed = [(await still.redeem(f"CODE-{n}", "ann", orderId=f"A-{n}", **asked))[1] for n in (1, 2)]
    await still.rollback(redeemed[1]["redemptionId"], restore=False)
    stats = await still.stats(book)
    await eraser.erase()
    everything = json.dumps(await kept(still))
    assert not [text for text in ('"ann', "ann ", '/ann"', "192.0.2.1", "tests") if text in everything]
    assert await still.stats(book) == stats
    await still.refuses("order_already_used", still.redeem("CODE-3", "ann", orderId="A-1"))
    await still.refuses("order_already_used", still.redeem("CODE-3", "ann", orderId="A-2"))
    for n in (3, 4):
        assert (await still.redeem("CODE-3", f"u{n}", orderId=f"A-{n}"))[0] == (201 if uses != 1 or n == 3 else 409)
    back = (await still.rollback(redeemed[0]["redemptionId"]))[1]
    assert (back["userId"], back["ipAddress"], back["userAgent"], back["metadata"]) == (GONE, None, None, metadata)
    assert (await still.stats(book))["users"] == (1 if uses == 1 else 2)
    assert (await still.redeem("CODE-2" if uses != 1 else "CODE-1", "bob", orderId="A-1"))[0] == (
        409 if uses == 1 else 201
    )


async def test_facts_that_were_read_before(still: Shop, eraser: Eraser) -> None:
    """A rollback that got the user from Postgres, before Postgres had the pseudonym, asks again."""
    await still.book("CODE-1")
    _, redeemed = await still.redeem("CODE-1", "ann", orderId="A-1")
    await still.record()
    still.meanwhile = eraser.erase
    _, rolled = await still.rollback(redeemed["redemptionId"])
    assert rolled["userId"] == GONE
    assert (await still.last_event())["d"].split(" ")[4] == GONE


async def test_what_is_not_the_users_stays(still: Shop, eraser: Eraser) -> None:
    """Another's coupons, those of the same id since, and codes that aren't there are left alone."""
    await still.book("CODE-1", "CODE-2", "CODE-4")
    await still.assign("CODE-1", "bob")
    await still.assign("CODE-2", "ann")
    await still.unassign("CODE-2")
    at_first = NOW_MS
    await still.wait(5)
    await still.assign("CODE-2", "ann")
    before = await still.everything()
    await eraser.of().move_coupons([UserCoupon(f"CODE-{n}", at_first) for n in (1, 2, 4, 5)])
    await eraser.of().move_coupons([UserCoupon("CODE-2", at_first, "A-1")])
    assert await still.everything() == before


async def test_a_repeat_does_nothing(still: Shop, eraser: Eraser, uses: int | None) -> None:
    """Erased twice is erased once; and what the returning user did between is the new user's."""
    book = await still.book("CODE-1", "CODE-2", "CODE-3", max_redemptions_per_code=uses)
    await still.add(book, "CODE-1", expires_ms=NOW_MS + 10**6)
    for code in ("CODE-1", "CODE-2"):
        await still.assign(code, "ann")
    await still.redeem("CODE-2", "ann", orderId="A-1")
    old = await eraser.spent()
    for _ in range(2):
        await eraser.of().move_coupons([UserCoupon("CODE-1", NOW_MS), UserCoupon("CODE-2", NOW_MS)])
        await eraser.count(old)
        before = await kept(still)
        await eraser.of().move_coupons([UserCoupon("CODE-1", NOW_MS), UserCoupon("CODE-2", NOW_MS)])
        await eraser.count(old)
        assert await kept(still) == before
    await still.redeem("CODE-3", "ann", orderId="A-2")
    await eraser.count(old)
    await eraser.finish(old)
    await eraser.finish(old)
    assert list((await kept(still))[f"{still.caller.prefix}e"]) == ["last"]
    stats = await still.stats(book)
    assert (stats["users"], stats["redemptions"]) == (2, 2)


async def test_the_same_user_in_many_pages(still: Shop, eraser: Eraser) -> None:
    """More than one run's worth is all done, and the limits that they count against hold for the pseudonym."""
    codes = [f"CODE-{n:03}" for n in range(130)]
    book = await still.book(*codes, max_redemptions_per_user=130)
    await together(*(still.assign(code, "ann") for code in codes))
    await together(*(still.redeem(code, "ann", orderId=f"o{code}") for code in codes[:70]))
    await eraser.erase()
    assert "ann" not in json.dumps(await kept(still))
    assert (await still.held(GONE), (await still.stats(book))["users"]) == (60, 1)


async def test_a_gift(still: Shop, eraser: Eraser) -> None:
    """An order's gift is the pseudonym's, and the order has had it; one that was taken back names no user."""
    book = await still.book("CODE-1", "CODE-2", "CODE-3")
    gift = (await still.gift(book, "ann", "A-1"))[1]["code"]
    back = (await still.gift(book, "ann", "A-2"))[1]["code"]
    await still.rollback_order("A-2")
    orders = {gift: "A-1", back: "A-2"}
    await eraser.erase(orders=orders)
    await eraser.of().move_coupons(UserCoupon(code, NOW_MS, order) for code, order in orders.items())
    assert "ann" not in json.dumps(await kept(still))
    await still.refuses("order_already_used", still.gift(book, "ann", "A-1"))
    assert (await still.gift(book, GONE, "A-1"))[1]["code"] == gift
    assert (await still.rollback_order("A-1"))[0] == 200


async def test_locks_on_a_coupon_of_the_users_end(still: Shop, eraser: Eraser, uses: int | None) -> None:
    """They end, since no request could redeem under them; what they held of limits is free."""
    book = await still.book(
        "CODE-1", "CODE-2", max_redemptions_per_code=uses, max_redemptions_per_user=1, max_redemptions=1
    )
    await still.assign("CODE-1", "ann")
    assert (await still.lock("CODE-1", "ann", orderId="A-1"))[0] == 201
    await eraser.erase()
    assert "ann" not in json.dumps(await kept(still))
    assert (await still.lock("CODE-2", "ann", orderId="A-1"))[0] == 201
    assert (await still.stats(book))["locked_assigned"] == 0


async def test_other_locks_stay_until_their_end_and_are_swept_then(
    still: Shop, eraser: Eraser, uses: int | None
) -> None:
    """The holder of a lock on a free coupon may redeem; once it has expired nothing names the user."""
    book = await still.book("CODE-1", "CODE-2", max_redemptions_per_code=uses)
    token = (await still.lock("CODE-1", "ann", lockSeconds=10))[1]["lockToken"]
    await still.lock("CODE-2", "ann", orderId="A-1", lockSeconds=10)
    await eraser.erase()
    assert await sweep_locks(eraser.server, eraser.run, lambda _: nullcontext()) == 0
    assert (await still.redeem("CODE-1", "ann", lockToken=token))[0] == 201
    await eraser.erase()
    await still.wait(10_000)
    assert await sweep_locks(eraser.server, eraser.run, lambda _: nullcontext()) == 1
    assert "ann" not in json.dumps(await kept(still))
    assert await sweep_locks(eraser.server, eraser.run, lambda _: nullcontext()) == 0
    assert (await still.assign_any(book, "bob"))[0] == 201


async def test_very_many_expired_locks_are_swept(still: Shop, eraser: Eraser) -> None:
    """Of more coupons than one run takes, and of one coupon more than are forgotten at a time."""
    book = await still.book(*(f"CODE-{n}" for n in range(45)))
    await still.book("MANY-1", max_redemptions_per_code=None)
    await still.assign("CODE-0", "ann")
    await together(*(still.lock(f"CODE-{n}", "ann", lockSeconds=1) for n in range(45)))
    await together(*(still.lock("MANY-1", "ann", orderId=f"A-{n}", lockSeconds=1) for n in range(45)))
    await still.wait(1000)
    assert await sweep_locks(eraser.server, eraser.run, lambda _: nullcontext()) >= 46
    assert not [name for name in await kept(still) if ":l:" in name or ":k:" in name]
    assert (await still.stats(book))["assigned"] == 1


async def test_the_counts_of_a_users_locks_go_by_themselves(still: Shop) -> None:
    """The key that names the user lasts to an hour after the last lock, and no longer."""
    await still.book("CODE-1", max_redemptions_per_code=None, max_redemptions_per_user=9)
    for seconds, last in ((10, 10), (1000, 1000), (20, 1000), (2000, 2000)):
        await still.lock("CODE-1", "ann", orderId=f"A-{seconds}", lockSeconds=seconds)
        left_ms = await still.link.call("PTTL", f"{still.caller.prefix}lu:1:ann")
        assert 3_590_000 < left_ms - last * 1000 <= 3_600_000


async def test_a_cap_and_the_last_event(still: Shop, eraser: Eraser) -> None:
    """A cap of the deletion's version goes, a newer one stays; the outbox's last entry names no user."""
    await still.user("ann", 5)
    await still.user("ann", None)
    await eraser.of().finish(still.version)
    assert "ann" not in json.dumps(await kept(still))
    assert (await still.last_event())["d"] == f"K 1 {NOW_MS}"
    await still.user("ann", 1)
    await eraser.of().finish(still.version - 1)
    assert (await kept(still))[f"{still.caller.prefix}u:ann"] == {"cap": f"{still.version} 1"}


async def test_what_idempotency_keys_answer(still: Shop, eraser: Eraser) -> None:
    """No stored answer names the user; a repeat has the user that it names itself, else the pseudonym."""
    await still.book("CODE-1", "CODE-2", "CODE-3", "CODE-4", "MANY-1", max_redemptions_per_code=9)
    book = await still.book("GIFT-1", "GIFT-2")
    asked: list[tuple[Any, str, str, dict[str, Any]]] = [
        (still.assign, "CODE-1", "ann", {}),
        (still.assign, "CODE-2", "bob", {}),
        (still.redeem, "MANY-1", "ann", {"orderId": "ann"}),
        (still.lock, "CODE-3", "ann", {"orderId": "A-1"}),
    ]
    first = [await ask(code, user, key=f"k-{n}", **body) for n, (ask, code, user, body) in enumerate(asked)]
    seen = await still.assign("MANY-1", "bob", key="k-seen")
    gift = await still.gift(book, "ann", "A-9", key="k-gift")
    purchase = {"code": "CODE-4", "giftBookId": str(book.book_id), "key": "k-bought"}
    _, bought = await still.checkout("ann", "A-7", **purchase)
    ttl = await still.link.call("PTTL", f"{still.caller.prefix}i:k-0")
    await eraser.erase(orders={gift[1]["code"]: "A-9"})
    async for page in page_entries(eraser.server, eraser.run, still.workspace, none_recorded):
        changes = [KeyChange(key, entry, without_users(entry, {"ann": GONE})) for key, entry in page]
        await eraser.of().replace_entries(change for change in changes if change.new != change.old)
    entries = {name: text for name, text in (await kept(still)).items() if ":i:" in name}
    assert not [text for text in entries.values() if " ann " in text.replace(f"{GONE} ann ", "")]
    repeats = [await ask(code, user, key=f"k-{n}", **body) for n, (ask, code, user, body) in enumerate(asked)]
    for (status, body), (repeated, answer) in zip(first, repeats, strict=True):
        whose = GONE if body["userId"] == "ann" and "redemptionId" in body else body["userId"]
        expected = body | {"userId": whose, "replayed": True}
        assert (repeated, answer) == (status, expected | {n: None for n in ("ipAddress", "userAgent") if n in body})
    assert (await still.assign("MANY-1", "bob", key="k-seen"))[1]["lastRedemption"]["userId"] == GONE
    assert seen[1]["lastRedemption"]["userId"] == "ann"
    assert (await still.gift(book, "ann", "A-9", key="k-gift"))[1]["userId"] == "ann"
    _, again = await still.checkout("ann", "A-7", **purchase)
    users = bought["gift"]["userId"], again["gift"]["userId"], again["redemption"]["userId"]
    assert users == ("ann", "ann", GONE)
    assert 0 < await still.link.call("PTTL", f"{still.caller.prefix}i:k-0") <= ttl


async def test_what_other_requests_were_answered(still: Shop, eraser: Eraser) -> None:
    """A quarantined event, packed or not, has the pseudonym as its user and in its text."""
    workspace = Workspace(still.decider)
    one = {"eventId": "1-2", "userId": "ann", "orderId": "ann"}
    one["text"] = "redeemed, code C by user ann in order ann."
    bodies = {"small": one, "large": one | {"reason": "x" * PACKED_BYTES}}
    for key, body in bodies.items():
        await workspace.claim_key(still.caller, key, "print")
        await workspace.store_answer(still.caller, key, "print", 202, msgspec.json.encode(body), "")
    async for page in page_entries(eraser.server, eraser.run, still.workspace, none_recorded):
        changes = [KeyChange(key, entry, without_users(entry, {"ann": GONE, "-": "deleted-2"})) for key, entry in page]
        assert all(change.new != change.old for change in changes)
        await eraser.of().replace_entries(changes)
    gone = {"userId": GONE, "text": f"redeemed, code C by user {GONE} in order ann."}
    for key, body in bodies.items():
        answer = await workspace.claim_key(still.caller, key, "print")
        assert answer is not None
        assert (answer[0], msgspec.json.decode(answer[1])) == (202, body | gone)


async def test_an_entry_that_changed_meanwhile_stays(still: Shop, eraser: Eraser) -> None:
    """Only what is still as it was read is written, and a key whose time is over is not brought back."""
    await still.book("CODE-1")
    await still.assign("CODE-1", "ann", key="k")
    before = await still.everything()
    await eraser.of().replace_entries([KeyChange("k", "another", "new"), KeyChange("never", "old", "new")])
    assert await still.everything() == before


async def test_what_was_spent_of_budgets_that_are_no_more(still: Shop, eraser: Eraser) -> None:
    """Nothing in Redis names the user after the deletion."""
    book = await still.book("CODE-1", "CODE-2", **BOUNDS)
    await still.redeem("CODE-1", "ann", orderId="A-1", orderValue="10")
    await still.change(book, budgets=[], use_limits=[])
    await eraser.erase()
    assert "ann" not in json.dumps(await kept(still))


async def test_an_id_that_is_a_dash(still: Shop, eraser: Eraser) -> None:
    """The user `-`, which records write in another way, is erased like any."""
    await still.book("CODE-1", "CODE-2")
    await still.assign("CODE-1", "-")
    await still.redeem("CODE-2", "-", orderId="-")
    await eraser.erase("-")
    stored = await kept(still)
    assert f"{still.caller.prefix}u:%-" not in stored
    assert (await still.coupon("CODE-1"))[1]["userId"] == GONE
    assert (await still.coupon("CODE-2"))[1]["lastRedemption"]["userId"] == GONE


async def test_while_the_user_buys(shop: Shop) -> None:
    """A hundred redeems and assigns race with the erasing, and at the end every count is right."""
    eraser = Eraser(shop)
    codes = [f"CODE-{n:03}" for n in range(200)]
    book = await shop.book(*codes)
    await together(*(shop.assign(code, "ann") for code in codes[:50]))
    asked = [shop.redeem(code, "ann", orderId=f"o{code}") for code in codes[:100]]
    asked += [shop.assign(code, "ann") for code in codes[100:]]
    answers, _ = await asyncio.gather(together(*asked), eraser.erase())
    assert all(status == 201 or code == "coupon_assigned_to_other" for status, code in answers)
    await eraser.erase()
    stats = await shop.stats(book)
    assert (stats["users"], "ann" in json.dumps(await kept(shop))) == (1, False)
