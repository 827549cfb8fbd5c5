"""Endpoints for operators that need no key: health, metrics, problem types, and an index."""

import asyncio
from typing import Annotated, Any, Literal

from litestar import Controller, Request, Response, get
from litestar.params import PathParameter
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from service.api.auth import OPEN
from service.api.context import Context
from service.api.controllers.consistency import state_of
from service.api.documented import describe
from service.domain.errors import Refusal
from service.domain.field_types import Answer
from service.domain.outcomes import BY_CODE
from service.record.pool import ERRORS

CHECK_S = 1.0


class Live(Answer):
    """Whether the process runs."""

    status: Literal["live"]


class Ready(Answer):
    """Whether the service accepts requests; `failing` lists the parts that prevent it."""

    status: Literal["ready", "not_ready"]
    failing: list[str]


class ProblemType(Answer):
    """A kind of problem, by its code."""

    code: str
    status: int
    title: str


class Operating(Controller):
    path = "/"

    @get("/", include_in_schema=False, opt=OPEN)
    async def index(self) -> dict[str, str]:
        """The addresses of the documentation and of the pages."""
        return {
            "service": "scrip",
            "documentation": "/schema",
            "openapi": "/schema/openapi.json",
            "checkout": "/checkout",
            "console": "/console",
            "live": "/health/live",
            "ready": "/health/ready",
            "metrics": "/metrics",
        }

    @get(
        "/health/live",
        **describe("getLive", "Is the process alive", "Operators", answer={"status": "live"}, open_to_all=True),
    )
    async def live(self) -> Live:
        """Checks no other part of the service. No credentials."""
        return Live(status="live")

    @get(
        "/health/ready",
        **describe(
            "getReady",
            "Check whether the service is ready",
            "Operators",
            answer={"status": "ready", "failing": []},
            answers={503: (Ready, "The service is not ready; `failing` lists the reasons.")},
            open_to_all=True,
        ),
    )
    async def ready(self, request: Request[Any, Any, Any]) -> Response[Ready]:
        """Returns 503 with the failing parts: `redis`, `postgres`, `partition 0` (in recovery), `scripts of partition
        0` (Redis has none of this version: run its `scrip migrate`). No credentials."""
        context: Context = request.app.state.context
        failing: list[str] = []
        if not context.decider.link.connected:
            failing.append("redis")
        try:
            async with asyncio.timeout(CHECK_S):
                await context.pool.fetchval("SELECT 1")
        except ERRORS:
            failing.append("postgres")
        if not failing:
            states = await asyncio.gather(*(state_of(context, p) for p in range(context.settings.partitions)))
            failing += [_name_failing(context, p) for p, state in enumerate(states) if state == "recovering"]
        if failing:
            body = Ready(status="not_ready", failing=failing)
            return Response(body, status_code=503, headers={"Retry-After": "1"})
        return Response(Ready(status="ready", failing=[]))

    @get("/problems/{code:str}", include_in_schema=False, opt=OPEN)
    async def problem(self, code: Annotated[str, PathParameter(name="code")]) -> ProblemType:
        """The meaning of a problem's `type`. No credentials."""
        outcome = BY_CODE.get(code)
        if outcome is None:
            raise Refusal("not_found")
        return ProblemType(code=outcome.code, status=outcome.status, title=outcome.sentence)

    @get("/metrics", include_in_schema=False, opt=OPEN)
    async def metrics(self) -> Response[bytes]:
        """Metrics in the text format of Prometheus. No credentials."""
        return Response(generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})


def _name_failing(context: Context, partition: int) -> str:
    """The part that fails of a partition that can't decide."""
    lacks_scripts = partition in context.open_partitions - context.loaded_partitions
    return f"scripts of partition {partition}" if lacks_scripts else f"partition {partition}"
