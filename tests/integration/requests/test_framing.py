"""Requests that hide a second one, over real sockets."""

import contextlib
import random
import re
from collections.abc import Iterator

import pytest

from tests.harness.framing import Vector, contained, hidden, refused
from tests.harness.service_fixture import Service, ok
from tests.harness.serving import Served

LEAST = 300
_PROBE = b"GET /health/live HTTP/1.1\r\nHost: x\r\nX-Request-Id: the-probe\r\n\r\n"


@pytest.fixture(scope="module", params=["lane", "litestar"])
def served(
    service: Service, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    with Served(service, tmp_path_factory.mktemp("framing"), hot=request.param == "lane") as served:
        yield served


def _read_statuses(served: Served, data: bytes, cuts: list[int]) -> list[int]:
    """The statuses of all answers until the server closes the connection."""
    with contextlib.closing(served.connect()) as wire:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # closed before the last piece went out
            for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
                wire.send(data[start:end])
        return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", wire.rest())]


@pytest.mark.parametrize("pieces", [1, 4])
def test_ambiguous_requests(service: Service, served: Served, pieces: int) -> None:
    """The server refuses each of 300 ambiguous requests once, with 400 or 431, closes the connection, and never runs
    the hidden request. A GET may be answered before the last pieces of its body; then, too, the connection is
    closed."""
    code, draw, wrong, count = service.coupon(), random.Random(7), [], 0
    for vector in refused():
        data = vector.data + hidden(code)
        cuts = sorted(draw.sample(range(1, len(vector.data)), pieces - 1))
        statuses = _read_statuses(served, data, cuts)
        answered_before = statuses == [200] and pieces > 1 and vector.name.startswith("get chunks ")
        if statuses not in ([400], [431]) and not answered_before:
            wrong.append((vector.name, statuses))
        count += 1
    assert wrong == []
    assert count >= LEAST
    assert ok(service.checkout.get(f"/v1/coupons/{code}"))["status"] == "available"


def test_unusual_requests(service: Service, served: Served) -> None:
    """A request hidden in a body is not run: there is one answer, and the next one is the next request's."""
    code, wrong = service.coupon(), []
    for vector in contained(hidden(code)):
        statuses = _answers(served, vector)
        if len(statuses) != 1:
            wrong.append((vector.name, statuses))
    assert wrong == []
    assert ok(service.checkout.get(f"/v1/coupons/{code}"))["status"] == "available"


@pytest.mark.parametrize(("version", "statuses"), [("1.0", [422]), ("1.1", [100, 422])])
def test_a_client_that_waits_for_100(service: Service, served: Served, version: str, statuses: list[int]) -> None:
    """A client of HTTP/1.0 gets no `100 Continue`, which it would take for the response."""
    head = f"POST /v1/books HTTP/{version}\r\nHost: x\r\nAuthorization: {service.manage.headers['authorization']}\r\n"
    head += "Content-Type: application/json\r\nContent-Length: 11\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n"
    assert _read_statuses(served, (head + '{"name":""}').encode(), [len(head)]) == statuses


def _answers(served: Served, vector: Vector) -> list[int]:
    """The statuses of the answers before the probe's, or before the connection's end."""
    wire = served.connect()
    statuses: list[int] = []
    try:
        wire.send(vector.data + _PROBE)
        while True:
            answer = wire.answer()
            if b"\r\nx-request-id: the-probe\r\n" in answer:
                return statuses
            statuses.append(int(answer[9:12]))
            if answer.endswith(b"<end>"):
                return statuses
    except ConnectionResetError:
        return statuses
    finally:
        wire.close()
