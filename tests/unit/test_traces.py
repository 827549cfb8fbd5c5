"""Traces: what is sampled, the spans of requests and scripts, and what spans say."""

import asyncio
import sys
from functools import partial
from typing import Any

import hiredis
import pytest
import pytest_asyncio
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanContext, StatusCode
from structlog.testing import capture_logs

from service.common.config import SettingsError, TraceSampler, find_sampler
from service.common.redis_address import Host
from service.common.remedies import REMEDIES
from service.common.spans import Traces, current, parse_traceparent
from service.common.tracing import start_traces
from service.engine.domain.errors import Refusal
from service.engine.domain.outcomes import BY_CODE, RECALL
from service.engine.formats.event_id import EventId
from service.engine.formats.events import parse_request, read_trace, with_trace
from service.engine.hot.connection import Broken
from service.engine.hot.scripts import HOT, find_request_part
from service.engine.hot.traced_decider import TracedDecider
from service.engine.worker.traced_recording import MAX_EVENTS, EventTraces
from service.server.api.request_middleware import around
from service.server.api.traced_requests import traced
from service.server.fastlane import shapes
from service.server.fastlane.traced_protocol import TracedProtocol
from tests.unit import fastlane_fixtures, test_turns
from tests.unit.fastlane_fixtures import Client, request, statuses

SENT = f"00-{'a' * 32}-{'b' * 16}-01"
UNSAMPLED = SENT.removesuffix("01") + "00"


class Seen:
    """Traces whose spans a test reads once they have ended."""

    def __init__(self, ratio: float = 0, *, follows: bool = True) -> None:
        self._exporter = InMemorySpanExporter()
        self.traces = Traces("tests", TraceSampler(ratio, follows), SimpleSpanProcessor(self._exporter))

    @property
    def spans(self) -> list[ReadableSpan]:
        return list(self._exporter.get_finished_spans())

    @property
    def names(self) -> list[str]:
        return [span.name for span in self.spans]


@pytest.fixture
def seen() -> Seen:
    """Traces of requests whose callers have sampled them."""
    return Seen()


