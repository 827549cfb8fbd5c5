"""Clients: shoppers who ask for coupons and redeem them, and a merchant who changes the configuration meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tests.simulation import deciding, scripts
from tests.simulation.api import ApiProcess
from tests.simulation.deciding import Make
from tests.simulation.errors import Gone, Refused
from tests.simulation.events import Event
from tests.simulation.redis_model import Book, Code
from tests.simulation.world import PARTITIONS, Ask, Process, Sleep, Work, World

CODES, USERS = 7, 4
MOST_TRIES = 4
KNOWN = 29
"""Redemptions that may be rolled back, and requests with a key that may be repeated: more than the outbox keeps."""
Wish = tuple[str, Make, Event, str]
"""What it is called, the script, the event that it would make, and the code that it is about."""
PASSING = (scripts.RECOVERING, "behind")


class Clients:
    """All of them, in one process that no fault reaches. They stop when the world closes."""

    def __init__(self, world: World, apis: Sequence[ApiProcess], shoppers: int) -> None:
        self._world, self._apis, self._shoppers = world, apis, shoppers
        self._codes: dict[int, list[str]] = {p: [] for p in PARTITIONS}
        self._redeemed: dict[int, list[Event]] = {p: [] for p in PARTITIONS}
        self._asked: dict[int, list[Wish]] = {p: [] for p in PARTITIONS}
        self.process = Process("clients", self._start)

    def _start(self, process: Process) -> list[tuple[str, Work]]:
        shoppers = [(f"shopper {n}", self._shop()) for n in range(self._shoppers)]
        return [*shoppers, ("merchant", self._configure())]

    def first_configuration(self) -> None:
        """What Postgres holds before anything runs."""
        for p in PARTITIONS:
            self._world.postgres.change(p, {"book": lambda v: Book(v, self._world.unique(), 5)})
            self._world.postgres.change(p, self._new_codes(p, CODES))

    # -- shoppers

    def _shop(self) -> Work:
        rng = self._world.rng
        while not self._world.closing:
            yield Sleep(rng.uniform(0.01, 0.1))
            p = rng.choice(PARTITIONS)
            asked = self._asked[p]
            label, make, event, code = rng.choice(asked) if asked and rng.random() < 0.1 else self._wish(p)
            if event.key:
                self._asked[p] = [*asked[-KNOWN:], (label, make, event, code)]
            for _ in range(MOST_TRIES if event.key or event.order else 1):
                try:
                    reply = yield from self._ask(p, label, make, event, code)
                except (Refused, Gone):
                    yield Sleep(rng.uniform(0.05, 0.4))
                    continue
                if reply.outcome not in PASSING:
                    if reply.event and reply.event.kind == "R":
                        self._redeemed[p] = [*self._redeemed[p][-KNOWN:], reply.event]
                    break

    def _ask(self, p: int, label: str, make: Make, event: Event, code: str) -> Work:
        """One try; whatever is decided goes to the checks."""
        api, check = self._world.rng.choice(self._apis), self._world.check
        expected = check.expected(p, event.redemption)
        recorded = self._world.rng.random() < 0.2
        work = api.api.request(p, label, make, code, recorded=recorded)
        reply = yield Ask(api.process, label, work)
        check.answered(p, code, reply, expected)
        return reply

    def _wish(self, p: int) -> Wish:
        world, rng = self._world, self._world.rng
        n, user, code = world.unique(), f"u{rng.randrange(USERS)}", rng.choice(self._codes[p])
        key = f"k{n}" if rng.random() < 0.5 else ""
        draw, kind = rng.random(), rng.random()
        if kind < 0.2:
            event = Event(p, "A", 0, 0, 0, user=user, key=key, attempt=n)
            return f"assign any to {user}", lambda text, facts: deciding.assign_any(text, event, draw), event, ""
        if kind < 0.3:
            event = Event(p, "A", 0, 0, 0, code=code, user=user, key=key, attempt=n)
            return f"assign {code} to {user}", lambda text, facts: deciding.assign_code(text, event), event, code
        if kind < 0.65 or not self._redeemed[p]:
            order = f"o{rng.randrange(n)}" if rng.random() < 0.6 else ""
            event = Event(p, "R", 0, 0, 0, code, user, order, key=key, attempt=n)
            return (
                f"redeem {code} by {user} {order}",
                lambda text, facts: deciding.redeem(text, event, facts),
                event,
                code,
            )
        if kind < 0.85:
            redemption, restore = rng.choice(self._redeemed[p]).redemption_id, rng.random() < 0.8
            event = Event(p, "B", 0, 0, 0, redemption=redemption, restore=restore, key=key, attempt=n)
            return f"roll back {redemption}", lambda text, facts: deciding.rollback(text, event, facts), event, ""
        event = Event(p, "", 0, 0, 0)
        return f"read {code}", lambda text, facts: deciding.read_code(code), event, code

    # -- the merchant

    def _configure(self) -> Work:
        world, rng = self._world, self._world.rng
        while not world.closing:
            yield Sleep(rng.uniform(0.2, 0.8))
            p, kind = rng.choice(PARTITIONS), rng.random()
            rows: dict[str, Callable[[int], Any]]
            if kind < 0.25:
                limit = rng.randint(3, 8)
                rows = {"book": lambda v, limit=limit: Book(v, world.unique(), limit)}
            elif kind < 0.5:
                rows = self._new_codes(p, 2)
            else:
                rows = self._switch(p, rng.choice(self._codes[p]), active=rng.random() < 0.6)
            api = rng.choice(self._apis)
            try:
                version, incarnation = yield Ask(api.process, "change", api.api.change(p, rows))
            except (Refused, Gone):
                continue
            world.check.acknowledged(p, version, incarnation)
            self._codes[p] += [name for name in rows if name != "book" and name not in self._codes[p]]

    def _new_codes(self, p: int, number: int) -> dict[str, Callable[[int], Any]]:
        rows: dict[str, Callable[[int], Any]] = {}
        for _ in range(number):
            uses = self._world.rng.choice((1, 1, 2, 3))
            name = f"c{self._world.unique()}x{uses}"
            rows[name] = lambda v, uses=uses: Code(v, self._world.unique(), uses, active=True)
            if number == CODES:
                self._codes[p].append(name)
        return rows

    def _switch(self, p: int, code: str, *, active: bool) -> dict[str, Callable[[int], Any]]:
        uses = int(code.rpartition("x")[2])
        return {code: lambda v: Code(v, self._world.unique(), uses, active=active)}
