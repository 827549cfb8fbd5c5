"""The requests of a turn of the event loop: what is sent for them, in which order, and what each gets."""

import asyncio
from collections.abc import Callable
from typing import Any

import hiredis
import msgpack
import pytest

from service.engine.domain.errors import Refusal
from service.engine.domain.outcomes import BY_CODE
from service.engine.hot import link, sold_out, turns
from service.engine.hot.connection import Connection
from service.engine.hot.decider import Decider
from service.engine.hot.link import Link
from service.engine.hot.scripts import SERVING, Scripts

SOLD_OUT, USED_UP = (BY_CODE[code].number for code in ("out_of_stock", "coupon_exhausted"))
DIGESTS = {digest: name for name, digest in Scripts(0, 1, "nonce", SERVING).digests.items()}
NAMES = ("{p0}:gate", "workspace")


def _read(word: bytes) -> Any:
    """A text, or the values of a packed request."""
    unpacker = msgpack.Unpacker()
    unpacker.feed(word)
    values = list(unpacker)
    return values if any(isinstance(value, str) for value in values) else word.decode()


class CommandTransport:
    """A transport that stores each write's commands."""

    def __init__(self) -> None:
        self.writes: list[list[list[Any]]] = []
        self.aborted = False

    def write(self, data: bytes) -> None:
        reader = hiredis.Reader()
        reader.feed(data)
        self.writes.append([])
        while (command := reader.gets()) is not False:
            self.writes[-1].append([_read(word) for word in command])

    def abort(self) -> None:
        self.aborted = True


class Client:
    """A decider on a connection without a network, and the answers to requests by names; `extends` are started."""

    def __init__(self, make_decider: Callable[[Link], Decider] = Decider, *, extends: str = "") -> None:
        self.wire, self.link = CommandTransport(), Link("redis://unused", "tests")
        self.connection = Connection(lambda: setattr(self.link, "_connection", None))
        self.connection.connection_made(self.wire)  # type: ignore[arg-type]
        self.link._connection = self.connection
        self.decider = make_decider(self.link)
        self.decider.learn(0, 1, "nonce")
        self.answers: dict[str, Any] = {}
        for name in extends:
            self.start("extend", name)

    def start(self, script: str, name: str, partition: int = 0) -> None:
        """A request with one argument, its name."""

        def answer(reply: Any) -> None:
            try:
                self.answers[name] = self.decider.interpret(partition, epoch, reply)
            except Refusal as refusal:
                self.answers[name] = refusal.code

        epoch = 0
        epoch = self.decider.start(partition, script, NAMES, (name,), answer)

    async def sent(self, epochs: str = "") -> list[list[str]]:
        """The commands of this turn, which are one write: scripts' names, and of each request its name. `epochs` are
        the commands' last arguments, if they are others than 1."""
        before = len(self.wire.writes)
        await asyncio.sleep(0)
        (commands,) = self.wire.writes[before:]
        scripts = [command for command in commands if command[0] == "EVALSHA"]
        assert [command[-1] for command in scripts] == list(epochs or "1" * len(scripts))
        # The requests' names: of one alone after its keys, of a call the last value of each.
        names = [one[5:6] if one[4] == NAMES[1] else [values[-1] for values in one[5:-1]] for one in commands]
        return [[DIGESTS.get(one[1], one[0]), *some] for one, some in zip(commands, names, strict=True)]


async def test_requests_of_a_turn_are_one_call() -> None:
    """Requests that start in one turn go out as one call in one write, in their order; each gets its own reply."""
    client = Client()
    for script, name in (("extend", "a"), ("unlock", "b"), ("extend", "c")):
        client.start(script, name)
    assert await client.sent() == [["run_requests", "a", "b", "c"]]
    own = [[0, 0, 0, script, 1, NAMES[1], name] for script, name in (("extend", "a"), ("unlock", "b"), ("extend", "c"))]
    assert client.wire.writes[0][0][2:] == ["1", NAMES[0], "", *own, "1"]
    client.connection.data_received(b"*3\r\n*1\r\n:0\r\n-OOM full\r\n*2\r\n:0\r\n:7\r\n")
    assert client.answers == {"a": [0], "b": "unavailable", "c": [0, 7]}
    assert client.connection.waiting == 0


