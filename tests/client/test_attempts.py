"""When a call of the client is sent again, and what it raises in the end: the same for both clients."""

import io
import json
import pickle
from decimal import Decimal
from typing import Any

import httpx2
import pytest

from scrip_client import OutcomeUnknown, Refused, UnexpectedResponse, Unreachable, refusals
from scrip_client.core import Call
from service.engine.domain.outcomes import BY_CODE
from tests.client.conftest import Shell, refuse

LOCK = {"lockToken": "t", "code": "A-1", "bookId": "b", "userId": "ann", "orderId": None, "lockSeconds": 60}
NO_PRICE = dict.fromkeys(("orderValue", "currency", "discountAmount", "finalAmount", "amount"))
LOCKED = httpx2.Response(201, json=LOCK | NO_PRICE | {"expiresAt": "2026-11-20T09:14:00.123Z"})
LOST = (
    httpx2.ReadError("reset"),
    httpx2.ReadTimeout("late"),
    refuse("outcome_unknown", 503, 1),
    refuse("internal", 500),
    refuse("request_in_progress", 409),
    httpx2.Response(502, text="<html>"),
)
FINAL = {code: row.status for code, row in BY_CODE.items() if row.status not in (408, 429, 500, 503)}
del FINAL["request_in_progress"]


def lock(client: Any, **fields: Any) -> Any:
    return client.lock_coupon("A-1", user_id="ann", **fields)


@pytest.mark.parametrize("lost", LOST, ids=repr)
def test_a_lost_answer(shell: Shell, lost: Any) -> None:
    """After a lost answer the same request goes out again under the same key, and its answer is the call's."""
    assert shell.do(lock, lost, httpx2.ConnectError("refused"), LOCKED).lock_token == "t"
    assert len({request.headers["Idempotency-Key"] for request in shell.requests}) == 1
    assert [request.content for request in shell.requests] == [b'{"userId":"ann"}'] * 3


@pytest.mark.parametrize("lost", LOST, ids=repr)
@pytest.mark.parametrize("last", [None, httpx2.ConnectError("refused"), refuse("unauthenticated", 401)], ids=repr)
def test_the_deadline_after_a_lost_answer(shell: Shell, lost: Any, last: Any) -> None:
    """If no answer ends the doubt, OutcomeUnknown has the key; its call goes on with that key."""
    with pytest.raises(OutcomeUnknown) as raised:
        shell.do(lock, *([lost] if last is None else [lost, last]), deadline_s=10)
    key = raised.value.idempotency_key
    assert key == shell.requests[0].headers["Idempotency-Key"]
    assert shell.now <= 10
    assert shell.do(lambda client: client.fetch(raised.value.call), LOCKED).code == "A-1"
    assert shell.requests[-1].headers["Idempotency-Key"] == key


def test_a_refusal_after_a_lost_answer(shell: Shell) -> None:
    """A refusal that the key decides says that the lost request changed nothing."""
    with pytest.raises(refusals.CouponRedeemed):
        shell.do(lock, LOST[0], refuse("coupon_redeemed", 409))


def test_never_connected(shell: Shell) -> None:
    """If no attempt reaches the service until the deadline, the call is Unreachable, and nothing was changed."""
    with pytest.raises(Unreachable) as raised:
        shell.do(lock, httpx2.ConnectTimeout("late"), deadline_s=5)
    assert len(shell.requests) > 3
    assert shell.now <= 5
    assert isinstance(raised.value.__cause__, httpx2.ConnectTimeout)


@pytest.mark.parametrize(("code", "status"), [("recovering", 503), ("rate_limited", 429)])
def test_retry_after(shell: Shell, code: str, status: int) -> None:
    """The client waits as long as Retry-After says, and no longer than its deadline."""
    assert shell.do(lock, refuse(code, status, 2), refuse(code, status, 3), LOCKED).code == "A-1"
    assert shell.pauses == [2, 3]
    with pytest.raises(refusals.BY_CODE[code]) as raised:
        shell.do(lock, refuse(code, status, 9), deadline_s=8)
    assert (raised.value.retry_after_s, len(shell.requests)) == (9, 4)


@pytest.mark.parametrize("code", FINAL)
def test_a_refusal(shell: Shell, code: str) -> None:
    """Each refusal has a class of its own with the problem's fields, is not repeated, and can be pickled."""
    with pytest.raises(Refused) as raised:
        shell.do(lock, refuse(code, FINAL[code], 7))
    refusal = pickle.loads(pickle.dumps(raised.value))
    assert type(refusal) is refusals.BY_CODE[code] is type(raised.value)
    assert (refusal.code, refusal.status, refusal.detail) == (code, FINAL[code], "d")
    assert refusal.for_ == BY_CODE[code].for_
    assert (refusal.request_id, refusal.retry_after_s, len(shell.requests)) == ("r1", 7, 1)
    assert raised.value.call.idempotency_key not in str(refusal)


def test_the_figures_of_a_refusal(shell: Shell) -> None:
    """A refusal's figures are its attributes, also once it was pickled; None for those that the problem lacks."""
    problem = json.loads(refuse("order_value_too_low", 422).content) | {"missing": "49.50", "currency": "USD"}
    with pytest.raises(refusals.OrderValueTooLow) as raised:
        shell.do(lock, httpx2.Response(422, json=problem))
    for refusal in (raised.value, pickle.loads(pickle.dumps(raised.value))):
        assert (refusal.missing, refusal.currency, refusal.min_order_value) == (Decimal("49.50"), "USD", None)


