"""What Redis holds, beside what one holds that is built from Postgres alone."""

from collections.abc import Collection
from contextlib import closing
from pathlib import Path
from typing import Any

from asyncpg import Pool
from redis.exceptions import RedisError

from service.engine.formats import key_names
from service.engine.formats.event_id import START
from service.engine.formats.recovery_progress import WHOLE
from service.engine.formats.stored_settings import without_mark
from service.engine.hot.discovery import read_nodes
from service.engine.hot.redis_server import Server
from service.engine.hot.scripts import MENDING, Scripts
from service.engine.record.partitions.partition_rows import read_partitions
from service.engine.worker.opening.restorer import Restorer
from tests.harness import dump
from tests.harness.cluster import CLUSTERED_PARTITIONS
from tests.harness.reaching import reach
from tests.harness.running import HOME, PARTITIONS
from tests.harness.servers import started
from tests.harness.waiting import wait_until

EPOCH = 10**12
"""The built Redis's epoch, which no partition has."""
_IDLE = "0 - - 0 - - - - - - - - - - -"


async def unlike_built(live: str, pool: Pool, binary: Path, folder: Path, but: Collection[str] = ()) -> list[str]:
    """What a Redis holds otherwise than one that recovery's code builds from Postgres, key by key; at most ten of it.
    `but`: keys under which answers are kept that are not compared."""
    with started(binary, folder) as url:
        await _build(url, pool)
        running, rebuilt = await everything(live), await everything(url)
    running = {name: what for name, what in running.items() if _answered_under(name) not in but}
    unlike = sorted(name for name in running.keys() | rebuilt.keys() if running.get(name) != rebuilt.get(name))
    return [f"{name}: {running.get(name)!r}, and rebuilt {rebuilt.get(name)!r}" for name in unlike[:10]]


async def _build(url: str, pool: Pool) -> None:
    """Build all partitions in an empty Redis, under an unused epoch and with the gate closed."""
    for row in await read_partitions(pool):
        with closing(await reach(url, row.id)) as connection:
            server = Server(connection, row.id)
            restorer = Restorer(server, pool, Scripts(row.id, EPOCH, "built", MENDING, "closed"))
            await server.fence(EPOCH)
            await server.load(restorer.scripts)
            await restorer.record_progress(WHOLE)
            await restorer.configure(0, whole=True)
            await restorer.apply_events(START, whole=True)
            await restorer.fill_pools()
            await restorer.restore_keys(START)


def _answered_under(name: str) -> str | None:
    """The Idempotency-Key that an answer is kept under."""
    key = key_names.parse_key(name)
    return key.parts[0] if key and key.kind == "i" else None


async def everything(url: str) -> dict[str, Any]:
    """What a Redis holds of the service, except what every opening writes again, and limits' counters, which expire."""
    keys: dict[str, Any] = {}
    of_partitions = (key_names.gate, key_names.outbox, key_names.mend, key_names.layout)
    partitions = max(PARTITIONS, CLUSTERED_PARTITIONS)
    for node in await wait_until(lambda: read_nodes(url), "the nodes", away=(OSError, RedisError)):
        with closing(await reach(node)) as connection:
            left_out = [key(p) for p in range(partitions) for key in of_partitions]
            left_out += [key_names.newest(p) for p in range(partitions) if p != HOME]  # a workspace may have left it
            keys |= await dump.everything(connection, *left_out)
    return {name: plain for name, held in keys.items() if (plain := _plain(name, held)) is not None}


def _plain(name: str, held: Any) -> Any:  # noqa: PLR0911, a case for each kind
    """Without the limit, its record's mark and the mark `touched` that unused locks leave, claims of keys, and marks of
    workspaces that left, which live in Redis alone; without counts of nothing; the bytes of stored answers as a sum,
    since a rebuild may count one in the next hour. None for what then says nothing, or has ended."""
    key = key_names.parse_key(name)
    kind = key.kind if key else ""
    if kind in ("q", "lo"):  # these expire
        return None
    if kind == "i" and (held is None or held.split(" ")[1] == "c"):
        return None
    if kind == "y":  # a rebuild counts all answers of the hot path, in place of a sample; a worker stores use and bound
        kept = [int(count) for name, count in held.items() if name.isdecimal()]
        return (sum(kept), held.get("users", "0")) if kept or held.get("users", "0") != "0" else None
    if kind == "e":  # how far the outbox may name deleted users; a rebuild empties it
        return {event: moved for event, moved in held.items() if event != "last"} or None
    if kind == "w":
        return without_mark(held)
    if kind in ("n", "m"):
        return _sums(kind, held)
    if kind == "d":
        held = {code: entry.removesuffix("+") for code, entry in held.items()}
    if kind == "c":
        version, user, at, uses, _, *rest = held.split(" ")
        held = " ".join([version, user, at, uses, "-" if uses == "0" else _, *rest])
        return None if held == _IDLE else held
    return held


def _sums(kind: str, held: dict[str, str]) -> Any:
    """A book's counters, or accounts of cards, without what locks hold."""
    if kind == "m":
        return {code: account.rsplit(" ", 1)[0] for code, account in held.items()}
    counts = {counter: count for counter, count in held.items() if count != "0" and not counter.startswith("held")}
    if not counts.keys() & {"redemptions", "rolledBack"}:
        counts.pop("touched", None)
    return counts or None