class Shop:
    """A connection of a client, whose scripts go out on a connection to Redis."""

    def __init__(self, seen: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(fastlane_fixtures, "Protocol", partial(TracedProtocol, traces=seen.traces))
        self.client, self.redis = Client(), test_turns.Client(partial(TracedDecider, traces=seen.traces))
        self.redis.connection.host = Host("redis.internal", 6379)
        assert self.client.lane
        self.client.lane.decider = self.redis.decider

    async def send(self, name: str = "redeem", sent: str = SENT, body: bytes = b'{"userId":"u"}') -> list[str]:
        """Send a request; the command that goes out for it."""
        header = f"traceparent: {sent}\r\n" if sent else ""
        self.client.send(request(f"/v1/coupons/{name}/ABCD", body, more=f"X-Request-Id: r\r\n{header}"))
        await asyncio.sleep(0)
        return self.redis.wire.writes[-1][-1]

    def reply(self, reply: Any) -> None:
        """Have the oldest command replied to."""
        on_reply, requests = self.redis.connection._waiting.popleft()
        self.redis.connection.waiting -= requests
        on_reply(reply)


@pytest_asyncio.fixture
async def shop(seen: Seen, monkeypatch: pytest.MonkeyPatch) -> Shop:
    return Shop(seen, monkeypatch)


async def test_spans_of_a_request(shop: Shop, seen: Seen) -> None:
    """A sampled request has a span by its route, in its caller's trace; so has its script, in the event, too."""
    trace = read_trace(_request_part(await shop.send()))
    shop.reply([BY_CODE["coupon_exhausted"].number])
    redis, server = seen.spans
    assert (server.name, redis.name) == ("POST /v1/coupons/redeem/{code}", "EVALSHA redeem")
    assert server.parent == parse_traceparent(SENT)
    assert redis.parent == server.context
    assert redis.context
    assert trace == f"00-{'a' * 32}-{redis.context.span_id:016x}-01"
    assert server.attributes == {
        "http.request.method": "POST", "http.route": "/v1/coupons/redeem/{code}", "url.scheme": "http",
        "http.response.status_code": 409, "scrip.outcome": "coupon_exhausted", "scrip.request_id": "r",
    }  # fmt: skip
    assert redis.attributes == {
        "db.system.name": "redis", "db.operation.name": "EVALSHA", "db.stored_procedure.name": "redeem",
        "server.address": "redis.internal", "server.port": 6379, "scrip.partition": 0,
    }  # fmt: skip
    assert {span.status.status_code for span in seen.spans} == {StatusCode.UNSET}


async def test_a_request_that_is_read_by_a_shape(shop: Shop, seen: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its span is as that of the requests from which the shape was learned."""
    monkeypatch.setattr(shapes, "ATTEMPTS_A_SECOND", 1e9)
    for _ in range(3):
        shop.client.protocol._misses = 3
        await shop.send(body=b'{"userId":"user"}')
        shop.reply([BY_CODE["coupon_exhausted"].number])
    assert shop.client.protocol._usual
    assert seen.names == ["EVALSHA redeem", "POST /v1/coupons/redeem/{code}"] * 3


@pytest.mark.parametrize("sent", ["", UNSAMPLED, SENT.upper(), f"00-{'0' * 32}-{'b' * 16}-01", "x"])
async def test_requests_without_a_span(shop: Shop, seen: Seen, sent: str) -> None:
    """A request that its caller did not sample has no span, and its event no trace; also behind a sampled one."""
    await shop.send()
    shop.client.send(request("/v1/coupons/redeem/EFGH", more=f"traceparent: {sent}\r\n" if sent else ""))
    shop.reply([BY_CODE["coupon_exhausted"].number])
    await shop.client.settle()
    assert b"trace" not in _request_part(shop.redis.wire.writes[-1][-1])
    shop.reply([BY_CODE["coupon_exhausted"].number])
    assert statuses(shop.client.wire.sent) == [409, 409]
    assert seen.names == ["EVALSHA redeem", "POST /v1/coupons/redeem/{code}"]
    assert not shop.client.passed


@pytest.mark.parametrize(
    ("reply", "code", "error"),
    [
        (Broken(), "outcome_unknown", "outcome_unknown"),
        (hiredis.ReplyError("OOM command not allowed ABCD"), "unavailable", "OOM"),
        (hiredis.ReplyError("NOSCRIPT No matching script"), "recovering", "NOSCRIPT"),
        (None, "unavailable", "unavailable"),
    ],
)
async def test_failures(shop: Shop, seen: Seen, reply: Any, code: str, error: str) -> None:
    """Of a 5xx response both spans have an error: the refusal's code, and the kind of what Redis replied."""
    if reply is None:  # there is no connection
        shop.redis.decider.link(0)._connection = None
        shop.client.send(request("/v1/coupons/redeem/ABCD", more=f"traceparent: {SENT}\r\n"))
    else:
        await shop.send()
        shop.reply(reply)
    for span, said in zip(seen.spans, (error, code), strict=True):
        assert span.attributes
        assert (span.attributes["error.type"], span.status.status_code) == (said, StatusCode.ERROR)
        assert span.status.description is None


async def test_a_recall_is_of_its_request(shop: Shop, seen: Seen) -> None:
    """While facts are fetched for a script, and when it runs again, the request's span is the current one."""
    spans: list[Any] = []

    async def recall(*_: Any) -> Any:
        spans.append(current.get())
        raise Refusal("coupon_redeemed")

    assert shop.client.lane
    shop.client.lane.recall = recall
    await shop.send()
    shop.reply([RECALL, "1-1", "1"])
    await shop.client.settle()
    assert [span.name for span in spans] == ["POST /v1/coupons/redeem/{code}"]
    assert [span.context for span in spans] == [seen.spans[-1].context]


async def test_a_batch_is_one_span(shop: Shop, seen: Seen) -> None:
    """The scripts of a batch have one span, and each of their events its context."""
    span = seen.traces.begin_request("POST", "POST /v1/batch", "http", SENT)
    token = current.set(span)
    runs = [("unassign", ("gate", "w"), ("-", code, "b", "{}")) for code in ("ABCD", "EFGH")]
    running = asyncio.create_task(shop.redis.decider.run_all(0, runs))
    current.reset(token)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    sent = [values[-1] for values in shop.redis.wire.writes[-1][-1][5:-1]]
    shop.reply([[0], [0]])
    await running
    (redis,) = seen.spans
    assert redis.context
    assert sent == [with_trace("{}", f"00-{'a' * 32}-{redis.context.span_id:016x}-01")] * 2
    assert redis.attributes
    assert redis.attributes["db.operation.batch.size"] == 2


@pytest.mark.parametrize(
    ("method", "path", "template", "name"),
    [
        ("GET", "/v1/coupons/ABCD", "/v1/coupons/{code}", "GET /v1/coupons/{code}"),
        ("GET", "/v1/ABCD", "", "GET"),
        ("ABCD", "/v1", "", "_OTHER"),
        ("GET", "/metrics", "/metrics", None),
        ("GET", "/health/ready", "/health/ready", None),
    ],
)
async def test_spans_of_litestar(seen: Seen, method: str, path: str, template: str, name: str | None) -> None:
    """A request that Litestar answers has a span by its route, and none if it asks for health or metrics."""
    spans: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        spans.append(current.get())
        if template:
            scope["path_template"] = template
        await send({"type": "http.response.start", "status": 200, "headers": []})

    scope: Any = {
        "type": "http", "method": method, "path": path, "raw_path": path.encode(), "scheme": "https", "client": None,
        "headers": [(b"traceparent", SENT.encode()), (b"x-request-id", b"r")],
    }  # fmt: skip

    async def send(message: Any) -> None: ...

    await traced(around(app), seen.traces)(scope, None, send)  # type: ignore[arg-type]
    assert seen.names == ([name] if name else [])
    assert [span is not None for span in spans] == [bool(name)]
    assert current.get() is None
    if name:
        route = {"http.route": template} if template else {}
        assert seen.spans[0].attributes == route | {
            "http.request.method": name.split(" ")[0], "url.scheme": "https", "http.response.status_code": 200,
            "scrip.request_id": "r",
        }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "argument", "sampler"),
    [
        (None, None, TraceSampler(1.0, True)),
        ("always_off", None, TraceSampler(0.0, False)),
        ("parentbased_always_off", "1", TraceSampler(0.0, True)),
        ("traceidratio", "0.25", TraceSampler(0.25, False)),
        ("parentbased_traceidratio", None, TraceSampler(1.0, True)),
        ("parentbased_traceidratio", "1.5", None),
        ("parentbased_traceidratio", "half", None),
        ("jaeger_remote", None, None),
    ],
)
def test_the_sampler(
    monkeypatch: pytest.MonkeyPatch, name: str | None, argument: str | None, sampler: TraceSampler | None
) -> None:
    """OpenTelemetry's variables choose the sampler; an unknown one is refused. Without a collector there is none."""
    for variable, value in (("OTEL_TRACES_SAMPLER", name), ("OTEL_TRACES_SAMPLER_ARG", argument)):
        if value is not None:
            monkeypatch.setenv(variable, value)
    assert find_sampler() is None
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318")
    if sampler is None:
        with pytest.raises(SettingsError, match="OTEL_TRACES_SAMPLER"):
            find_sampler()
    else:
        assert find_sampler() == sampler
    monkeypatch.setenv("OTEL_SDK_DISABLED", "TRUE")
    assert find_sampler() is None


