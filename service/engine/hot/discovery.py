"""Find a partition's server, and open connections by redis-py: for connection.py and all else that connects.

All sentinels, or nodes of a cluster, are asked at once, and the newest configuration of a majority's replies counts:
one of them may have missed a failover. redis-py is imported in functions: `scrip --help` and most commands need none.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

from service.common.redis_address import Host, RedisAddress, parse_redis_address
from service.engine.hot.cluster import Report, SlotMap, parse_report

if TYPE_CHECKING:
    from redis.asyncio.connection import AbstractConnection as Connection

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


class SentinelView(NamedTuple):
    """What a sentinel reports of the primary. Hidden numbers are 0."""

    config_epoch: int
    """Greater with each failover."""
    primary: Host
    quorum: int
    """So many sentinels must agree that the primary is down."""
    sentinels: int
    """All that it knows of, itself among them."""
    replicas: int
    """All that it knows of, also those that are away."""


@contextlib.asynccontextmanager
async def open_client(
    address: RedisAddress, host: Host | None, name: str = "", *, is_sentinel: bool = False
) -> AsyncIterator["Connection"]:
    """redis-py's connection to one server, for `ask`. Raises OSError if it is not there within CONNECT_S, and for
    errors of redis-py in the block.

    The caller limits the time: redis-py's own limit, `socket_timeout`, may swallow a cancellation (asyncio.wait_for).
    """
    from redis.exceptions import AuthenticationError, NoPermissionError, RedisError
    from redis.exceptions import ConnectionError as NotConnected

    client = _make_client(address, host, name, address.sentinel_options if is_sentinel else address.options)
    try:
        async with asyncio.timeout(CONNECT_S):
            await client.connect()
        yield client
    except RedisError as error:
        reason = error.__cause__ or error  # a refused login at a socket is a ConnectionError with this cause
        if isinstance(reason, (AuthenticationError, NoPermissionError)):
            raise AccessRefused(str(reason)) from error.__context__ or error
        where = f"{host or address.options['path']}: " if isinstance(error, NotConnected) else ""
        raise OSError(f"{where}{reason}") from error.__context__ or error
    finally:
        await client.disconnect(nowait=True)


def _make_client(address: RedisAddress, host: Host | None, name: str, options: Mapping[str, Any]) -> "Connection":
    from redis.asyncio.connection import Connection, SSLConnection, UnixDomainSocketConnection
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff

    options = {**options, "client_name": name, "protocol": 2, "decode_responses": True, "driver_info": None}
    if path := options.pop("password_file", ""):  # read at each connection, so that it can be rotated
        with Path(path).open("rb") as file:
            options["password"] = file.read(MAX_PASSWORD_BYTES).rstrip(b"\r\n")
    kind: type[Any] = UnixDomainSocketConnection
    if host is not None:
        kind = SSLConnection if address.is_tls else Connection  # it always checks certificate and name
        options |= {"host": host.name, "port": host.port}
    return kind(**options, retry=Retry(NoBackoff(), 0), socket_timeout=None, socket_connect_timeout=None)


async def ask(client: "Connection", *command: Any) -> Any:
    """Send a command, and return its reply. redis-py alone would reconnect, perhaps to another server."""
    if not client.is_connected:
        raise ConnectionResetError("Connection closed by server.")
    await client.send_command(*command)
    return await client.read_response()


def limit(seconds: float) -> asyncio.Timeout:
    """As asyncio.timeout. It imports redis-py first, so that the time is the servers'."""
    import redis.asyncio.connection  # noqa: F401

    return asyncio.timeout(seconds)


async def check_access(redis_url: str, *command: str) -> None:
    """Raises AccessRefused if Redis refuses the login or this command. It may be away."""
    address = parse_redis_address(redis_url)
    try:
        async with limit(CONNECT_S), open_client(address, await locate(address)) as client:
            await ask(client, *command)
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
    """A stream that redis-py has opened, and on which it has authenticated. Raises OSError."""
    async with open_client(address, host, name) as client:
        stream, client._writer = client._writer, None  # noqa: SLF001, or it would be closed
        return cast("asyncio.StreamWriter", stream)


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
        return max(known).primary  # a failover needs a majority, so one of them has seen it
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


async def read_report(client: "Connection", address: RedisAddress, host: Host) -> Report:
    """What a node reports of its cluster. Raises OSError if it knows of no slots."""
    report = parse_report(address.is_tls, host, await ask(client, "CLUSTER", "NODES"))
    if report is None:
        raise SlotsUnknown(f"the node {host} reports no slots")
    return report


async def ask_sentinels(address: RedisAddress) -> list[SentinelView | None]:
    """What each sentinel of the address reports, in order; None if it does not answer within CONNECT_S."""

    async def ask(host: Host) -> SentinelView | None:
        with contextlib.suppress(OSError):  # TimeoutError among them
            async with limit(CONNECT_S):
                return await _ask_sentinel(address, host)
        return None

    return await asyncio.gather(*map(ask, address.hosts))


async def _ask_sentinel(address: RedisAddress, host: Host) -> SentinelView:
    async with open_client(address, host, is_sentinel=True) as client:
        fields = iter(await ask(client, "SENTINEL", "MASTER", address.service))
        state = dict(zip(fields, fields, strict=True))
    return SentinelView(
        config_epoch=int(state["config-epoch"]),
        primary=Host(state["ip"], int(state["port"])),
        quorum=int(state.get("quorum", 0)),
        sentinels=int(state.get("num-other-sentinels", 0)) + 1,
        replicas=int(state.get("num-slaves", 0)),
    )


async def _ask_majority(hosts: Sequence[Host], ask: Callable[[Host], Awaitable[T]]) -> list[T]:
    """Ask all hosts at once; return a majority's replies, or fewer after REPLY_S. A host that fails has not replied."""
    asking = [asyncio.ensure_future(ask(host)) for host in hosts]
    known: list[T] = []
    try:
        with contextlib.suppress(TimeoutError):
            async with limit(REPLY_S):
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
