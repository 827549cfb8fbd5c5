"""`scrip quarantine`: an operator sees what a quarantined event means, and resolves it."""

import json
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
from click.testing import Result

from service.engine.formats.event_id import EventId
from service.engine.formats.events import Redeemed, encode_event
from tests.harness.commands import scrip, succeeded
from tests.harness.redemptions import redeemed_text
from tests.harness.service_fixture import Service, new_code, new_id, ok, refused
from tests.harness.waiting import until
from tests.integration.comparing.test_quarantined import fetch, poison, redeem

_AT_MS = 1_800_000_000_000
_numbers = count(10**9)


@pytest.fixture
def service(patient: Service) -> Iterator[Service]:
    yield patient
    fetch(patient, "DELETE FROM quarantine")


def _run(service: Service, *words: str) -> Result:
    return scrip("quarantine", *words, **service.urls)


def _listed(service: Service) -> dict[str, Any]:
    (event,) = json.loads(_run(service, "list", "--json").output)
    return event


def _refuse(service: Service, code: str, user: str, order: str) -> str:
    """Redeem a code of which Postgres has another use, and return the quarantined event."""
    poison(service, code)
    ok(redeem(service, code, user, order), 201)
    until(lambda: fetch(service, "SELECT FROM quarantine"))
    return _listed(service)["event"]


def _insert(service: Service, cause: str, decided: str) -> str:
    """Put an event of an old epoch into quarantine; return its id."""
    at = EventId(1, next(_numbers))
    insert = (
        "INSERT INTO quarantine (partition, epoch, seq, cause, reason, d, r) VALUES ($1, $2, $3, $4, 't', $5, '{}')"
    )
    fetch(service, insert, service.partition, *at, cause, decided.encode())
    return str(at)


def _set_aside(service: Service, code: str, order: str = "") -> str:
    """Let a redemption be set aside with a Redis that is rebuilt, so that its code is blocked; return the event."""
    (row,) = fetch(service, "SELECT workspace, book FROM codes WHERE code = $1", code)
    about: dict[str, Any] = {"workspace": row["workspace"], "book": row["book"], "code": code, "user": "ann"}
    sold: dict[str, Any] = {"order": order or new_id("order"), "value_e4": 30_000, "currency": "USD", "digits": 2}
    spent: dict[str, Any] = {"discount_e4": 0, "slot": 1, "max_uses": 1, "at_ms": _AT_MS}
    event = _insert(service, "unrecorded", encode_event(Redeemed(epoch=0, seq=0, **about, **sold, **spent)))
    _rebuild(service)
    until(lambda: _status(service, code) == "inactive")
    return event


def _rebuild(service: Service) -> None:
    succeeded(scrip("rebuild", "--partition", str(service.partition), **service.urls))
    until(lambda: service.checkout.get("/v1/users/nobody").is_success)


def _status(service: Service, code: str) -> str:
    return ok(service.checkout.get(f"/v1/coupons/{code}"))["status"]


def test_a_refused_sale_is_recorded_later(service: Service) -> None:
    """`show` explains the event and both stores; `retry` says why it is refused, and once it may be, records it."""
    code, user, order = new_code(), new_id(), new_id("order")
    book = service.book(code)
    event = _refuse(service, code, user, order)
    assert code not in _run(service, "list").output
    shown = _run(service, "show", event).output
    for text in (
        "Postgres refused to record it (UniqueViolationError",
        code,
        user,
        order,
        "Redis:    active, used up",
        "release",
    ):
        assert text in shown
    again = _run(service, "retry", event)
    assert (again.exit_code, "UniqueViolationError single_uses_pkey" in again.output) == (1, True)
    assert _listed(service)["failure"] == "UniqueViolationError single_uses_pkey"

    fetch(service, "DELETE FROM single_uses WHERE code = $1", code)
    succeeded(_run(service, "retry", event))
    assert _run(service, "list").output == "No event waits for a decision.\n"
    ((name,),) = fetch(service, "SELECT epoch || '-' || seq FROM redemptions WHERE code = $1", code)
    assert name == event
    until(lambda: not fetch(service, "SELECT FROM jobs WHERE kind = 'reconcile' AND status = 'running'"))
    assert _status(service, code) == "redeemed"
    assert service.stats(book)["redemptions"] == 1
    succeeded(scrip("reconcile", "--partition", str(service.partition), **service.urls))
    rows = fetch(service, "SELECT actor, action FROM audit WHERE subject = $1 ORDER BY position", event)
    assert [tuple(row) for row in rows] == [("command", "quarantine.retry")] * 2
    assert "resolved already: retry" in _run(service, "release", event).output


