"""Accounting of answers: counts for /metrics and the history, and one line a second that names no code, id or key."""

from collections.abc import Iterator
from typing import Any, cast

import pytest
from prometheus_client.openmetrics import exposition as openmetrics
from structlog.testing import capture_logs

from service.engine.operations.caller import make_account
from service.server.answers import accounting
from service.server.answers.accounting import MAX_FAILURES, NOBODY, TIMED_EACH, Answers
from service.serving import request_metrics
from service.serving.request_metrics import RequestMetrics

_LOCK = "POST /v1/coupons/lock/{code}"


@pytest.fixture
def lines() -> Iterator[list[Any]]:
    with capture_logs() as captured:
        yield captured


def _note(
    answers: Answers,
    status: int,
    outcome: str = "",
    route: str = _LOCK,
    request_id: str = "r",
    workspace: int = 1,
    took_s: float = 0,
    roles: tuple[str, ...] = ("checkout",),
) -> None:
    account = make_account(workspace, roles) if workspace else NOBODY
    answers.note(account, route, status, outcome, request_id, accounting.now_s() - took_s)


async def test_a_line_a_second(lines: list[Any]) -> None:
    """One line a second has the count of each outcome and the first answer."""
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
    first = {"route": _LOCK, "status": 201, "request_id": "r0"}
    assert {name: value for name, value in line["sample"].items() if name != "ms"} == first
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


async def test_health_is_not_logged(lines: list[Any]) -> None:
    """Requests for health and metrics are counted, but not logged."""
    answers = Answers()
    for route in ("GET /health/ready", "GET /health/live", "GET /metrics"):
        _note(answers, 503, route=route)
    answers.write()
    assert lines == []
    assert sum(_requests(answers).values()) == 3


async def test_labels() -> None:
    """A request counts by its route, by the scope that let it in, by class of status and by outcome."""
    answers = Answers()
    answers.roles["GET /v1/jobs/{jobId}"] = ("manage", "operate")
    _note(answers, 201)
    _note(answers, 201, roles=("public", "checkout", "manage"), workspace=2)
    _note(answers, 409, "coupon_locked", roles=("user",))
    _note(answers, 200, route="GET /v1/jobs/{jobId}", roles=("checkout", "operate"))
    _note(answers, 401, "unauthenticated", workspace=NOBODY)
    assert _requests(answers) == {
        (_LOCK, "checkout", "2xx", "ok"): 2,
        (_LOCK, "user", "4xx", "coupon_locked"): 1,
        ("GET /v1/jobs/{jobId}", "operate", "2xx", "ok"): 1,
        (_LOCK, "none", "4xx", "unauthenticated"): 1,
    }


async def test_no_text_of_clients_is_a_label() -> None:
    """Routes that the application does not have count as one, whatever method or path a client sent."""
    answers = Answers()
    for method in ("PURGE", "BREW"):
        _note(answers, 405, "method_not_allowed", route=f"{method} /v1/coupons/lock/{{code}}")
    _note(answers, 404, "not_found", route="GET ")
    assert _requests(answers) == {("-", "none", "4xx", "method_not_allowed"): 2, ("-", "none", "4xx", "not_found"): 1}


def _requests(answers: Answers) -> dict[tuple[str, ...], float]:
    family, *_ = RequestMetrics(answers).collect()
    labels = ("route", "scope", "status", "outcome")
    return {tuple(sample.labels[label] for label in labels): sample.value for sample in family.samples}


async def test_the_traffic_of_a_workspace() -> None:
    """Traffic counts each workspace's successes and refusals by name, and nothing of requests without credentials."""
    answers = Answers()
    for workspace, locks in ((1, 3), (2, 5)):
        for _ in range(locks):
            _note(answers, 201, workspace=workspace)
        _note(answers, 409, "coupon_locked", workspace=workspace)
        _note(answers, 200, route="GET /v1/books", workspace=workspace)
    _note(answers, 401, "unauthenticated", workspace=NOBODY)
    assert answers.take_traffic() == {}  # the last second is not in it
    answers.write()
    traffic = answers.take_traffic()
    assert {workspace: dict(one.counts) for workspace, one in traffic.items()} == {
        1: {"locked": 3, "coupon_locked": 1},
        2: {"locked": 5, "coupon_locked": 1},
    }
    assert answers.take_traffic() == {}


async def test_the_times_of_responses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of equal responses of hot operations the first counts once, and one of 32 for all 32; other routes are not."""
    monkeypatch.setattr(accounting, "now_s", lambda: 1000.0)
    answers = Answers()
    _note(answers, 201, took_s=0.004)
    for _ in range(TIMED_EACH - 1):
        _note(answers, 201, took_s=0.04)
    _note(answers, 200, route="GET /v1/books", took_s=3)
    assert answers.take_traffic() == {}  # nor are their counts
    answers.write()
    assert answers.take_traffic()[1].times == {5000: 1, 50_000: TIMED_EACH}
    _, family, *_ = RequestMetrics(answers).collect()
    mine = family.samples
    assert {sample.labels["operation"] for sample in mine} == {"lockCoupon"}  # others were not used
    counts = {sample.labels.get("le", sample.name): sample.value for sample in mine}
    assert [counts[bound] for bound in ("0.003", "0.005", "0.03", "0.05", "+Inf")] == [0, 1, 1, 33, 33]
    assert counts["scrip_operation_duration_seconds_sum"] == pytest.approx(0.004 + 0.04 * TIMED_EACH)
    exemplars = {sample.labels["le"]: sample.exemplar.labels for sample in mine if sample.exemplar}
    assert exemplars == {"0.005": {"request_id": "r"}, "0.05": {"request_id": "r"}}
    text = openmetrics.generate_latest(cast("Any", RequestMetrics(answers)))
    assert text.count(b'} 33.0 # {request_id="r"} 0.0') == 1


async def test_no_exemplar_of_a_strange_id() -> None:
    """An id that a client made of other characters than ids usually have is not shown."""
    answers = Answers()
    _note(answers, 201, request_id="<b>")
    _, family, *_ = RequestMetrics(answers).collect()
    assert not [sample for sample in family.samples if sample.exemplar]


async def test_workspaces_have_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests are also counted by the workspace's name and their result; what has no name yet is not shown."""
    monkeypatch.setattr(request_metrics, "workspace_names", {1: ("shop", "id-1"), 2: ("other", "id-2")})
    answers = Answers()
    for workspace, status, outcome in ((1, 201, ""), (1, 409, "coupon_locked"), (2, 503, "behind"), (3, 200, "")):
        _note(answers, status, outcome, workspace=workspace)
    _note(answers, 401, "unauthenticated", workspace=NOBODY)
    *_, family = RequestMetrics(answers).collect()
    counts = {(sample.labels["workspace"], sample.labels["result"]): sample.value for sample in family.samples}
    assert {name: count for name, count in counts.items() if count} == {
        ("shop", "done"): 1,
        ("shop", "refused"): 1,
        ("id-2", "failed"): 1,
    }
    assert counts["other", "done"] == 0
