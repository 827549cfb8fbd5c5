"""Owners of connections take turns to begin requests that take long, and to have buffered data read."""

import asyncio
from collections.abc import Callable

import pytest

from service.server.fastlane.connection_room import STRANGERS
from service.server.fastlane.reading_turns import ReadingTurns
from tests.unit.fastlane_fixtures import Client, request, statuses

_GET = b"GET /x HTTP/1.1\r\nHost: scrip\r\n\r\n"
_LARGE = b'{"userId":"u"}' + b" " * (9 << 10)
MANY = 30


def _known(beside: Client | None, key: str) -> Client:
    """A connection of this key's workspace."""
    client = Client(beside=beside)
    client.answer(request(key=key))
    client.wire.sent, client.decider.asked[:] = b"", []
    return client


def _crowd() -> tuple[Client, list[Client]]:
    """A connection of one workspace, and many of another."""
    other = _known(None, "two")
    return other, [_known(other, "one") for _ in range(MANY)]


async def _turns(number: int) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


async def _count_turns(is_done: Callable[[], bool]) -> int:
    """The turns of the event loop until then."""
    turns = 0
    while not is_done():
        turns += 1
        await asyncio.sleep(0)
        assert turns < 2_000
    return turns


@pytest.mark.parametrize("pipelined", [1, 3])
async def test_many_connections_of_an_owner_begin_one_request_a_turn(pipelined: int) -> None:
    """30 connections of a workspace ask at once, before one of another: it is answered as if only one had asked. All
    are answered in the end, and those of the workspace in turn."""
    other, many = _crowd()
    for client in many:
        client.send(_GET * pipelined)
    other.send(_GET)
    await _count_turns(lambda: bool(other.wire.sent))
    assert sum(len(client.passed) for client in many) <= 3
    await _count_turns(lambda: all(client.passed for client in many))
    assert sum(len(client.passed) for client in many) <= MANY + 1  # each had its first before one had its second
    await _count_turns(lambda: all(statuses(client.wire.sent) == [200] * pipelined for client in many))


async def test_usual_requests_need_no_turn() -> None:
    """Usual hot requests of a workspace begin at once and together, also while others of it wait."""
    _, many = _crowd()
    for client in many[: MANY // 2]:
        client.send(_GET)
    for client in many[MANY // 2 :]:
        client.send(request())
    assert len(many[0].decider.asked) == MANY // 2
    for client in many:
        await client.settle()


@pytest.mark.parametrize("cut", [None, -1], ids=["whole", "in two parts"])
@pytest.mark.parametrize("path", ["/v1/coupons/lock/ABCD", "/v1/books"], ids=["hot", "elsewhere"])
async def test_large_bodies_of_an_owner_are_decoded_one_a_turn(path: str, cut: int | None) -> None:
    """Of bodies above 4 KiB that end at once, an owner has one decoded in a turn, however they arrive."""
    other, many = _crowd()
    sent = request(path, _LARGE)

    def begun() -> int:
        return len(other.decider.asked) + sum(len(client.passed) for client in many)

    if cut:
        for client in many:
            client.send(sent[:cut])
        await _turns(3 * MANY)
        assert begun() == 0
    for client in many:
        client.send(sent[cut:] if cut else sent)
    await _turns(3)
    assert 1 <= begun() <= 4
    await _count_turns(lambda: begun() == MANY)


async def test_what_waits_for_its_turn_is_not_late() -> None:
    """A request that waits for its turn does not end its connection, however long that takes; nor does shutdown."""
    _, many = _crowd()
    for client in many:
        client.send(_GET)
    many[-1].look(60)
    many[-1].protocol.shutdown()
    many[-1].protocol._close_idle()
    assert not many[-1].wire.closed
    await many[-1].settle()
    assert statuses(many[-1].wire.sent) == [200]
    assert many[-1].wire.closed


async def test_connections_that_end_wait_no_longer() -> None:
    """Nothing is kept of connections that end while they wait."""
    other, many = _crowd()
    for client in many:
        client.send(_GET)
    for client in many:
        client.protocol.connection_lost(None)
    assert other.room.turns._waiting == {}
    await _turns(3)
    assert sum(len(client.passed) for client in many) <= 1


async def test_a_connection_waits_among_those_of_its_owner() -> None:
    """A connection that gets its owner while it waits goes on waiting, among those of its owner."""
    other, _ = _crowd()
    new = [Client(beside=other) for _ in range(3)]
    for client in new:
        client.send(_GET)
    waiting = other.room.turns._waiting
    assert [*waiting] == [STRANGERS]
    owner = 7
    other.room.admit(new[2].protocol, owner, 0.0)
    assert [*waiting[owner]] == [new[2].protocol]
    for client in new:
        assert statuses(await client.settle()) == [200]


class _Failing:
    owner = 1

    def read_buffered(self) -> None:
        raise RuntimeError


class _Counting:
    def __init__(self, owner: int) -> None:
        self.owner, self.read = owner, 0

    def read_buffered(self) -> None:
        self.read += 1


async def test_one_failure_stops_no_other_connection() -> None:
    """A connection that can't be read costs others a turn, and no more."""
    turns, others = ReadingTurns(), [_Counting(1), _Counting(2)]
    failures: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context["exception"]))
    for connection in (_Failing(), *others):
        turns.add(connection)
    await _turns(4)
    assert [other.read for other in others] == [1, 1]
    assert [type(failure) for failure in failures] == [RuntimeError]
