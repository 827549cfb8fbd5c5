"""Traces of a running service, as its collector gets them."""

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.harness.service_fixture import Service, ok
from tests.harness.waiting import until

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
CODE, USER, ORDER, KEY = "CNRY-TRACED-1", "user-traced", "order-traced", "key-traced"


class Posts(ThreadingHTTPServer):
    """A server that keeps what is posted to it: the collector and the webhook's receiver."""

    def __init__(self) -> None:
        got = self.got = list[tuple[str, dict[str, str], bytes]]()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                got.append((self.path, {name.lower(): value for name, value in self.headers.items()}, body))
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_request(self, code: Any = "-", size: Any = "-") -> None: ...

        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"

    def bodies(self, path: str) -> list[bytes]:
        return [body for at, _, body in self.got if at == path]


@pytest.fixture
def posts() -> Iterator[Posts]:
    with Posts() as posts:
        thread = threading.Thread(target=posts.serve_forever)
        thread.start()
        yield posts
        posts.shutdown()
        thread.join()


def test_a_redemption_from_request_to_webhook(
    posts: Posts, own_service: Callable[[], Service], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The caller's trace has the request, its script, the transaction that records it, and the delivery to a webhook,
    which gets the trace, too. Requests that their callers did not sample have no span, and no span has a code, a user,
    an order or a key. Spans that wait are sent when the processes end."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", posts.url)
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_always_off")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "3600000")
    service = own_service()
    ok(service.operate.post("/v1/webhooks", json={"url": f"{posts.url}/hook", "events": ["coupon.redeemed"]}), 201)
    service.book(CODE, maxRedemptionsPerCode=5)
    sent = {"traceparent": f"00-{TRACE}-{PARENT}-01", "Idempotency-Key": KEY}
    for order, headers in ((ORDER, sent), (f"{ORDER}-2", {})):
        body = {"userId": USER, "orderId": order, "metadata": {"trace": "x"}}
        ok(service.checkout.post(f"/v1/coupons/redeem/{CODE}", json=body, headers=headers), 201)
    until(lambda: len(posts.bodies("/hook")) == 2)
    ok(service.manage.get(f"/v1/coupons/{CODE}", headers={"traceparent": sent["traceparent"]}))
    service.run.end()
    exports = posts.bodies("/v1/traces")
    spans = [span for export in exports for span in _spans(export)]
    by_name = {span.name: span for span in spans}
    redeem, script = by_name["POST /v1/coupons/redeem/{code}"], by_name["EVALSHA redeem"]
    record, post, read = by_name["record"], by_name["POST"], by_name["GET /v1/coupons/{code}"]
    assert len(spans) == 6
    assert {span.trace_id.hex() for span in spans} == {TRACE}
    assert redeem.parent_span_id.hex() == read.parent_span_id.hex() == PARENT
    assert script.parent_span_id == redeem.span_id
    assert [link.span_id for link in record.links] == [script.span_id]
    assert record.parent_span_id == post.parent_span_id == script.span_id
    traceparents = [headers.get("traceparent") for path, headers, _ in posts.got if path == "/hook"]
    assert traceparents == [f"00-{TRACE}-{post.span_id.hex()}-01", None]
    names = {_service(export) for export in exports}
    assert names == {"scrip-api", "scrip-worker"}
    for secret in (CODE, USER, ORDER, KEY, "demo_checkout", "127.0.0.1:"):
        assert not any(secret.encode() in export for export in exports), secret


def _spans(export: bytes) -> list[Span]:
    request = ExportTraceServiceRequest.FromString(export)
    return [span for resource in request.resource_spans for scope in resource.scope_spans for span in scope.spans]


def _service(export: bytes) -> str:
    (resource,) = ExportTraceServiceRequest.FromString(export).resource_spans
    return next(one.value.string_value for one in resource.resource.attributes if one.key == "service.name")
