"""A test workspace's clock."""

from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
from litestar import Controller, Request, Response, post

from service.api.auth import caller
from service.api.configuration_writes import Change
from service.api.context import Context
from service.api.documented import documented
from service.api.idempotency import Answered, once
from service.api.reading import json_bytes, query
from service.domain import field_types
from service.domain.decoding import decode
from service.domain.errors import BadField, Refusal
from service.domain.field_types import Answer
from service.domain.times import from_ms, to_ms
from service.record.config.workspace_rows import patch_workspace

_END_MS = to_ms(datetime(9900, 1, 1, tzinfo=UTC))
"""The clock runs on and the longest lock has 68 years, and the last time that can be written is in 9999."""


_Now = Annotated[
    datetime,
    msgspec.Meta(
        tz=True,
        description="RFC 3339, from 1970 and before 9900.",
        examples=["2026-11-27T00:00:00Z"],
        extra_json_schema={"pattern": "^(?:19[7-9]|[2-8][0-9]{2}|9[0-8][0-9])"},
    ),
]


class SetClock(field_types.Request, kw_only=True):
    """What time it is from now on; null is the real time."""

    now: Annotated[_Now | None, msgspec.Meta(description="Null is the real time.")] = None

    def __post_init__(self) -> None:
        if self.now is not None and not 0 <= to_ms(self.now) < _END_MS:
            raise BadField("now", "must be from 1970 to 9899")


class Clock(Answer, kw_only=True):
    """What time it is in the workspace."""

    now: str


_set = msgspec.json.Decoder(SetClock)


class TestClock(Controller):
    """Time in a test workspace."""

    path = "/v1/test/clock"

    @post(
        "/",
        status_code=200,
        **documented(
            "setTestClock",
            "Set a test workspace's clock",
            "Workspace",
            body=SetClock,
            example={"now": "2026-11-27T00:00:00Z"},
            answer={"now": "2026-11-27T00:00:00.000Z"},
            refusals="outcome_unknown",
            idempotent=True,
        ),
    )
    async def set(self, request: Request[Any, Any, Any]) -> Response[Clock]:
        """Move the time that windows and locks see, forward or back; it runs on from there. Scope `operate`.

        Only a test workspace has a clock: in a live one this is `forbidden`. Keys, idempotency and the times at which
        books and codes were made stay on the real time. Going back may revive an expired lock that nobody has touched
        since, and with a use of its coupon one of the book's total and the user's limit; more than a limit allows is
        never redeemed all the same, since redeeming counts what was used.
        """
        who = caller(request)
        query(request)
        body = await json_bytes(request)
        said = decode(_set, body)
        if who.mode != "test":
            raise Refusal("forbidden", "Only a test workspace has a clock.")
        context: Context = request.app.state.context

        async def act() -> Answered[Clock]:
            change = Change(context, who.partition)
            real_ms = await context.decider.time_ms()
            now_ms = real_ms if said.now is None else to_ms(said.now)
            changes = {"clock_offset_ms": now_ms - real_ms}
            row = await patch_workspace(context.pool, who.workspace, who.partition, changes)
            await change.projected(row.version, context.projector.workspace(row))
            return Answered(status=200, body=Clock(now=from_ms(now_ms)))

        return await once(request, who, body, act)
