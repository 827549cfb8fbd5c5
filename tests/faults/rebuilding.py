"""What Redis holds, beside what one holds that is built from Postgres alone."""

from pathlib import Path
from typing import Any

from redis.asyncio import Redis

from loadtests.harness.servers import started
from service.formats import key_names
from service.hot.connection import connect
from service.hot.redis_server import Server
from service.hot.scripts import MENDING, Scripts
from service.record.facts.fact_reader import START
from service.worker.restorer import Mending
from tests.faults.stage import Stage

_IDLE = "0 - - 0 - - - - - - - - - -"
_EPOCH = 10**12
"""Of the server that is built to compare with; no partition's."""


async def unlike_rebuilt(stage: Stage) -> list[str]:
    """What Redis holds otherwise than one that is built from Postgres alone, but for locks' keys; at most ten of it."""
    folder = stage.folder / "scratch"
    folder.mkdir(exist_ok=True)
    with started(Path(stage.binary), folder) as url:
        connection = await connect(url, "drill")
        try:
            server = Server(connection, 0)
            await server.fence(_EPOCH)
            mending = Mending(server, stage.pool, Scripts(0, _EPOCH, "drill", MENDING, "closed"))
            await server.load(mending.scripts)
            await mending.configure(0, whole=True)
            await mending.redo(START, keep_mark=True)
            await mending.restore_keys(START)
            await mending.fill_pools()
        finally:
            connection.close()
        async with Redis.from_url(url, decode_responses=True) as client:
            rebuilt = await _everything(client)
    running = await _everything(stage.primary.client)
    running = {name: what for name, what in running.items() if _answered_under(name) not in stage.held_keys}
    unlike = sorted(name for name in running.keys() | rebuilt.keys() if running.get(name) != rebuilt.get(name))
    return [f"{name}: {running.get(name)!r}, and rebuilt {rebuilt.get(name)!r}" for name in unlike[:10]]


def _answered_under(name: str) -> str | None:
    """The Idempotency-Key that an answer is kept under."""
    key = key_names.parse_key(name)
    return key.parts[0] if key and key.kind == "i" else None


async def _everything(client: Any) -> dict[str, Any]:
    names = [name async for name in client.scan_iter(match="{p0}:*", count=5000)]
    own = (key_names.gate(0), key_names.outbox(0), key_names.mend(0), key_names.layout(0))
    names = [name for name in names if name not in own]
    found: dict[str, Any] = {}
    for start in range(0, len(names), 2000):
        page = names[start : start + 2000]
        pipeline = client.pipeline(transaction=False)
        for name in page:
            pipeline.type(name)
        kinds = await pipeline.execute()
        pipeline = client.pipeline(transaction=False)
        for name, kind in zip(page, kinds, strict=True):
            match kind:
                case "hash":
                    pipeline.hgetall(name)
                case "zset":
                    pipeline.zrange(name, 0, -1, withscores=True)
                case _:
                    pipeline.get(name)
        found |= {name: _plain(name, what) for name, what in zip(page, await pipeline.execute(), strict=True)}
    return {name: held for name, held in found.items() if held is not None}


def _plain(name: str, held: Any) -> Any:
    """Without the limit that a code was locked under and then not used, and claims of keys, which live in Redis alone;
    without counts of nothing. None for what then says nothing, or ended since its name was read."""
    key = key_names.parse_key(name)
    kind = key.kind if key else ""
    if kind == "i" and (held is None or held.split(" ")[1] == "c"):
        return None
    if kind == "n":
        return {counter: count for counter, count in held.items() if count != "0"}
    if kind == "c":
        version, user, at, uses, _, *rest = held.split(" ")
        held = " ".join([version, user, at, uses, "-" if uses == "0" else _, *rest])
        return None if held == _IDLE else held
    return held