def test_every_refusal_has_a_class() -> None:
    """The client's classes are those of the service's table; three say that the outcome is unknown."""
    assert refusals.BY_CODE.keys() == BY_CODE.keys()
    assert {code: kind.for_ for code, kind in refusals.BY_CODE.items()} == {
        code: one.for_ for code, one in BY_CODE.items()
    }
    assert all(kind.code == code for code, kind in refusals.BY_CODE.items())
    unknown = {code for code, kind in refusals.BY_CODE.items() if issubclass(kind, OutcomeUnknown)}
    assert unknown == {"outcome_unknown", "internal", "request_in_progress"}


def test_without_a_key(shell: Shell) -> None:
    """A change without a key, which repeating would make twice, is sent once."""
    call = Call(operation="odd", method="POST", path="/v1/odd", body=b"{}")
    with pytest.raises(OutcomeUnknown) as raised:
        shell.do(lambda client: client.send(call), LOST[0])
    assert (raised.value.idempotency_key, len(shell.requests)) == ("", 1)
    with pytest.raises(refusals.Recovering):
        shell.do(lambda client: client.send(call), refuse("recovering", 503, 1))
    assert len(shell.requests) == 2


def test_a_deletion_that_was_lost(shell: Shell) -> None:
    """After a lost answer to DELETE, 404 says that it is gone; without one it is a refusal."""
    assert shell.do(lambda client: client.delete_key("k"), LOST[0], refuse("not_found", 404)) is None
    with pytest.raises(refusals.NotFound):
        shell.do(lambda client: client.delete_key("k"), refuse("not_found", 404))


def test_a_change_without_a_key_that_was_refused_later(shell: Shell) -> None:
    """After a lost answer to PATCH, a refusal of the repeat does not say whether the first attempt made the change."""
    with pytest.raises(OutcomeUnknown):
        shell.do(lambda client: client.patch_user("ann", max_coupons=1), LOST[0], refuse("invalid", 422))


def test_an_impossible_request(shell: Shell) -> None:
    """A request that can't be sent at all raises the error of httpx2 at once."""
    with pytest.raises(httpx2.UnsupportedProtocol):
        shell.do(lock, httpx2.UnsupportedProtocol("no http://"))
    assert len(shell.requests) == 1


def test_not_ready(shell: Shell) -> None:
    """503 of the check of readiness is its answer."""
    answer = httpx2.Response(503, json={"status": "not_ready", "failing": ["partition 3"], "partitions": []})
    assert shell.do(lambda client: client.get_ready(), answer).failing == ["partition 3"]


def test_reading(shell: Shell) -> None:
    """A read is repeated after anything that is no answer, and is never in doubt."""
    read = lambda client: client.get_user("ann")  # noqa: E731
    with pytest.raises(Unreachable):
        shell.do(read, httpx2.ReadTimeout("late"), httpx2.Response(502, text="bad gateway"), deadline_s=5)
    assert len(shell.requests) > 3
    with pytest.raises(UnexpectedResponse):
        shell.do(read, httpx2.Response(200, text="<html>"))
    with pytest.raises(UnexpectedResponse):
        shell.do(read, httpx2.Response(404, text="<html>"))


def test_an_upload_that_was_lost(shell: Shell) -> None:
    """A file is sent again from where it began; what can't be read again is not sent again."""
    answer = httpx2.Response(200, json={"added": 1, "duplicates": 0, "invalid": 0, "errors": []})
    file = io.BytesIO(b"skipped\ncode\nA-1\n")
    file.readline()
    assert shell.do(lambda client: client.upload_codes("b", codes=file), LOST[0], answer).added == 1
    assert [request.content for request in shell.requests] == [b"code\nA-1\n"] * 2
    assert shell.requests[-1].headers["Content-Type"] == "text/csv"
    pipe = io.BytesIO(b"code\nA-1\n")
    pipe.seekable = lambda: False  # type: ignore[method-assign]
    with pytest.raises(OutcomeUnknown):
        shell.do(lambda client: client.upload_codes("b", codes=pipe), LOST[0], answer)
    assert len(shell.requests) == 3


def test_pages(shell: Shell) -> None:
    """A list is an iterator over all pages, and requests a page only if it is needed."""

    def page(user: str, cursor: str | None) -> httpx2.Response:
        one = {"userId": user, "maxCoupons": None, "coupons": 0, "metadata": {}, "createdAt": None}
        return httpx2.Response(200, json={"items": [one], "nextCursor": cursor})

    pages = page("ann", "c1"), page("bob", "c2"), page("eve", None)
    use = lambda client: client.list_users(limit=1) if shell.is_async else list(client.list_users(limit=1))  # noqa: E731
    assert [user.user_id for user in shell.do(use, *pages)] == ["ann", "bob", "eve"]
    assert [str(request.url.query, "ascii") for request in shell.requests] == [
        "limit=1", "limit=1&cursor=c1", "limit=1&cursor=c2",
    ]  # fmt: skip
    if not shell.is_async:
        assert shell.do(lambda client: next(client.list_users()), *pages).user_id == "ann"
        assert len(shell.requests) == 4
