"""The connection that operations share: replies in order, one write a turn, nothing sent twice."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import hiredis
import pytest

from service.domain.errors import Refusal
from service.hot import connection as hot
from service.hot.connection import Broken, Connection, Link, connect

Answer = Callable[[list[str]], bytes | None]


class Server:
    """Speaks as much of Redis's protocol as a connection needs; `answer` says what a command is told, None nothing, and
    `info` what the server says of itself."""

    def __init__(self, answer: Answer, info: bytes = b"") -> None:
        self.answer, self.info = answer, info
        self.commands: list[list[str]] = []
        self.chunks: list[bytes] = []
        self.writers: list[asyncio.StreamWriter] = []
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        self.writers.append(writer)
        parser = hiredis.Reader(encoding="utf-8")
        while chunk := await reader.read(1 << 20):
            self.chunks.append(chunk)
            parser.feed(chunk)
            while (command := parser.gets()) is not False:
                if command[0] == "CLIENT":
                    writer.write(b"+OK\r\n")
                elif command[0] == "CONFIG":
                    writer.write(b"*0\r\n")
                elif command[0] == "INFO":
                    writer.write(b"$%d\r\n%b\r\n" % (len(self.info), self.info))
                else:
                    self.commands.append(command)
                    told = self.answer(command)
                    if told is None:
                        writer.close()
                        return
                    writer.write(told)


@asynccontextmanager
async def serving(answer: Answer, info: bytes = b"") -> AsyncIterator[Server]:
    """A server on a free port."""
    server = Server(answer, info)
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.url = f"redis://127.0.0.1:{listening.sockets[0].getsockname()[1]}/0"
    try:
        yield server
    finally:
        listening.close()
        for writer in server.writers:
            writer.close()


def echo(command: list[str]) -> bytes:
    """The command's last word."""
    word = command[-1].encode()
    return b"$%d\r\n%b\r\n" % (len(word), word)


def nothing(command: list[str]) -> bytes:
    """No answer, and the connection stays."""
    return b""


async def test_replies_come_to_those_who_asked() -> None:
    """A thousand requests at once each get their own reply."""
    async with serving(echo) as server:
        connection = await connect(server.url, "tests")
        words = [f"word-{n}" for n in range(1000)]
        assert await asyncio.gather(*(connection.call("ECHO", word) for word in words)) == words
        connection.close()


async def test_requests_of_one_turn_go_out_in_one_write(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is sent in one turn of the event loop is one write; what is sent in the next is another."""
    async with serving(echo) as server:
        connection = await connect(server.url, "tests")
        writes: list[int] = []
        flush = Connection._flush

        def counted(self: Connection) -> None:
            writes.append(len(self._unsent))
            flush(self)

        monkeypatch.setattr(Connection, "_flush", counted)
        await asyncio.gather(*(connection.call("ECHO", str(n)) for n in range(50)))
        await connection.call("ECHO", "x")
        assert writes == [50, 1]
        connection.close()


async def test_a_lost_reply_is_an_unknown_outcome_and_nothing_is_sent_twice() -> None:
    """Where the server takes a script and goes away, the caller hears so, and no server ever gets the script again."""
    async with serving(lambda command: None) as server:
        link = Link(server.url, "tests")
        await link.start()
        with pytest.raises(Broken):
            await link.call("EVALSHA", "digest", "1", "key", "once")
        for _ in range(100):  # it reconnects meanwhile
            if link.connected and len(server.writers) > 1:
                break
            await asyncio.sleep(0.02)
        assert link.connected
        assert [command for command in server.commands if command[0] == "EVALSHA"] == [
            ["EVALSHA", "digest", "1", "key", "once"]
        ]
        await link.stop()


async def test_without_a_connection_nothing_waits() -> None:
    """While there is no server a request is refused at once; when it is there again, requests go on by themselves."""
    async with serving(echo) as server:
        port = int(server.url.rsplit(":", 1)[1].removesuffix("/0"))
    link = Link(server.url, "tests")
    await link.start()
    with pytest.raises(Refusal, match="unavailable"):
        await link.call("ECHO", "x")
    again = Server(echo)
    listening = await asyncio.start_server(again.serve, "127.0.0.1", port)
    for _ in range(300):
        if link.connected:
            break
        await asyncio.sleep(0.02)
    assert await link.call("ECHO", "x") == "x"
    await link.stop()
    listening.close()


async def test_a_server_that_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection on which nothing comes, though something is awaited, breaks."""
    monkeypatch.setattr(hot, "STALL_S", 0.05)
    async with serving(nothing) as server:
        connection = await connect(server.url, "tests")
        with pytest.raises(Broken):
            await connection.call("ECHO", "x")
        assert connection.lost


async def test_who_asked_just_now_has_not_waited(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that goes out just before the connection is looked at isn't taken for one that waited since the last
    look, nor one whose reply lay unread while this process stood still."""
    monkeypatch.setattr(hot, "STALL_S", 3600)
    monkeypatch.setattr(hot, "CONFIRM_S", 3600)
    async with serving(echo) as server:
        connection = await connect(server.url, "tests")
        asked = connection.call("ECHO", "x")
        connection._look()
        assert not connection.lost
        connection._look()  # as the loop does, late, before it reads
        assert await asked == "x"
        connection._look()
        assert await connection.call("ECHO", "y") == "y"
        connection.close()


async def test_a_long_reply_may_take_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection on which a reply comes in pieces isn't given up before its end."""
    monkeypatch.setattr(hot, "STALL_S", 3600)
    monkeypatch.setattr(hot, "CONFIRM_S", 3600)
    async with serving(nothing) as server:
        connection = await connect(server.url, "tests")
        asked = connection.call("ECHO", "x")
        for piece in (b"$3", b"\r\n", b"ab", b"c"):
            connection._look()
            came = connection._came
            server.writers[0].write(piece)
            async with asyncio.timeout(10):
                while connection._came == came:  # noqa: ASYNC110, what is waited for is another's
                    await asyncio.sleep(0.001)
            connection._look()
        assert not connection.lost
        server.writers[0].write(b"\r\n")
        assert await asked == "abc"
        connection.close()


async def test_what_waits_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """One request more than may wait is refused, and not sent."""
    monkeypatch.setattr(hot, "MAX_WAITING", 3)
    async with serving(nothing) as server:
        link = Link(server.url, "tests")
        await link.start()
        waiting = [asyncio.ensure_future(link.call("ECHO", str(n))) for n in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(Refusal, match="unavailable"):
            await link.call("ECHO", "3")
        await link.stop()
        for one in waiting:
            with pytest.raises(Broken):
                await one
        assert ["ECHO", "3"] not in server.commands


async def test_who_gives_up_waiting_takes_nobody_elses_reply() -> None:
    """Of many requests, those that are cancelled leave every other its own reply."""
    async with serving(echo) as server:
        connection = await connect(server.url, "tests")
        calls = [connection.call("ECHO", str(n)) for n in range(500)]
        for call in calls[::3]:
            call.cancel()
        kept = [(n, call) for n, call in enumerate(calls) if n % 3]
        assert [await call for _, call in kept] == [str(n) for n, _ in kept]
        connection.close()
