"""What breaks: drawn from the seed, each seed from a few kinds, so that the rare ones meet each other often."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tests.simulation.postgres_model import State
from tests.simulation.redis_model import MOST_LOST, Server
from tests.simulation.world import PARTITIONS, Process, RedisCall, World

OTHER_LAYOUT = ("layout", "c", "o")
"""The kinds of keys that an older version would have had otherwise: to this one they are not there."""

Kind = tuple[Callable[[], None], int]


class Faults:
    """Strikes at a random step, on the average after every so many."""

    def __init__(self, world: World, processes: Sequence[Process], other: Server) -> None:
        self._world, self._processes = world, processes
        self._chance = 0.0
        self._replicated = other.replicated
        self._restored_at = -1.0
        self._restored_to: dict[int, int] = {}
        self._left_at: dict[Server, float] = {}
        kinds: list[Kind] = [
            (self._crash, 3),
            (self._stop, 3),
            (self._cut_postgres_off, 2),
            (self._break_postgres_connections, 2),
            (self._break_connections, 2),
            (self._lose_answers, 3),
            (self._restart_redis, 3),
            (self._stop_redis, 2),
            (self._flush, 2),
            (self._forget_scripts, 1),
            (self._load_dump, 2),
            (self._step_clock, 3),
            (self._restore_postgres, 1),
            (self._resync_under_live_process if self._replicated else self._move_address, 2),
            (self._promote if self._replicated else self._move_and_restore, 3),
            (self._flap if self._replicated else self._move_there_and_back, 2),
            (self._split, 3),
            (self._lag if self._replicated else self._stop, 2),
        ]
        rng = world.rng
        some = rng.choice((self._moves, self._moves, self._restarts, self._takeovers, self._anything, self._anything))(
            kinds
        )
        self._kinds, self._weights = [kind for kind, _ in some], [weight for _, weight in some]
        self._chance_while_closed = rng.choice((self._chance, 1 / 50))
        self._back_up()

    def _anything(self, kinds: list[Kind]) -> list[Kind]:
        self._chance = 1 / self._world.rng.choice((100, 200, 400, 800))
        return kinds[:2] + self._world.rng.sample(kinds, self._world.rng.randint(3, 9))

    def _moves(self, kinds: list[Kind]) -> list[Kind]:
        """Redis moves from time to time, and much is decided in between."""
        self._chance = 1 / 500
        disaster = (self._flap if self._replicated else self._move_and_restore, 3)
        return [(self._split, 2), disaster, (self._stop, 1)]

    def _restarts(self, kinds: list[Kind]) -> list[Kind]:
        """Redis loses its tail again and again, and workers die or stand still over it."""
        self._chance = 1 / 300
        single = [(self._restart_under_one_worker, 3), (self._order_a_rebuild, 2)]
        return [(self._restart_redis, 3), (self._stop, 2), (self._crash, 2), (self._strike_at_the_gate, 3), *single]

    def _takeovers(self, kinds: list[Kind]) -> list[Kind]:
        """Leases end early, and who had them doesn't know."""
        self._chance = 1 / 150
        return [(self._step_clock, 4), (self._stop, 2), (self._cut_postgres_off, 1), (self._lose_answers, 2)]

    def strike(self) -> bool:
        """Perhaps break something; whether it did."""
        if self._world.rng.random() >= (self._chance if self._is_open() else self._chance_while_closed):
            return False
        self._world.rng.choices(self._kinds, self._weights)[0]()
        return True

    def _is_open(self) -> bool:
        gates = [self._world.current.get(p, "gate") for p in PARTITIONS]
        return all(gate is not None and gate[1] == "open" for gate in gates)

    def _note(self, what: str) -> None:
        self._world.say("FAULT", what)

    def _seconds(self, most: float) -> float:
        return self._world.rng.random() ** 2 * most

    # -- processes

    def _crash(self) -> None:
        process = self._world.rng.choice(self._processes)
        if process.alive:
            self._note(f"{process.name} is killed")
            self._world.kill(process)
            self._world.later(self._seconds(3), f"{process.name} starts", lambda: self.start(process))

    def start(self, process: Process) -> None:
        """Where it doesn't run."""
        if not process.alive:
            self._world.boot(process)

    def _stop(self) -> None:
        process = self._world.rng.choice(self._processes)
        process.stopped_until = self._world.now + self._seconds(6)
        self._note(f"{process.name} stands still until {process.stopped_until:.2f}")

    def _cut_postgres_off(self) -> None:
        rng, until = self._world.rng, self._world.now + self._seconds(4)
        for process in self._processes if rng.random() < 0.3 else [rng.choice(self._processes)]:
            process.cut_off_until = until
            self._note(f"{process.name} is cut off from Postgres until {until:.2f}")

    def _break_postgres_connections(self) -> None:
        process = self._world.rng.choice(self._processes)
        process.postgres_connections += 1
        self._note(f"{process.name}'s connections to Postgres break")

    def _break_connections(self) -> None:
        asking = [task.process for task in self._world.tasks if isinstance(task.call, RedisCall)]
        process = self._world.rng.choice(asking or self._processes)
        self._note(f"{process.name}'s connections to Redis break")
        for task in self._world.tasks:
            if task.process is process and isinstance(task.call, RedisCall):
                task.call.connection.broken = True

    def _lose_answers(self) -> None:
        """What APIs asked of Redis is done, and they never hear of it."""
        waiting = [
            task
            for task in self._world.tasks
            if task.state == "ready" and isinstance(task.call, RedisCall) and task.process.name.startswith("api")
        ]
        for task in waiting:
            self._note(f"{task.process.name} doesn't hear of {task.name}")
            task.call.connection.broken = True
        if not waiting:
            self._world.later(0.005, "", self._lose_answers)

    def _split(self) -> None:
        """Redis moves while one process hears nothing of it from Postgres, or stands still."""
        process = self._world.rng.choice(self._processes[-3:])
        until = self._world.now + 2 + self._seconds(4)
        if self._world.rng.random() < 0.7:
            process.cut_off_until = until
        else:
            process.stopped_until = until
        self._note(f"{process.name} is left behind")
        if self._replicated:
            self._promote()
        else:
            self._move_there_and_back()

    def _strike_at_the_gate(self, tries: int = 300) -> None:
        """As soon as a worker is about to open a gate, it is stopped, or Redis emptied."""
        for task in self._world.tasks:
            if task.state == "call" and isinstance(task.call, RedisCall) and " open " in task.call.label:
                if self._world.rng.random() < 0.5:
                    self._flush()
                else:
                    task.process.stopped_until = self._world.now + 2 + self._seconds(2)
                    self._note(f"{task.process.name} stands still before {task.call.label}")
                return
        if tries:
            self._world.later(0.003, "", lambda: self._strike_at_the_gate(tries - 1))

    def _order_a_rebuild(self) -> None:
        """Of one partition, whose epochs go ahead of the other's."""
        partition = self._world.rng.choice(PARTITIONS)
        self._note(f"an operator wants p{partition} rebuilt")
        self._world.postgres.state.partitions[partition].rebuild_ordered = True

    # -- Redis, one server

    def _restart_under_one_worker(self) -> None:
        """One worker stands still over it: the partitions that it keeps are looked after later than others."""
        worker = self._world.rng.choice([process for process in self._processes if process.name.startswith("worker")])
        worker.stopped_until = self._world.now + 1 + self._seconds(3)
        self._note(f"{worker.name} stands still until {worker.stopped_until:.2f}")
        self._restart_redis()

    def _restart_redis(self) -> None:
        server, lost = self._world.current, self._world.rng.randint(0, MOST_LOST)
        self._note(f"{server} restarts; of what wasn't synced {lost} changes are lost")
        server.restart(lost)
        self._down(server, self._seconds(1))

    def _down(self, server: Server, seconds: float) -> None:
        server.up = False

        def come_up() -> None:
            server.up = True

        self._world.later(seconds, f"{server} is up", come_up)

    def _stop_redis(self) -> None:
        server = self._world.current
        server.stopped_until = self._world.now + self._seconds(4)
        self._note(f"{server} stands still until {server.stopped_until:.2f}")

    def _flush(self) -> None:
        self._note(f"{self._world.current} is flushed")
        self._world.current.flush()

    def _forget_scripts(self) -> None:
        self._note(f"{self._world.current} forgets its scripts")
        self._world.current.scripts.clear()

    def _load_dump(self) -> None:
        server = self._world.current
        if server.dumps:
            dump = self._world.rng.choice(server.dumps)
            if self._world.rng.random() < 0.3:
                dump = {key: value for key, value in dump.items() if key[1] not in OTHER_LAYOUT}
            self._note(f"{server} restarts from an old dump{'' if (0, 'layout', '') in dump else ' of another layout'}")
            server.load_dump(dump)

    def _step_clock(self) -> None:
        step = self._world.rng.uniform(-5, 5)
        self._note(f"Postgres's clock steps by {step:.2f} s")
        self._world.postgres.clock_skew += step

    # -- Redis, two servers

    def _lead_to(self, server: Server) -> None:
        """The address of Redis leads there from now on."""
        old, self._world.current = self._world.current, server
        for partition in PARTITIONS:
            self._world.check.may_be_lost(old, partition, old.history(partition), server.history(partition))

    def _cut(self, server: Server) -> None:
        """Nobody reaches it any more on the connections that there are."""
        for task in self._world.tasks:
            if isinstance(task.call, RedisCall) and task.call.connection.server is server:
                task.call.connection.broken = True
        server.process, was = self._world.unique(), server.process
        server.keep_late(was)

    def _lag(self) -> None:
        for server in self._world.servers:
            server.lags_until = self._world.now + self._seconds(4)
        self._note("replication lags")

    def _promote(self) -> None:
        """Its replica takes over; the old primary dies, or goes on for those who are connected, and follows later."""
        old = self._world.current
        new = next((server for server in self._world.servers if server.source is old), None)
        if new is None or not new.up:
            return
        self._note(f"{new} is promoted")
        new.promote()
        self._lead_to(new)
        if self._world.rng.random() < 0.4:
            old.restart(0)
            self._down(old, 1.0)
        else:
            for connection in old.connections:
                connection.broken = connection.broken or self._world.rng.random() < 0.5
        self._world.later(0.2 + self._seconds(5), f"{old} follows {new}", lambda: self._follow(old, new))

    def _follow(self, old: Server, new: Server) -> None:
        if self._world.current is new and old.source is None and old is not new and new.source is None:
            old.follow(new)

    def _flap(self) -> None:
        """A to B and back to A, whose process lives on with B's data."""
        old = self._world.current
        self._promote()
        new = self._world.current
        if new is not old:
            wait = self._seconds(1)
            self._world.later(wait, f"{old} follows {new}", lambda: self._follow(old, new))
            self._world.later(wait + 0.01 + self._seconds(0.5), "back again", self._promote)

    def _resync_under_live_process(self) -> None:
        """The primary takes its replica's older data, and is primary again: nobody's connection breaks."""
        server = self._world.current
        replica = next((one for one in self._world.servers if one.source is server), None)
        if replica is not None and replica.up and server.up:
            self._note(f"{server} is made to follow {replica} and to lead again")
            replica.promote()
            server.follow(replica)
            server.promote()
            replica.follow(server)

    # -- Redis, an address that leads to another machine: whoever moves it cuts the old one off

    def _move_address(self) -> None:
        old = self._world.current
        new = next(server for server in self._world.servers if server is not old)
        self._note(f"the address of Redis leads to {new}")
        self._cut(old)
        self._left_at[old] = self._world.now
        self._lead_to(new)
        if new in self._left_at and self._left_at[new] <= self._restored_at:
            self._order_rebuilds(new)

    def _order_rebuilds(self, server: Server) -> None:
        """What docs/decisions/0014 asks of whoever restored Postgres: a Redis that was left before the restore, and has
        seen numbers of configuration that were given again, is rebuilt."""
        for partition, version in self._restored_to.items():
            if (server.get(partition, "newest") or 0) > version:
                self._note(f"an operator wants p{partition} rebuilt, since {server} comes back")
                self._world.postgres.state.partitions[partition].rebuild_ordered = True

    def _move_there_and_back(self) -> None:
        self._move_address()
        self._world.later(1.5 + self._seconds(3), "the address moves back", self._move_address)

    def _move_and_restore(self) -> None:
        """A disaster: another machine for Redis, Postgres from a backup; then the old machine is found to be alive."""
        gates = [self._world.current.get(p, "gate") or (0, "") for p in PARTITIONS]
        older = [backup for backup in self._world.postgres.backups if backup.epochs < min(gates)[0]]
        self._move_there_and_back()
        self._restore_postgres(older[-1:])

    # -- Postgres

    def _back_up(self) -> None:
        """Of both, now and then."""
        self._world.postgres.back_up()
        server = self._world.current
        server.dumps = [*server.dumps[-2:], dict(server.keys)]
        self._world.later(self._world.rng.uniform(0.3, 2), "a backup of Postgres, a dump of Redis", self._back_up)

    def _restore_postgres(self, backups: Sequence[State] = ()) -> None:
        postgres = self._world.postgres
        if backups := backups or postgres.backups:
            backup = self._world.rng.choice(backups)
            self._note(f"Postgres is restored to {backup.at:.2f}")
            self._restored_at = self._world.now
            if self._world.rng.random() < 0.5:
                self._stop()
            for process in self._processes:
                process.postgres_connections += 1
            postgres.restore(backup)
            self._restored_to = {p: row.config_version for p, row in postgres.state.partitions.items()}

    # -- the end

    def heal(self) -> None:
        """Everything runs, is connected and stays so."""
        world = self._world
        world.faults = None
        for server in world.servers:
            server.up, server.stopped_until, server.lags_until = True, 0.0, 0.0
        for process in self._processes:
            process.stopped_until = process.cut_off_until = 0.0
            self.start(process)
