"""Find a partition's server, and open connections, by redis-py: for connection.py and all else that connects.

All sentinels, or nodes of a cluster, are asked at once, and the newest configuration of a majority's replies counts.
redis-py's Sentinel and RedisCluster take the first reply, which may be of one that missed a failover; and RedisCluster
has no configuration epochs, by which a cluster's nodes confirm an open epoch (docs/decisions/0054).
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from redis.asyncio import Redis
from redis.asyncio.connection import Connection, ConnectionPool, SSLConnection, UnixDomainSocketConnection
from redis.credentials import CredentialProvider
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError

from service.common.redis_address import Host, RedisAddress, parse_redis_address
from service.engine.hot.cluster import Report, SlotMap, parse_report

CONNECT_S = 2.0
REPLY_S = 0.5
"""Time for all sentinels or nodes to reply."""
MAX_PASSWORD_BYTES = 4096
MAX_ASKED = 9
"""Nodes that are asked at once: the seeds, then primaries that were found before."""

T = TypeVar("T")


class AccessRefused(OSError):
    """The server refuses the user, the password or the first commands."""


class PrimaryUnknown(OSError):
    """No sentinel names the primary."""


class SlotsUnknown(OSError):
    """No node reports the slots, or no node has the slot."""


class _PasswordFile(CredentialProvider):
    """Reads the password at each connection, so that it can be rotated."""

    def __init__(self, username: str, path: str) -> None:
        self._username, self._path = username, path

    def get_credentials(self) -> Any:
        with Path(self._path).open("rb") as file:
            return self._username, file.read(MAX_PASSWORD_BYTES).rstrip(b"\r\n")

    async def get_credentials_async(self) -> Any:
        return self.get_credentials()


@contextlib.asynccontextmanager
async def open_client(
    address: RedisAddress, host: Host | None, *, is_sentinel: bool = False, **options: Any
) -> AsyncIterator[Redis]:
    """redis-py's client of one server, which sends no command twice. Errors of Redis become OSError.

    The caller limits the time: redis-py's own limit, `socket_timeout`, may swallow a cancellation (asyncio.wait_for).
    """
    options |= address.sentinel_options if is_sentinel else address.options
    if file := options.pop("password_file", ""):
        options["credential_provider"] = _PasswordFile(options.pop("username", "default"), file)
    kind: type[Any] = UnixDomainSocketConnection
    if host is not None:
        kind = SSLConnection if address.is_tls else Connection  # certificate and name are always checked
        options |= {"host": host.name, "port": host.port}
    usual: dict[str, Any] = {"protocol": 2, "decode_responses": True, "socket_timeout": None, "driver_info": None}
    client = Redis.from_pool(ConnectionPool(kind, **usual | options))
    try:
        yield client
    except (AuthenticationError, NoPermissionError) as error:
        raise AccessRefused(str(error)) from error
    except RedisError as error:
        raise OSError(str(error)) from error
    finally:
        await client.aclose()


async def check_access(redis_url: str, *command: str) -> None:
    """Raises AccessRefused if Redis refuses the login or this command. It may be away."""
    address = parse_redis_address(redis_url)
    try:
        async with asyncio.timeout(CONNECT_S), open_client(address, await locate(address)) as client:
            await client.execute_command(*command)
    except AccessRefused:
        raise
    except OSError:
        pass


def advise_access(refusal: str) -> str:
    """What to do if Redis refuses a login, or a command for the lack of a right, with these words."""
    if "permissions" not in refusal:
        return "Check the user and the password in REDIS_URL."
    if "'select'" in refusal:
        return "Its rights are for database 0: end REDIS_URL with /0."
    return (
        "Log in as the process's own user in REDIS_URL (commands: the worker's), with the rights in deploy/redis-acl."
    )


async def open_stream(address: RedisAddress, host: Host | None, name: str) -> asyncio.StreamWriter:
    """A stream that redis-py has opened, and on which it has authenticated. Raises OSError.

    Its own connections wait for each reply before they send the next command, and reconnect by themselves."""
    async with open_client(address, host, client_name=name) as client:
        connection: Any = client.connection_pool.make_connection()
        try:
            await connection.connect()
            stream, connection._writer = connection._writer, None  # noqa: SLF001, or it would be closed
            return stream
        finally:
            await connection.disconnect(nowait=True)


async def locate(address: RedisAddress, partition: int = 0) -> Host | None:
    """A partition's server, by sentinels or cluster if there are some; None for a socket. Raises OSError."""
    if address.is_cluster:
        if host := (await read_slots(address)).host_of(partition):
            return host
        raise SlotsUnknown(f"no node of the cluster {address} has partition {partition}")
    if address.service:
        known = await _ask_majority(address.hosts, partial(_ask_sentinel, address))
        if not known:
            raise PrimaryUnknown(f"no sentinel of {address} names its primary")
        return max(known)[1]  # a failover needs a majority, so one of them has seen it
    return address.hosts[0] if address.hosts else None


