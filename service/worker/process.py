"""The worker process: keeps Redis open, and moves what it decides into Postgres, for every partition it gets."""

import asyncio
import contextlib
import gc
import os
import secrets
import signal
import socket
from collections.abc import Awaitable, Callable
from typing import Literal

import asyncpg
import hiredis
import structlog

from service.common.config import Settings
from service.formats.gate_text import parse_gate
from service.hot import outbox as redis
from service.hot.connection import Broken, connect
from service.hot.outbox import Outbox
from service.hot.redis_server import Fenced, Server, UnfitRedis
from service.hot.scripts import PROJECTION, SERVING, Scripts, follows
from service.record import pool as postgres
from service.record.partitions.openings import order_rebuild, rebuild_order, rebuilt_for
from service.record.partitions.partition_rows import (
    LeaseLost,
    Partition,
    ensure_partitions,
    read_partition,
    release_lease,
    renew_lease,
    take_lease,
)
from service.worker import metrics
from service.worker.code_generator import Generator
from service.worker.comparison_runner import Reconcilers
from service.worker.housekeeping import keep_house
from service.worker.lock_sweeper import Sweeper
from service.worker.opening import Opening
from service.worker.projection_catchup import CatchUp, is_ahead, projector_of
from service.worker.restocker import Restocker
from service.worker.task_supervisor import WELL_S, Backoff, Supervisor, Troubles
from service.worker.unappliable_events import TooManyFailed
from service.worker.user_eraser import Eraser
from service.worker.webhook_sender import Sender
from service.worker.write_behind import AnchorLost, CursorMoved, Flusher, OutboxGap, TooManyRefused

LEASE_MS = 10_000
RENEW_S = LEASE_MS / 1000 / 4
LOOK_S = 0.25
RETRY_S, LONGEST_RETRY_S = 0.5, 30.0
ALARM_S = 10.0
FIT_S = 1.0
OBEY_S = 1.0
UNFIT_S = 2.0
DRAIN_S = 5.0

log = structlog.get_logger()


class Unverified(Exception):
    """The gate is shut, strange or of another epoch, or scripts are missing: the partition must be opened again."""


_FATAL = (Fenced, Unverified, AnchorLost, LeaseLost, Broken, UnfitRedis, OutboxGap, TooManyRefused)
"""What says that the partition is not ours, or not fit, to go on with: it ends all that is done for it."""


