"""The fast lane without a network: each hot request runs its script once, and the answers keep the order."""

import time

import pytest

from service.engine.domain.errors import Refusal
from service.server.access.keyring import MAX_AGE_S
from service.server.answers.accounting import SAFE_HEADERS
from tests.unit.fastlane_fixtures import Client, request, statuses


async def test_an_answer() -> None:
    """The callback of the reply writes the whole answer, and the connection stays open."""
    client = Client()
    client.send(request())
    assert client.wire.sent == b""
    client.decider.reply()
    head, _, body = client.wire.sent.partition(b"\r\n\r\n")
    length = b"content-length: %d" % len(body)
    assert head.split(b"\r\n") == [
        b"HTTP/1.1 201 Created", b"date: now", *(b"%b: %b" % header for header in SAFE_HEADERS),
        b"content-type: application/json", length, b"x-request-id: r",
    ]  # fmt: skip
    assert b'"lockToken":"tttttttttttttttt"' in body
    assert not client.wire.closed


_OTHERS = (
    request("/v1/coupons/lock/ABCD?x=1"),
    request("/v1/coupons/lock/AB%43D"),
    request("/v1/coupons/lock/ABCD/"),
    request("/v1/coupons/sell/ABCD"),
    request("/v1/coupons/lock"),
    request("/v1/coupons/validate/ABCD"),
    request("/v1/books"),
    request().replace(b"POST", b"PUT", 1),
    request().replace(b"HTTP/1.1", b"HTTP/1.0", 1),
    request(more="Prefer: durability=recorded\r\n"),
    request(more="Expect: 100-continue\r\n"),
    request(more="Content-Encoding: identity\r\n"),
    request(more="Upgrade: h2c\r\nConnection: upgrade\r\n"),
    request(more="Connection: close, x\r\n"),
    request(more="X-Request-Id: a b\r\n"),
    request(more="User-Agent: a\r\nUser-Agent: b\r\n"),
    request(more="Authorization: Bearer two\r\n"),
    request(more="Idempotency-Key: a\r\nIdempotency-Key: a\r\n"),
    request().replace(b"application/json", b"text/plain"),
    request().replace(b"Content-Type: application/json\r\n", b""),
    request(body=b"{}" + b" " * 65_535),
    b"GET / HTTP/1.1\r\nHost: scrip\r\n\r\n",
    b"\r\nGET / HTTP/1.1\r\nHost: scrip\r\n\r\n",
)


@pytest.mark.parametrize("sent", _OTHERS, ids=range(len(_OTHERS)))
async def test_unusual_requests_go_to_litestar(sent: bytes) -> None:
    """A request that the lane does not handle goes to Litestar unchanged, also after a hot request, and back again."""
    client = Client()
    await client.ask(sent)
    assert (len(client.passed), client.decider.asked) == (1, [])
    if b"HTTP/1.0" not in sent and b"close" not in sent:
        client.answer()
        await client.ask(sent)
        assert (len(client.passed), len(client.decider.asked)) == (2, 1)
        assert [status for status in statuses(client.wire.sent) if status != 100] == [200, 201, 200]


async def test_every_split() -> None:
    """Three requests, cut in two anywhere or into single bytes, are run and answered as when they come whole."""
    parts = (request(more="Idempotency-Key: k\r\n"), request("/v1/books", b"[1]"), request("/v1/coupons/lock/EFGH"))
    whole = b"".join(parts)

    async def answered(pieces: list[bytes]) -> tuple[list[bytes], object, object]:
        client = Client()
        for piece in pieces:
            client.send(piece)
        for _ in range(3):
            await client.settle()
            if client.decider.waiting:
                client.decider.reply()
        lines = [line for line in client.wire.sent.split(b"\r\n") if not line.startswith(b"x-request-id")]
        asked = [(script, args[:5]) for script, args in client.decider.asked]
        return lines, asked, client.passed

    expected = await answered([whole])
    assert len(expected[0]) > 10
    for cut in range(1, len(whole)):
        assert await answered([whole[:cut], whole[cut:]]) == expected, cut
    assert await answered([whole[at : at + 1] for at in range(len(whole))]) == expected


async def test_another_head_on_the_same_connection() -> None:
    """A connection takes nothing from an earlier head: key, Idempotency-Key, agent, request id or `close`."""
    client = Client()
    for key, more in (
        ("one", "Idempotency-Key: a\r\n"), ("two", "Idempotency-Key: a\r\n"), ("two", "Idempotency-Key: b\r\n"),
        ("one", ""), ("three", ""), ("one", "User-Agent: x\r\n"),
        ("one", "X-Request-Id: mine\r\nConnection: close\r\n"),
    ):  # fmt: skip
        client.send(request("/v1/coupons/redeem/ABCD", more=more, key=key))
        if client.decider.waiting:
            client.decider.reply(Refusal("coupon_not_found"))
    assert statuses(client.wire.sent) == [404, 404, 404, 404, 401, 404, 404]
    kept = [args[10] for _, args in client.decider.asked]
    assert ['"key":"a"' in text for text in kept] == [True, True, False, False, False, False]
    assert ['"key":"b"' in text for text in kept] == [False, False, True, False, False, False]
    assert ['"ua":"x"' in text for text in kept] == [False] * 4 + [True, False]
    fingerprints = [args[0] for _, args in client.decider.asked]
    assert [text == "-" for text in fingerprints] == [False] * 3 + [True] * 3
    assert client.wire.sent.count(b"x-request-id: mine\r\nconnection: close\r\n") == 1
    assert client.wire.closed


