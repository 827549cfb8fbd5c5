"""The refusals that an API process keeps until it writes them."""

from collections import Counter

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
    assert refused.take() == ([], {})


def test_requests_without_credentials_hide_no_others() -> None:
    """Of each second a bounded number is kept, callers and others apart; the rest, and what is not written, counts."""
    refused = RefusedRequests()
    _add(refused, NOBODY, MAX_UNKNOWN + 2)
    _add(refused, 7, MAX_KNOWN + 1)
    batch = refused.take()
    assert (len(batch.refusals), batch.dropped) == (MAX_KNOWN + MAX_UNKNOWN, {NOBODY: 2, 7: 1})
    refused.drop(batch)
    assert refused.take() == ([], {NOBODY: MAX_UNKNOWN + 2, 7: MAX_KNOWN + 1})


def test_workspaces_share_what_is_kept() -> None:
    """However many refusals one workspace has in a second, others' are kept, and it has the rest of the room."""
    refused = RefusedRequests()
    _add(refused, 7, MAX_KNOWN * 2)
    _add(refused, 8)
    _add(refused, 9, 2)
    batch = refused.take()
    assert Counter(one.workspace for one in batch.refusals) == {7: MAX_KNOWN - 3, 8: 1, 9: 2}
    assert batch.dropped == {7: MAX_KNOWN + 3}