async def test_usual_requests_name_the_places_of_keys_that_are_read_at_once() -> None:
    """Keys of a usual lock or redemption are in the first argument, each once; with facts it is its own script's."""
    client = Client()
    lock = (*NAMES, "key", "directory", "coupon", "orders", "users"), tuple("fcbuoOmtp")
    redemption = (*NAMES, "key", "directory", "coupon", "orders", "outbox", "users"), tuple("fcbuUoOtvxrdia")
    for script, (names, args) in (
        ("lock", lock),
        ("redeem", redemption),
        ("redeem", (redemption[0], (*redemption[1], "fact"))),
        ("lock", (lock[0], (*lock[1], "fact"))),
    ):
        client.decider.start(0, script, names, args, print)
    await asyncio.sleep(0)
    assert client.wire.writes[0][0][4:] == [
        [NAMES[1], "key"],
        [1, 1, 2, "lock", 6, *lock[0][1:], *lock[1]],
        [1, 1, 2, "redeem", 7, *redemption[0][1:], *redemption[1]],
        [0, 0, 0, "redeem", 7, *redemption[0][1:], *redemption[1], "fact"],
        [0, 0, 0, "lock", 6, *lock[0][1:], *lock[1], "fact"],
        "1",
    ]


async def test_what_cannot_be_packed_is_refused() -> None:
    """A request with a text that is no UTF-8 is not sent, and waits for nothing; nor do those of its call."""
    client = Client()
    client.start("extend", "\ud800")
    client.start("extend", "a")
    await asyncio.sleep(0)
    client.start("extend", "\udfff")
    await asyncio.sleep(0)
    assert client.wire.writes == []
    assert client.answers == dict.fromkeys(("\ud800", "a", "\udfff"), "unavailable")
    assert client.connection.waiting == 0


async def test_a_single_request_is_its_own_script() -> None:
    """A request that is alone in its turn goes out as its own script; so does one of another partition."""
    client = Client()
    client.decider.learn(1, 2, "nonce")
    client.start("extend", "a")
    client.start("extend", "b", partition=1)
    assert await client.sent("12") == [["extend", "a"], ["extend", "b"]]
    client.start("extend", "c")
    assert await client.sent() == [["extend", "c"]]


async def test_a_script_that_joins_no_call_keeps_its_place() -> None:
    """A request that joins no call, or is very large, goes out after those before it, before those after it."""
    client = Client()
    for script, name in (("extend", "a"), ("extend", "b"), ("extend+", "c"), ("extend", "d"), ("unlock", "e")):
        client.start(script, name)
    client.decider.start(0, "extend", NAMES, ("f", *["x"] * 250), client.answers.__setitem__)  # type: ignore[arg-type]
    client.start("extend", "g")
    assert [command[:3] for command in await client.sent()] == [
        ["run_requests", "a", "b"], ["extend+", "c"], ["run_requests", "d", "e"], ["extend", "f"], ["extend", "g"],
    ]  # fmt: skip


async def test_commands_of_the_same_turn_share_the_write() -> None:
    """Calls, and commands that are no scripts, are one write at the end of the turn."""
    client = Client()
    reading = asyncio.ensure_future(client.decider.read_time_ms(0))
    await asyncio.sleep(0)
    client.start("extend", "a")
    client.start("extend", "b")
    await asyncio.sleep(0)
    assert [[command[0] for command in write] for write in client.wire.writes] == [["TIME", "EVALSHA"]]
    reading.cancel()


@pytest.mark.parametrize(("reply", "code"), [
    (b"-NOSCRIPT gone\r\n", "recovering"),
    (b"-OOM full\r\n", "unavailable"),
    (b"-BUSY wait\r\n", "unavailable"),
    (b"-ERR failed\r\n", "outcome_unknown"),
    (b"*1\r\n*1\r\n:0\r\n", "outcome_unknown"),
    (b"*1\r\n$-1\r\n", "outcome_unknown"),
    (b"*3\r\n*1\r\n:0\r\n*1\r\n:0\r\n$-1\r\n", "outcome_unknown"),
    (b"*3\r\n*1\r\n:0\r\n*1\r\n:0\r\n*1\r\n:0\r\n", "outcome_unknown"),
    (None, "outcome_unknown"),
])  # fmt: skip
async def test_the_failure_of_a_call_is_each_requests(reply: bytes | None, code: str) -> None:
    """An error of a call as a whole, replies in another number, or a connection that breaks: all get the same."""
    client = Client(extends="ab")
    await client.sent()
    if reply:
        client.connection.data_received(reply)
    else:
        client.connection.connection_lost(None)
    assert client.answers == {"a": code, "b": code}
    assert client.connection.waiting == 0


