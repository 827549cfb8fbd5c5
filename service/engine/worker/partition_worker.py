"""A worker's work on one partition: to open it, and to record its events in Postgres. process.py runs one for each
partition; a composition root (service/serving/worker.py) adds tasks by `Parts`. Names of tasks are in metrics, alarms
and the query `renew_leases`."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Literal, NamedTuple

import asyncpg
import hiredis
import structlog

from service.common.tracebacks import find_reason
from service.engine.formats.gate_text import parse_gate
from service.engine.hot import outbox as redis
from service.engine.hot.cluster import Report
from service.engine.hot.connection import Broken, connect
from service.engine.hot.fencing import choose_nonce, parse_nonce
from service.engine.hot.fitness import Fitness, Replication
from service.engine.hot.outbox import Outbox
from service.engine.hot.projection import RedisProjector
from service.engine.hot.redis_server import Fenced, Server, UnfitRedis
from service.engine.hot.scripts import Scripts
from service.engine.hot.unrecorded import Backlog
from service.engine.record import pool as postgres
from service.engine.record.partitions.openings import order_rebuild, rebuild_order, was_rebuilt_for
from service.engine.record.partitions.partition_rows import LeaseLost, Partition, read_partition
from service.engine.worker import metrics
from service.engine.worker.engine_settings import EngineSettings
from service.engine.worker.lease_keeper import LEASE_S, Lease, LeaseKeeper
from service.engine.worker.lock_sweeper import sweep
from service.engine.worker.opening.old_server import FencingWatch, OldServerMayRun
from service.engine.worker.opening.older_postgres import PostgresOlder, find_surplus
from service.engine.worker.opening.opening_turns import OpeningTurns
from service.engine.worker.opening.partition_opening import Opening
from service.engine.worker.opening.unappliable_events import TooManyFailed
from service.engine.worker.projection_catchup import ProjectionCatchUp, projector_of
from service.engine.worker.script_versions import LoadedScripts, own_scripts
from service.engine.worker.server_watch import ServerWatch, SharedRedis, wait_for_turn
from service.engine.worker.task_supervisor import HEALTHY_AFTER_S, Backoff, Supervisor, TaskFailures, leaves
from service.engine.worker.waiting import is_cancelled, pause, run_until, wait_for_any
from service.engine.worker.write_behind import AnchorLost, CursorMoved, Flusher, OutboxGap, TooManyRefused

GATE_POLL_S = 0.25
IDLE_POLL_S = 10.0
"""How often an idle partition looks at the gate and checks the server's fitness; in between it takes the pulse."""
RECONNECT_S, RETRY_S, LONGEST_RETRY_S = 0.1, 0.5, 30.0
ALARM_S = 10.0
FITNESS_POLL_S = 1.0
UNFIT_S = 2.0
OLDER_S = 2.0
"""Between two looks whether the newer Postgres is back."""
OLD_SERVER_S = 2.0
"""Between two looks for a proof that the last server is off."""
DRAIN_S = 5.0
CONNECTIONS = 8
"""Of a worker to Postgres, without that for leases; opening_turns.py uses half of them."""

log = structlog.get_logger()


class Unverified(Exception):
    """Something of the partition is not as it was verified: verify it again, and open it again unless it is right."""


_FATAL = (Fenced, Unverified, AnchorLost, LeaseLost, Broken, UnfitRedis, OutboxGap, TooManyRefused)
"""Errors that end all work on the partition."""


Tasks = Mapping[str, Callable[[], Awaitable[None]]]
"""By name. One that fails restarts."""


class OpenPartition(NamedTuple):
    """An open partition, as its tasks get it."""

    pool: asyncpg.Pool
    server: Server
    scripts: Scripts
    fence: int
    lease: Lease
    projector: RedisProjector


class Parts(NamedTuple):
    """What a composition root chooses for a partition."""

    make_flusher: Callable[..., Flusher] = Flusher
    tasks_of: Callable[[OpenPartition], Tasks] = lambda _: {}
    """More tasks that may fail and restart while requests are decided and recorded."""


