"""A load's ledger, plots and memory."""

from pathlib import Path

import msgspec
import pytest

from loadtests.ledger import Entry, Ledger, entries
from loadtests.plan import Book
from loadtests.plots import Series, draw, plot
from loadtests.watch import GROWTH_MIB, growth


def entry(**said: object) -> Entry:
    """A buyer's request to redeem."""
    return msgspec.structs.replace(Entry("Buyer", "redeem", "k", "ann", "o-1", "b", "CODE"), **said)


def answered(status: int, body: bytes, **told: str) -> Entry:
    """The request, answered so."""
    one = entry()
    one.answered(status, body, told.get("retry_after", ""), "replayed" in told)
    return one


def test_what_answers_say_is_entered() -> None:
    """Redemption, gift, coupon, deadline and refusal are taken from where each answer has them."""
    redeemed = answered(201, b'{"redemptionId": "r", "code": "CODE", "finalAmount": "9.00"}')
    assert (redeemed.redemption_id, redeemed.got, redeemed.amount, redeemed.gift) == ("r", "CODE", "9.00", "")
    bought = answered(
        201, b'{"redemption": {"redemptionId": "r", "code": "C", "finalAmount": null}, "gift": {"code": "G"}}'
    )
    assert (bought.redemption_id, bought.got, bought.amount, bought.gift) == ("r", "C", "", "G")
    nothing = answered(201, b'{"redemption": null, "gift": null, "finalAmount": "9.00"}')
    assert (nothing.redemption_id, nothing.got, nothing.gift) == ("", "", "")
    locked = answered(201, b'{"lockToken": "t", "code": "CODE", "expiresAt": "1970-01-01T00:00:02.345Z"}')
    assert (locked.got, locked.until_ms) == ("CODE", 2345)
    refused = answered(503, b'{"code": "behind"}', retry_after="2")
    assert (refused.refusal, refused.retry_after, refused.got) == ("behind", "2", "")


@pytest.mark.parametrize("body", [b"<html>", b"\xff", b"[]", b""])
def test_what_is_no_answer_of_ours_is_never_taken_for_one(body: bytes) -> None:
    """A page of a proxy is a refusal that nobody wants, whatever its status."""
    assert answered(200, body).refusal == answered(502, body).refusal == "unreadable"


def test_a_refusal_without_a_code_is_none_that_anybody_wants() -> None:
    """It has a name, for a success is what has none."""
    assert answered(404, b"{}").refusal == "nameless"


def test_the_digest_tells_any_two_answers_apart() -> None:
    """By body and by status."""
    assert answered(201, b'{"a": 1}').digest == answered(201, b'{"a": 1}', replayed="").digest
    assert len({answered(*told).digest for told in ((201, b'{"a": 1}'), (200, b'{"a": 1}'), (201, b'{"a": 2}'))}) == 3


def test_a_ledger_is_read_as_it_was_written(tmp_path: Path) -> None:
    """All of it, also what a second process of the load wrote."""
    written = [entry(status=201, got="CODE", took_ms=1.5), entry(status=0, wanted=False)]
    ledger = Ledger(tmp_path)
    for one in written:
        ledger.write(one)
    ledger.close()
    (tmp_path / "ledger-0.jsonl").write_bytes(msgspec.json.encode(entry(kind="Guesser")) + b"\n")
    assert list(entries(tmp_path)) == [entry(kind="Guesser"), *written]


def test_a_broken_ledger_is_not_judged(tmp_path: Path) -> None:
    """A line that was cut off is an error, not a line less."""
    (tmp_path / "ledger-1.jsonl").write_bytes(msgspec.json.encode(entry())[:-9])
    with pytest.raises(msgspec.DecodeError):
        list(entries(tmp_path))


def test_codes_are_numbered_round() -> None:
    """A book's codes begin anew after the last."""
    book = Book("b", "held", "L-HELD", 3)
    assert [book.code(number) for number in (0, 2, 3)] == ["L-HELD-0", "L-HELD-2", "L-HELD-0"]


def test_a_plot_has_its_lines_within_its_axes() -> None:
    """The highest point is at the top, the last at the right."""
    drawn = plot("A <title>", [Series("a", [(0, 0), (5, 50), (10, 100)]), Series("b", [(10, 25)])])
    assert '<polyline points="70.0,280.0 475.0,165.0 880.0,50.0"' in drawn
    assert '<polyline points="880.0,222.5"' in drawn
    assert "A &lt;title&gt;" in drawn


def test_a_plot_of_a_long_load_is_no_longer_than_others() -> None:
    """Of a week's seconds a thousand are drawn."""
    week = plot("A week", [Series("a", [(second, 1.0) for second in range(7 * 86_400)])])
    assert week.count(",50.0") == 1_000


def test_only_what_was_measured_is_drawn(tmp_path: Path) -> None:
    """Of a load without requests there is the memory; N/A counts as nothing."""
    (tmp_path / "memory.csv").write_text("second,process,mib\n0.0,api,100\n1.0,api,101.5\n")
    draw(tmp_path)
    assert [path.name for path in sorted(tmp_path.glob("*.svg"))] == ["memory.svg"]
    head = "Timestamp,User Count,Name,Requests/s,Failures/s,50%,95%,99%\n"
    (tmp_path / "load_stats_history.csv").write_text(f"{head}10,1,Aggregated,0.0,0.0,N/A,N/A,N/A\n")
    draw(tmp_path)
    assert {path.stem for path in tmp_path.glob("*.svg")} == {"memory", "requests", "latencies"}


def test_only_what_should_not_grow_is_said_to() -> None:
    """An API that goes on growing is named; what only filled up at the beginning, or grew by a little, and Redis are
    not."""
    growing = [100.0 + number * GROWTH_MIB for number in range(10)]
    filled = [100.0, 500.0, *[900.0] * 8]
    a_little = [1000.0 + number * GROWTH_MIB / 2 for number in range(10)]
    assert growth({"api": growing, "worker": filled, "redis": growing}) == ["api grew from 388 to 644 MiB"]
    assert growth({"api": a_little, "worker": [10.0 + 2 * number for number in range(20)]}) == []
