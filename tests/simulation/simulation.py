"""One seed: build the world, break it for so many steps, heal it, and see that everything is as it should be."""

from __future__ import annotations

from typing import NamedTuple

from tests.simulation import worker
from tests.simulation.api import ApiProcess
from tests.simulation.clients import Clients
from tests.simulation.errors import Violation
from tests.simulation.faults import Faults
from tests.simulation.invariants import Invariants
from tests.simulation.postgres_model import Postgres
from tests.simulation.redis_model import Server
from tests.simulation.world import PARTITIONS, Process, World

STEPS = 4000
STEPS_TO_HEAL = 12_000
STEPS_BEFORE_THE_OPERATOR = 5000
WORKERS, APIS, SHOPPERS = 2, 2, 6


class Outcome(NamedTuple):
    """What one seed came to. `broken` is the invariant and the last steps, or ''."""

    seed: int
    steps: int
    answers: int
    opens: int
    broken: str


def run(seed: int, steps: int = STEPS, planted: frozenset[str] = frozenset()) -> Outcome:
    """Walk one seed."""
    world = _build(seed, planted)
    broken = ""
    try:
        while world.steps < steps and world.step():
            pass
        _heal(world)
    except Violation as violation:
        broken = f"{violation}\n{world.trace()}"
    return Outcome(seed, world.steps, world.check.answers, world.check.opens, broken)


def _build(seed: int, planted: frozenset[str]) -> World:
    world = World(seed, planted)
    rng = world.rng
    replicated, always = rng.random() < 0.5, rng.random() < 0.4
    world.check = Invariants(world)
    world.postgres = Postgres(world, PARTITIONS)
    world.servers = [Server(world, name, always=always, replicated=replicated) for name in ("A", "B")]
    world.current, other = world.servers
    if replicated:
        other.follow(world.current)
    apis = [ApiProcess(world, f"api {n}") for n in range(APIS)]
    clients = Clients(world, apis, SHOPPERS)
    clients.first_configuration()
    workers = [Process(f"worker {n}", lambda process: worker.start(world, process)) for n in range(WORKERS)]
    processes = [*workers, *(api.process for api in apis)]
    for process in (*processes, clients.process):
        world.boot(process)
    world.faults = Faults(world, processes, other)
    return world


def _heal(world: World) -> None:
    """No more faults and no more requests: everything must come to rest, an operator helping after a while."""
    assert world.faults is not None
    world.faults.heal()
    world.closing = True
    begun = world.steps
    while not world.check.is_quiet() or any(task.process.name == "clients" for task in world.tasks):
        world.step()
        if world.steps - begun == STEPS_BEFORE_THE_OPERATOR:
            world.say("operator", "scrip rebuild")
            for row in world.postgres.state.partitions.values():
                row.rebuild_ordered = True
        if world.steps - begun > STEPS_TO_HEAL:
            raise Violation(f"not open and quiet {STEPS_TO_HEAL} steps after the last fault")
    world.check.quiet()
