"""The simulated machine room: one thread, one seed, one clock.

Processes are generators that yield where the real ones await. What they yield is done in two steps, the effect and the
answer, so that a process can be killed, stopped or cut off between the two; a step is one of these. Which task goes
next, how long things take and what breaks is drawn from the seed alone.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.simulation.errors import Broken, Gone, PostgresAway, Protocol
from tests.simulation.events import NO_HISTORY

if TYPE_CHECKING:
    from tests.simulation.faults import Faults
    from tests.simulation.invariants import Invariants
    from tests.simulation.postgres_model import Postgres
    from tests.simulation.redis_model import Connection, Server

Work = Generator[Any, Any, Any]
PARTITIONS = (0, 1)
STALL_S = 2.0
"""A connection on which nothing comes for so long is given up; what was sent may still be carried out."""
STEP_S = 0.002
TRACE_STEPS = 60


@dataclass(slots=True, frozen=True)
class Sleep:
    """Wait, on the monotonic clock."""

    seconds: float


@dataclass(slots=True, frozen=True)
class RedisCall:
    """One command or script, on one connection: `effect(server)`."""

    connection: Connection
    label: str
    effect: Callable[[Server], Any]


@dataclass(slots=True, frozen=True)
class PostgresCall:
    """One transaction: `effect(postgres)`."""

    label: str
    effect: Callable[[Postgres], Any]


@dataclass(slots=True, frozen=True)
class Together:
    """Tasks of one group: the first that fails ends the others, and its error is the group's."""

    works: Iterable[tuple[str, Work]]


@dataclass(slots=True, frozen=True)
class Ask:
    """Work that another process does for this one; Gone where it dies meanwhile."""

    process: Process
    name: str
    work: Work


@dataclass(slots=True, eq=False)
class Task:
    """A generator and where it stands: ready to go on with an answer or error, asleep, or about to have an effect."""

    process: Process
    name: str
    work: Work
    state: str = "ready"  # ready, sleep, call, wait
    call: Any = None
    since: float = 0.0
    wake: float = 0.0
    answer: Any = None
    error: Exception | None = None
    generation: int = 0
    children: list[Task] = field(default_factory=list)
    parent: Task | None = None


@dataclass(slots=True, eq=False)
class Process:
    """An operating system process: `start` gives its tasks, anew after each crash."""

    name: str
    start: Callable[[Process], list[tuple[str, Work]]]
    alive: bool = False
    stopped_until: float = 0.0
    cut_off_until: float = 0.0
    """From Postgres."""
    postgres_connections: int = 0
    """Raised when they break: answers on their way are lost."""


