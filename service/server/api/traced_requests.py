"""Spans of the requests that Litestar answers; service/serving/server.py adds this while traces are on."""

from litestar.types import ASGIApp, Message, Receive, Scope, Send

from service.common.spans import Traces, current, end_request, set_route
from service.server.answers.accounting import UNLOGGED


def traced(app: ASGIApp, traces: Traces) -> ASGIApp:
    """The application of `around` (request_middleware.py), with spans. Health and metrics have none."""

    async def handle(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or f"{scope['method']} {scope['path']}".startswith(UNLOGGED):
            await app(scope, receive, send)
            return
        method = scope["method"]
        sent = next((value for name, value in scope["headers"] if name == b"traceparent"), b"").decode("latin-1")
        span = traces.begin_request(method, "", scope["scheme"], sent)
        token, status = current.set(span), 0

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await app(scope, receive, watch if span else send)
        finally:
            current.reset(token)
            if span:
                state = scope.get("state", {})
                if route := scope.get("path_template"):
                    set_route(span, f"{method} {route}")
                end_request(span, status, state.get("outcome", ""), state.get("request_id", ""))

    return handle