async def test_heads_of_two_connections() -> None:
    """While one connection waits for a body, a similar head on another connection changes nothing of it."""
    one = Client()
    other = Client(beside=one)
    a, b, c = (request(more=f"Idempotency-Key: {key}\r\n") for key in "abc")
    for client in (one, other):
        client.send(a)
        one.decider.reply()
    one.send(b[:-3])
    other.send(c)
    one.send(b[-3:])
    assert [name.rpartition(":")[2] for name in one.decider.keys] == ["a", "a", "c", "b"]


async def test_a_revoked_key() -> None:
    """A revoked key is refused at once on a connection that used it before."""
    client = Client()
    client.answer()
    client.keyring.replace({})
    client.send(request())
    assert statuses(client.wire.sent) == [201, 401]


async def test_outdated_keys() -> None:
    """A known key is refused once Postgres has not confirmed it for MAX_AGE_S, and works again after that."""
    client = Client()
    client.answer()
    client.keyring.confirm(time.monotonic() - MAX_AGE_S)
    client.send(request())
    assert statuses(client.wire.sent) == [201, 503]
    assert b"keys_outdated" in client.wire.sent
    assert b"retry-after" in client.wire.sent
    client.keyring.confirm(time.monotonic())
    client.answer()
    assert statuses(client.wire.sent) == [201, 503, 201]


async def test_pipelined_requests() -> None:
    """Pipelined requests run one after the other; the server stops reading when the client sends too many."""
    client = Client()
    many = request() * 500
    client.send(many)
    assert (len(client.decider.asked), client.wire.reading) == (1, False)
    client.send(request("/v1/coupons/redeem/ABCD", b'{"userId":1}'))
    for number in range(500):
        assert len(client.decider.asked) == number + 1
        client.decider.reply()
        await client.settle()
    assert statuses(client.wire.sent) == [201] * 500 + [400]
    assert client.wire.reading


async def test_a_thousand_refusals_at_once() -> None:
    """1,500 requests that are refused without Redis and arrive at once are answered one after the other, not in one
    turn of the event loop."""
    client = Client()
    client.send(request(key="three") * 1500)
    assert len(statuses(client.wire.sent)) < 3
    assert statuses(await client.settle()) == [401] * 1500


async def test_a_client_that_does_not_read() -> None:
    """A client that does not read its answers gets no further request decided."""
    client = Client()
    client.send(request())
    client.protocol.pause_writing()
    client.decider.reply()
    client.send(request())
    assert len(client.decider.asked) == 1
    client.protocol.resume_writing()
    await client.settle()
    assert len(client.decider.asked) == 2


async def test_a_client_that_is_gone() -> None:
    """A reply for a client that has left is dropped."""
    client = Client()
    client.send(request())
    client.protocol.connection_lost(None)
    client.decider.reply()
    assert client.wire.sent == b""


@pytest.mark.parametrize("code", ["recovering", "rate_limited"])
async def test_an_invalid_request_is_counted(code: str) -> None:
    """An invalid request of a caller with limits is counted, but while Redis is away: then it has its own refusal."""
    client = Client()
    client.decider.refusal = Refusal.temporary(code)
    assert await client.ask(request(body=b"{}")) == [400]
    assert await client.ask(request(body=b"{}", key="limited")) == [400, 400 if code == "recovering" else 429]
    client.decider.refusal = None
    client.answer(request(key="limited"))
    assert len(client.decider.asked) == 1


async def test_refusals_of_redis() -> None:
    """A request that Redis can't answer gets 503 with Retry-After, and the connection stays open."""
    client = Client()
    for code in ("recovering", "unavailable"):
        client.decider.refusal = Refusal.temporary(code)
        client.send(request())
    client.decider.refusal = None
    client.answer(reply=Refusal.temporary("outcome_unknown"))
    client.answer()
    assert statuses(client.wire.sent) == [503, 503, 503, 201]
    assert client.wire.sent.count(b"\r\nretry-after: ") == 3


async def test_an_internal_error() -> None:
    """An internal error is 500 without its text, and breaks neither this connection nor Redis's."""
    client = Client()
    client.answer(reply=[0, "secret nonsense"])
    client.answer()
    assert statuses(client.wire.sent) == [500, 201]
    assert b"secret" not in client.wire.sent


async def test_without_a_lane() -> None:
    """Without a lane every request goes to Litestar."""
    client = Client(hot=False)
    await client.ask(request())
    assert client.passed == [("POST /v1/coupons/lock/ABCD", b'{"userId":"u"}')]