_found: dict[tuple[Host, ...], list[Host]] = {}
"""By an address's seeds, the primaries that were found last: all seeds may have been replaced since the start."""
_finding: dict[RedisAddress, asyncio.Task[SlotMap]] = {}
"""Searches under way, which callers of the same moment share."""


async def read_slots(address: RedisAddress) -> SlotMap:
    """The slots of a cluster, by at most MAX_ASKED of its nodes. Raises OSError."""
    finding = _finding.get(address)
    if finding is None or finding.done() or finding.get_loop() is not asyncio.get_running_loop():
        finding = _finding[address] = asyncio.create_task(_find_slots(address))
        finding.add_done_callback(lambda done: done.cancelled() or done.exception())  # all callers may have ended
    return await asyncio.shield(finding)


async def _find_slots(address: RedisAddress) -> SlotMap:
    hosts = dict.fromkeys([*address.hosts[: MAX_ASKED // 2 + 1], *_found.get(address.hosts, []), *address.hosts])
    reports = await ask_reports(address, [*hosts][:MAX_ASKED])
    if not reports:
        raise SlotsUnknown(f"no node of the cluster {address} reports its slots")
    slots = SlotMap(reports)
    _found[address.hosts] = sorted(slots.hosts)
    return slots


async def read_nodes(where: str | RedisAddress) -> list[RedisAddress]:
    """The addresses of all servers that have keys: a cluster's primaries. Raises OSError."""
    address = parse_redis_address(where) if isinstance(where, str) else where
    return [address.at(host) for host in sorted((await read_slots(address)).hosts)] if address.is_cluster else [address]


async def ask_reports(address: RedisAddress, hosts: Sequence[Host]) -> list[Report]:
    """What a majority of some nodes of a cluster report."""
    return await _ask_majority(hosts, partial(_ask_node, address))


async def _ask_node(address: RedisAddress, host: Host) -> Report:
    async with open_client(address, host) as client:
        return await read_report(client, address, host)


async def read_report(client: Redis, address: RedisAddress, host: Host) -> Report:
    """What a node reports of its cluster. Raises OSError if it knows of no slots."""
    report = parse_report(address.is_tls, host, await client.execute_command("CLUSTER", "NODES"))
    if report is None:
        raise SlotsUnknown(f"the node {host} reports no slots")
    return report


async def _ask_sentinel(address: RedisAddress, host: Host) -> tuple[int, Host]:
    """The configuration's epoch and the primary."""
    async with open_client(address, host, is_sentinel=True) as client:
        state: Any = await client.sentinel_master(address.service)
        return state["config-epoch"], Host(state["ip"], state["port"])


async def _ask_majority(hosts: Sequence[Host], ask: Callable[[Host], Awaitable[T]]) -> list[T]:
    """Ask all hosts at once; return a majority's replies, or fewer after REPLY_S. A host that fails has not replied."""
    asking = [asyncio.ensure_future(ask(host)) for host in hosts]
    known: list[T] = []
    try:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(REPLY_S):
                for one in asyncio.as_completed(asking):
                    with contextlib.suppress(Exception):  # that host is away
                        known.append(await one)
                    if 2 * len(known) > len(asking):
                        break
    finally:
        for one in asking:
            one.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
    return known