def test_a_code_that_was_set_aside_is_released(service: Service) -> None:
    """After `release` the code has the state of Postgres, and is sold again; the same event is not set aside again."""
    code = new_code()
    service.book(code)
    event = _set_aside(service, code)
    assert "Redis:    blocked, 0 uses" in _run(service, "show", event).output
    succeeded(_run(service, "release", event))
    until(lambda: _status(service, code) == "available")
    ok(redeem(service, code, "bob", new_id("order")), 201)
    _rebuild(service)
    until(lambda: _status(service, code) == "redeemed")


def test_a_code_that_was_set_aside_is_recorded(service: Service) -> None:
    """After `retry` the sale is recorded: both stores have it, with its order and its user's count."""
    code, order = new_code(), new_id("order")
    service.book(code)
    event = _set_aside(service, code, order)
    succeeded(_run(service, "retry", event))
    until(lambda: _status(service, code) == "redeemed")
    until(lambda: not fetch(service, "SELECT FROM jobs WHERE kind = 'reconcile' AND status = 'running'"))
    refused(redeem(service, code, "bob", new_id("order")), 409, "coupon_redeemed")
    refused(redeem(service, _other_code(service, code), "ann", order), 409, "order_already_used")
    succeeded(scrip("reconcile", "--partition", str(service.partition), **service.urls))


def _other_code(service: Service, code: str) -> str:
    """Another code of a code's book."""
    (row,) = fetch(service, "SELECT book_id FROM codes JOIN books USING (workspace, book) WHERE code = $1", code)
    other = new_code()
    ok(service.manage.post(f"/v1/books/{row['book_id']}/codes", json={"codes": [other]}))
    return other


def test_a_code_is_kept_out_of_sale(service: Service) -> None:
    """After `settle` the code is switched off in both stores, also after the next rebuild."""
    code = new_code()
    service.book(code)
    event = _set_aside(service, code)
    succeeded(_run(service, "settle", event))
    until(lambda: not fetch(service, "SELECT FROM jobs WHERE kind = 'reconcile' AND status = 'running'"))
    refused(redeem(service, code, "bob", new_id("order")), 409, "coupon_inactive")
    assert fetch(service, "SELECT active FROM codes WHERE code = $1", code)[0]["active"] is False
    assert "switched off" in _run(service, "show", event).output
    assert ok(service.manage.patch(f"/v1/coupons/{code}", json={"status": "active"}))["status"] == "available"


@pytest.mark.parametrize(
    ("cause", "decided", "choice", "says"),
    [
        ("refused", "Z nonsense", "retry", "Possible: release."),
        ("not_redone", redeemed_text(order=None, slot=0), "release", "the event is recorded"),
    ],
)
def test_what_is_not_possible(service: Service, cause: str, decided: str, choice: str, says: str) -> None:
    """An unreadable event can only be released, and a recorded one can't be."""
    event = _insert(service, cause, decided)
    done = _run(service, choice, event)
    assert (done.exit_code, says in done.output) == (1, True)
    if cause == "refused":
        succeeded(_run(service, "release", event))
    for words, why in ((("show", "1-1"), "is not in quarantine"), (("show", "x"), "Events look like 5-1207")):
        done = _run(service, *words)
        assert (done.exit_code, why in done.output) == (1, True)


