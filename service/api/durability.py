"""`Prefer: durability=recorded`: waiting until Postgres has what an answer is about."""

import re
from dataclasses import dataclass

import msgspec
from litestar.datastructures import Headers

from service.access.caller import Caller
from service.api.context import Context
from service.domain.errors import Refusal, malformed
from service.domain.field_types import encode_field
from service.operations.base import Rendered
from service.record.facts.recorded_wait import AnswerScope

DEFAULT_WAIT_S, MAX_WAIT_S = 2, 10
RECORDED = "durability=recorded"
"""The preference that was met."""
_preference = re.compile(r"\s*([A-Za-z]+)\s*(?:=\s*\"?([^\s\",;]*)\"?)?\s*(?:;[^,]*)?\Z").match


def preferred_wait_s(headers: Headers) -> int | None:
    """Seconds to wait for the record, where the request prefers that; unknown preferences are ignored (RFC 7240).
    Raises Refusal `malformed`."""
    prefer = headers.getall("prefer", [])
    if not prefer:
        return None
    found: dict[str, str] = {}
    for part in ",".join(prefer).split(","):
        if match := _preference(part):
            found.setdefault(match[1].lower(), match[2] or "")
    if found.get("durability") != "recorded":
        return None
    wait = found.get("wait", str(DEFAULT_WAIT_S))
    if not wait.isdecimal() or int(wait[:9]) > MAX_WAIT_S:
        raise malformed("Prefer", f"wait must be a number of seconds, at most {MAX_WAIT_S}")
    return int(wait)


@dataclass(frozen=True, slots=True)
class Wait:
    """A wait that begins before the scripts run, so that it knows which events may be the answer's."""

    context: Context
    caller: Caller
    seconds: int
    moment: tuple[int, int]
    after: tuple[int, int]

    @classmethod
    async def begin(cls, context: Context, caller: Caller, seconds: int | None) -> "Wait | None":
        """None where the request does not prefer to wait."""
        if seconds is None:
            return None
        moment = context.decider.moment(caller.partition)
        try:
            after = await context.decider.tail(caller.partition)
        except Refusal:
            after = 0, 0
        return cls(context, caller, seconds, moment, after)

    async def is_recorded(self, answers: list[Rendered]) -> bool:
        """Whether every event about the coupons that these answers name is in Postgres in time."""
        coupons = [coupon for answer in answers for coupon in _coupons_of(answer)]
        scope = AnswerScope(self.after, coupons)
        return await is_recorded(self.context, self.caller, self.moment, self.seconds, scope)


async def is_recorded(
    context: Context, caller: Caller, moment: tuple[int, int], wait_s: int, scope: AnswerScope | None = None
) -> bool:
    """Whether what was decided just now, at this moment of the decider's, is committed in Postgres, within so many
    seconds: of an answer all of its events, else as a read has to wait."""
    try:
        tail_epoch, seq = await context.decider.tail(caller.partition)
    except Refusal:
        return False
    if (tail_epoch, context.decider.moment(caller.partition)) != (moment[0], moment):
        return False  # that Redis is gone, or has lost its end: another tail says nothing of it
    if scope is None:
        return await context.recorded.wait(caller.partition, tail_epoch, seq, wait_s * 1000)
    to = tail_epoch, seq
    return await context.recorded.wait_recorded(caller.partition, to, wait_s * 1000, caller.workspace, scope)


def _coupons_of(rendered: Rendered) -> list[tuple[str, str]]:
    """The codes that an answer names, at its top and one level below, each with its user ('' for none): a coupon, a
    redemption, a checkout's both, an order's redemptions."""
    answer = msgspec.json.decode(rendered.body) if rendered.body else {}
    below = [part for value in answer.values() for part in (value if isinstance(value, list) else [value])]
    named = [part for part in (answer, *below) if isinstance(part, dict) and isinstance(part.get("code"), str)]
    return [(part["code"], "" if part.get("userId") is None else encode_field(part["userId"])) for part in named]
