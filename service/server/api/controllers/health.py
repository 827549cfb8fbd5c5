"""Endpoints for operators that need no key: health, metrics, and an index. app.py registers it; load balancers,
Prometheus and `scrip run` call it, so addresses, statuses and reasons stay."""

from typing import Any, Literal

from litestar import Controller, Request, Response, get

from service.common.metrics_port import render_metrics
from service.engine.domain.errors import Refusal
from service.engine.domain.field_types import Answer
from service.server.api.auth import OPEN
from service.server.api.documented import describe_route
from service.server.api.readiness import Ready, check_readiness

_READY = {
    "status": "ready",
    "failing": ["partition 3"],
    "partitions": [{"partition": 3, "reason": "closed"}],
}
_NOT_READY = {503: (Ready, "The process serves no partition; `partitions` has the reasons.")}


class Live(Answer):
    """Whether the process runs."""

    status: Literal["live"]


class Operating(Controller):
    path = "/"
    tags = ("Operators",)

    @get("/", include_in_schema=False, opt=OPEN)
    async def index(self, request: Request[Any, Any, Any]) -> dict[str, str]:
        """The addresses of the documentation and of the pages."""
        metrics = {"metrics": "/metrics"} if _shows_metrics(request) else {}
        return {
            "service": "scrip",
            "documentation": "/schema",
            "openapi": "/schema/openapi.json",
            "checkout": "/checkout",
            "console": "/console",
            "live": "/health/live",
            "ready": "/health/ready",
            **metrics,
        }

    @get(
        "/health/live",
        **describe_route(
            "getLive", "Is the process alive", returns="The process runs.", answer={"status": "live"}, is_open=True
        ),
    )
    async def live(self) -> Live:
        """Checks no other part of the service. No credentials."""
        return Live(status="live")

    @get(
        "/health/ready",
        **describe_route(
            "getReady",
            "Check whether the service is ready",
            returns="The process serves at least one partition; `failing` names the parts that fail.",
            answer=_READY,
            answers=_NOT_READY,
            is_open=True,
        ),
    )
    async def ready(self, request: Request[Any, Any, Any]) -> Response[Ready]:
        """Returns 503 if this process serves no partition. Requests of a partition in `partitions` are refused with
        503, all others are served. Reasons: `redis_unavailable`, `closed` (a worker must open it),
        `postgres_older` (Postgres lacks what Redis has: an operator must decide), `waiting_for_old_redis` (a worker
        waits until no process can use the last Redis), `scripts_missing` (Redis has no scripts of this version: run its
        `scrip migrate`), `unverified` (Redis is not what a worker verified), `keys_outdated` (no Postgres for 10
        minutes). No credentials."""
        ready = await check_readiness(request.app.state.context)
        if ready.status == "ready":
            return Response(ready)
        return Response(ready, status_code=503, headers={"Retry-After": "1"})

    @get("/metrics", include_in_schema=False, opt=OPEN)
    async def metrics(self, request: Request[Any, Any, Any]) -> Response[bytes]:
        """Metrics in the text format of Prometheus, or as OpenMetrics. No credentials. Not found if they have a port of
        their own."""
        if not _shows_metrics(request):
            raise Refusal("not_found")
        text, content_type = render_metrics(request.headers.get("accept", ""))
        return Response(text, headers={"Content-Type": content_type})


def _shows_metrics(request: Request[Any, Any, Any]) -> bool:
    """Whether the metrics have no port of their own."""
    return request.app.state.context.settings.metrics_port is None
