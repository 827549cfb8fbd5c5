"""Limits on requests and misses: counted exactly, and what they refuse changes nothing else."""

import pytest

from service.engine.domain.limits import address_counter
from service.engine.operations import coupon_view, lock, redeem
from tests.harness.script_runner import NOW_MS
from tests.harness.shop import Shop, tally, together


async def test_of_hundreds_at_once_as_many_pass_as_the_limit_says(shop: Shop) -> None:
    """Of 200 simultaneous requests of a key that may ask 50 times a minute 50 are answered, 150 aren't."""
    await shop.book(*(f"CODE-{n:04}" for n in range(200)))
    shop.limit(requests_per_minute=50)
    answers = await together(*(shop.lock(f"CODE-{n:04}", f"u{n}") for n in range(200)))
    assert tally(answers) == {201: 50, (429, "rate_limited"): 150}


async def test_misses_are_counted_exactly(shop: Shop) -> None:
    """Of 200 simultaneous guesses of a key that may miss 20 times a minute 20 are answered, 180 refused."""
    shop.limit(misses_per_minute=20)
    answers = await together(*(shop.redeem(f"GUESS-{n:04}", "eve") for n in range(200)))
    assert tally(answers) == {(404, "coupon_not_found"): 20, (429, "too_many_misses"): 180}


@pytest.mark.parametrize("limit", ["misses_per_minute", "address_misses_per_minute"])
async def test_after_too_many_misses_no_code_is_looked_up(still: Shop, limit: str) -> None:
    """After as many misses as are allowed even a code that there is isn't looked up; other keys are answered."""
    await still.book("CODE-1", "CODE-2")
    await still.assign("CODE-2", "bob")
    others = still.caller
    still.limit(**{limit: 2})  # type: ignore[arg-type]
    assert await still.redeem("NO-SUCH", "eve") == (404, "coupon_not_found")
    assert (await still.lock("CODE-1", "eve"))[0] == 201
    assert not [name for name in await still.everything() if ":lk:" in name]  # its live locks have no limit
    assert await still.redeem("CODE-2", "eve") == (409, "coupon_assigned_to_other")
    for ask in (still.lock, still.redeem, still.assign):
        await still.refuses("too_many_misses", ask("CODE-1", "eve"))
    await still.refuses("too_many_misses", still.coupon("CODE-1"))
    assert still.refusal
    assert 59_000 < (still.refusal.retry_after_ms or 0) <= 60_000
    mine, still.caller = still.caller, others
    assert (await still.redeem("CODE-1", "eve"))[0] == 201
    still.caller, still.address = mine, "192.0.2.2"
    expected = (409, "coupon_redeemed") if limit.startswith("address") else (429, "too_many_misses")
    assert await still.redeem("CODE-1", "ann") == expected


async def test_a_minute_later_all_is_as_before(shop: Shop) -> None:
    """A counter ends with its minute, and the next begins with the next that it counts."""
    await shop.book("CODE-1")
    shop.limit(requests_per_minute=1, misses_per_minute=1)
    assert await shop.coupon("NO-SUCH") == (404, "coupon_not_found")
    counters = [f"{shop.caller.prefix}q:{kind}:{shop.caller.limit_key}" for kind in "rm"]
    for counter in counters:
        left_ms = await shop.link.call("PTTL", counter)
        assert 50_000 < left_ms <= 60_000
    await shop.link.call("PEXPIRE", counters[0], 30_000)
    refused, retry_ms = await shop.retry_after_ms(shop.coupon, "CODE-1")
    assert refused == "rate_limited"
    assert 20_000 < (retry_ms or 0) <= 30_000
    for counter in counters:
        await shop.link.call("DEL", counter)  # as its end does
    assert (await shop.coupon("CODE-1"))[0] == 200


async def test_a_minute_begins_with_its_first_request(shop: Shop) -> None:
    """A counter's end does not move while requests are counted."""
    await shop.book("CODE-1")
    shop.limit(requests_per_minute=9)
    counter = f"{shop.caller.prefix}q:r:{shop.caller.limit_key}"
    await shop.coupon("CODE-1")
    await shop.link.call("PEXPIRE", counter, 30_000)
    await shop.coupon("CODE-1")
    assert await shop.link.call("PTTL", counter) <= 30_000