class Keeper:
    """One partition.

    1. Take the lease; wait while another worker has it.
    2. Where Postgres says that it is open, Redis agrees, and the anchor is in its place, go on; else open it.
    3. Record, project, generate, restock, erase, tell webhooks; look at the gate four times a second, and set it when
       the record falls behind; ask once a second whether the server is still fit: where it isn't, close the gate,
       record what is there, and wait until it is.
    4. On anything strange start from 2; when the lease is lost, from 1. Where events are missing that were never
       recorded, raise the alarm, again and again, and let nothing more be decided: to go on would throw away what was
       answered; a human must say so.
    5. On what nobody foresaw, try again after a pause that doubles from 0.5 s to 30 s, and show how often it failed and
       why. What the partition's life doesn't depend on fails by itself (service/worker/task_supervisor.py).
    6. When asked to stop, record what is there and give the lease back.
    """

    def __init__(self, settings: Settings, pool: asyncpg.Pool, partition: int, holder: str) -> None:
        self._redis_url, self._reconcile_at = settings.redis_url or "", settings.reconcile_at
        self._to_loopback = settings.webhooks_to_loopback
        self._pool, self._partition, self._holder = pool, partition, holder
        self._log = log.bind(partition=partition)
        self._evicted = 0
        self._troubles = Troubles(pool, partition)
        self._supervisor = Supervisor(self._troubles, fatal=_FATAL)
        self._backoff = Backoff(RETRY_S, LONGEST_RETRY_S)
        self._doing: Literal["opening", "keeping"] = "opening"

    async def run(self, stopping: asyncio.Event) -> None:
        """Work until asked to stop."""
        while not stopping.is_set():
            pause_s, self._doing = RETRY_S, "opening"
            try:
                fence = await take_lease(self._pool, self._partition, self._holder, LEASE_MS)
                if fence is not None:
                    await self._under_lease(fence, stopping)
            except LeaseLost as lost:
                self._log.warning("lease_lost", reason=str(lost))
            except (Unverified, Fenced, AnchorLost) as strange:
                self._log.warning("unverified", reason=str(strange))
                pause_s = 0.0
            except (OutboxGap, TooManyRefused, TooManyFailed) as alarm:
                self._log.error("stopped", reason=str(alarm), next_try_s=ALARM_S)
                await self._troubles.note(self._doing, alarm, ALARM_S)
                await self._stop_deciding()
                pause_s = ALARM_S
            except UnfitRedis as unfit:
                self._log.error("unfit", reason=str(unfit), next_try_s=UNFIT_S)
                pause_s = UNFIT_S
            except Exception as error:  # noqa: BLE001, no other partition may stop for it; uvloop raises RuntimeError
                pause_s = await self._failed(error)
            await _pause(stopping, pause_s)

    async def _failed(self, error: Exception) -> float:
        """How long to pause after an error: a server that is away may be back at once, anything else comes again."""
        if redis.is_away(error) or postgres.is_away(error):
            of_redis = isinstance(error, redis.ERRORS)
            self._log.warning("redis_away" if of_redis else "postgres_away", error=type(error).__name__)
            return RETRY_S
        pause_s = self._backoff.next_s()
        await self._troubles.note(self._doing, error, pause_s)
        return pause_s

    async def _under_lease(self, fence: int, stopping: asyncio.Event) -> None:
        outbox = Outbox(self._redis_url, self._partition)
        flusher = Flusher(outbox, self._pool, self._partition, fence)
        connection = await connect(self._redis_url, "scrip-worker")
        server = Server(connection, self._partition)
        try:
            async with asyncio.TaskGroup() as group:
                renewing = group.create_task(self._renew(fence))
                scripts = await self._open(server, flusher, fence)
                self._doing = "keeping"
                await self._troubles.forget("opening")
                metrics.follow(self._partition, flusher)
                tasks = [
                    renewing,
                    group.create_task(flusher.run()),
                    group.create_task(self._watch(server, scripts, flusher)),
                    group.create_task(self._keep_fit(server)),
                    group.create_task(self._obey()),
                    group.create_task(self._say_well()),
                    *(
                        group.create_task(self._supervisor.run(task, begin))
                        for task, begin in self._background(server, scripts, fence).items()
                    ),
                ]
                await stopping.wait()
                for task in tasks:
                    task.cancel()
            await self._drain(flusher)
            await release_lease(self._pool, self._partition, fence)
        except BaseExceptionGroup as group_error:
            first = _first(group_error)
            if isinstance(first, UnfitRedis):
                await self._close_gate(server)
                await self._drain(flusher)
            raise first from None
        finally:
            connection.close()
            outbox.close()

    def _background(self, server: Server, scripts: Scripts, fence: int) -> dict[str, Callable[[], Awaitable[None]]]:
        """What may fail while requests are decided and recorded, by name: each begins anew by itself."""
        pool, partition, projector = self._pool, self._partition, projector_of(server, scripts)
        return {
            "catching_up": lambda: CatchUp(projector, pool, partition, fence).run(),
            "generating": lambda: Generator(pool, projector, partition).run(),
            "erasing": lambda: Eraser(pool, server, scripts).run(),
            "sweeping": lambda: Sweeper(server, scripts).run(),
            "reconciling": lambda: Reconcilers(pool, partition, self._reconcile_at).run(),
            "restocking": lambda: Restocker(pool, server, scripts, projector, partition).run(),
            "sending": lambda: Sender(pool, partition, fence, self._to_loopback).run(),
        }

    async def _say_well(self) -> None:
        """Once the partition has been kept for a while, failures before that are over."""
        await asyncio.sleep(WELL_S)
        self._backoff.reset()
        await self._troubles.forget("keeping")

    async def _stop_deciding(self) -> None:
        """Nothing can be recorded: let nothing more be decided that would have to be."""
        try:
            connection = await connect(self._redis_url, "scrip-worker")
        except (OSError, Broken):
            return
        server = Server(connection, self._partition)
        try:
            gate = await server.read_gate()
            if (found := parse_gate(gate)).state in ("open", "full"):
                await server.move_gate(gate, str(found._replace(state="behind")))
        except (Broken, Fenced, hiredis.ReplyError) as error:
            self._log.warning("gate_not_moved", error=type(error).__name__)
        finally:
            connection.close()

    async def _open(self, server: Server, flusher: Flusher, fence: int) -> Scripts:
        """The scripts of the epoch that is open, opening a new one only where there is something to do."""
        await self._check(server)
        row = await read_partition(self._pool, self._partition)
        scripts = Scripts(self._partition, row.epoch, row.nonce, [*SERVING, *PROJECTION])
        is_whole = not await server.wrong_types()
        if row.state == "open" and is_whole and await self._is_verified(server, scripts, row, flusher):
            return scripts
        return await Opening(server, self._pool, flusher, fence).run()

    async def _is_verified(self, server: Server, scripts: Scripts, row: Partition, flusher: Flusher) -> bool:
        gate = parse_gate(await server.read_gate())
        if not follows(row.nonce, *await server.history()) or await rebuild_order(self._pool, self._partition):
            return False
        if gate.epoch != str(row.epoch) or gate.state == "closed" or not await server.has(scripts):
            return False
        try:
            await flusher.start()
            await flusher.step()
        except AnchorLost:
            return False
        return not await is_ahead(projector_of(server, scripts), self._pool, self._partition)

    async def _renew(self, fence: int) -> None:
        while True:
            await asyncio.sleep(RENEW_S)
            try:
                async with asyncio.timeout(RENEW_S):
                    if not await renew_lease(self._pool, self._partition, fence, LEASE_MS):
                        raise LeaseLost("another worker has it")
            except postgres.ERRORS:
                self._log.warning("lease_not_renewed")  # the fence keeps us from writing if another took it

    async def _obey(self) -> None:
        """Not before it is open: what is ordered may be just being done."""
        while True:
            await asyncio.sleep(OBEY_S)
            with contextlib.suppress(*postgres.ERRORS):
                if await rebuild_order(self._pool, self._partition):
                    raise Unverified("a rebuild was ordered")

    async def _watch(self, server: Server, scripts: Scripts, flusher: Flusher) -> None:
        """See that the gate still says what it should, and that the server still knows the scripts."""
        while True:
            await asyncio.sleep(LOOK_S)
            if not follows(scripts.nonce, *await server.history()):
                raise Unverified("this server follows, or is followed, otherwise than when it was verified")
            gate = await server.read_gate()
            found = parse_gate(gate)
            if not found.serves(scripts.epoch):
                raise Unverified(f"the gate says {gate!r} and not {scripts.epoch} open")
            if not await server.has(scripts):
                raise Unverified("scripts are missing")
            flusher.see(await server.tail())
            if (wanted := flusher.gate_state()) != found.state:
                self._log.warning("gate", state=wanted, pending=flusher.pending)
                await server.move_gate(gate, str(found._replace(state=wanted)))

    async def _keep_fit(self, server: Server) -> None:
        while True:
            await asyncio.sleep(FIT_S)
            if await self._check(server):
                raise Unverified("Redis has evicted keys")
            if wrong := await server.wrong_types():
                raise Unverified(f"of another type than they should be: {' '.join(key.kind for key in wrong)}")

    async def _check(self, server: Server) -> bool:
        """Whether Redis has evicted keys since it was rebuilt, which leaves no trace but a count: then a rebuild is
        ordered. Raises UnfitRedis."""
        found = await server.fitness()
        reason = f"Redis evicted keys: {found.evicted} since its start ({found.run_id[:12]})"
        evicted = found.evicted not in (0, self._evicted) and not await rebuilt_for(self._pool, self._partition, reason)
        if evicted:
            self._log.error("evicted", keys=found.evicted)
            await self._close_gate(server)
            if await rebuild_order(self._pool, self._partition) is None:
                await order_rebuild(self._pool, self._partition, reason)
        self._evicted = found.evicted
        if found.unfit:
            raise UnfitRedis(found.unfit)
        return evicted

    async def _close_gate(self, server: Server) -> None:
        """What this Redis would answer may be wrong, or lost."""
        try:
            gate = await server.read_gate()
            if gate and (found := parse_gate(gate)).state != "closed":
                await server.move_gate(gate, str(found._replace(state="closed")))
        except (Broken, Fenced, hiredis.ReplyError) as error:
            self._log.warning("gate_not_moved", error=type(error).__name__)

    async def _drain(self, flusher: Flusher) -> None:
        try:
            async with asyncio.timeout(DRAIN_S):
                await flusher.start()
                while await flusher.step():
                    pass
        except (*postgres.ERRORS, *redis.ERRORS, OutboxGap, TooManyRefused, CursorMoved) as error:
            self._log.warning("not_drained", error=type(error).__name__)