class Shared:
    """What the partitions of a worker process share."""

    def __init__(
        self,
        settings: EngineSettings,
        pool: asyncpg.Pool,
        keeper: LeaseKeeper,
        loaded: LoadedScripts,
        make_parts: Callable[[], Parts] = Parts,
    ) -> None:
        self.settings, self.pool, self.keeper, self.make_parts = settings, pool, keeper, make_parts
        self.loaded = loaded
        self.openings = OpeningTurns()
        self.redis = SharedRedis(settings.redis_url)
        keeper.read_unreached = self.redis.unreached
        self.flushers: dict[int, Flusher] = {}
        """Of the open partitions."""

    def take_backlog(self) -> list[Backlog]:
        """What each open partition has not recorded, now; for the console's history."""
        return [flusher.unrecorded.count_backlog(partition) for partition, flusher in sorted(self.flushers.items())]

    def take_known_backlog(self) -> list[Backlog]:
        """As take_backlog, of partitions whose leases live: another worker may record those of others."""
        now = time.monotonic()
        return [one for one in self.take_backlog() if now < self.keeper[one.partition].lives_until]


class PartitionWorker:
    """One partition.

    1. Reach the partition's Redis, and take the lease when the keeper says so (service/engine/worker/lease_keeper.py).
    2. If Postgres says that the partition is open, Redis agrees and the outbox has the anchor, continue; else open it.
    3. Record, project, and run the tasks of its Parts. Check the gate four times a second, and set it by
       the number of unrecorded events. Check the server's fitness once a second. If it is unfit, close the gate, record
       the rest of the outbox, and wait.
    4. After an unexpected gate, script or anchor, continue from 2. After a lost lease, continue from 1. If unrecorded
       events are missing, repeat an alarm and set the gate to `behind`, until an operator accepts the loss.
    5. After any other error, retry after a pause that doubles from 0.5 s to 30 s, and store the failure. A pause that
       is longer than a lease releases it, if there is another worker to try.
       service/engine/worker/task_supervisor.py restarts the tasks that are not vital.
    6. On request, stop: record the rest of the outbox and release the lease. For a handover, name the successor.
    """

    def __init__(self, shared: Shared, partition: int) -> None:
        self._settings, self._redis_url = shared.settings, shared.settings.redis_url
        self._pool, self._partition = shared.pool, partition
        self._keeper, self._lease = shared.keeper, shared.keeper[partition]
        self._openings, self._redis, self._loaded = shared.openings, shared.redis, shared.loaded
        self._flushers, self._parts = shared.flushers, shared.make_parts()
        self._has_log = False
        self._asks_report = False
        """Whether a committee of a cluster's nodes may confirm epochs."""
        self._log = log.bind(partition=partition)
        self._evicted = 0
        self._must_check = False
        """Whether the pulse of the server has shown that it may have lost something."""
        self._report: Report | None = None
        """The server's of its cluster."""
        self._failures = TaskFailures(shared.pool, partition)
        self._supervisor = Supervisor(self._failures, fatal=_FATAL)
        self._backoff = Backoff(RETRY_S, LONGEST_RETRY_S)
        self._task: Literal["opening", "keeping"] = "opening"

    async def run(self, stopping: asyncio.Event) -> None:
        while not stopping.is_set():
            pause_s, self._task = 0.0, "opening"
            fence = None
            try:
                await run_until(stopping, self._redis.wait_until_reached(self._partition))
                if self._redis.has_reached(self._partition):
                    await wait_for_any(stopping, self._lease.is_due, self._redis.lost)
                can_work = self._lease.is_due.is_set() and self._redis.has_reached(self._partition)
                if stopping.is_set() or not can_work:
                    await pause(RECONNECT_S, stopping)  # the server may close each connection at once
                    continue
                fence = await self._keeper.take(self._pool, self._partition)
                if fence is not None:
                    await self._under_lease(fence, stopping)
            except LeaseLost as lost:
                self._log.warning("lease_lost", reason=str(lost))
            except (Unverified, Fenced, AnchorLost, CursorMoved) as unverified:
                self._log.warning("redis_unverified", reason=str(unverified) or type(unverified).__name__)
            except (OutboxGap, TooManyRefused, TooManyFailed) as alarm:
                self._log.error("partition_stopped", reason=str(alarm), next_try_s=ALARM_S)
                await self._failures.store(self._task, alarm, ALARM_S)
                await self._stop_deciding()
                pause_s = ALARM_S
            except UnfitRedis as unfit:
                self._log.error("redis_unfit", reason=str(unfit), next_try_s=UNFIT_S)
                pause_s = UNFIT_S
            except Exception as error:  # noqa: BLE001, other partitions must go on; uvloop raises RuntimeError
                pause_s = await self._pause_after(error)
            self._keeper.pause(self._partition)
            await self._rest(fence, pause_s, stopping)

    async def _rest(self, fence: int | None, pause_s: float, stopping: asyncio.Event) -> None:
        """Pause. Release the lease for a long pause, if there is another worker to try."""
        if fence is not None and pause_s > LEASE_S and self._keeper.has_others:
            with contextlib.suppress(*postgres.ERRORS):
                await self._keeper.release(self._pool, self._partition, fence)
            metrics.unfollow(self._partition)
            await pause(pause_s, stopping, self._lease.is_named)
            return
        await pause(pause_s, stopping)
        if not self._lease.is_due.is_set():  # another worker has it now, and shows its failures
            metrics.unfollow(self._partition)

    async def _pause_after(self, error: Exception) -> float:
        """Log or store the error, and return the pause in seconds: short if a server is away, else growing."""
        if isinstance(error, OldServerMayRun):
            self._log.error("waiting_for_old_redis", reason=str(error))
            return OLD_SERVER_S
        if isinstance(error, PostgresOlder):
            self._log.error("postgres_older", reason=str(error), next_try_s=OLDER_S)
            await self._failures.store(self._task, error, OLDER_S)
            return OLDER_S
        if redis.is_away(error) or postgres.is_away(error):
            if isinstance(error, redis.ERRORS):
                self._log.warning("redis_away", reason=find_reason(error))
            else:
                self._log.warning("postgres_away", error=type(error).__name__)
            is_lost = isinstance(error, Broken) or not self._redis.has_reached(self._partition)
            return RECONNECT_S if is_lost or redis.has_moved(error) else RETRY_S
        pause_s = self._backoff.next_s()
        await self._failures.store(self._task, error, pause_s)
        return pause_s

    async def _under_lease(self, fence: int, stopping: asyncio.Event) -> None:
        outbox = Outbox(self._redis_url, self._partition)
        limits = self._settings.standbys, self._settings.max_unrecorded_s
        flusher = self._parts.make_flusher(outbox, self._pool, self._partition, fence, *limits)
        watch = await self._redis.watch(self._partition)
        server = Server(watch.connection, self._partition)
        try:
            async with asyncio.TaskGroup() as group:
                losing = group.create_task(self._watch_lease())
                scripts = await self._open(server, flusher, fence)
                self._task = "keeping"
                await self._failures.clear("opening")
                metrics.follow(self._partition, (lambda: flusher.held) if self._settings.standbys else None)
                self._flushers[self._partition] = flusher
                tasks = [
                    losing,
                    group.create_task(flusher.run()),
                    group.create_task(self._watch_gate(watch, server, scripts, flusher)),
                    group.create_task(self._watch_fitness(watch, server, scripts, flusher)),
                    group.create_task(self._watch_rebuild_orders()),
                    group.create_task(self._clear_old_failures()),
                    *(
                        group.create_task(self._run_behind_openings(task, begin))
                        for task, begin in self._background(server, scripts, fence).items()
                    ),
                ]
                self._lease.is_steady = True
                await wait_for_any(stopping, self._lease.is_leaving)
                for task in tasks:
                    task.cancel()
            await self._drain(flusher)
            await self._keeper.release(self._pool, self._partition, fence)
        except BaseExceptionGroup as group_error:
            if is_cancelled():
                raise asyncio.CancelledError from None
            first = leaves(group_error)[0]  # the others were cancelled, or failed because of it
            if isinstance(first, UnfitRedis):
                await self._move_gate(server, "closed")
                await self._drain(flusher)
            raise first from None
        finally:
            self._lease.is_steady = False
            self._flushers.pop(self._partition, None)
            metrics.unfollow(self._partition)
            outbox.close()

    async def _run_behind_openings(self, task: str, begin: Callable[[], Awaitable[None]]) -> None:
        await self._openings.wait_until_idle()
        await self._supervisor.run(task, begin)

    def _background(self, server: Server, scripts: Scripts, fence: int) -> Tasks:
        """Tasks by name that may fail and restart while requests are decided and recorded."""
        pool, projector = self._pool, projector_of(server, scripts)
        opened = OpenPartition(pool, server, scripts, fence, self._lease, projector)
        return {
            "catching_up": lambda: ProjectionCatchUp(server, projector, pool, fence).run(self._lease),
            "sweeping": lambda: sweep(pool, server, scripts),
            "loading_scripts": lambda: self._loaded.keep_loaded(server, scripts),
            **self._parts.tasks_of(opened),
        }

    async def _clear_old_failures(self) -> None:
        """After a minute without an error, clear earlier failures and reset the pauses."""
        await asyncio.sleep(HEALTHY_AFTER_S)
        self._backoff.reset()
        await self._failures.clear("keeping")

    async def _stop_deciding(self) -> None:
        """Set the gate to `behind`: nothing can be recorded, so Redis must decide no more changes."""
        try:
            connection = await connect(self._redis_url, "scrip-worker", partition=self._partition)
        except (OSError, Broken):
            return
        with contextlib.closing(connection):
            await self._move_gate(Server(connection, self._partition), "behind")

    async def _move_gate(self, server: Server, to: Literal["behind", "closed"]) -> None:
        """Restrict the gate to this state; `closed`: replies of this Redis may be wrong, or lost. An error is only
        logged."""
        try:
            text = await server.read_gate()
            gate = parse_gate(text)
            if gate.state in ("open", "full") or (to == "closed" and text and gate.state != "closed"):
                await server.move_gate(text, str(gate._replace(state=to)))
        except (Broken, Fenced, hiredis.ReplyError) as error:
            self._log.warning("gate_not_moved", error=type(error).__name__)

    async def _open(self, server: Server, flusher: Flusher, fence: int) -> Scripts:
        """Return the scripts of the open epoch. Open a new epoch only if the current one is not verified."""
        fitness = await server.fitness()
        await self._check_fitness(server, fitness)
        self._has_log = fitness.has_log(self._settings.redis_durability)
        self._asks_report = fitness.replication.is_clustered and not self._has_log
        self._report = await server.report() if self._asks_report else None
        row = await read_partition(self._pool, self._partition)
        scripts = own_scripts(self._partition, row.epoch, row.nonce)
        is_whole = not await server.wrong_types()
        if row.state == "open" and is_whole and await self._is_verified(server, scripts, row, flusher):
            return scripts
        opening = Opening(server, self._pool, flusher, fence, self._loaded, self._redis_url, has_log=self._has_log)
        return await self._openings.open(opening)

    async def _is_verified(self, server: Server, scripts: Scripts, row: Partition, flusher: Flusher) -> bool:
        gate = parse_gate(await server.read_gate())
        nonce = parse_nonce(row.nonce)
        replication = await server.replication()
        if choose_nonce(nonce.random, replication, self._report, nonce, has_log=self._has_log) != nonce:
            return False
        if await rebuild_order(self._pool, self._partition):
            return False
        if gate.epoch != str(row.epoch) or gate.state == "closed":
            return False
        if not await self._loaded.has_any_version(server, scripts):
            return False
        try:
            await flusher.start()
            await flusher.step()
        except AnchorLost:
            return False
        if not await server.has(scripts):
            self._log.info("epoch_taken_over", epoch=row.epoch, reason="the last worker was of another version")
            await server.load(scripts)
        return not await find_surplus(server, self._pool)

    async def _watch_lease(self) -> None:
        await self._lease.is_lost.wait()
        raise LeaseLost("another worker has it")

    async def _watch_rebuild_orders(self) -> None:
        """Start only after the opening, which may just be executing an order."""
        while True:
            await self._lease.wait_until_due("rebuilding")
            with contextlib.suppress(*postgres.ERRORS):  # the reading may be from before the end of the opening
                if await rebuild_order(self._pool, self._partition):
                    raise Unverified("a rebuild was ordered")

    async def _watch_gate(self, watch: ServerWatch, server: Server, scripts: Scripts, flusher: Flusher) -> None:
        """Check the replication history, the gate and the scripts; move the gate with the number of unrecorded events.
        While the partition is idle, check gate and scripts every ten seconds, or if the pulse is unusual. Raises
        Unverified."""
        gate, fencing = parse_gate(""), FencingWatch(scripts.nonce, has_log=self._has_log)
        while True:
            is_idle_turn = await wait_for_turn(GATE_POLL_S, round(IDLE_POLL_S / GATE_POLL_S))
            if flusher.is_idle and gate.state == "open" and not is_idle_turn and not self._must_check:
                if parse_nonce(scripts.nonce).fencing:
                    self._check_fencing(fencing, await watch.replication())
                continue
            self._must_check = False
            check = await watch.check_partition(scripts)
            self._check_fencing(fencing, check.replication)
            gate = parse_gate(check.gate)
            if not gate.serves(scripts.epoch):
                raise Unverified(f"the gate is {check.gate!r}, not {scripts.epoch} open")
            if not check.has_scripts:
                raise Unverified("scripts are missing")
            if check.may_have_wrong_type or not flusher.is_idle:
                await self._check_types(server)
            if not flusher.is_idle:
                flusher.observe_tail(await server.tail())
            if self._settings.standbys:
                flusher.held = await server.command("XLEN", server.outbox)
            if (state := flusher.gate_state()) != gate.state:
                self._log.warning("gate_changed", state=state, unrecorded=flusher.unrecorded.events)
                await server.move_gate(check.gate, str(gate._replace(state=state)))

    def _check_fencing(self, fencing: FencingWatch, server: Replication) -> None:
        """Raises Unverified."""
        if change := fencing.find_change(server, self._report):
            raise Unverified(change)

    async def _check_types(self, server: Server) -> None:
        if wrong := await server.wrong_types():
            raise Unverified(f"keys of a wrong type: {' '.join(key.kind for key in wrong)}")

    async def _watch_fitness(self, watch: ServerWatch, server: Server, scripts: Scripts, flusher: Flusher) -> None:
        """Check the server's fitness once a second. While the partition is idle, take the pulse instead, which is one
        command and also shows whether keys or scripts are gone. Raises Unverified, UnfitRedis."""
        last = await watch.pulse()
        while True:
            is_idle_turn = await wait_for_turn(FITNESS_POLL_S, round(IDLE_POLL_S / FITNESS_POLL_S))
            if self._asks_report:
                self._report = await watch.report()
            if flusher.is_idle and not is_idle_turn:
                pulse = await watch.pulse()
                self._must_check |= pulse.scripts < last.scripts or pulse.keys < last.keys // 2
                self._must_check |= not parse_nonce(scripts.nonce).fits(pulse.replication)
                last = pulse
                if not pulse.unfit and pulse.evicted == self._evicted:
                    continue
            if await self._check_fitness(server, await watch.fitness()):
                raise Unverified("Redis has evicted keys")

    async def _check_fitness(self, server: Server, fitness: Fitness) -> bool:
        """Return whether Redis has evicted keys since its last rebuild, and order a rebuild then. Raises UnfitRedis."""
        reason = f"Redis evicted keys: {fitness.evicted} since its start ({fitness.run_id[:12]})"
        is_new = fitness.evicted not in (0, self._evicted)
        is_new = is_new and not await was_rebuilt_for(self._pool, self._partition, reason)
        if is_new:
            self._log.error("keys_evicted", keys=fitness.evicted)
            await self._move_gate(server, "closed")
            if await rebuild_order(self._pool, self._partition) is None:
                await order_rebuild(self._pool, self._partition, reason)
        self._evicted = fitness.evicted
        if fitness.unfit:
            raise UnfitRedis(fitness.unfit)
        return is_new

    async def _drain(self, flusher: Flusher) -> None:
        try:
            async with asyncio.timeout(DRAIN_S):
                await flusher.start()
                while await flusher.step():
                    pass
        except (*postgres.ERRORS, *redis.ERRORS, OutboxGap, TooManyRefused, CursorMoved) as error:
            self._log.warning("outbox_not_drained", error=type(error).__name__)
