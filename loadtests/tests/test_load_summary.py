"""What `make load` shows at its end."""

from pathlib import Path
from typing import Any

import msgspec

from loadtests.judge import Judgement
from loadtests.ledger import Entry
from loadtests.plan import Plan
from loadtests.summary import Spent, describe, list_failures
from loadtests.tally import LedgerReader, Tally, describe_ms, read_tally, round_up


def _line(buyer: str = "Buyer", took_ms: float = 1.0, **fields: Any) -> bytes:
    entry = Entry(buyer, "lock", "/", {}, sent_ms=1000.0, answered_ms=1000.0 + took_ms, **fields)
    return msgspec.json.encode(entry) + b"\n"


def _write(folder: Path, data: bytes) -> None:
    with (folder / "ledger-1.jsonl").open("ab") as file:
        file.write(data)


_FAILED = (
    _line(status=503, refusal="recovering") * 2
    + _line(status=500, refusal="internal", wanted=False)
    + _line(refusal="ConnectionResetError")
)


def test_requests_are_counted_by_cause(tmp_path: Path) -> None:
    """Errors are counted by cause; what the load's end cut off is none, and the judge's requests are left out."""
    _write(tmp_path, _FAILED + _line() + _line("", status=500) + _line(status=409, refusal="coupon_locked"))
    tally = read_tally(tmp_path)
    assert tally.requests == 5
    causes = ["2 × 503 recovering", "1 × 500 internal", "1 × no answer: ConnectionResetError"]
    assert tally.list_causes() == causes


def test_latencies_are_of_answers_that_are_no_error(tmp_path: Path) -> None:
    """Percentiles have three digits, and errors are not in them."""
    _write(tmp_path, b"".join(_line(took_ms=ms, status=201) for ms in range(1, 101)))
    _write(tmp_path, _line(took_ms=9000, status=503, refusal="behind"))
    assert read_tally(tmp_path).describe_latencies() == "p50 50 ms  p95 95 ms  p99 99 ms  max 100 ms"
    assert Tally().describe_latencies() == ""
    assert [round_up(us) for us in (1, 999, 1000, 1001, 123_456)] == [1, 999, 1000, 1010, 124_000]
    assert [describe_ms(ms) for ms in (0.421, 4.12, 71.4, 1250)] == ["0.42 ms", "4.1 ms", "71 ms", "1.25 s"]


def test_a_ledger_is_read_while_it_grows(tmp_path: Path) -> None:
    """Each call counts what is new; a line that is not complete yet is counted once it is."""
    reader, line = LedgerReader(tmp_path), _line(status=201)
    assert reader.read().requests == 0
    for data, requests in ((line + line[:10], 1), (line[10:30], 0), (line[30:] + line, 2), (b"", 0)):
        _write(tmp_path, data)
        assert reader.read().requests == requests
    reader.close()


_SIZE: dict[str, Any] = {"users": 1, "seconds": 1, "requests": 9, "pay_s": 1}
_PLAN = Plan(shape="steady", url="http://x", mark="m", mix={}, max_p99_ms=0, max_errors=100, **_SIZE)
_SPENT = Spent(3.0, 0.02, [])


def test_the_summary_ends_with_the_result(tmp_path: Path) -> None:
    """The summary gives the reason of each unanswered request, whose the judged requests were, and the result last."""
    unanswered = {("lock", "ConnectionResetError"): 2, ("redeem", "cut off"): 1}
    judgement = Judgement([], 12, 2.0, 3, unanswered, {"Buyer lock 201": 9}, 0, {})
    _write(tmp_path, _FAILED)
    lines = describe(judgement, [], read_tally(tmp_path), _PLAN, _SPENT)
    text = "\n".join(lines)
    assert "2 × lock: ConnectionResetError (the service or a proxy closed the connection)" in text
    assert "1 × redeem: cut off (by the end of the load, which is no error)" in text
    assert "450 requests per CPU-second" in text
    assert "12 requests judged: 9 of users and 3 of the load itself" in text
    assert lines[-1] == "  Everything is as it should be."
    wrong = describe(judgement, ["a code over its limit"], Tally(), _PLAN, _SPENT)
    assert wrong[-1] == "  Wrong: a code over its limit"


def test_limits_of_latency_and_errors_fail_a_load(tmp_path: Path) -> None:
    """A p99 or a share of errors above the plan's limit is wrong; at the limit it is not."""
    judgement = Judgement([], 12, 2.0, 3, {}, {}, 0, {})
    _write(tmp_path, _FAILED + b"".join(_line(took_ms=ms, status=201) for ms in range(1, 97)))
    tally = read_tally(tmp_path)
    for p99_ms, errors, wrong in (
        (0, 100, []),
        (96, 4, []),
        (95, 4, ["the p99 is 96 ms, and at most 95 ms is allowed"]),
        (0, 3, ["4 % of the requests are errors, and at most 3 % are allowed"]),
    ):
        plan = msgspec.structs.replace(_PLAN, max_p99_ms=p99_ms, max_errors=errors)
        assert list_failures(judgement, plan, tally, _SPENT) == wrong
    assert list_failures(judgement, _PLAN, tally, Spent(3.0, 0.02, ["api grew"])) == ["api grew"]
