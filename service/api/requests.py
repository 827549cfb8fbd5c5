"""Around every request: its id, and a line in the log and a count where it failed."""

import re
import time
from typing import Any

import structlog
import uuid_utils
from litestar.types import ASGIApp, Message, Receive, Scope, Send
from prometheus_client import Counter

_is_id = re.compile(rb"[!-~]{1,128}\Z").match
_HEADER = b"x-request-id"

_ANSWERS = Counter("scrip_http_answers", "Answers by status.", ["status"])
_count = {status: _ANSWERS.labels(str(status)) for status in (200, 201, 204, 400, 401, 403, 404, 409, 422, 503)}

log = structlog.get_logger()


def with_request_id(app: ASGIApp) -> ASGIApp:
    """Every answer carries `X-Request-Id`: the caller's if it sent a valid one."""

    async def handle(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        request_id = b""
        for name, value in scope["headers"]:
            if name == _HEADER and _is_id(value):
                request_id = value
        if not request_id:
            request_id = str(uuid_utils.uuid7()).encode()
        scope.setdefault("state", {})["request_id"] = request_id.decode()
        began = time.monotonic()

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (_HEADER, request_id)]
                status = message["status"]
                (_count.get(status) or _ANSWERS.labels(str(status))).inc()
                if status >= 500 and not scope["path"].startswith("/health/"):
                    _log(scope, status, began)
            await send(message)

        await app(scope, receive, send_with_id)

    return handle


def _log(scope: Any, status: int, began: float) -> None:
    """Paths hold codes and ids, so the line names the route."""
    log.warning(
        "answered",
        status=status,
        method=scope["method"],
        route=scope.get("path_template", ""),
        request_id=scope["state"]["request_id"],
        ms=round((time.monotonic() - began) * 1000, 1),
    )