async def test_a_connection_that_is_lost_in_the_turn_gets_nothing() -> None:
    """What was not sent when the connection broke is refused as not sent, and no other connection gets it."""
    for lose in (
        lambda one: one.connection.connection_lost(None),
        lambda one: setattr(one.link, "_connection", None),
        lambda one: setattr(one.link, "_connection", Connection()),
    ):
        client = Client(extends="ab")
        lose(client)
        with pytest.raises(Refusal, match="unavailable"):
            client.start("extend", "c")
        await asyncio.sleep(0)
        assert client.answers == {"a": "unavailable", "b": "unavailable"}
        assert client.wire.writes == []
        assert client.connection.waiting == 0


async def test_a_request_goes_out_in_the_epoch_that_it_started_in() -> None:
    """A new epoch in the turn gets calls of its own: a request is never sent with another epoch."""
    client = Client(extends="ab")
    client.decider.learn(0, 2, "nonce")
    client.start("extend", "c")
    client.start("extend", "d")
    client.decider.forget(0)
    with pytest.raises(Refusal, match="recovering"):
        client.start("extend", "e")
    assert await client.sent("12") == [["run_requests", "a", "b"], ["run_requests", "c", "d"]]


async def test_requests_that_wait_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of requests, not of calls, at most MAX_WAITING wait, before they are sent and after."""
    monkeypatch.setattr(link, "MAX_WAITING", 3)
    client = Client(extends="abc")
    for _ in range(2):
        with pytest.raises(Refusal, match="unavailable"):
            client.start("extend", "d")
        await asyncio.sleep(0)
    client.connection.data_received(b"*3\r\n*1\r\n:0\r\n*1\r\n:0\r\n*1\r\n:0\r\n")
    client.start("extend", "d")
    assert await client.sent() == [["extend", "d"]]


async def test_stopping_waits_for_the_requests_of_the_turn() -> None:
    """Requests that were started in the turn of the stop are sent and answered before the connection closes."""
    client = Client(extends="ab")
    stopping = asyncio.ensure_future(client.link.stop())
    assert await client.sent() == [["run_requests", "a", "b"]]
    assert not client.wire.aborted
    client.connection.data_received(b"*2\r\n*1\r\n:0\r\n*1\r\n:0\r\n")
    await stopping
    assert client.answers == {"a": [0], "b": [0]}
    assert client.wire.aborted


async def test_a_batch_gets_its_replies_in_order() -> None:
    """Requests of a batch join a call with others; a refusal stands in its request's place."""
    client = Client()
    batch = asyncio.ensure_future(client.decider.run_all(0, [("extend", NAMES, ("a",)), ("unlock", NAMES, ("b",))]))
    await asyncio.sleep(0)
    client.start("extend", "c")
    assert await client.sent() == [["run_requests", "a", "b", "c"]]
    client.connection.data_received(b"*3\r\n*2\r\n:0\r\n:1\r\n-NOSCRIPT gone\r\n*1\r\n:0\r\n")
    assert client.answers == {"c": [0]}
    first, second = await batch
    assert first == [0, 1]
    assert isinstance(second, Refusal)
    assert second.code == "recovering"


def _assign(client: Client, user: str, book: str = "book") -> None:
    """A request for a free coupon."""
    client.decider.start(
        0, "assign_any", (*NAMES, "key", "books", "outbox"), ("-", book, user, "{}"), _noted(client, user)
    )


def _lock(client: Client, user: str, code: str = "code") -> None:
    names = (*NAMES, "key", "directory", "coupon", "orders", "users")
    client.decider.start(0, "lock", names, ("-", code, "1", user, "-", "2", "-", "token", "-"), _noted(client, user))


def _noted(client: Client, name: str) -> Any:
    return lambda reply: client.answers.__setitem__(name, reply)


async def _ways(client: Client) -> list[list[Any]]:
    """The commands of this turn: the script of each, and the ways of a call's requests."""
    before = len(client.wire.writes)
    await asyncio.sleep(0)
    (commands,) = client.wire.writes[before:]
    return [[DIGESTS[one[1]], *(word[0] for word in one[5:] if isinstance(word, list))] for one in commands]


