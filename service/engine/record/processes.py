"""The processes that run, each with a row that it renews: API processes (wiring.py) and workers (lease_keeper.py). The
text of a process's name is stored; the statement `renew_leases` finds a worker's session by the `@…` at its end."""

import asyncio
import contextlib
import math
import os
import re
import secrets
import socket
import time
from collections.abc import Collection
from datetime import timedelta
from typing import Any, Literal

import msgspec

from service.engine.formats.number import FORMAT_NUMBER
from service.engine.record.pool import ERRORS, Database
from service.engine.record.queries import query

MAX_AGE_S = 600.0
"""The longest time without Postgres in which keys are accepted: a key that is revoked in that time is accepted, too.
The opening of a partition waits for it (service/engine/worker/opening/old_server.py)."""
BEAT_S = 2.0
"""How often an API process renews its row, and a worker reads the running versions."""
ALIVE_S = 3 * BEAT_S
"""Nothing waits for an API process that has not renewed its row for this long."""
VERSION_STAYS = timedelta(minutes=1)
"""A version counts as running for this long after its last row has expired: its process may only be asleep. Moves,
migrations and scripts of older versions wait for that."""
LEAVE_S = 1.0

Kind = Literal["api", "worker"]


class Description(msgspec.Struct, frozen=True):
    """What a process has stored of itself. None: not yet, or not of this kind."""

    id: str
    kind: Kind
    clock_ahead_s: float | None
    """By how much its clock is ahead of Postgres's, at least."""
    connections: int | None
    """To Postgres, at most."""
    clients: int | None
    """Connections that an API process accepts."""


def name_process(*, has_session: bool = False) -> str:
    """A name for this process. With `has_session` its row ends with the session that `name_session` names."""
    return f"{socket.gethostname()}:{os.getpid()}:{'@' if has_session else ''}{secrets.token_hex(4)}"


def name_session(process: str) -> str:
    """The name of the session in which a worker renews its row."""
    name = re.search(r"@[0-9a-f]+$", process)
    return f"scrip-worker{name[0] if name else ''}"


async def renew_process(database: Database, process: str, kind: Kind, version: str) -> None:
    """Store that an API process runs. `renew_leases` stores that a worker does."""
    await database.execute(query("renew_process"), process, kind, version, FORMAT_NUMBER, round(ALIVE_S * 1000))


async def measure_clock(database: Database) -> float:
    """By how many seconds this machine's clock is ahead of Postgres's, at least: less what half of the time until the
    reply may explain, so that a slow Postgres is not taken for a wrong clock."""
    asked_s = time.time()
    clock: Any = await database.fetchval(query("read_clock"))
    half_s = (time.time() - asked_s) / 2
    ahead_s = asked_s + half_s - clock.timestamp()
    return math.copysign(max(abs(ahead_s) - half_s, 0.0), ahead_s)


async def describe_process(database: Database, process: str, connections: int, clients: int | None = None) -> float:
    """Store what a process that runs measures and may open; return by how much its clock is ahead."""
    ahead_s = await measure_clock(database)
    await database.execute(query("describe_process"), process, ahead_s, connections, clients)
    return ahead_s


async def read_descriptions(database: Database) -> list[Description]:
    """Of the living processes."""
    return [Description(**row) for row in await database.fetch(query("read_descriptions"))]


async def read_processes(database: Database, kind: Kind) -> Collection[str]:
    """The living processes of a kind."""
    return [row["id"] for row in await database.fetch(query("read_processes"), kind)]


async def end_process(database: Database, process: str) -> None:
    """Store that this process ends; a worker's leases are free then. Without Postgres its row expires."""
    with contextlib.suppress(*ERRORS):
        async with asyncio.timeout(LEAVE_S):
            await database.execute(query("end_process"), process)


async def prune_processes(database: Database, _limit: int = 0) -> int:
    """Delete all rows of processes that ended without deleting their own."""
    await database.execute(query("prune_processes"))
    return 0