async def test_answers_have_what_is_left_of_limits(still: Shop) -> None:
    """By turns name, limit, left and seconds; a refusal, too, and where nothing limits nothing."""
    await still.book("CODE-1")
    assert (await still.lock("CODE-1", "ann"))[0] == 201
    assert still.rates == ""
    still.limit(requests_per_minute=9, misses_per_minute=2, address_misses_per_minute=9)
    assert (await still.lock("CODE-1", "ann"))[0] == 200
    assert still.rates == "requests 9 8 60 misses 2 2 60 address 9 9 60"
    assert await still.retry_after_ms(still.lock, "NO-SUCH", "ann") == ("coupon_not_found", None)
    assert still.rates == "requests 9 7 60 misses 2 1 60 address 9 8 60"
    assert await still.lock("NO-SUCH", "ann") == (404, "coupon_not_found")
    assert await still.lock("NO-SUCH", "ann") == (429, "too_many_misses")
    assert still.rates == "requests 9 6 60 misses 2 0 60 address 9 7 60"
    still.limit(address_misses_per_minute=1)  # another key's, of the same address
    assert await still.lock("CODE-1", "ann") == (429, "too_many_misses")
    assert still.rates == "address 1 0 60"


async def test_every_refusal_of_a_public_key_is_the_same_miss(still: Shop) -> None:
    """A public key's misses are the same, whatever is wrong with the code, in words, length and what is left."""
    await still.book("CODE-1", "CODE-2", "CODE-3", "CODE-4")
    await still.redeem("CODE-2", "bob")
    await still.assign("CODE-3", "bob")
    seen = set()
    for code in ("NO-SUCH", "CODE-2", "CODE-3"):
        still.limit(scopes=["public"], address_misses_per_minute=1)
        still.address = f"192.0.2.{len(code) + int(code[-1]) if code[-1].isdigit() else 1}"
        assert (await still.validate("CODE-1", userId="eve"))[1]["valid"]
        assert still.rates == "address 1 1 60"
        seen.add((str(await still.validate(code, userId="eve")), still.rates))
        await still.refuses("too_many_misses", still.validate("CODE-1", userId="eve"))
    assert len(seen) == 1
    still.address = "192.0.2.99"
    await still.validate("CODE-1", orderValue="1.005")
    assert (still.refusal and still.refusal.code, still.rates) == ("invalid", "address 1 0 60")


async def test_a_told_reason_is_no_miss(still: Shop) -> None:
    """What a book tells a public key is no miss; what it hides is one, as of a book that tells nothing."""
    book = await still.book("CODE-1", valid_until_ms=NOW_MS, public_reasons=True)
    await still.add(book, "CODE-2", owner_id="bob")
    await still.book("CODE-3", valid_until_ms=NOW_MS)
    for code, left in (("CODE-1", 1), ("CODE-2", 0), ("CODE-3", 0)):
        still.limit(scopes=["public"], address_misses_per_minute=1)
        still.address = f"192.0.2.{code[-1]}"
        assert not (await still.validate(code, userId="eve"))[1]["valid"]
        assert still.rates == f"address 1 {left} 60"


@pytest.mark.parametrize("scopes", [["manage"], ["public", "manage"]])
async def test_a_managers_misses(still: Shop, scopes: list[str]) -> None:
    """A key that sees no validate's reasons misses by an unknown code, not by what succeeds or is refused otherwise."""
    await still.book("CODE-1")
    still.limit(scopes=scopes, misses_per_minute=1)
    assert [(await still.coupon("CODE-1"))[0] for _ in range(2)] == [200, 200]
    assert await still.unassign("CODE-1") == (409, "coupon_not_assigned")
    assert still.rates.startswith("misses 1 1 60")
    assert await still.coupon("NO-SUCH") == (404, "coupon_not_found")
    assert await still.coupon("CODE-1") == (429, "too_many_misses")


async def test_a_books_misses(still: Shop) -> None:
    """After a book's misses a further one gets no reason; other requests and books do, and public keys miss on none."""
    await still.book("CODE-1", "CODE-2", limits={"missesPerMinute": 2})
    await still.book("CODE-3")
    for code in ("CODE-2", "CODE-3"):
        await still.assign(code, "bob")
    still.limit(of_books=True, scopes=["public"])
    assert {(await still.validate("CODE-2", userId="eve"))[0] for _ in range(3)} == {200}
    still.limit(of_books=True)
    for _ in range(2):
        assert await still.redeem("CODE-2", "eve") == (409, "coupon_assigned_to_other")
    assert await still.redeem("CODE-2", "eve") == (429, "too_many_misses")
    assert await still.redeem("CODE-3", "eve") == (409, "coupon_assigned_to_other")
    assert (await still.redeem("CODE-1", "ann"))[0] == 201
    assert (await still.redeem("CODE-2", "bob"))[0] == 201


