"""`Prefer: durability=recorded`: wait until the events of a response are committed in Postgres. hot_path.py and
batches.py begin a Wait before the scripts run, and finish it after; flash_sale.py waits at its end."""

import difflib
import re
from dataclasses import dataclass
from typing import get_args

import msgspec
from litestar.datastructures import Headers

from service.engine.domain.errors import QUOTED, Refusal, malformed
from service.engine.domain.field_types import encode_field
from service.engine.operations.base import Rendered
from service.engine.operations.caller import Caller
from service.engine.operations.coupon_view import Durability
from service.engine.record.facts.recorded_wait import AnswerScope
from service.server.api.context import Context

DEFAULT_WAIT_S, MAX_WAIT_S = 2, 10
MAX_PREFERENCES = 20
_LEVELS: tuple[str, ...] = get_args(Durability)
RECORDED = "durability=recorded"
"""The value of `Preference-Applied`."""
_preference = re.compile(r"\s*([A-Za-z]+)\s*(?:=\s*\"?([^\s\",;]*)\"?)?\s*(?:;[^,]*)?\Z").match


def parse_preferred_wait_s(headers: Headers) -> int | None:
    """Seconds to wait for Postgres; None if the request does not ask for that. Ignores unknown preferences (RFC 7240),
    but neither a misspelt one nor another value. Raises Refusal `malformed`."""
    prefer = headers.getall("prefer", [])
    if not prefer:
        return None
    preferences: dict[str, str] = {}
    parts = ",".join(prefer).split(",", MAX_PREFERENCES)
    if len(parts) > MAX_PREFERENCES:
        raise malformed("Prefer", f"must have at most {MAX_PREFERENCES} preferences")
    for part in parts:
        if match := _preference(part):
            preferences.setdefault(match[1].lower(), match[2] or "")
    for name in preferences:
        if name != "durability" and difflib.get_close_matches(name, ("durability",), cutoff=0.8):
            raise malformed("Prefer", f"{name} is not known; perhaps durability is meant")
    durability = preferences.get("durability", _LEVELS[0])
    if durability not in _LEVELS:
        raise malformed("Prefer", f"durability must be {' or '.join(_LEVELS)}, but is {durability[:QUOTED] or 'empty'}")
    if durability != "recorded":
        return None
    wait = preferences.get("wait", str(DEFAULT_WAIT_S))
    if not wait.isdecimal() or int(wait[:9]) > MAX_WAIT_S:
        raise malformed("Prefer", f"wait must be a number of seconds, at most {MAX_WAIT_S}, but is {wait[:QUOTED]}")
    return int(wait)


@dataclass(frozen=True, slots=True)
class Wait:
    """A wait for the events of a request. It begins before the scripts run, so that only later events are searched."""

    context: Context
    caller: Caller
    seconds: int
    decided_in: tuple[int, int]
    """The epoch and connection whose scripts decide (Decider.moment)."""
    after: tuple[int, int]
    """The epoch and number of the last event then; (0, 0) if Redis did not reply."""

    @classmethod
    async def begin(cls, context: Context, caller: Caller, seconds: int | None) -> "Wait | None":
        """Read the outbox's tail. Returns None if `seconds` is None."""
        if seconds is None:
            return None
        decided_in = context.decider.moment(caller.partition)
        try:
            after = await context.decider.read_tail(caller.partition)
        except Refusal:
            after = 0, 0
        return cls(context, caller, seconds, decided_in, after)

    async def finish(self, answers: list[Rendered]) -> bool:
        """Wait, and return whether all events of the coupons in these responses are committed in time."""
        coupons = [coupon for answer in answers for coupon in _coupons_of(answer)]
        scope = AnswerScope(self.after, coupons)
        return await wait_until_recorded(self.context, self.caller, self.decided_in, self.seconds, scope)


async def wait_until_recorded(
    context: Context, caller: Caller, decided_in: tuple[int, int], wait_s: int, scope: AnswerScope | None = None
) -> bool:
    """Wait at most `wait_s` seconds, and return whether the decisions up to now are committed in Postgres. With a
    scope only its events count. `decided_in` is as in Wait."""
    try:
        tail_epoch, seq = await context.decider.read_tail(caller.partition)
    except Refusal:
        return False
    if (tail_epoch, context.decider.moment(caller.partition)) != (decided_in[0], decided_in):
        return False  # another Redis, or one that has lost its last events: its tail proves nothing
    if scope is None:
        return await context.recorded.wait(caller.partition, tail_epoch, seq, wait_s * 1000)
    to = tail_epoch, seq
    return await context.recorded.wait_recorded(caller.partition, to, wait_s * 1000, caller.workspace, scope)


def _coupons_of(rendered: Rendered) -> list[tuple[str, str]]:
    """The codes in a response, at its top and one level below, each with its user ('' for none): those of a coupon, a
    redemption, a checkout's coupon and gift, or an order's redemptions."""
    answer = msgspec.json.decode(rendered.body) if rendered.body else {}
    below = [part for value in answer.values() for part in (value if isinstance(value, list) else [value])]
    named = [part for part in (answer, *below) if isinstance(part, dict) and isinstance(part.get("code"), str)]
    return [(part["code"], "" if part.get("userId") is None else encode_field(part["userId"])) for part in named]
