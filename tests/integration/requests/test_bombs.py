"""Bodies that are made to cost much: deep, wide or huge. Each is refused, and its memory is freed."""

from collections.abc import Callable, Iterator

import psutil
import pytest

from service.engine.domain.outcomes import BY_CODE
from tests.harness.service_fixture import Service, new_code, new_id, refused
from tests.harness.waiting import PATIENCE_S

_JSON = {"Content-Type": "application/json"}
_HOT, _COLD = "/v1/coupons/lock/NO-SUCH-CODE", "/v1/books"
_MANY = 80_000
"""Of each fits into the 1 MiB of a body that configuration reads."""
MAX_GROWTH_BYTES = 50 << 20
"""How much the API's memory may grow by all of them: 1 MiB is read at once, decoded, and refused."""


def _keys() -> bytes:
    return b",".join(b'"k%d":1' % number for number in range(_MANY))


BODIES: dict[str, tuple[Callable[[], bytes], str]] = {
    "deep arrays": (lambda: b'{"metadata":' + b"[" * _MANY, "malformed"),
    "deep objects": (lambda: b'{"metadata":' + b'{"a":' * _MANY, "malformed"),
    "many keys": (lambda: b"{" + _keys() + b"}", "too_large"),
    "many keys in metadata": (lambda: b'{"name":"n","metadata":{' + _keys() + b"}}", "too_large"),
    "a key many times": (lambda: b"{" + b",".join([b'"name":"n"'] * _MANY) + b',"x":1}', "too_large"),
    "many digits": (lambda: b'{"name":"n","totalCodes":' + b"9" * _MANY + b"}", "invalid"),
    "many digits of a fraction": (lambda: b'{"name":"n","totalCodes":1.' + b"9" * _MANY + b"}", "malformed"),
    "many digits in metadata": (lambda: b'{"name":"n","metadata":{"a":' + b"9" * _MANY + b"}}", "invalid"),
    "a huge exponent": (lambda: b'{"name":"n","metadata":{"a":1e999999999}}', "malformed"),
    "a long key": (lambda: b'{"' + b"k" * _MANY + b'":1}', "malformed"),
    "a long text": (lambda: b'{"name":"' + b"n" * (1_000 << 10) + b'"}', "invalid"),
    "escapes": (lambda: b'{"name":"' + b"\\u0061" * _MANY + b'"}', "invalid"),
    "surrogates": (lambda: b'{"name":"' + b"\\ud800" * _MANY + b'"}', "malformed"),
    "spaces": (lambda: b" " * (1 << 20), "malformed"),
    "too long": (lambda: b" " * (16 << 20), "too_large"),
}
"""Each is made by its test: every process of tests imports this file."""


@pytest.fixture(scope="module", autouse=True)
def little_is_left(service: Service) -> Iterator[None]:
    """The bodies together leave the API's memory about as it was."""
    api = psutil.Process(service.run.facts["pids"]["api"][0])
    before_bytes = api.memory_info().rss
    yield
    assert api.memory_info().rss - before_bytes < MAX_GROWTH_BYTES


@pytest.mark.parametrize("name", BODIES)
def test_bodies(service: Service, name: str) -> None:
    """Configuration reads up to 1 MiB, the hot path 64 KiB; a longer Content-Length is refused unread."""
    make, code = BODIES[name]
    body = make()
    answer = service.manage.post(_COLD, content=body, headers=_JSON, timeout=PATIENCE_S)
    refused(answer, BY_CODE[code].status, code)
    assert len(answer.content) < 10_000
    answer = service.checkout.post(_HOT, content=body, headers=_JSON)
    refused(answer, 413, "too_large") if len(body) > 64 << 10 else refused(answer, 400, "malformed")


def test_ranges(service: Service) -> None:
    """A `Range` header changes no answer."""
    ranges = "bytes=" + ",".join(f"{number}-{number + 1}" for number in range(0, 1000, 2))
    for path in ("/schema/assets/schema.js", "/schema/openapi.json", "/v1/books", "/checkout"):
        whole = service.manage.get(path)
        assert service.manage.get(path, headers={"Range": ranges}).content[:100] == whole.content[:100]
        assert service.manage.get(path, headers={"Range": ranges}).status_code == whole.status_code == 200


def _nest(levels: int) -> dict[str, object]:
    deep: dict[str, object] = {}
    for _ in range(levels - 1):
        deep = {"a": deep}
    return deep


def test_metadata_as_deep_as_it_may_be(service: Service) -> None:
    """Metadata at the bound of its depth is accepted, and one level more is refused, wherever a request has some."""
    code = new_code()
    book_id = service.book(code)
    requests = (
        ("POST", _COLD, {"name": "Deep"}, 201),
        ("PATCH", f"{_COLD}/{book_id}", {}, 200),
        ("POST", "/v1/users", {"userId": new_id("user")}, 201),
        ("PATCH", f"/v1/users/{new_id('user')}", {}, 200),
        ("POST", "/v1/coupons/validate", {"code": code}, 200),
        ("POST", f"/v1/coupons/redeem/{code}", {"userId": "ann"}, 201),
    )
    for method, path, body, status in requests:
        for levels in (9, 500):
            answer = service.admin.request(method, path, json=body | {"metadata": _nest(levels)})
            refused(answer, 422, "invalid")
            assert answer.json()["param"] == "metadata"
        assert service.admin.request(method, path, json=body | {"metadata": _nest(8)}).status_code == status
