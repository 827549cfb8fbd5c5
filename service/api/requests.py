"""Around every request of Litestar's: its id, and what is kept of its answer."""

from typing import Any

from litestar.types import ASGIApp, Message, Receive, Scope, Send

from service.requests import answers, is_request_id, new_request_id, now_s

_HEADER = b"x-request-id"


def with_request_id(app: ASGIApp) -> ASGIApp:
    """Every answer carries `X-Request-Id`: the caller's if it sent a valid one."""

    async def handle(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        sent = b""
        for name, value in scope["headers"]:
            if name == _HEADER and is_request_id(value):
                sent = value
        request_id = sent.decode() or new_request_id()
        state: dict[str, Any] = scope.setdefault("state", {})
        state["request_id"] = request_id
        began_s = now_s()

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (_HEADER, request_id.encode())]
                route = f"{scope['method']} {scope.get('path_template', '')}"  # paths hold codes and ids
                answers.note(route, message["status"], state.get("outcome", ""), request_id, began_s)
            await send(message)

        await app(scope, receive, send_with_id)

    return handle
