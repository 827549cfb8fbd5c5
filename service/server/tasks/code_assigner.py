"""Assign a page of codes to the users of a job, each user one code (docs/internals/decisions/0065-bulk-changes.md).
code_changer.py calls this. A user's Idempotency-Key, `<job>/<number>`, is in Redis: a worker that continues the job
must make the same one."""

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from uuid import UUID

import msgspec

from service.engine.domain.errors import Refusal
from service.engine.operations.assign import AssignCode
from service.engine.operations.base import Call, Command, Reply
from service.engine.operations.caller import Caller
from service.engine.operations.run import begin_decoded, finish, needs_facts
from service.engine.operations.table import ASSIGN_CODE
from service.server.in_postgres.job_rows import DecidedUser, JobRow, JobUser

ASSIGNED_A_CALL = 20
"""Scripts that go out together: bounds how long other requests wait."""
_OF_CODE = {
    "coupon_not_found", "coupon_inactive", "expired", "coupon_assigned_to_other", "coupon_locked", "coupon_redeemed",
    "coupon_exhausted",
}  # fmt: skip
"""Refusals because of the code: the user gets the next one. All others are the user's or the book's."""

Decide = Callable[[Sequence[Command]], Awaitable[Sequence[Reply | Refusal]]]
"""Requests → the reply or refusal of each. Raises Refusal if Redis decides nothing now."""


async def assign_page(
    job: JobRow, users: Sequence[JobUser], codes: Sequence[str], decide: Decide
) -> tuple[list[DecidedUser], list[str]]:
    """Give each user the next code that can be assigned; return the users that are decided, and the codes that are
    left. The other users need more codes.

    Each user's request has an Idempotency-Key of its own, for any code. So if a worker has died in between, Redis
    answers with the code that the user has got then, and the code of this request is free for the next user. Raises
    Refusal if Redis decides nothing now.
    """
    waiting, free, decided = deque(users), deque(codes), list[DecidedUser]()
    while waiting and free:
        pairs = [(waiting.popleft(), free.popleft()) for _ in range(min(len(waiting), len(free), ASSIGNED_A_CALL))]
        commands = [_make_command(job, user, code) for user, code in pairs]
        replies = await decide(commands)
        again, unused = list[JobUser](), list[str]()
        for (user, code), command, reply in zip(pairs, commands, replies, strict=True):
            one = _finish(user, command, reply)
            if one is None:
                again.append(user)
                continue
            decided.append(one)
            if one.code != code and one.reason != "internal":  # after that the code may be taken
                unused.append(code)
        waiting.extendleft(reversed(again))
        free.extendleft(reversed(unused))
    return decided, list(free)


def _make_command(job: JobRow, user: JobUser, code: str) -> Command:
    """As the request for one coupon."""
    caller = Caller(None, job.workspace, UUID(int=0), job.partition, "live", frozenset({"checkout"}))
    call = Call(caller, f"{job.job_id}/{user.number}", job.job_id.hex)
    return begin_decoded(ASSIGN_CODE, call, code, AssignCode(user_id=user.user_id))


def _finish(user: JobUser, command: Command, reply: Reply | Refusal) -> DecidedUser | None:
    """The result for a user; None if another code is to be tried."""
    if isinstance(reply, Refusal):
        return None if reply.code in _OF_CODE else DecidedUser(user.number, "refused", reason=reply.code)
    if needs_facts(reply):  # used before, by another user
        return None
    rendered = finish(command, reply, "accepted")
    code = str(msgspec.json.decode(rendered.body or b"")["code"])
    return DecidedUser(user.number, "changed" if rendered.status == 201 else "unchanged", code)
