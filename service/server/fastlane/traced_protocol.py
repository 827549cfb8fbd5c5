"""The fast lane with spans; service/serving/server.py takes this protocol while traces are on."""

from typing import Any

from opentelemetry.trace import Span

from service.common.spans import Traces, current, end_request
from service.engine.operations.base import Reply
from service.server.fastlane.protocol import Protocol
from service.server.fastlane.routes import TRACE, Lane


class TracedProtocol(Protocol):
    """Protocol, with a span for each sampled hot request, from its whole body to its answer. It is `current` while the
    request's code runs, and for what that starts. Others' spans are made by service/server/api/traced_requests.py."""

    __slots__ = ("_span", "_traces")

    def __init__(self, *args: Any, traces: Traces, **options: Any) -> None:
        super().__init__(*args, **options)
        self._traces = traces
        self._span: Span | None = None

    def _ask(self, lane: Lane, body: bytes, request: Any = None) -> None:
        span = self._traces.begin_request("POST", self._row.route, self.scheme or "http", self._values[TRACE])
        self._span = span
        if span is current.get():  # both None; else this call may be within the end of the request before
            super()._ask(lane, body, request)
            return
        token = current.set(span)
        try:
            super()._ask(lane, body, request)
        finally:
            current.reset(token)

    def _on_reply(self, reply: Reply) -> None:
        if self._span is None:
            super()._on_reply(reply)
            return
        token = current.set(self._span)
        try:
            super()._on_reply(reply)
        finally:
            current.reset(token)

    def _answer(self, answer: bytes, status: int, outcome: str, closes: bool) -> None:
        if self._span:
            end_request(self._span, status, outcome, self._request_id)
        super()._answer(answer, status, outcome, closes)
