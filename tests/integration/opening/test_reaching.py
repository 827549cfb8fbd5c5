"""Each new connection finds its server again: by sentinels, by a name that moved, with a password that was rotated."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import redis

from service.common.redis_address import parse_redis_address
from service.engine.hot import connection as hot
from service.engine.hot import discovery
from service.engine.hot import link as link_module
from service.engine.hot.connection import Broken, connect
from service.engine.hot.discovery import AccessRefused, PrimaryUnknown
from service.engine.hot.link import Link
from service.engine.worker.server_watch import SharedRedis
from tests.harness.sentinels import start_sentinels
from tests.harness.servers import VALKEY, free_port, started
from tests.harness.tls import Authority, door
from tests.harness.waiting import running, wait_until
from tests.integration.opening.test_connection import AnsweringServer, ignore, serving

_PRIMARY = b"role:master"


def _array(*texts: str) -> bytes:
    return b"*%d\r\n" % len(texts) + b"".join(b"$%d\r\n%b\r\n" % (len(text), text.encode()) for text in texts)


class _Sentinel:
    """Names a primary, with the epoch of the configuration in which it learned of it."""

    def __init__(self) -> None:
        self.epoch, self.primary, self.asked = 0, "", 0

    def __call__(self, command: list[str]) -> bytes:
        assert command == ["SENTINEL", "MASTER", "shop"]
        self.asked += 1
        if not self.primary:
            return b"-ERR No such master with that name\r\n"
        port = self.primary.rpartition(":")[2].partition("/")[0]
        return _array(
            "name", "shop", "flags", "master", "ip", "127.0.0.1", "port", port, "config-epoch", str(self.epoch)
        )

    def names(self, server: AnsweringServer, epoch: int) -> None:
        self.primary, self.epoch = server.url, epoch


def _port(server: AnsweringServer) -> str:
    return server.url.rpartition("/")[0].removeprefix("redis://")


@contextlib.asynccontextmanager
async def _sentinels(count: int) -> AsyncIterator[tuple[list[_Sentinel], str]]:
    """Sentinels, and a URL that names them."""
    every = [_Sentinel() for _ in range(count)]
    async with contextlib.AsyncExitStack() as stack:
        hosts = [_port(await stack.enter_async_context(serving(one))) for one in every]
        yield every, f"redis+sentinel://{','.join(hosts)}/shop"


async def _reached(url: str, *servers: AnsweringServer) -> int:
    """The position of the server to which a new connection leads."""
    before = [len(server.writers) for server in servers]
    (await connect(url, "tests")).close()
    (position,) = [at for at, server in enumerate(servers) if len(server.writers) > before[at]]
    return position


async def test_sentinels_name_the_primary() -> None:
    """Each connection asks again, and goes to the primary of the newest configuration, whichever sentinels lag."""
    async with serving(ignore) as old, serving(ignore) as new, _sentinels(3) as (three, url):
        for one in three:
            one.names(old, 1)
        assert await _reached(url, old, new) == 0
        for lagging in three:
            for one in three:
                one.names(new, 2)
            lagging.names(old, 1)
            assert await _reached(url, old, new) == 1


async def test_sentinels_that_are_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """One sentinel that replies is enough, if others are dead, hang or don't know the service; none is an error."""
    monkeypatch.setattr(discovery, "REPLY_S", 0.2)
    async with serving(ignore) as primary, serving(ignore) as hangs, _sentinels(2) as ((one, other), url):
        one.names(primary, 1)
        several = url.replace("://", f"://127.0.0.1:{free_port()},{_port(hangs)},")

        async def is_reached() -> bool:
            return await _reached(several, primary) == 0

        await wait_until(is_reached, away=(PrimaryUnknown,))
        assert other.asked
        one.primary = ""
        with pytest.raises(OSError, match=r"no sentinel of .*/shop names its primary"):
            await connect(several, "tests")


async def test_a_primary_that_was_replaced_loses_its_clients() -> None:
    """A link leaves a primary that still answers as one, once its sentinels name another."""
    async with serving(ignore, _PRIMARY) as old, serving(ignore, _PRIMARY) as new, _sentinels(1) as ((one,), url):
        one.names(old, 1)
        link = Link(url, "tests")
        await link.start()
        generation = link.generation
        one.names(new, 2)
        await wait_until(lambda: len(new.writers) == 1)
        await wait_until(lambda: link.generation == generation + 1)
        await wait_until(lambda: all(reader.at_eof() for reader in old.readers))
        await link.stop()


async def test_a_silent_primary_is_left_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """While a request waits and no reply comes, the sentinels are asked before it is their turn."""
    monkeypatch.setattr(hot, "ASK_S", 3600.0)
    monkeypatch.setattr(link_module, "ASK_S", 3600.0)  # or the reply to the next check would be the request's
    async with serving(ignore, _PRIMARY) as old, serving(ignore, _PRIMARY) as new, _sentinels(1) as ((one,), url):
        one.names(old, 1)
        link, replies = Link(url, "tests"), list[Any]()
        await link.start()
        one.names(new, 2)
        link.send(replies.append, ("ECHO", "x"))
        await wait_until(lambda: len(new.writers) == 1)
        assert isinstance(replies[0], Broken)
        await link.stop()


async def test_partitions_share_each_attempt() -> None:
    """The partitions of a worker that lose their connection make one new one."""
    async with serving(ignore) as server:
        shared = SharedRedis(server.url)
        (watch, *others) = await asyncio.gather(*(shared.watch(0) for _ in range(16)))
        assert all(other is watch for other in others)
        watch.connection.close()
        await wait_until(lambda: not shared.has_reached(0))
        await asyncio.gather(*(shared.wait_until_reached(0) for _ in range(16)))
        assert (shared.has_reached(0), len(server.writers)) == (True, 2)
        shared.close()


