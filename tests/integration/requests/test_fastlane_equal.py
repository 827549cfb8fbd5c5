"""The fast lane answers as Litestar does, byte for byte."""

import random
import re
from collections.abc import Iterator

import pytest

from tests.harness.service_fixture import Service, ok
from tests.harness.serving import RawConnection, Served, without_ids
from tests.integration.requests.fastlane_requests import BOOKS, codes_of, shapes, stories

_TILL_CEILING = re.compile(rb'"lockSeconds":(?:29\d\d|3000)\b')
"""What a repeated lock of the book TIGHT may last: 3,000 s, less what has passed since the first lock."""


class Side:
    """A workspace with the books, behind a server with the fast lane or without."""

    def __init__(self, service: Service, served: Served, name: str) -> None:
        self.served, admin = served, service.make_workspace(name, "live").admin
        self._values = {"key": f"{name}_admin", "token": "none"}
        self._values["book"] = service.book(client=admin)
        for scope in ("public", "operate"):
            made = admin.post("/v1/keys", json={"name": scope, "scopes": [scope]})
            self._values[scope] = ok(made, 201)["secret"]
        self._values["rival"] = "rival_checkout"
        for book, rules in BOOKS.items():
            self._values[book] = service.book(*codes_of(book), client=admin, **rules)
        self._wire: RawConnection | None = None

    def send(self, request: bytes, cuts: list[int]) -> None:
        for name, text in self._values.items():
            request = self._filled(request, name.encode(), text.encode())
        if self._wire is None:
            self._wire = self.served.connect()
        for start, end in zip([0, *cuts], [*cuts, len(request)], strict=True):
            self._wire.send(request[start:end])

    def answer(self, request: bytes) -> bytes:
        assert self._wire
        answer = self._wire.answer(head_only=request.startswith(b"HEAD "))
        if answer.endswith(b"<end>"):
            self._wire.close()
            self._wire = None
        if token := re.search(rb'"lockToken":"([^"]+)"', answer):
            self._values["token"] = token[1].decode()
        return answer

    @staticmethod
    def _filled(request: bytes, name: bytes, text: bytes) -> bytes:
        if b"{" + name + b"}" not in request:
            return request
        head, _, body = request.replace(b"{" + name + b"}", text).partition(b"\r\n\r\n")
        return re.sub(rb"(Content-Length: 0?)\d+", rb"\g<1>%d" % len(body), head) + b"\r\n\r\n" + body


@pytest.fixture(scope="module")
def sides(service: Service, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Side, Side]]:
    folder = tmp_path_factory.mktemp("served")
    with Served(service, folder) as hot, Served(service, folder, hot=False) as cold:
        yield Side(service, hot, "lane_hot"), Side(service, cold, "lane_cold")


def _alike(sides: tuple[Side, Side], requests: list[bytes], draw: random.Random | None) -> set[int]:
    """Send each request to both sides, cut into pieces by `draw`, and compare the answers; their statuses."""
    statuses: set[int] = set()
    for number, request in enumerate(requests):
        cuts = sorted(draw.sample(range(1, len(request)), draw.randint(1, 6))) if draw else []
        for side in sides:
            side.send(request, cuts)
        hot, cold = (_TILL_CEILING.sub(b"<till ceiling>", without_ids(side.answer(request))) for side in sides)
        assert hot == cold, (number, request)
        statuses.add(int(hot.split(b" ")[1]))
    return statuses


@pytest.mark.parametrize("draw", [None, random.Random(8)], ids=["whole", "in pieces"])
def test_shapes(sides: tuple[Side, Side], draw: random.Random | None) -> None:
    """Both ways answer each unusual request to each hot address with the same bytes, whole or cut into pieces."""
    assert _alike(sides, list(shapes()), draw) >= {100, 200, 400, 401, 403, 404, 405, 413, 415, 422}


def test_stories(sides: tuple[Side, Side]) -> None:
    """Both ways answer requests that change state, their refusals and their repeats with the same bytes."""
    assert _alike(sides, list(stories()), random.Random(9)) >= {200, 201, 204, 400, 409, 422}
