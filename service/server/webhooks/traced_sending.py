"""Spans of webhooks' deliveries: the worker's composition root takes this class while traces are on."""

from collections.abc import Mapping

from opentelemetry.trace import SpanKind

from service.common.spans import Traces, ended_span, fail_span, format_traceparent, server_of
from service.engine.worker.traced_recording import EventTraces
from service.server.webhooks.public_http import Posted, Poster


class TracedPoster(Poster):
    """Poster, with a span for each delivery of an event of a sampled request, and its context in `traceparent`."""

    def __init__(self, traces: Traces, events: EventTraces, to_loopback: bool) -> None:
        super().__init__(to_loopback)
        self._traces, self._events = traces, events

    async def post(self, workspace: int, url: str, headers: Mapping[str, str], body: bytes) -> Posted:
        event_id = headers["webhook-id"]
        context = self._events.find(event_id)
        if context is None:
            return await super().post(workspace, url, headers, body)
        attributes = {"http.request.method": "POST", "scrip.event_id": event_id, **server_of(url)}
        span = self._traces.begin("POST", SpanKind.CLIENT, context, attributes)
        with ended_span(span):
            posted = await super().post(workspace, url, {**headers, "traceparent": format_traceparent(span)}, body)
            if posted.status is not None:
                span.set_attribute("http.response.status_code", posted.status)
            if not posted.delivered:
                fail_span(span, str(posted.status or "not_sent"))
            return posted
