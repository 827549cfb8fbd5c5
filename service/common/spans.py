"""OpenTelemetry traces: what is sampled, and spans by hand (docs/internals/decisions/0087-traces.md).

The classes Traced…, and `traced` (traced_requests.py), call this. It is imported only while traces are on.

No attribute holds a code, a user, a key, an address of a client or a text of an error.
"""

import os
import random
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from urllib.parse import urlsplit

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import Link, NonRecordingSpan, Span, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.trace.propagation import set_span_in_context

FLUSH_S = 2.0
"""How long the process waits at its end for the collector."""
_ROOT = Context()
_LOWER = (1 << 64) - 1
"""The half of a trace id by which a ratio is decided, as OpenTelemetry does."""
_METHODS = frozenset("GET HEAD POST PUT PATCH DELETE OPTIONS".split())
_traceparent = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})").fullmatch

Attributes = Mapping[str, str | int]

current: ContextVar[Span | None] = ContextVar("current", default=None)
"""The span of the request that runs; None if it is not sampled."""


def export() -> BatchSpanProcessor:
    """Send spans from a thread to the collector that OTEL_EXPORTER_OTLP_… name. Beyond 2,048 waiting spans (the default
    of OTEL_BSP_MAX_QUEUE_SIZE) they are dropped."""
    return BatchSpanProcessor(OTLPSpanExporter())


class Traces:
    """Makes a process's spans.

    It decides whether a request is sampled before any span exists: of a request that is not, the SDK would take 7 µs.
    All other spans are of work for a sampled request.
    """

    def __init__(self, name: str, sampler: tuple[float, bool], processor: SpanProcessor) -> None:
        """`sampler`: the ratio, and whether the caller's decision is followed (find_sampler of config.py)."""
        self._ratio, self._follows = sampler
        own = {"service.name": name, "process.pid": os.getpid()}
        resource = Resource.create({**own, **OTELResourceDetector().detect().attributes})
        self._provider = TracerProvider(ALWAYS_ON, resource, shutdown_on_exit=False)
        self._provider.add_span_processor(processor)
        self._start = self._provider.get_tracer("scrip").start_span

    def end(self) -> None:
        """Send what is left, for at most FLUSH_S."""
        flushing = threading.Thread(target=self._provider.shutdown, daemon=True)
        flushing.start()
        flushing.join(FLUSH_S)

    def begin_request(self, method: str, name: str, scheme: str, sent: str | None) -> Span | None:
        """The span of a request with this `traceparent`; None if it is not sampled. The name is method and route, or ''
        if the route is not known yet."""
        parent = None
        if not sent or (parent := parse_traceparent(sent)) is None:
            if random.random() >= self._ratio:  # noqa: S311, no secret
                return None
        elif not self._samples(parent):
            return None
        attributes = {"http.request.method": method if method in _METHODS else "_OTHER", "url.scheme": scheme}
        span = self._start(attributes["http.request.method"], _under(parent), SpanKind.SERVER, attributes)
        if name:
            set_route(span, name)
        return span

    def begin(self, name: str, kind: SpanKind, parent: SpanContext, attributes: Attributes) -> Span:
        """A span of work for a sampled request."""
        return self._start(name, _under(parent), kind, attributes)

    def begin_linked(self, name: str, parents: Sequence[SpanContext], attributes: Attributes) -> Span:
        """A span of work for several sampled requests. It is in the first one's trace, and has links to all."""
        links = [Link(parent) for parent in parents]
        return self._start(name, _under(parents[0]), SpanKind.CONSUMER, attributes, links)

    def _samples(self, parent: SpanContext) -> bool:
        return parent.trace_flags.sampled if self._follows else parent.trace_id & _LOWER < self._ratio * _LOWER


def parse_traceparent(text: str) -> SpanContext | None:
    """The context of a W3C `traceparent`; None if it is invalid."""
    match = _traceparent(text)
    if match is None:
        return None
    trace_id, span_id, flags = (int(part, 16) for part in match.groups())
    return SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(flags))


def format_traceparent(span: Span) -> str:
    context = span.get_span_context()
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-01"


def set_route(span: Span, name: str) -> None:
    """Name a request's span by method and route, without codes and ids."""
    span.update_name(name)
    span.set_attribute("http.route", name.partition(" ")[2])


def end_request(span: Span, status: int, outcome: str, request_id: str) -> None:
    """End a request's span. `outcome` is a refusal's code or ''; `status` 0 if the client had left."""
    span.set_attribute("scrip.request_id", request_id)
    if status:
        span.set_attribute("http.response.status_code", status)
    if outcome:
        span.set_attribute("scrip.outcome", outcome)
    end_span(span, (outcome or str(status)) if status >= 500 else "")


def end_span(span: Span, error: str = "") -> None:
    """End a span; `error` is a word for what failed, without values."""
    if error:
        fail_span(span, error)
    span.end()


def fail_span(span: Span, error: str) -> None:
    span.set_attribute("error.type", error)
    span.set_status(Status(StatusCode.ERROR))


@contextmanager
def ended_span(span: Span) -> Iterator[None]:
    """End the span with the block; the type of what it raises is the error."""
    try:
        yield
    except BaseException as raised:
        end_span(span, type(raised).__name__)
        raise
    end_span(span)


def server_of(url: str) -> Attributes:
    """The attributes that name a URL's server; its path may hold secrets."""
    parts = urlsplit(url)
    return {"server.address": parts.hostname or "", "server.port": parts.port or {"http": 80}.get(parts.scheme, 443)}


def _under(parent: SpanContext | None) -> Context:
    return _ROOT if parent is None else set_span_in_context(NonRecordingSpan(parent), _ROOT)