async def _refuse(client: Client) -> None:
    """An assignment is refused as sold out, then a lock as used up."""
    _assign(client, "ann")
    _lock(client, "ann")
    await asyncio.sleep(0)
    client.connection.data_received(b"*1\r\n:%d\r\n*1\r\n:%d\r\n" % (SOLD_OUT, USED_UP))


async def test_what_was_refused_as_sold_out_is_refused_together_from_then_on() -> None:
    """After a refusal assignments of the book and locks of the code join a call as likely refusals."""
    client = Client()
    await _refuse(client)
    for user in ("bob", "cem"):
        _assign(client, user)
        _lock(client, user)
    _lock(client, "dan", "other")
    _assign(client, "eve", "other")
    assert await _ways(client) == [["run_requests", 2, 2, 2, 2, 1], ["assign_any"]]
    words = [2, 1, 2, "assign_any", 4, *NAMES[1:], "key", "books", "outbox", "-", "book", "bob", "{}"]
    assert client.wire.writes[-1][0][5] == words


async def test_a_request_that_is_alone_in_its_turn_is_its_own_script_though_sold_out() -> None:
    """A call of one saves nothing."""
    client = Client()
    await _refuse(client)
    _assign(client, "bob")
    assert await _ways(client) == [["assign_any"]]


@pytest.mark.parametrize(("reply", "form"), [
    (b"*4\r\n:0\r\n$1\r\nx\r\n$0\r\n\r\n:0\r\n", ["assign_any"]),  # something was left
    (b"*4\r\n:0\r\n$1\r\nx\r\n$0\r\n\r\n:1\r\n", ["run_requests", 0, 2]),  # a replay
    (b"$1\r\nx\r\n", ["assign_any"]),
    (b"*1\r\n:28\r\n", ["run_requests", 0, 2]),
    (b":28\r\n", ["run_requests", 0, 2]),
    (b"-OOM full\r\n", ["run_requests", 0, 2]),
])  # fmt: skip
async def test_a_success_ends_the_hint(reply: bytes, form: list[Any]) -> None:
    """A coupon that was assigned tells that there is stock; a replay, another refusal or an error does not."""
    client = Client()
    await _refuse(client)
    _assign(client, "bob")
    await asyncio.sleep(0)
    client.connection.data_received(reply)
    client.start("extend", "x")
    _assign(client, "cem")
    forms = await _ways(client)
    assert forms == ([["extend"], form] if form == ["assign_any"] else [form])