def test_ratios() -> None:
    """A ratio samples that share of requests without a parent; without `parentbased_` also of others, by trace ids."""
    half = Seen(0.5).traces
    assert 0.4 < sum(half.begin_request("GET", "", "http", None) is not None for _ in range(2000)) / 2000 < 0.6
    alone = Seen(0.5, follows=False).traces
    for digit, is_sampled in (("7", True), ("8", False)):
        sent = f"00-{'a' * 16}{digit}{'0' * 15}-{'b' * 16}-00"
        assert (alone.begin_request("GET", "", "http", sent) is not None) == is_sampled


def test_the_extra_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a collector and without the packages, a line of the log names the remedy, and the process goes on."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318")
    monkeypatch.setitem(sys.modules, "service.common.spans", None)
    with capture_logs() as lines:
        assert start_traces("tests") is None
    assert lines == [{"event": "traces_off", "log_level": "error", "missing": "service.common.spans"}]
    assert "scrip[otel]" in REMEDIES["traces_off"]


def test_the_trace_in_an_event() -> None:
    """A trace in an event's request part is read again, nothing else of it changes, and metadata is no trace."""
    for part in ("{}", '{"ip":"::1","metadata":{"trace":"x"},"key":"k"}'):
        text = with_trace(part, SENT)
        assert read_trace(text.encode()) == SENT
        assert read_trace(part.encode()) == ""
        assert parse_request(text) == parse_request(part)


def test_where_scripts_have_the_part() -> None:
    """The argument `request` is found by the heads of scripts, also behind a caller's limits."""
    assert (find_request_part("redeem"), find_request_part("redeem+"), find_request_part("lock")) == (10, 11, None)
    found = {script for script in HOT if find_request_part(script) is not None}
    assert found == set(
        "adjust_card assign_any assign_code checkout gift redeem rollback rollback_order store_answer unassign".split()
    )


def test_contexts_of_events_are_bounded() -> None:
    """The oldest contexts of recorded events are forgotten beyond 10,000."""
    events, context = EventTraces(), SpanContext(1, 2, is_remote=True)
    events.add({EventId(1, seq): context for seq in range(MAX_EVENTS)})
    events.add({EventId(2, 0): context})
    assert [events.find(f"evt_{event}-1") for event in ("1-0", "1-1", "2-0")] == [None, context, context]
    assert events.find("evt_019aa0b2-6f0c-7b52-8a0e-5d1f3d1f9c11") is None


def _request_part(command: list[str]) -> bytes:
    """The request's part in a redemption's command: the only argument that is an object."""
    (part,) = (text for text in command if text.startswith('{"'))
    return part.encode()
