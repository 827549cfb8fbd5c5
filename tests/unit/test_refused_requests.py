"""The refusals that an API process keeps until it writes them."""

from service.server.answers.accounting import NOBODY, now_s
from service.server.answers.refused_requests import MAX_KNOWN, MAX_UNKNOWN, RefusedRequests


def _add(refused: RefusedRequests, workspace: int, times: int = 1, subject: str | None = "SUMMER-7F3K") -> None:
    for _ in range(times):
        refused.add(workspace, "POST /x/{code}", 409, "coupon_exhausted", "r1", now_s(), subject)


def test_subjects_are_masked() -> None:
    """What is taken has the last characters of a code alone; each refusal is taken once."""
    refused = RefusedRequests()
    _add(refused, 7)
    _add(refused, 7, subject=None)
    taken = refused.take().refusals
    assert [(one.workspace, one.status, one.outcome, one.subject) for one in taken] == [
        (7, 409, "coupon_exhausted", "…3K"),
        (7, 409, "coupon_exhausted", None),
    ]
    assert refused.take() == ([], 0)


def test_requests_without_credentials_hide_no_others() -> None:
    """Of each second a bounded number is kept, callers and others apart; the rest, and what is not written, counts."""
    refused = RefusedRequests()
    _add(refused, NOBODY, MAX_UNKNOWN + 2)
    _add(refused, 7, MAX_KNOWN + 1)
    batch = refused.take()
    assert (len(batch.refusals), batch.dropped) == (MAX_KNOWN + MAX_UNKNOWN, 3)
    refused.drop(batch)
    assert refused.take() == ([], MAX_KNOWN + MAX_UNKNOWN + 3)
