"""Assign a page of codes to the users of a job, each user one code (docs/decisions/0065-bulk-changes.md)."""

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from uuid import UUID

from service.access.caller import Caller
from service.domain.errors import Refusal
from service.domain.outcomes import BY_NUMBER, OK, RECALL, REPEATED
from service.operations.assign import ASSIGN_CODE, AssignCode
from service.operations.base import Call, Command, Reply
from service.operations.coupon_view import parse_view
from service.record.config.job_rows import DecidedUser, JobRow, JobUser

ASSIGNED_A_CALL = 20
"""Scripts that go out together: bounds how long other requests wait."""
_OF_CODE = {
    "coupon_not_found", "coupon_inactive", "expired", "coupon_assigned_to_other", "coupon_locked", "coupon_redeemed",
    "coupon_exhausted",
}  # fmt: skip
"""Refusals because of the code: the user gets the next one. All others are the user's or the book's."""

Assign = Callable[[Sequence[Command]], Awaitable[Sequence[Reply | None]]]
"""Requests → the reply of each, None if its script failed."""


async def assign_page(job: JobRow, users: Sequence[JobUser], codes: Sequence[str], assign: Assign) -> list[DecidedUser]:
    """Give each user the next code that can be assigned; return the users that are decided. The others need more codes.

    Each user's request has an Idempotency-Key of its own, whatever its code. So if a worker has died in between, Redis
    answers with the code that the user has got then, and the code of this request is free for the next user. Raises
    Refusal if Redis decides nothing now.
    """
    waiting, free, decided = deque(users), deque(codes), list[DecidedUser]()
    while waiting and free:
        pairs = [(waiting.popleft(), free.popleft()) for _ in range(min(len(waiting), len(free), ASSIGNED_A_CALL))]
        replies = await assign([_make_command(job, user, code) for user, code in pairs])
        again, unused = list[JobUser](), list[str]()
        for (user, code), reply in zip(pairs, replies, strict=True):
            one = _interpret(user, reply)
            if one is None:
                again.append(user)
                continue
            decided.append(one)
            if reply is not None and one.code != code:
                unused.append(code)
        waiting.extendleft(reversed(again))
        free.extendleft(reversed(unused))
    return decided


def _make_command(job: JobRow, user: JobUser, code: str) -> Command:
    """As the request for one coupon."""
    caller = Caller(None, job.workspace, UUID(int=0), job.partition, "live", frozenset({"checkout"}))
    call = Call(caller, f"{job.job_id}/{user.number}", job.job_id.hex)
    return ASSIGN_CODE.prepare(call, code, AssignCode(user_id=user.user_id))


def _interpret(user: JobUser, reply: Reply | None) -> DecidedUser | None:
    """What became of a user; None if another code is to be tried."""
    if reply is None:
        return DecidedUser(user.number, "refused", reason="internal")
    outcome = reply[0]
    if outcome in (OK, REPEATED):
        code = str(parse_view(reply[1])["code"])
        return DecidedUser(user.number, "changed" if outcome == OK else "unchanged", code)
    known = BY_NUMBER.get(outcome)
    if known is not None and known.status == 503:
        raise Refusal.temporary(known.code)
    if outcome == RECALL or (known is not None and known.code in _OF_CODE):  # RECALL: used before, by another user
        return None
    return DecidedUser(user.number, "refused", reason="internal" if known is None else known.code)