def test_without_a_worker(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a worker the command says that the order stays; the worker that comes executes it."""
    monkeypatch.setattr("service.cli.worker_orders.WORKER_S", 0.5)
    with service.run.asleep("worker"):
        done = _run(service, "release", _insert(service, "refused", "Z"))
        assert (done.exit_code, "The order stays" in done.output) == (1, True)
        assert _listed(service)["ordered"] == "release"
    until(lambda: "No event waits" in _run(service, "list").output)


def test_all_at_once(service: Service) -> None:
    """`--all` resolves every event for which the choice is possible, in one go, and asks first."""
    codes, book = [new_code() for _ in range(3)], service.book
    book(*codes)
    workspace = fetch(service, "SELECT workspace FROM workspaces WHERE partition = $1 LIMIT 1", service.partition)
    number = workspace[0]["workspace"]
    for code in codes:
        _insert(service, "unrecorded", f"R {number} 1 {code}")
    notice = _insert(service, "unrecorded", f"S {number} 1 out codes 0 {_AT_MS}")
    assert _run(service, "settle", "--all").exit_code == 1
    assert _run(service, "settle").exit_code == 2
    succeeded(_run(service, "settle", "--all", "--yes", "--partition", str(service.partition)))
    assert [event["event"] for event in json.loads(_run(service, "list", "--json").output)] == [notice]
    audited = fetch(service, "SELECT after FROM audit WHERE action = 'quarantine.settle' AND subject = 'all'")
    assert json.loads(audited[-1]["after"]) == {"events": 3}
    until(lambda: _run(service, "release", "--all", "--yes").exit_code == 0)
    assert json.loads(_run(service, "list", "--json").output) == []


def test_an_event_of_an_unknown_workspace(service: Service) -> None:
    """An event whose workspace Postgres lacks is listed and shown with the workspace's number, and can be resolved."""
    event = _insert(service, "unrecorded", "R 999999 1 LOST-1")
    assert _listed(service)["workspace"] == "999999"
    assert "Code LOST-1 of workspace 999999:" in _run(service, "show", event).output
    succeeded(_run(service, "settle", event))
    _insert(service, "unrecorded", "R 999999 1 LOST-2")
    succeeded(_run(service, "settle", "--all", "--yes"))
    assert json.loads(_run(service, "list", "--json").output) == []


def test_the_api_lists_and_resolves(service: Service) -> None:
    """An operator's key gets its own workspace's events in words, and orders what is possible."""
    code = new_code()
    service.book(code)
    row = fetch(service, "SELECT workspace FROM codes WHERE code = $1", code)
    lost = _insert(service, "unrecorded", f"R {row[0]['workspace']} 1 {code}  order-7")
    recorded = _insert(service, "not_redone", f"R {row[0]['workspace']} 1 {code}")
    _insert(service, "unrecorded", f"R {row[0]['workspace'] + 1} 1 {code}")
    page = ok(service.operate.get("/v1/ops/quarantine", params={"limit": 1}))
    assert [item["eventId"] for item in page["items"]] == [recorded]
    (item,) = ok(service.operate.get("/v1/ops/quarantine", params={"cursor": page["nextCursor"]}))["items"]
    assert item == {
        "eventId": lost, "kind": "redeemed", "cause": "unrecorded", "reason": "t", "since": item["since"],
        "text": f"redeemed, code {code} in order order-7.", "code": code, "userId": None, "orderId": "order-7",
        "recorded": "active, unused", "ordered": None, "failure": None, "choices": ["settle", "release"],
    }  # fmt: skip
    answer = service.operate.post(f"/v1/ops/quarantine/{recorded}", json={"choice": "release"})
    assert refused(answer, 409, "choice_not_possible")
    ordered = ok(service.operate.post(f"/v1/ops/quarantine/{lost}", json={"choice": "settle"}), 202)
    assert ordered["ordered"] == "settle"
    until(lambda: lost not in service.operate.get("/v1/ops/quarantine").text)
    answer = service.operate.post(f"/v1/ops/quarantine/{lost}", json={"choice": "settle"})
    assert refused(answer, 404, "event_not_found")
    until(lambda: ok(service.checkout.get(f"/v1/coupons/{code}"))["status"] == "inactive")
