"""A load's ledger and memory; how a request is asked until it is answered."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from loadtests.ledger import Entry, Ledger, read_entries
from loadtests.watch import GROWTH_MIB, growth
from loadtests.wire import Answer, Ask


def entry(**fields: object) -> Entry:
    """A buyer's request to redeem."""
    return msgspec.structs.replace(
        Entry("Buyer", "redeem", "/v1/coupons/redeem/CODE", {"userId": "ann"}, "k"), **fields
    )


def answered(status: int, body: bytes, **headers: str) -> Entry:
    one = entry()
    one.enter_response(Answer(status, {name.replace("_", "-"): value for name, value in headers.items()}, body))
    return one


def test_what_answers_say_is_entered() -> None:
    """Redemption, gift, assignment, rollbacks and refusal are taken from where each answer has them."""
    redeemed = answered(201, b'{"redemptionId": "r", "rolledBackAt": null, "durability": "fsynced"}')
    assert (redeemed.redemption, redeemed.durability) == (redeemed.response, "fsynced")
    bought = answered(201, b'{"redemption": {"redemptionId": "r", "rolledBackAt": null}, "gift": {"code": "G"}}')
    assert (bought.redemption, bought.assignment) == (bought.response["redemption"], {"code": "G"})
    nothing = answered(201, b'{"redemption": null, "gift": null}')
    assert (nothing.redemption, nothing.assignment) == (None, None)
    back = answered(200, b'{"redemptionId": "r", "rolledBackAt": "now"}')
    back.path = "/v1/redemptions/r/rollback"
    assert (back.redemption, back.rollbacks) == (None, [back.response])
    refused = answered(503, b'{"code": "behind"}', retry_after="2")
    assert (refused.refusal, refused.retry_after, refused.redemption) == ("behind", "2", None)
    assert answered(204, b"").refusal == ""


@pytest.mark.parametrize("body", [b"<html>", b"\xff", b"[]", b""])
def test_what_is_no_answer_of_ours_is_never_taken_for_one(body: bytes) -> None:
    """A proxy's page is an unexpected refusal with any status; so is a refusal without a code."""
    assert answered(200, body).refusal == answered(502, body).refusal == "unreadable"
    assert answered(404, b"{}").refusal == "nameless"


def test_the_digest_tells_any_two_answers_apart() -> None:
    """By body and by status, but for how durable they are."""
    pair = (201, b'{"a": 1, "durability": "accepted", "b": 2}'), (201, b'{"a": 1, "durability": "fsynced", "b": 2}')
    assert answered(*pair[0]).digest == answered(*pair[1], idempotency_replayed="true").digest
    assert len({answered(*pair).digest for pair in ((201, b'{"a": 1}'), (200, b'{"a": 1}'), (201, b'{"a": 2}'))}) == 3


def test_a_ledger_is_read_as_it_was_written(tmp_path: Path) -> None:
    """All of it, also what a second process of the load wrote."""
    written = [entry(status=201, response={"code": "CODE"}, answered_ms=1.5), entry(status=0, wanted=False)]
    with Ledger([], "", tmp_path) as ledger:
        for one in written:
            ledger.write(one)
    (tmp_path / "ledger-0.jsonl").write_bytes(msgspec.json.encode(entry(buyer="Guesser")) + b"\n")
    assert list(read_entries(tmp_path)) == [entry(buyer="Guesser"), *written]
    assert ledger.entries == written


def test_a_broken_ledger_is_not_judged(tmp_path: Path) -> None:
    """A line that was cut off is an error, not a line less."""
    (tmp_path / "ledger-1.jsonl").write_bytes(msgspec.json.encode(entry())[:-9])
    with pytest.raises(msgspec.DecodeError):
        list(read_entries(tmp_path))


async def asked(answers: list[Any], key: str | None = None) -> list[Entry]:
    """The entries of one request, where the service answers so, in turn; an exception breaks the connection."""
    left = iter(answers)

    async def answer(ask: Ask) -> Answer:
        if isinstance(reply := next(left), Exception):
            raise reply
        return Answer(reply[0], {"retry-after": "1"} if reply[0] == 503 else {}, b'{"code": "%b"}' % reply[1].encode())

    ledger = Ledger(["http://127.0.0.1:1"], "", hasty=True)
    ledger._barrages[0].ask = answer
    await ledger.ask("redeem", "/v1/coupons/redeem/CODE", {}, "coupon_redeemed", key=key)
    assert list(left) == []
    return ledger.entries


async def test_a_request_is_sent_again_until_it_is_answered() -> None:
    """Under one key; each time it is sent is an entry, and the last is final."""
    busy, cut, late = (409, "request_in_progress"), ConnectionResetError(), (503, "recovering")
    entries = await asked([cut, late, busy, (503, "outcome_unknown"), (201, "")])
    assert [(one.status, one.refusal, one.final) for one in entries] == [
        (0, "ConnectionResetError", False), (503, "recovering", False), (409, "request_in_progress", False),
        (503, "outcome_unknown", False), (201, "", True),
    ]  # fmt: skip
    assert len({one.key for one in entries}) == len({one.asked_ms for one in entries}) == 1
    assert all(one.wanted for one in entries)


async def test_what_has_no_key_is_sent_again_only_where_nothing_was_done() -> None:
    """Its outcome stays unknown otherwise."""
    for last in (ConnectionResetError(), (503, "outcome_unknown")):
        entries = await asked([(503, "recovering"), last], key="")
        assert [(one.final, one.is_unknown) for one in entries] == [(False, False), (True, True)]


async def test_an_answer_that_nobody_expects_is_marked() -> None:
    """A refusal that was expected, and others."""
    assert [one.wanted for one in await asked([(409, "coupon_redeemed")])] == [True]
    assert [one.wanted for one in await asked([(409, "coupon_locked")])] == [False]
    assert [one.wanted for one in await asked([(200, "")])] == [False]


def test_only_what_should_not_grow_is_said_to() -> None:
    """A process that goes on growing is named; one that filled up at first or grew a little, and Redis, are not."""
    growing = [100.0 + number * GROWTH_MIB for number in range(10)]
    filled = [100.0, 500.0, *[900.0] * 8]
    a_little = [1000.0 + number * GROWTH_MIB / 2 for number in range(10)]
    assert growth({"api": growing, "worker": filled, "redis": growing}) == ["api grew from 388 to 644 MiB"]
    assert growth({"api": a_little, "worker": [10.0 + 2 * number for number in range(20)]}) == []
