"""The server on real sockets: slow clients and large heads."""

import contextlib
import gc
import json
import threading
import weakref
from pathlib import Path

import pytest

from service.server.fastlane import bounded_protocol
from tests.harness.service_fixture import Service
from tests.harness.serving import RawConnection, Served
from tests.harness.waiting import until

_LOCK = b'{"userId":"u","orderId":"o"}'


def _asked(address: str, body: bytes) -> bytes:
    head = f"{address} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer demo_admin\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def test_stalled_clients(service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients that stall in a head or a body get 408, and the server closes their connections."""
    for name, seconds in {"CHECK_S": 0.05, "HEAD_S": 0.3, "BODY_S": 0.5, "LINGER_S": 0.2}.items():
        monkeypatch.setattr(bounded_protocol, name, seconds)
    hot = _asked("POST /v1/coupons/lock/NO-SUCH", _LOCK)
    slow = [hot[:40], hot[:-1], _asked("POST /v1/books", b'{"name":"n"}')[:-1], b"GET / HTTP/1.1\r\n"]
    with Served(service, tmp_path) as served:
        wires = [served.connect() for _ in slow]
        for wire, part in zip(wires, slow, strict=True):
            wire.send(part)
        assert {_refusal(wire) for wire in wires} == {(408, "request_timeout")}
        until(lambda: not served.server.server_state.connections)
        for wire in wires:
            wire.close()


def test_large_heads(service: Service, tmp_path: Path) -> None:
    """A client that is still sending a head of 20 MB receives 431."""
    with Served(service, tmp_path) as served, contextlib.closing(served.connect()) as wire:

        def send() -> None:
            with contextlib.suppress(OSError):
                wire.send(b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"x" * 20_000_000)

        sending = threading.Thread(target=send)
        sending.start()
        assert _refusal(wire) == (431, "headers_too_large")
        sending.join()


@pytest.mark.parametrize("address", ["POST /v1/coupons/lock/NO-SUCH", "POST /v1/coupons/validate", "POST /no-such"])
def test_a_closed_connection_leaves_no_garbage(address: str, service: Service, tmp_path: Path) -> None:
    """A connection's objects are gone with it: they don't wait for the collector, which keeps the loop busy."""
    with Served(service, tmp_path) as served:
        gc.disable()
        try:
            with contextlib.closing(served.connect()) as wire:
                wire.send(_asked(address, _LOCK))
                assert wire.answer().startswith(b"HTTP/1.1 4")
                (protocol,) = map(weakref.ref, served.server.server_state.connections)
            until(lambda: protocol() is None)
        finally:
            gc.enable()


def _refusal(wire: RawConnection) -> tuple[int, str]:
    """Status and code of the problem that ends the connection."""
    head, _, body = wire.answer().removesuffix(b"<end>").partition(b"\r\n\r\n")
    assert b"\r\ncontent-type: application/problem+json\r\n" in head
    assert b"\r\nconnection: close" in head
    return int(head.split(b" ")[1]), json.loads(body)["code"]
