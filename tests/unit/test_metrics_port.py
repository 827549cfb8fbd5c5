"""The port of metrics and health, which API processes and workers serve for operators."""

import asyncio
from contextlib import AsyncExitStack, suppress
from types import SimpleNamespace

import httpx
import pytest

from service.common import metrics_port
from service.common.child_processes import StartError
from service.common.metrics_port import FRESH_S, MAX_CONNECTIONS, render_metrics, serve_metrics
from tests.harness.servers import free_port
from tests.harness.waiting import PATIENCE_S, wait_until

_HOST = "127.0.0.1"


async def _is_ready() -> tuple[bool, bytes]:
    return True, b"{}"


async def _is_not_ready() -> tuple[bool, bytes]:
    return False, b'{"failing":["leases"]}'


async def test_what_it_answers() -> None:
    """It answers metrics in the format that is asked for, and health; nothing else is there."""
    address = f"http://{_HOST}:{(port := free_port())}"
    async with (
        serve_metrics(_HOST, port, _is_not_ready),
        httpx.AsyncClient(base_url=address, timeout=PATIENCE_S) as client,
    ):
        plain = await client.get("/metrics")
        assert plain.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        assert b"# TYPE process_cpu_seconds_total counter" in plain.content
        asked = {"Accept": "application/openmetrics-text; version=1.0.0, text/plain;q=0.5"}
        other = await client.get("/metrics", headers=asked)
        assert other.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
        assert other.content.endswith(b"# EOF\n")
        strange = await client.get("/metrics", headers={"Accept": "application/openmetrics-text; version=x"})
        assert strange.headers["Content-Type"] == other.headers["Content-Type"]
        live, ready = await client.get("/health/live"), await client.get("/health/ready?x=1")
        assert (live.status_code, live.json()) == (200, {"status": "live"})
        assert (ready.status_code, ready.json()) == (503, {"failing": ["leases"]})
        assert (await client.get("/v1/books")).status_code == 404
        assert (await client.post("/metrics")).status_code == 405


def test_renderings(monkeypatch: pytest.MonkeyPatch) -> None:
    """However often metrics are read, a format is rendered once in a second, and all readers share its bytes."""
    now_s, rendered = 1e9, list[float]()
    monkeypatch.setattr(metrics_port, "time", SimpleNamespace(monotonic=lambda: now_s))
    monkeypatch.setattr(metrics_port, "generate_latest", lambda _: rendered.append(now_s) or b"%d" % len(rendered))
    texts = [render_metrics("")[0] for _ in range(100)]
    assert (rendered, {id(text) for text in texts}) == ([now_s], {id(texts[0])})
    assert render_metrics("application/openmetrics-text")[0].endswith(b"# EOF\n")
    now_s += FRESH_S
    assert [render_metrics("")[0] for _ in range(2)] == [b"2", b"2"]


async def test_bounds() -> None:
    """Requests that don't end, and those that are too long, hold at most so many connections; then it answers again."""
    port = free_port()
    async with serve_metrics(_HOST, port, _is_ready):
        held = [await asyncio.open_connection(_HOST, port) for _ in range(MAX_CONNECTIONS)]
        reader, writer = await asyncio.open_connection(_HOST, port)
        writer.write(b"GET /health/live HTTP/1.1\r\n\r\n")
        answer = b""
        with suppress(ConnectionResetError):  # its request was not read
            answer = await reader.read()
        assert answer == b""
        writer.close()
        held[0][1].write(b"GET /metrics HTTP/1.1\r\n" + b"x" * (64 << 10))
        await held[0][0].read()
        for _, one in held:
            one.close()

        async def answers() -> bool:
            async with httpx.AsyncClient(timeout=PATIENCE_S) as client:
                try:
                    return (await client.get(f"http://{_HOST}:{port}/health/ready")).status_code == 200
                except httpx.TransportError:
                    return False

        await wait_until(answers)


async def test_shared_and_taken_ports() -> None:
    """API processes share a port; another service that has it is named, and without a port nothing is served."""
    port = free_port()
    async with AsyncExitStack() as stack:
        for _ in range(2):
            await stack.enter_async_context(serve_metrics(_HOST, port, _is_ready, is_shared=True))
        with pytest.raises(StartError, match=f"{port} can't be used: .*another SCRIP_METRICS_PORT"):
            await stack.enter_async_context(serve_metrics(_HOST, port, _is_ready))
        await stack.enter_async_context(serve_metrics(_HOST, None, _is_ready))
