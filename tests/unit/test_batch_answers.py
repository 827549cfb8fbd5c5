"""The stored answer of a batch, and the replies that are read from it."""

import pytest
from hypothesis import given
from hypothesis import strategies as some

from service.engine.domain.errors import Refusal, invalid
from service.engine.domain.figures import refuse_outcome
from service.engine.formats.batch_answers import (
    KeptReply,
    OwnIds,
    batch_without_users,
    is_kept_batch,
    keep_batch,
    read_batch,
    reply_of,
)
from tests.harness.redemptions import redemption_record

BOOK = "0193b1f0-0000-7000-8000-000000000001"
ids = some.sampled_from(["20", "-", "%-", "@1-2", "a@b", "+3", "B", "x" * 100, "ann", "R", "=1"])
codes = some.sampled_from(["CODE", "20AB", "REDEEM-1", "1-23"])
events = some.builds(lambda epoch, seq: f"{epoch}-{seq}", some.integers(1, 3), some.integers(1, 9))


def record(event: str, user: str, order: str) -> str:
    return redemption_record(event=event, user=user, order=order, at_ms="1700000000000", request='{"ip":"1.2.3.4"}')


def view(code: str, owner: str, holder: str, last: str, user: str, order: str) -> str:
    rest = f"{last} {user} {order} 1700000000000" if last != "-" else "- - - -"
    return f"{BOOK} {code} assigned 0 1 {owner} 1 2 {holder} {order} 3 {rest}"


@some.composite
def replies(draw: some.DrawFn) -> tuple[OwnIds, list[object] | Refusal, dict[str, tuple[str, str]]]:
    """An operation's fields, its script's reply, and the records that the reply needs."""
    own = OwnIds(draw(codes), draw(ids), draw(ids))
    user, order, event, outcome = draw(ids), draw(ids), draw(events), draw(some.sampled_from([0, 1]))
    facts = record(event, f"u{event}", f"o{event}")
    coupon = view(draw(codes), draw(ids), draw(ids), draw(some.sampled_from(["-", event])), f"u{event}", f"o{event}")
    kinds: list[list[object] | Refusal] = [
        [outcome, facts, BOOK, 0],
        [outcome, coupon, "", 0],
        [outcome, f"{BOOK} {own.code} {user} {order} token 1700000300000 300000", "", 0],
        [outcome, "", "", 0],
        [outcome, draw(some.sampled_from(["0 2", "0 2 20 20 20 20", "5 2 10"])), coupon],
        Refusal("coupon_redeemed"),
        invalid("userId", "must\tbe\nso"),
        refuse_outcome(27, "5000000/4500000/USD/2"),
    ]
    return own, draw(some.sampled_from(kinds)), {event: (facts, BOOK)}


@given(some.lists(replies(), max_size=12))
def test_the_replies_come_back(asked: list[tuple[OwnIds, list[object] | Refusal, dict[str, tuple[str, str]]]]) -> None:
    """Each stored reply is read as the script returned it, whatever its ids are; so are refusals with their details."""
    kept = keep_batch("fsynced", "request-1", [(own, reply) for own, reply, _ in asked])
    records = {name: facts for _, _, some_records in asked for name, facts in some_records.items()}
    batch = read_batch(kept)
    assert is_kept_batch(kept)
    assert (batch.durability, batch.request_id) == ("fsynced", "request-1")
    for (own, reply, _), answer in zip(asked, batch.answers, strict=True):
        if isinstance(reply, Refusal):
            assert isinstance(answer, Refusal)
            assert (answer.code, answer.detail, answer.errors) == (reply.code, reply.detail, reply.errors)
            assert answer.figures == reply.figures
        else:
            assert isinstance(answer, KeptReply)
            assert set(answer.names) <= set(records)
            assert reply_of(answer, own, records) == reply


def test_batches_that_name_users() -> None:
    """A `B` names no user and never changes; in a `U` a pseudonym replaces a user, and no other field."""
    own = OwnIds("CODE", "ann", "20")
    lock = [0, f"{BOOK} CODE ann 20 token 17 5", "", 0]
    assert keep_batch("accepted", "r", [(own, lock)])[0] == "B"
    assert keep_batch("accepted", "r", [(own, [0, record("1-2", "bob", "o"), BOOK, 0])])[0] == "B"
    tried = [0, "0 2 20 20 20 20", view("CODE", "bob", "20", "1-2", "bob", "bob")]
    kept = keep_batch("accepted", "r", [(OwnIds("CODE"), lock), (OwnIds(), tried), (own, invalid("x", "bob bob ann"))])
    assert kept[0] == "U"
    changed = batch_without_users(kept, {"bob": "deleted-1", "ann": "deleted-2", "20": "deleted-3"})
    first, second, third = read_batch(changed).answers
    records = {"1-2": (record("1-2", "bob", "bob"), BOOK)}
    assert isinstance(first, KeptReply)
    assert isinstance(second, KeptReply)
    assert reply_of(first, OwnIds("CODE"), records) == [0, f"{BOOK} CODE deleted-2 20 token 17 5", "", 0]
    assert reply_of(second, OwnIds(), records) == [
        0, "0 2 20 20 20 20", view("CODE", "deleted-1", "deleted-3", "1-2", "bob", "bob")]  # fmt: skip
    assert isinstance(third, Refusal)
    assert batch_without_users(kept, {"other": "deleted-1"}) == kept


def test_a_thousand_redemptions_take_a_few_hundred_bytes() -> None:
    """1,000 redemptions take less than 200 bytes, in sequence or with other events between them."""
    for step, most in ((1, 200), (3, 200)):
        replies = [(OwnIds(), [0, record(f"7-{n}", "u", "o"), BOOK, 0]) for n in range(0, 1000 * step, step)]
        assert len(keep_batch("fsynced", "r", replies)) < most


def test_an_unknown_refusal_is_an_error() -> None:
    """A refusal whose code this version doesn't have raises ValueError."""
    refusal = Refusal("coupon_redeemed")
    refusal.outcome = refusal.outcome._replace(code="no_such_code")
    with pytest.raises(ValueError, match="no_such_code"):
        read_batch(keep_batch("fsynced", "r", [(OwnIds(), refusal)]))
