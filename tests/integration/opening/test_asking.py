"""What redis-py must not do on the connections that discovery.py makes: send a command twice, reconnect by itself, or
swallow a cancellation."""

import asyncio
from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path

import pytest

from service.common.redis_address import RedisAddress, parse_redis_address
from service.engine.hot.discovery import AccessRefused, ask, open_client
from tests.harness.waiting import PATIENCE_S, cancel, wait_until
from tests.integration.opening.test_connection import AnsweringServer, echo, serving


@pytest.fixture
async def echoing() -> AsyncIterator[AnsweringServer]:
    async with serving(lambda command: b"+OK\r\n" if command[0] in ("AUTH", "SELECT") else echo(command)) as server:
        yield server


def _parse(server: AnsweringServer) -> RedisAddress:
    return parse_redis_address(server.url.replace("://", "://:password@").replace("/0", "/1"))


@pytest.mark.parametrize("reply", [None, b"", b"-LOADING the dataset\r\n", b"?\r\n"])
async def test_a_command_is_sent_once(reply: bytes | None) -> None:
    """A connection that breaks, a reply that does not come, or none that counts: redis-py sends nothing again, and the
    connection that it has closed does not reconnect."""
    async with serving(lambda _: reply) as server:
        address = parse_redis_address(server.url)
        async with open_client(address, address.hosts[0]) as client:
            asking = asyncio.create_task(ask(client, "INCR", "a"))
            await wait_until(lambda: server.commands)
            if reply == b"":
                await cancel(asking)
            else:
                with pytest.raises(Exception, match=r"closed|dataset|Protocol error"):
                    await asking
            with pytest.raises(ConnectionResetError):
                async with asyncio.timeout(PATIENCE_S):
                    await ask(client, "INCR", "b")
        assert (server.commands, len(server.writers)) == ([["INCR", "a"]], 1)


async def test_a_login_is_tried_once() -> None:
    """redis-py does not repeat a login that breaks."""
    async with serving(lambda _: None) as server:
        with pytest.raises(OSError, match="Connection closed"):
            async with open_client(_parse(server), _parse(server).hosts[0]):
                pass
        assert (server.commands, len(server.writers)) == ([["AUTH", "password"]], 1)


async def test_a_cancellation_is_not_swallowed(echoing: AnsweringServer) -> None:
    """Whatever redis-py waits for, a cancellation ends it, also if a reply comes in the same turn of the event loop."""
    address = _parse(echoing)

    async def run() -> None:
        async with open_client(address, address.hosts[0], "tests") as client:
            assert await ask(client, "ECHO", "x") == "x"

    for turns in count():
        task = asyncio.create_task(run())
        for _ in range(turns):
            await asyncio.sleep(0)
        if not task.cancel():
            break
        await asyncio.wait([task])
        assert task.cancelled()
    await task
    assert turns > len(["connect", "AUTH", "SETNAME", "SELECT", "ECHO"])


async def test_a_login_at_a_socket_that_is_refused(tmp_path: Path) -> None:
    """redis-py reports it as a lost connection; here it is a refused login."""
    server = AnsweringServer(lambda _: b"-WRONGPASS invalid\r\n")
    async with await asyncio.start_unix_server(server.serve, f"{tmp_path}/redis"):
        with pytest.raises(AccessRefused, match="invalid"):
            async with open_client(parse_redis_address(f"unix://:x@{tmp_path}/redis"), None):
                pass
