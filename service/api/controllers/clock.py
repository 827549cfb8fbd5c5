"""A test workspace's clock."""

from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
from litestar import Controller, Request, Response, post

from service.api.configuration_writes import Change
from service.api.documented import describe_action
from service.api.idempotency import ActionResult, run_once
from service.api.reading import read_json_body, unpack_request
from service.domain import field_types
from service.domain.errors import BadField, Refusal
from service.domain.field_types import Answer
from service.domain.times import from_ms, to_ms
from service.record.config.workspace_rows import patch_workspace

_END_MS = to_ms(datetime(9900, 1, 1, tzinfo=UTC))
"""Leaves room for the clock to run on, and for the longest lock (68 years), before the last valid time in 9999."""


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
    """The time that the clock is set to."""

    now: Annotated[_Now | None, msgspec.Meta(description="Null resets the clock to the real time.")] = None

    def __post_init__(self) -> None:
        if self.now is not None and not 0 <= to_ms(self.now) < _END_MS:
            raise BadField("now", "must be from 1970 to 9899")


class Clock(Answer, kw_only=True):
    """The time in the workspace."""

    now: str


class TestClock(Controller):
    path = "/v1/test/clock"

    @post(
        "/",
        status_code=200,
        **describe_action(
            "setTestClock",
            "Set a test workspace's clock",
            "Workspace",
            body=SetClock,
            example={"now": "2026-11-27T00:00:00Z"},
            answer={"now": "2026-11-27T00:00:00.000Z"},
            refusals="outcome_unknown",
        ),
    )
    async def set(self, request: Request[Any, Any, Any]) -> Response[Clock]:
        """Set the time of validity windows and locks, forward or back; the clock runs on from there. Scope `operate`.

        Only test workspaces have a clock; in a live workspace the response is `forbidden`. Keys, idempotency and the
        creation times of books and codes stay on the real time. Setting the clock back may make an expired lock live
        again, if no request has used its coupon since; that lock again counts towards the limits of the book and the
        user. Redemptions never exceed a limit, since a redeem counts the uses.
        """
        caller, context, _ = unpack_request(request)
        body, payload = await read_json_body(request, SetClock)
        if caller.mode != "test":
            raise Refusal("forbidden", "Only a test workspace has a clock.")

        async def act() -> ActionResult[Clock]:
            change = Change(context, caller.partition)
            real_ms = await context.decider.time_ms(caller.partition)
            now_ms = real_ms if payload.now is None else to_ms(payload.now)
            changes = {"clock_offset_ms": now_ms - real_ms}
            row = await patch_workspace(context.pool, caller.workspace, caller.partition, changes)
            await change.project(row.version, context.projector.workspace(row))
            return ActionResult(status=200, body=Clock(now=from_ms(now_ms)))

        return await run_once(request, caller, body, act)
