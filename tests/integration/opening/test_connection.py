"""The connection that operations share: replies in order, one write a turn, nothing sent twice."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import hiredis
import pytest

from service.engine.domain.errors import Refusal
from service.engine.hot import connection as hot
from service.engine.hot import link as links
from service.engine.hot.connection import Broken, Connection, connect
from service.engine.hot.link import Link
from tests.harness.waiting import wait_until

Answer = Callable[[list[str]], bytes | None]


class AnsweringServer:
    """Speaks as much of Redis's protocol as a connection needs. `answer` makes a command's reply, None closes the
    connection; `info` is the reply to INFO."""

    def __init__(self, answer: Answer, info: bytes = b"") -> None:
        self.answer, self.info = answer, info
        self.commands: list[list[str]] = []
        self.chunks: list[bytes] = []
        self.writers: list[asyncio.StreamWriter] = []
        self.readers: list[asyncio.StreamReader] = []
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        self.readers.append(reader)
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
                    reply = self.answer(command)
                    if reply is None:
                        writer.close()
                        return
                    writer.write(reply)


@asynccontextmanager
async def serving(answer: Answer, info: bytes = b"") -> AsyncIterator[AnsweringServer]:
    server = AnsweringServer(answer, info)
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.url = f"redis://127.0.0.1:{listening.sockets[0].getsockname()[1]}/0"
    try:
        yield server
    finally:
        listening.close()
        for writer in server.writers:
            writer.close()


@asynccontextmanager
async def connected(answer: Answer) -> AsyncIterator[tuple[AnsweringServer, Connection]]:
    async with serving(answer) as server:
        connection = await connect(server.url, "tests")
        yield server, connection
        connection.close()


def echo(command: list[str]) -> bytes:
    """Reply with the command's last argument."""
    text = command[-1].encode()
    return b"$%d\r\n%b\r\n" % (len(text), text)


def ignore(command: list[str]) -> bytes:
    """Send no reply, and keep the connection."""
    return b""


async def test_each_request_gets_its_reply() -> None:
    """A thousand requests at once each get their own reply."""
    async with connected(echo) as (_, connection):
        texts = [f"text-{n}" for n in range(1000)]
        assert await asyncio.gather(*(connection.call("ECHO", text) for text in texts)) == texts


async def test_requests_of_one_turn_go_out_in_one_write(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests of one turn of the event loop are one write; those of the next are another."""
    async with connected(echo) as (_, connection):
        writes: list[int] = []
        flush = Connection._flush

        def counted(self: Connection) -> None:
            writes.append(len(self._unsent))
            flush(self)

        monkeypatch.setattr(Connection, "_flush", counted)
        await asyncio.gather(*(connection.call("ECHO", str(n)) for n in range(50)))
        await connection.call("ECHO", "x")
        assert writes == [50, 1]


async def test_a_lost_reply_is_an_unknown_outcome_and_nothing_is_sent_twice() -> None:
    """If the server takes a script and goes away, the caller gets Broken, and no server gets the script again."""
    async with serving(lambda command: None) as server:
        link = Link(server.url, "tests")
        await link.start()
        with pytest.raises(Broken):
            await link.call("EVALSHA", "digest", "1", "key", "once")
        await wait_until(lambda: link.connected and len(server.writers) > 1)
        assert [command for command in server.commands if command[0] == "EVALSHA"] == [
            ["EVALSHA", "digest", "1", "key", "once"]
        ]
        await link.stop()


async def test_commands_sent_together_are_answered_together_or_broken() -> None:
    """Replies come in the order of the commands, errors among them; if one has no reply, all are Broken."""

    def answer(command: list[str]) -> bytes | None:
        return {"lost": None, "wrong": b"-ERR no\r\n"}.get(command[1], b"+%b\r\n" % command[1].encode())

    async with serving(answer) as server:
        connection = await connect(server.url, "tests")
        one, wrong, two = await connection.call_each([("ECHO", text) for text in ("one", "wrong", "two")])
        assert (one, str(wrong), two) == ("one", "ERR no", "two")
        assert await connection.call_each([]) == []
        with pytest.raises(Broken):
            await connection.call_each([("ECHO", "one"), ("ECHO", "lost")])
        with pytest.raises(Broken):
            await connection.call_each([("ECHO", "one")])


async def test_without_a_connection_nothing_waits() -> None:
    """Without a server a request is refused at once; once it is back, the link reconnects by itself."""
    async with serving(echo) as server:
        port = int(server.url.rsplit(":", 1)[1].removesuffix("/0"))
    link = Link(server.url, "tests")
    await link.start()
    with pytest.raises(Refusal, match="unavailable"):
        await link.call("ECHO", "x")
    again = AnsweringServer(echo)
    listening = await asyncio.start_server(again.serve, "127.0.0.1", port)
    await wait_until(lambda: link.connected)
    assert await link.call("ECHO", "x") == "x"
    await link.stop()
    listening.close()


async def test_a_server_without_replies_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that awaits a reply and gets no byte breaks after STALL_S."""
    monkeypatch.setattr(hot, "STALL_S", 0.05)
    async with connected(ignore) as (_, connection):
        with pytest.raises(Broken):
            await connection.call("ECHO", "x")
        assert connection.lost


async def test_a_new_request_has_not_waited(monkeypatch: pytest.MonkeyPatch) -> None:
    """The check for stalls breaks no connection for a request just sent, or a reply unread since this process stood."""
    monkeypatch.setattr(hot, "CONFIRM_S", 3600)
    async with connected(echo) as (_, connection):
        asked = connection.call("ECHO", "x")
        connection._look()
        assert not connection.lost
        connection._look()  # as the loop does, late, before it reads
        assert await asked == "x"
        connection._look()
        assert await connection.call("ECHO", "y") == "y"


async def test_a_long_reply_may_take_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reply that arrives in pieces does not break the connection before its end."""
    monkeypatch.setattr(hot, "CONFIRM_S", 3600)
    async with connected(ignore) as (server, connection):
        asked = connection.call("ECHO", "x")
        for piece in (b"$3", b"\r\n", b"ab", b"c"):
            connection._look()
            came = connection._came
            server.writers[0].write(piece)
            await wait_until(lambda came=came: connection._came != came)
            connection._look()
        assert not connection.lost
        server.writers[0].write(b"\r\n")
        assert await asked == "abc"


async def test_what_waits_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """One request above MAX_WAITING is refused, and not sent."""
    monkeypatch.setattr(links, "MAX_WAITING", 3)
    async with serving(ignore) as server:
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


async def test_a_cancelled_request_takes_no_other_reply() -> None:
    """If some of many requests are cancelled, every other one gets its own reply."""
    async with connected(echo) as (_, connection):
        calls = [connection.call("ECHO", str(n)) for n in range(500)]
        for call in calls[::3]:
            call.cancel()
        kept = [(n, call) for n, call in enumerate(calls) if n % 3]
        assert [await call for _, call in kept] == [str(n) for n, _ in kept]