def test_hints_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest of too many hints goes."""
    monkeypatch.setattr(sold_out, "MAX_HINTS", 2)
    hints = sold_out.SoldOut()
    for code in "abc":
        hints.learn("lock", NAMES, ("-", code, *"1234567"), [USED_UP])
    assert [hints.hints_at("lock", NAMES, ("-", code, *"1234567")) for code in "abcd"] == [False, True, True, False]
    assert not hints.hints_at("lock", NAMES, ("-", "c", *"1234567", "fact"))


async def test_a_call_that_ends_early_leaves_its_last_requests_to_another() -> None:
    """Requests after the last that was decided go out again, in order; one that is left alone as its own script."""
    client = Client(extends="abcd")
    await client.sent()
    client.connection.data_received(b"*3\r\n*1\r\n:0\r\n*2\r\n:0\r\n:1\r\n$-1\r\n")
    assert client.answers == {"a": [0], "b": [0, 1]}
    assert client.connection.waiting == 2
    assert await client.sent() == [["run_requests", "c", "d"]]
    client.connection.data_received(b"*2\r\n*1\r\n:0\r\n$-1\r\n")
    assert await client.sent() == [["extend", "d"]]
    client.connection.data_received(b"*1\r\n:0\r\n")
    assert client.answers["d"] == [0]
    assert client.connection.waiting == 0


async def test_what_a_call_left_is_not_sent_to_another_server() -> None:
    """Undecided requests whose connection is gone are refused as not sent."""
    client = Client(extends="abc")
    await client.sent()
    client.link._connection = Connection()
    client.connection.data_received(b"*2\r\n*1\r\n:0\r\n$-1\r\n")
    assert client.answers == {"a": [0], "b": "unavailable", "c": "unavailable"}
    assert len(client.wire.writes) == 1


def _ask(client: Client, workspace: str, name: str, script: str = "extend") -> None:
    client.decider.start(0, script, ("{p0}:gate", workspace), (name,), _noted(client, name))


async def _names(client: Client) -> list[list[str]]:
    """The requests of each command that was sent since the last look."""
    await asyncio.sleep(0)
    commands = [command for write in client.wire.writes for command in write]
    client.wire.writes.clear()
    return [[values[-1] for values in one[5:-1]] if DIGESTS[one[1]] == "run_requests" else [one[5]] for one in commands]


def _reply_to(client: Client, *sizes: int, undecided: bool = False) -> None:
    """Reply to calls of so many requests; `undecided`: to all but the last of each."""
    for size in sizes:
        decided = b"*1\r\n:0\r\n" * (size - undecided)
        client.connection.data_received(b"*%d\r\n" % size * (size > 1) + decided + b"$-1\r\n" * undecided)


async def _fall_behind(client: Client) -> None:
    """Have four requests of one workspace in flight, each in a turn of its own."""
    for number in range(turns.BEHIND):
        _ask(client, "heavy", f"h{number}")
        assert await _names(client) == [[f"h{number}"]]


async def test_a_workspace_has_few_calls_in_flight_while_redis_is_behind() -> None:
    """If four calls have no reply, four more of a workspace go out. Its other requests wait and share the next call,
    in turn with another workspace's, which waits for none of them."""
    client = Client()
    await _fall_behind(client)
    for number in range(4, 20):
        _ask(client, "heavy", f"h{number}")
        assert await _names(client) == ([[f"h{number}"]] if number < 8 else [])
    _ask(client, "other", "o1")
    _ask(client, "other", "o2")
    assert await _names(client) == [["o1", "o2"]]
    assert client.connection.waiting == 22
    _reply_to(client, *[1] * 4)
    assert await _names(client) == []
    _ask(client, "third", "t1")
    _reply_to(client, 1)
    assert await _names(client) == [[f"h{number}" for number in range(8, 20)], ["t1"]]
    _reply_to(client, 1, 1, 1, 2, 12, 1)
    assert (client.connection.waiting, {*map(str, client.answers.values())}) == (0, {"[0]"})
    assert len(client.answers) == 23
    _ask(client, "heavy", "again")
    _ask(client, "other", "too")
    assert await _names(client) == [["again", "too"]]


async def test_what_a_call_left_undecided_goes_one_call_at_a_time() -> None:
    """If a call ended early, its other requests are the next of their workspace, and the only ones in flight. Another
    workspace's go at once. The requests keep their order, also those that join no call."""
    client = Client()
    for number in range(3):
        _ask(client, "heavy", f"h{number}")
    assert await _names(client) == [["h0", "h1", "h2"]]
    _reply_to(client, 3, undecided=True)
    assert await _names(client) == [["h2"]]
    for number in range(3, 6):
        _ask(client, "heavy", f"h{number}", "extend+" if number == 4 else "extend")
        _ask(client, "other", f"o{number}")
    assert await _names(client) == [["o3"], ["o4", "o5"]]
    _reply_to(client, 1)
    assert await _names(client) == [["h3"], ["h4"], ["h5"]]
    _reply_to(client, 1, 2, 1, 1, 1)
    assert client.connection.waiting == 0
    assert len(client.answers) == 9


@pytest.mark.parametrize("ending", ["lost", "moved"])
async def test_what_waits_when_the_connection_breaks_is_refused_as_not_sent(ending: str) -> None:
    """Requests that wait for a call in flight get `unavailable`, those in flight `outcome_unknown`."""
    client = Client()
    await _fall_behind(client)
    for number in range(4, 200):
        client.answers[f"w{number}"] = "none"
        client.decider.start(0, "extend", ("{p0}:gate", "heavy"), (f"w{number}",), _noted(client, f"w{number}"))
        await asyncio.sleep(0)
    if ending == "moved":
        client.link._connection = None
    client.connection.connection_lost(None)
    got = [client.answers[f"w{number}"] for number in range(4, 200)]
    assert [type(one).__name__ for one in got] == ["Broken"] * 4 + ["Refusal"] * 192
    assert {one.code for one in got[4:]} == {"unavailable"}
    assert client.connection.waiting == 0
