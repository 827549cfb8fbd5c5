"""What is kept of answers: counts for /metrics, and one line a second that names no code, id or key."""

from collections.abc import Iterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from service.operations.accounting import MAX_FAILURES, Answers, now_s

_LOCK = "POST /v1/coupons/lock/{code}"


@pytest.fixture
def lines() -> Iterator[list[Any]]:
    with capture_logs() as captured:
        yield captured


def _note(answers: Answers, status: int, outcome: str = "", route: str = _LOCK, request_id: str = "r") -> None:
    answers.note(route, status, outcome, request_id, now_s())


async def test_a_line_a_second(lines: list[Any]) -> None:
    """However many answers go out, one line tells how many of each outcome, and shows the first."""
    answers = Answers()
    for number in range(1000):
        _note(answers, 201, request_id=f"r{number}")
    for _ in range(3):
        _note(answers, 409, "coupon_locked")
    _note(answers, 200, route="GET /v1/books")
    assert lines == []
    answers.write()
    (line,) = lines
    assert line["counts"] == {f"{_LOCK} 201": 1000, f"{_LOCK} coupon_locked": 3, "GET /v1/books 200": 1}
    shown = {"route": _LOCK, "status": 201, "request_id": "r0"}
    assert {name: value for name, value in line["sample"].items() if name != "ms"} == shown
    answers.write()
    assert len(lines) == 1
    _note(answers, 204)
    answers.write()
    assert lines[1]["counts"] == {f"{_LOCK} 204": 1}


async def test_failures(lines: list[Any]) -> None:
    """Each answer of 5xx has a line, up to a bound; the second's line counts them all."""
    answers = Answers()
    for _ in range(MAX_FAILURES + 5):
        _note(answers, 503, "recovering")
    assert [(line["status"], line["outcome"]) for line in lines] == [(503, "recovering")] * MAX_FAILURES
    answers.write()
    assert lines[-1]["counts"] == {f"{_LOCK} recovering": MAX_FAILURES + 5}
    _note(answers, 500, "internal")
    assert lines[-1]["outcome"] == "internal"


async def test_health_is_not_told(lines: list[Any]) -> None:
    """Asking for health and metrics is counted, and has no part in the log, whatever comes of it."""
    answers = Answers()
    for route in ("GET /health/ready", "GET /health/live", "GET /metrics"):
        _note(answers, 503, route=route)
    answers.write()
    assert lines == []
    (family,) = answers.collect()
    assert family.samples[0].name == "scrip_http_answers_total"
    assert {sample.labels["status"]: sample.value for sample in family.samples}["503"] == 3