class World:
    """Everything there is, and the scheduler."""

    def __init__(self, seed: int, planted: frozenset[str] = frozenset()) -> None:
        self.seed, self.planted = seed, planted
        self.rng = random.Random(seed)
        NO_HISTORY.next.clear()
        self.now = 0.0
        self.steps = 0
        self.processes: list[Process] = []
        self.tasks: list[Task] = []
        self.servers: list[Server] = []
        self.current: Server  # where the address of Redis leads
        self.postgres: Postgres
        self.check: Invariants
        self.faults: Faults | None = None
        self.closing = False  # no new requests
        self._later: list[tuple[float, str, Callable[[], None]]] = []
        self._unique = 0
        self._trace: deque[tuple[int, float, str, str, Any]] = deque(maxlen=TRACE_STEPS)

    def unique(self) -> int:
        """A number that nothing else has: stands for what is random in ids, nonces and times."""
        self._unique += 1
        return self._unique

    def say(self, who: str, what: str, answer: Any = "") -> None:
        """To the trace."""
        self._trace.append((self.steps, self.now, who, what, answer))

    def trace(self) -> str:
        """The last steps, a line each."""
        lines = [f"{n:6} {now:8.3f}s  {who:10} {what}  {_short(a)}".rstrip() for n, now, who, what, a in self._trace]
        return "\n".join(lines)

    def later(self, seconds: float, what: str, action: Callable[[], None]) -> None:
        """Have it happen after so long."""
        self._later.append((self.now + seconds, what, action))

    # -- processes

    def boot(self, process: Process) -> None:
        """Start its tasks."""
        if process not in self.processes:
            self.processes.append(process)
        process.alive, process.stopped_until = True, 0.0
        for name, work in process.start(process):
            self.tasks.append(Task(process, name, work))

    def kill(self, process: Process) -> None:
        """Nothing of it goes on; what it had sent may still arrive."""
        process.alive = False
        for task in [task for task in self.tasks if task.process is process]:
            self._drop(task)
            if task.parent is not None and task.parent.process is not process:
                self._wake(task.parent, error=Gone())

    def _drop(self, task: Task) -> None:
        for child in task.children:
            self._drop(child)
        task.children = []
        if task not in self.tasks:
            return
        if task.state == "call" and isinstance(task.call, RedisCall) and self.rng.random() < 0.5:
            task.call.connection.send_late(task.call.effect)
        self.tasks.remove(task)
        task.work.close()

    def _wake(self, task: Task, answer: Any = None, error: Exception | None = None) -> None:
        task.state, task.answer, task.error = "ready", answer, error

    # -- steps

    def step(self) -> bool:
        """One step of one task, or a fault; False where nothing would ever happen again."""
        self._do_what_is_due()
        self.now += self.rng.random() * STEP_S
        for server in self.servers:
            server.replicate()
        ready = [task for task in self.tasks if self._is_ready(task)]
        if not ready:
            return self._sleep_on()
        self.steps += 1
        if not (self.faults and self.faults.strike()):
            self._go_on(ready[int(self.rng.random() * len(ready))])
        return True

    def _do_what_is_due(self) -> None:
        if self._later and min(entry[0] for entry in self._later) <= self.now:
            due = [entry for entry in self._later if entry[0] <= self.now]
            self._later = [entry for entry in self._later if entry[0] > self.now]
            for _, what, action in due:
                if what:
                    self.say("—", what)
                action()
        for server in self.servers:
            server.work_off(self.now)

    def _is_ready(self, task: Task) -> bool:
        if not task.process.alive or task.process.stopped_until > self.now or task.state == "wait":
            return False
        if task.state == "sleep":
            return task.wake <= self.now
        if task.state == "call" and isinstance(task.call, RedisCall):
            stopped = task.call.connection.server.stopped_until > self.now
            return not stopped or self.now - task.since > STALL_S
        return True

    def _sleep_on(self) -> bool:
        """Nothing can go on just now: to the next moment at which something can."""
        moments = [at for at, _, _ in self._later]
        moments += [server.stopped_until for server in self.servers]
        for task in self.tasks:
            if task.process.alive and task.state != "wait":
                moments += (task.wake, task.process.stopped_until, task.since + STALL_S + 0.001)
        moments = [at for at in moments if at > self.now]
        if moments:
            self.now = min(moments)
        return bool(moments)

    def _go_on(self, task: Task) -> None:
        if task.state == "call":
            self._carry_out(task)
            return
        error, answer = task.error, task.answer
        if task.state == "sleep":
            error = answer = None
        if isinstance(task.call, RedisCall) and error is None and task.call.connection.broken:
            error = Broken()
        if isinstance(task.call, PostgresCall) and task.generation != task.process.postgres_connections:
            error = PostgresAway()
        task.error = task.answer = task.call = None
        try:
            wish = task.work.throw(error) if error is not None else task.work.send(answer)
        except StopIteration as end:
            self._end(task, end.value, None)
        except Protocol as failure:
            self._end(task, None, failure)
        else:
            self._take(task, wish)

    def _take(self, task: Task, wish: Any) -> None:
        task.call, task.since = wish, self.now
        if isinstance(wish, Sleep):
            task.state, task.wake, task.call = "sleep", self.now + wish.seconds, None
        elif isinstance(wish, Together | Ask):
            task.state, task.call = "wait", None
            asked = [(wish.name, wish.work)] if isinstance(wish, Ask) else wish.works
            process = wish.process if isinstance(wish, Ask) else task.process
            if not process.alive:
                self._wake(task, error=Gone())
                return
            task.children = [Task(process, name, work, parent=task) for name, work in asked]
            self.tasks += task.children
        else:
            task.state, task.generation = "call", task.process.postgres_connections

    def _carry_out(self, task: Task) -> None:
        """The effect of what a task wants; its answer comes with the task's next step."""
        call, task.state = task.call, "ready"
        try:
            if isinstance(call, RedisCall):
                task.answer = call.connection.carry_out(call.effect, self.now, self.rng)
            elif task.process.cut_off_until > self.now:
                raise PostgresAway
            else:
                task.answer = call.effect(self.postgres)
        except Protocol as error:
            task.error = error
        self.say(f"{task.process.name}", f"{task.name}: {call.label}", task.error or task.answer)

    def _end(self, task: Task, value: Any, error: Exception | None) -> None:
        self.tasks.remove(task)
        parent = task.parent
        if error is not None:
            self.say(task.process.name, f"{task.name} ends", error)
        if parent is None:
            return
        parent.children.remove(task)
        if error is not None or not parent.children:
            for other in parent.children:
                self._drop(other)
            parent.children = []
            self._wake(parent, value, error)


def _short(answer: Any) -> str:
    text = "" if answer is None else repr(answer) if isinstance(answer, Exception) else str(answer)
    return text if len(text) <= 110 else text[:107] + "…"