async def _pause(stopping: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stopping.wait(), seconds)


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """What stopped the group; the rest was cancelled, or followed from it."""
    found: BaseException = group
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found


async def work(settings: Settings) -> None:
    """Work on all partitions until SIGTERM or SIGINT."""
    if not settings.redis_url or not settings.database_url:
        raise UnfitRedis("REDIS_URL and DATABASE_URL must be set (scrip run starts servers of its own).")
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    connecting = asyncio.create_task(
        postgres.connect_when_there(settings.database_url, name="scrip-worker", min_size=2, max_size=8)
    )
    await asyncio.wait({connecting, asyncio.create_task(stopping.wait())}, return_when=asyncio.FIRST_COMPLETED)
    if not connecting.done():
        connecting.cancel()
        return
    pool = await connecting
    holder = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
    try:
        await ensure_partitions(pool, settings.partitions)
        metrics.serve(settings.host, settings.metrics_port)
        keepers = [Keeper(settings, pool, p, holder) for p in range(settings.partitions)]
        housekeeping = asyncio.create_task(Supervisor(Troubles(pool, 0)).run("housekeeping", lambda: keep_house(pool)))
        await asyncio.gather(*(keeper.run(stopping) for keeper in keepers))
        housekeeping.cancel()
    finally:
        await pool.close()


def run(settings: Settings) -> None:
    """The process."""
    import uvloop

    from service.common import logs

    logs.configure(settings, "worker")
    # What is read from the outbox at once are some ten thousand lists, all of them alive: looking for cycles after
    # every 700 of them cost 1.2 µs an event.
    gc.freeze()
    gc.set_threshold(100_000)
    uvloop.run(work(settings))
