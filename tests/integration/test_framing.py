"""Requests that hide a second one, over real sockets: what is ambiguous is refused once, and nothing follows it."""

import contextlib
import random
import re
from collections.abc import Iterator

import pytest

from tests.hostile.framing import Vector, contained, hidden, refused
from tests.integration.serving import Served, Wire
from tests.service_fixture import Service, ok

LEAST = 300
_PROBE = b"GET /health/live HTTP/1.1\r\nHost: x\r\nX-Request-Id: the-probe\r\n\r\n"


@pytest.fixture(scope="module", params=["lane", "litestar"])
def served(
    service: Service, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    """A server, with the fast lane or without."""
    serving = Served(service, tmp_path_factory.mktemp("framing"), hot=request.param == "lane")
    yield serving
    serving.end()


def _heard(served: Served, data: bytes, cuts: list[int]) -> list[int]:
    """Statuses of all answers, until the server closes."""
    wire = served.connect()
    try:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # closed before the last piece went out
            for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
                wire.send(data[start:end])
        return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", _rest(wire))]
    finally:
        wire.close()


def _rest(wire: Wire) -> bytes:
    try:
        return wire.rest()
    except TimeoutError:
        pytest.fail("the connection was not closed")


@pytest.mark.parametrize("pieces", [1, 4])
def test_what_is_ambiguous(service: Service, served: Served, pieces: int) -> None:
    """Each of more than 300 is refused once with 400 or 431, the connection is closed, and what is hidden behind it
    never happens, whether it comes in one piece or in several. A GET, which needs no body, may be answered before the
    last pieces of one are there; then, too, the connection is closed."""
    code, draw, wrong, count = service.coupon(), random.Random(7), [], 0
    for vector in refused():
        data = vector.data + hidden(code)
        cuts = sorted(draw.sample(range(1, len(vector.data)), pieces - 1))
        statuses = _heard(served, data, cuts)
        answered_before = statuses == [200] and pieces > 1 and vector.name.startswith("get chunks ")
        if statuses not in ([400], [431]) and not answered_before:
            wrong.append((vector.name, statuses))
        count += 1
    assert wrong == []
    assert count >= LEAST
    assert ok(service.checkout.get(f"/v1/coupons/{code}"))["status"] == "available"


def test_what_is_merely_unusual(service: Service, served: Served) -> None:
    """A request in another's body is none: one answer, and the next on the connection is the next request's."""
    code, wrong = service.coupon(), []
    for vector in contained(hidden(code)):
        statuses = _answers(served, vector)
        if len(statuses) != 1:
            wrong.append((vector.name, statuses))
    assert wrong == []
    assert ok(service.checkout.get(f"/v1/coupons/{code}"))["status"] == "available"


def _answers(served: Served, vector: Vector) -> list[int]:
    """Statuses of the answers before the probe's, or before the end."""
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