async def test_partitions_share_an_attempt_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """If Redis accepts connections and never replies, the partitions wait for it together, not one after another."""
    monkeypatch.setattr(discovery, "CONNECT_S", 0.2)
    async with serving(lambda _: b"") as server:
        shared = SharedRedis(server.url.replace("://", "://:x@"))

        async def fail(partition: int) -> None:
            with pytest.raises(TimeoutError):
                await shared.watch(partition)

        await asyncio.gather(*map(fail, range(16)))
        assert (len(server.writers), len(shared.unreached())) == (1, 16)


async def test_a_real_sentinel(tmp_path: Path) -> None:
    """A sentinel of Valkey is understood, with a password of its own."""
    with started(VALKEY, tmp_path) as primary:
        port = int(primary.rpartition("/")[0].rpartition(":")[2])
        with start_sentinels(VALKEY, tmp_path, port, password="hunter2") as named:
            url = f"redis+sentinel://{named}?sentinel_password=hunter2"
            connection = await connect(url, "tests")
            assert connection.host == ("127.0.0.1", port)
            assert await connection.call("PING") == "PONG"
            connection.close()
            with pytest.raises(OSError, match="names its primary"):
                await connect(url.replace("hunter2", "hunter3"), "tests")


async def test_what_sentinels_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each sentinel reports its quorum, and how many sentinels and replicas there are; one that hangs, or is not there,
    reports nothing."""
    monkeypatch.setattr(discovery, "CONNECT_S", 1.0)

    async def hang(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    hanging = await asyncio.start_server(hang, "127.0.0.1")
    ports = [hanging.sockets[0].getsockname()[1], free_port()]
    async with hanging:
        with started(VALKEY, tmp_path) as primary:
            port = int(primary.rpartition("/")[0].rpartition(":")[2])
            with start_sentinels(VALKEY, tmp_path, port, 2) as named:
                url = f"redis+sentinel://{','.join(f'127.0.0.1:{port}' for port in ports)},{named}"
                nothing, refused, *views = await discovery.ask_sentinels(parse_redis_address(url))
        assert (nothing, refused) == (None, None)
        assert [view and (view.primary.port, view.quorum, view.sentinels, view.replicas) for view in views] == [
            (port, 2, 2, 0)
        ] * 2


async def test_a_password_that_is_rotated(tmp_path: Path) -> None:
    """The next connection uses what the file holds then; a file that is gone is an error, without its text."""
    file = tmp_path / "password"
    file.write_text("first\n")
    with started(VALKEY, tmp_path) as url, redis.Redis.from_url(url) as client:
        client.execute_command("ACL", "SETUSER", "app", "on", ">first", "+@all", "~*")
        named = url.replace("://", "://app@") + f"?password_file={file}"
        (await connect(named, "tests")).close()
        client.execute_command("ACL", "SETUSER", "app", "resetpass", ">s\u00e9cond")
        with pytest.raises(AccessRefused, match="invalid username-password") as refused:
            await connect(named, "tests")
        assert "first" not in str(refused.value)
        file.write_text("s\u00e9cond\n", "utf-8")
        (await connect(named, "tests")).close()
        assert client.ping()
        file.unlink()
        with pytest.raises(FileNotFoundError):
            await connect(named, "tests")


async def test_tls(tmp_path: Path) -> None:
    """The certificate must be of a known authority, and have the server's name."""
    authority = Authority(tmp_path / "tls")
    with started(VALKEY, tmp_path) as url, door(authority, int(url.rpartition("/")[0].rpartition(":")[2])) as port:
        named = f"rediss://localhost:{port}/3?ssl_ca_certs={authority.file}"
        connection = await connect(named, "tests")
        assert "db=3" in await connection.call("CLIENT", "INFO")
        connection.close()
        for wrong in (named.replace("localhost", "127.0.0.1"), named.partition("?")[0]):
            with pytest.raises(OSError, match="certificate verify failed"):
                await connect(wrong, "tests")


async def test_a_name_that_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each connection resolves the server's name again: no address is kept."""
    async with serving(ignore) as old, serving(ignore) as new:
        leads_to = [old, new]
        resolve = socket.getaddrinfo

        def resolve_name(host: Any, port: Any, *args: Any, **options: Any) -> Any:
            assert host == "redis.shop.example"
            return resolve("127.0.0.1", int(_port(leads_to.pop(0)).rpartition(":")[2]), *args, **options)

        monkeypatch.setattr(socket, "getaddrinfo", resolve_name)
        assert [await _reached("redis://redis.shop.example/0", old, new) for _ in range(2)] == [0, 1]


async def test_a_connection_that_is_refused_is_closed() -> None:
    """A server that refuses the password, or never replies, is left with no open connection."""
    async with serving(lambda _: b"-WRONGPASS no\r\n") as server:
        for _ in range(3):
            with pytest.raises(AccessRefused, match="no"):
                await connect(server.url.replace("://", "://:x@"), "tests")
        await wait_until(lambda: all(reader.at_eof() for reader in server.readers))


async def test_a_connection_that_breaks_as_it_begins() -> None:
    """A server that closes a connection before its first reply counts as away: a worker tries again."""
    async with serving(lambda _: None) as server:
        url = server.url.replace("://", "://:x@")
        with pytest.raises(OSError, match="Connection closed"):
            await connect(url, "tests")
        async with running(SharedRedis(url).wait_until_reached(0)):
            await wait_until(lambda: len(server.commands) > 2)
