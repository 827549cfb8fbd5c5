"""What locust loads: users, the shape of the load, and where its ledger is. `make load` starts it; the load's folder
and the key are in its environment."""

import os
import time
from itertools import count
from pathlib import Path
from typing import Any

from locust import LoadTestShape, events
from locust.env import Environment
from locust.runners import MasterRunner

from loadtests.ledger import Ledger, now_ms
from loadtests.plan import FOLDER, TOKEN, read_plan
from loadtests.shoppers import Abandoner, Buyer, Fighter, Gifted, Guesser, Load, Repeater, Shopper

__all__ = ["Abandoner", "Buyer", "Fighter", "Gifted", "Guesser", "Repeater"]

ARRIVED_S = 2.0
"""After this, an opening without visitors is over."""


class Shape(LoadTestShape):
    """All at once at an opening, else as many more each second as the plan says; until its end."""

    def tick(self) -> tuple[int, float] | None:
        """How many users there should be, and how many come a second; None at the end."""
        plan = read_plan(Path(os.environ[FOLDER]))
        assert self.runner is not None
        elapsed_s, sent = self.get_run_time(), self.runner.stats.num_requests
        if elapsed_s >= plan.seconds or sent >= plan.requests:
            return None
        if plan.shape == "opening" and elapsed_s > ARRIVED_S and not self.get_current_user_count():
            return None
        return plan.users, plan.users if plan.shape == "opening" else plan.rate


@events.test_start.add_listener
def begin(environment: Environment, **_: Any) -> None:
    """Open the ledger, in each process that has users."""
    if isinstance(environment.runner, MasterRunner):
        return
    folder = Path(os.environ[FOLDER])
    plan, index = read_plan(folder), getattr(environment.runner, "worker_index", 0)
    Shopper.load = Load(plan, os.environ[TOKEN], Ledger(folder), count(index, plan.processes), now_ms())


@events.test_stop.add_listener
def end(environment: Environment, **_: Any) -> None:
    """Close it."""
    if not isinstance(environment.runner, MasterRunner):
        Shopper.load.ledger.close()


@events.quitting.add_listener
def tell_cpu(**_: Any) -> None:
    """Leave this process's CPU seconds in the load's folder."""
    (Path(os.environ[FOLDER]) / f"cpu-{os.getpid()}.txt").write_text(f"{time.process_time():.3f}\n")