async def test_a_validate_that_names_another_is_a_miss(still: Shop) -> None:
    """A validate that reveals another user's coupon is a miss, and is limited as a redeem is."""
    await still.book("CODE-1", "CODE-2", limits={"missesPerMinute": 2})
    await still.assign("CODE-1", "bob")
    still.limit(of_books=True, misses_per_minute=3)
    for left, lost in ((2, {}), (1, {"lockToken": "lost"})):
        reasons = (await still.validate("CODE-1", userId="eve", **lost))[1]["reasons"]
        assert reasons == ["coupon_assigned_to_other", *(["lock_lost"] if lost else [])]
        assert still.rates == f"misses 3 {left} 60"
    assert (await still.validate("CODE-1", userId="bob"))[1]["valid"]
    assert (await still.validate("CODE-2", userId="eve"))[1]["valid"]
    assert (await still.validate("CODE-2", lockToken="lost"))[1]["reasons"] == ["lock_lost"]
    assert still.rates == "misses 3 1 60"
    assert await still.validate("CODE-1", userId="eve") == (429, "too_many_misses")
    assert still.rates == "misses 3 0 60"
    await still.refuses("too_many_misses", still.validate("CODE-2", userId="eve"))


async def test_books_without_a_limit_have_the_workspaces(still: Shop) -> None:
    """A workspace's limit of a book's misses goes for each book that has none of its own."""
    await still.put_workspace(limits={"books": {"missesPerMinute": 1}})
    await still.book("CODE-1", limits={"missesPerMinute": 2})
    await still.book("CODE-2")
    for code in ("CODE-1", "CODE-2"):
        await still.assign(code, "bob")
    still.limit(of_books=True)
    statuses = [(await still.redeem(code, "eve"))[0] for code in ("CODE-1", "CODE-1", "CODE-1", "CODE-2", "CODE-2")]
    assert statuses == [409, 409, 429, 409, 429]


async def test_a_request_that_is_not_decided_is_not_counted(still: Shop) -> None:
    """A request that a closed gate refuses, and one that is refused for its limit, counts nowhere."""
    await still.book("CODE-1")
    still.limit(requests_per_minute=1)
    await still.gate("closed")
    await still.refuses("recovering", still.coupon("CODE-1"))
    await still.gate("full")
    await still.refuses("behind", still.lock("CODE-1", "ann"))
    await still.gate("open")
    assert (await still.coupon("CODE-1"))[0] == 200
    for state in ("full", "behind", "open"):
        await still.gate(state)
        await still.refuses("rate_limited", still.coupon("CODE-1"))
    await still.gate("closed")
    await still.refuses("recovering", still.coupon("CODE-1"))
    await still.gate("open")


async def test_facts_that_are_asked_for_count_once(still: Shop) -> None:
    """A request that is run again with facts from Postgres is one."""
    await still.book("CODE-1")
    await still.redeem("CODE-1", "ann", orderId="A-1")
    await still.record()
    still.limit(requests_per_minute=5)
    assert (await still.redeem("CODE-1", "ann", orderId="A-1"))[0] == 200
    assert still.recalled
    assert still.rates == "requests 5 4 60"


async def test_a_limited_answer_is_the_plain_one(still: Shop) -> None:
    """But for what is left it is the same, first and repeated."""
    await still.book("CODE-1", "CODE-2")
    plain = still.caller
    for operation, body in ((lock.LOCK, {"userId": "ann"}), (redeem.REDEEM, {"userId": "ann"}), (coupon_view.READ, {})):
        answers = []
        for code, limits in (("CODE-1", 0), ("CODE-2", 1)):
            still.caller = plain
            if limits:
                still.limit(requests_per_minute=100)
            status, answer = await still.do(operation, code, key=f"{operation.request.__name__}{code}", **body)
            answers.append((status, set(answer)))
            assert (await still.do(operation, code, key=f"{operation.request.__name__}{code}", **body))[0] == status
        assert answers[0] == answers[1]


def test_addresses_of_one_customer_share_a_counter() -> None:
    """Those of an IPv6 /64 do; others don't, but by chance. An IPv4 address within IPv6 is itself."""
    salt = b"x" * 16
    same = {address_counter(f"2001:db8:1:2::{n}", salt) for n in range(1, 50)}
    assert len(same) == 1
    assert same == {address_counter("2001:db8:1:2:ffff::1", salt)}
    assert address_counter("::ffff:192.0.2.1", salt) == address_counter("192.0.2.1", salt)
    assert len({address_counter(f"10.1.{n // 256}.{n % 256}", salt) for n in range(5000)}) > 4800
    assert address_counter("192.0.2.1", salt) != address_counter("192.0.2.1", b"y" * 16)
    assert max(address_counter(f"10.{n // 65536}.{n // 256 % 256}.{n % 256}", salt) for n in range(20_000)) < 131_072
