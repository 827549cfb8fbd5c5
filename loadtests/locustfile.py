"""The users of `make load`. Locust decides how many users come and when, and keeps statistics; `loadtests/visits.py`
decides what a user does. `python -m loadtests.load` starts it, with the load's folder and key in its environment."""

import asyncio
import os
import random
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, ClassVar

import gevent
from locust import LoadTestShape, User, events, runners, task
from locust.env import Environment
from locust.exception import StopUser

from loadtests import visits
from loadtests.buyers import Crowd
from loadtests.ledger import Entry, Ledger
from loadtests.plan import FOLDER, TOKEN, Plan, read_plan

ARRIVED_S = 2.0
"""After this, an opening ends if no user is left."""
MANAGE_S = 2.0
"""The average time between two changes by the merchant."""
RECORDED = 0.02
"""The share of requests that wait until they are recorded."""
runners.HEARTBEAT_LIVENESS = 60
"""A process counts as lost after so many seconds without a heartbeat: locust's 3 are too few on a busy machine."""


class _ReportingLedger(Ledger):
    """A ledger that also reports users' requests to locust, except those that the end of the load cuts off."""

    def write(self, entry: Entry) -> None:
        """Append an entry."""
        super().write(entry)
        if entry.buyer and (entry.status or entry.refusal):
            is_good = entry.wanted and entry.status not in (0, 503)
            events.request.fire(
                request_type=entry.buyer,
                name=entry.op,
                response_time=entry.answered_ms - entry.sent_ms,
                response_length=0,
                exception=None if is_good else RuntimeError(f"{entry.status} {entry.refusal}"),
                context={},
            )


class Bridge:
    """Runs visits, which are coroutines, for locust's users, which are greenlets.

    1. One asyncio loop runs all visits of a process. It has a greenlet to itself: locust patches the selectors, so a
       loop that waits for sockets lets the other greenlets run.
    2. A user hands over a visit and waits for its end, while other users go on.
    3. The ledger reports each answer to locust's statistics as it arrives.
    """

    def __init__(self, plan: Plan, folder: Path, token: str, number: int) -> None:
        self.plan, self._loop = plan, asyncio.new_event_loop()
        self._runner = gevent.spawn(self._loop.run_forever)
        self._ledger = _ReportingLedger([plan.url], token, folder, recorded=RECORDED, keep=False)
        part = (number, plan.processes)
        self.crowd = Crowd(self._ledger, plan.books, plan.mark, plan.pay_s, seconds=plan.seconds, part=part)

    def run(self, visit: Coroutine[Any, Any, None]) -> None:
        """Run a visit to its end, or cancel it where this greenlet is killed. Raises what the visit raises."""
        future = asyncio.run_coroutine_threadsafe(visit, self._loop)
        try:
            future.result()
        finally:
            future.cancel()

    def close(self) -> None:
        """Unlock the crowd's locks; end the ledger and the loop."""
        self.run(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._runner.join()
        self._loop.close()

    async def _end(self) -> None:
        with self._ledger:
            await self.crowd.give_back()


class Shopper(User):
    """Visits again and again; at an opening, once."""

    bridge: ClassVar[Bridge]

    @task
    def visit(self) -> None:
        """One of the visits."""
        self.bridge.run(visits.visit(self.bridge.crowd))
        if self.bridge.plan.shape == "opening":
            raise StopUser

    def wait_time(self) -> float:
        """Seconds until the next visit."""
        return random.uniform(0, 2 * self.bridge.plan.pay_s)


class Merchant(User):
    """One user who makes and changes books of its own; at an opening, none."""

    fixed_count = 1

    @task
    def change(self) -> None:
        """Change a new book."""
        bridge = Shopper.bridge
        if bridge.plan.shape == "opening":
            raise StopUser
        bridge.run(visits.Merchant(bridge.crowd, "Merchant").change())

    def wait_time(self) -> float:
        """Seconds until the next change."""
        return random.uniform(0, 2 * MANAGE_S)


class Shape(LoadTestShape):
    """Users: all at once at an opening, else `plan.rate` more each second; until the plan ends."""

    def tick(self) -> tuple[int, float] | None:
        """How many users there should be, and how many come a second; None at the end."""
        plan = read_plan(Path(os.environ[FOLDER]))
        assert self.runner is not None
        elapsed_s, sent = self.get_run_time(), self.runner.stats.num_requests
        if elapsed_s >= plan.seconds or sent >= plan.requests:
            return None
        if plan.shape == "opening" and elapsed_s > ARRIVED_S and not self.get_current_user_count():
            return None
        users = plan.users + Merchant.fixed_count
        return users, users if plan.shape == "opening" else plan.rate


@events.test_start.add_listener
def begin(environment: Environment, **_: Any) -> None:
    """Start the loop, in each process that has users."""
    if not isinstance(environment.runner, runners.MasterRunner):
        folder, number = Path(os.environ[FOLDER]), getattr(environment.runner, "worker_index", 0)
        Shopper.bridge = Bridge(read_plan(folder), folder, os.environ[TOKEN], number)


@events.test_stop.add_listener
def end(environment: Environment, **_: Any) -> None:
    """End the loop."""
    if not isinstance(environment.runner, runners.MasterRunner):
        Shopper.bridge.close()


@events.quitting.add_listener
def quit_(environment: Environment, **_: Any) -> None:
    """Leave this process's CPU seconds in the load's folder; fail if a visit raised an exception."""
    if environment.runner and environment.runner.exceptions:
        environment.process_exit_code = 1
    (Path(os.environ[FOLDER]) / f"cpu-{os.getpid()}.txt").write_text(f"{time.process_time():.3f}\n")
