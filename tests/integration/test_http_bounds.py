"""What a server on a real network bears: clients that are slow, greedy or gone, and its own end under load."""

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from service.fastlane import bounded_protocol
from tests.integration.serving import Served, Wire
from tests.service_fixture import Service, new_code, until

MANY = 1_000_000
_LOCK = b'{"userId":"u","orderId":"o"}'


def _asked(address: str, body: bytes = b"", more: str = "") -> bytes:
    head = f"{address} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer demo_admin\r\nContent-Type: application/json\r\n"
    return f"{head}{more}Content-Length: {len(body)}\r\n\r\n".encode() + body


@pytest.fixture
def serve(service: Service, tmp_path: Path) -> Iterator[Callable[[], Served]]:
    """Start a server of the test's own."""
    started: list[Served] = []

    def start() -> Served:
        started.append(Served(service, tmp_path))
        return started[-1]

    yield start
    for served in started:
        served.end()


class Buyer(threading.Thread):
    """Sends a request, reads its answer, and so on on one connection, until one says that it was the last."""

    def __init__(self, served: Served, request: bytes) -> None:
        super().__init__()
        self._wire, self._request = served.connect(), request
        self.answers: list[bytes] = []
        self.lost: BaseException | None = None

    def run(self) -> None:
        try:
            while not self.answers or not self.answers[-1].endswith(b"<end>"):
                self._wire.send(self._request)
                self.answers.append(self._wire.answer())
        except OSError as error:
            self.lost = error
        finally:
            self._wire.close()


def test_the_end_under_load(service: Service, serve: Callable[[], Served]) -> None:
    """When the server ends, each request that was sent is answered, hot or not, and the last one says so."""
    served, code = serve(), service.coupon(lockSeconds=3000)
    buyers = [Buyer(served, _asked(f"POST /v1/coupons/lock/{code}", _LOCK)) for _ in range(12)]
    buyers += [Buyer(served, _asked(f"GET /v1/coupons/{code}")) for _ in range(4)]
    for buyer in buyers:
        buyer.start()
    until(lambda: all(len(buyer.answers) > 5 for buyer in buyers))
    served.end()
    for buyer in buyers:
        buyer.join()
    assert [buyer.lost for buyer in buyers] == [None] * len(buyers)
    assert {answer[:13] for buyer in buyers for answer in buyer.answers} <= {b"HTTP/1.1 200 ", b"HTTP/1.1 201 "}
    assert all(b"\r\nconnection: close\r\n" in buyer.answers[-1] for buyer in buyers)


def test_stalled_clients(service: Service, serve: Callable[[], Served], monkeypatch: pytest.MonkeyPatch) -> None:
    """Two hundred that stall, in a head or in a body, are answered 408 and let go, while another is served."""
    for name, seconds in {"LOOK_S": 0.05, "HEAD_S": 0.3, "BODY_S": 0.5, "LINGER_S": 0.2}.items():
        monkeypatch.setattr(bounded_protocol, name, seconds)
    served, code = serve(), service.coupon(lockSeconds=3000)
    hot = _asked(f"POST /v1/coupons/lock/{code}", _LOCK)
    slow = [hot[:40], hot[:-1], _asked("POST /v1/books", b'{"name":"n"}')[:-1], b"GET / HTTP/1.1\r\n"]
    wires = [served.connect() for _ in range(200)]
    for number, wire in enumerate(wires):
        wire.send(slow[number % len(slow)])
    honest = served.connect()
    for _ in range(50):
        honest.send(hot)
        assert honest.answer()[:11] == b"HTTP/1.1 20"
    assert {_refusal(wire) for wire in wires} == {(408, "request_timeout")}
    honest.send(hot)
    assert honest.answer()[:11] == b"HTTP/1.1 20"
    for wire in (*wires, honest):
        wire.close()
    until(lambda: not served.server.server_state.connections)


def test_clients_that_leave(service: Service, serve: Callable[[], Served]) -> None:
    """Those that leave after their request, or amid it, are no error; what they asked is decided."""
    served, codes = serve(), [new_code() for _ in range(100)]
    service.book(*codes)
    metrics = served.connect()
    before = _failures(metrics)
    for number, code in enumerate(codes):
        wire = served.connect()
        wire.send(_asked(f"POST /v1/coupons/redeem/{code}", _LOCK.replace(b'"o"', b'"%b"' % code.encode())))
        if number % 2:
            wire.send(_asked(f"POST /v1/coupons/redeem/{code}", _LOCK)[:-5])
        wire.close()
    for code in codes:  # the last may not be accepted yet
        until(lambda: service.checkout.get(f"/v1/coupons/{code}").json()["status"] == "redeemed")  # noqa: B023
    until(lambda: not served.server.server_state.connections - {*_held(served, metrics)})
    assert _failures(metrics) == before


def test_a_client_that_does_not_read(serve: Callable[[], Served]) -> None:
    """It can send no more than what fits into sockets and buffers; when it reads, it finds every answer, in order."""
    wire = serve().connect()
    requests = [_asked(f"POST /v1/coupons/lock/NO-SUCH-{n:04}", _LOCK, f"X-Request-Id: {n}\r\n") for n in range(1000)]
    sent, unsent = _until_full(wire, requests)
    assert sent < MANY
    wire.socket.settimeout(20)
    reader = threading.Thread(target=wire.send, args=(unsent,))
    reader.start()
    for number in range(sent + bool(unsent)):
        answer = wire.answer()
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["requestId"] == str(number % 1000)
    reader.join()
    wire.close()


def test_large_heads(serve: Callable[[], Served]) -> None:
    """A client that sends 20 MB of head reads 431, though it was never done sending."""
    wire = serve().connect()

    def send() -> None:
        with contextlib.suppress(OSError):
            wire.send(b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"x" * 20_000_000)

    sending = threading.Thread(target=send)
    sending.start()
    assert _refusal(wire) == (431, "headers_too_large")
    sending.join()
    wire.close()


def _until_full(wire: Wire, requests: list[bytes]) -> tuple[int, bytes]:
    """Send these again and again until the connection takes no more; how many it took, and the rest of the next."""
    wire.socket.setblocking(False)
    sent, unsent = 0, b""
    while sent < MANY:
        unsent = unsent or requests[sent % len(requests)]
        try:
            unsent = unsent[wire.socket.send(unsent) :]
        except BlockingIOError:
            break
        sent += not unsent
    return sent, unsent


def _held(served: Served, wire: Wire) -> set[object]:
    address = wire.socket.getsockname()
    return {one for one in set(served.server.server_state.connections) if one.client == address}  # type: ignore[union-attr]


def _failures(wire: Wire) -> list[bytes]:
    wire.send(_asked("GET /metrics"))
    return [line for line in wire.answer().splitlines() if b'answers_total{status="5' in line]


def _refusal(wire: Wire) -> tuple[int, str]:
    """Status and code of a problem that comes, which ends the connection."""
    head, _, body = wire.answer().removesuffix(b"<end>").partition(b"\r\n\r\n")
    assert b"\r\ncontent-type: application/problem+json\r\n" in head
    assert b"\r\nconnection: close" in head
    return int(head.split(b" ")[1]), json.loads(body)["code"]
