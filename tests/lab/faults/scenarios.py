"""The faults that are injected into real servers and processes under load, by name; mistakes that they must find."""

import os
from pathlib import Path
from typing import NamedTuple

from loadtests.buyers import BUYERS
from tests.harness.trees import Change, read_mistakes
from tests.lab.faults import cluster_faults, process_faults, redis_faults, restore_faults, server_faults, upgrading
from tests.lab.faults.disk import Preloads
from tests.lab.faults.looking import CODES
from tests.lab.faults.nodes import Sync
from tests.lab.faults.redis_faults import Fault, and_back

ACCEPTED = frozenset({"accepted"})
ANSWERED = frozenset({"accepted", "fsynced"})

_BEHIND, _FULL = server_faults.BEHIND_EVENTS, server_faults.BEHIND_EVENTS * 8 // 10
_SOON_BEHIND = (
    Change("service/engine/hot/unrecorded.py", "BEHIND_EVENTS = 1_000_000", f"BEHIND_EVENTS = {_BEHIND}"),
    Change("service/engine/hot/unrecorded.py", "FULL_EVENTS = 800_000", f"FULL_EVENTS = {_FULL}"),
)


class Scenario(NamedTuple):
    """A fault: what it may lose, by the durability of the response, and the servers that it needs."""

    inject: Fault
    sync: Sync = "always"
    may_lose: frozenset[str] = frozenset()
    quarantines: bool = False
    """Whether events may be put into quarantine."""
    replicated: bool = True
    sentinels: int = 0
    """How many watch the servers. Processes find the primary by them, if there are some."""
    clustered: bool = False
    """Whether Redis is a cluster of three primaries, with a replica each."""
    moves_clocks: bool = False
    powered: bool = False
    """Whether it takes a compiler: power is lost, or clocks are stepped."""
    small_disks: bool = False
    """Whether it takes disks of their own."""
    alarms: tuple[str, ...] = ()
    """What processes may log that is an alarm otherwise."""
    rounds: int = 20
    codes: int = CODES
    buyers: int = BUYERS
    changes: tuple[Change, ...] = ()
    """What is changed in the tree that processes run: a bound that could not be reached otherwise."""
    recorded: float = 0.25
    """The part of requests that wait for the record."""

    def impossible(self) -> str:
        """Why it can't be tried here; '' where it can."""
        if (self.powered or self.moves_clocks) and not Preloads.possible():
            return "no C compiler"
        return "only root can mount disks" if self.small_disks and os.geteuid() != 0 else ""


def _restore(inject: Fault) -> Scenario:
    return Scenario(
        inject, quarantines=True, replicated=False, changes=restore_faults.KEEPS_LITTLE, codes=1500, rounds=10
    )


SCENARIOS: dict[str, Scenario] = {
    "SIGKILL of Redis": Scenario(redis_faults.redis_killed),
    "SIGKILL of Redis within calls of many requests": Scenario(
        redis_faults.killed_within_calls, replicated=False, codes=3000, buyers=64, recorded=0.02
    ),
    "SIGKILL of Redis and the worker at once": Scenario(redis_faults.redis_and_worker_killed, replicated=False),
    "SIGKILL of the APIs": Scenario(process_faults.api_killed, rounds=34),
    "SIGKILL of the worker": Scenario(process_faults.workers_killed, rounds=34),
    "SIGKILL of the worker, its lease ends by itself": Scenario(redis_faults.worker_killed, rounds=5),
    "SIGKILL of each of three workers": Scenario(process_faults.each_worker_killed, replicated=False, rounds=5),
    "SIGKILL of Postgres": Scenario(server_faults.postgres_killed, replicated=False, rounds=34),
    "SIGSTOP of each process": Scenario(process_faults.stopped_for_a_while, replicated=False),
    "the worker asleep until another has its lease": Scenario(
        process_faults.asleep_until_taken_over, replicated=False, rounds=5
    ),
    "the lease ended while its holder works": Scenario(process_faults.lease_ended, replicated=False),
    "Redis's power lost, appendfsync always": Scenario(redis_faults.power_lost, powered=True, rounds=25),
    "Redis's power lost, everysec": Scenario(redis_faults.power_lost, "everysec", ACCEPTED, powered=True, rounds=25),
    "SIGKILL of Redis within a transaction, twice": Scenario(redis_faults.torn, "everysec", ACCEPTED),
    "Postgres's power lost": Scenario(server_faults.postgres_power_lost, replicated=False, powered=True),
    "all power lost, everysec": Scenario(
        server_faults.all_power_lost, "everysec", ACCEPTED, replicated=False, powered=True
    ),
    "Redis's replies lost": Scenario(
        process_faults.replies_lost, replicated=False, codes=3000, buyers=48, recorded=0.02
    ),
    "Postgres's replies lost": Scenario(server_faults.postgres_cut, replicated=False),
    "replies late, connections cut": Scenario(process_faults.replies_late, replicated=False),
    "Postgres away": Scenario(server_faults.postgres_away, replicated=False, codes=2000),
    "Postgres away for a minute, a cluster": Scenario(
        server_faults.postgres_away_for_a_minute, clustered=True, codes=6000, rounds=1
    ),
    "Postgres away until the service is behind": Scenario(
        server_faults.away_until_behind(hangs=False), replicated=False, codes=2000, changes=_SOON_BEHIND, rounds=5
    ),
    "Postgres hangs until the service is behind": Scenario(
        server_faults.away_until_behind(hangs=True), replicated=False, codes=2000, changes=_SOON_BEHIND, rounds=5
    ),
    "the processes' clocks stepped": Scenario(
        process_faults.clocks_stepped(with_redis=False), replicated=False, powered=True
    ),
    "clocks stepped": Scenario(process_faults.clocks_stepped(with_redis=True), replicated=False, moves_clocks=True),
    "promotion with a lost tail": Scenario(redis_faults.promoted, may_lose=ANSWERED),
    "promotion with a lost tail, clocks stepped": Scenario(
        redis_faults.promoted_by_other_clocks, may_lose=ANSWERED, moves_clocks=True, rounds=30
    ),
    "A→B→A, each on its own, with requests": Scenario(
        and_back(follows=False, requests=True), may_lose=ANSWERED, quarantines=True
    ),
    "A→B→A, each on its own, without": Scenario(
        and_back(follows=False, requests=False), may_lose=ANSWERED, quarantines=True
    ),
    "A→B→A, A follows B, with requests": Scenario(and_back(follows=True, requests=True), may_lose=ANSWERED),
    "A→B→A, A follows B, without": Scenario(and_back(follows=True, requests=False), may_lose=ANSWERED),
    "A demoted for a moment, clients stay": Scenario(redis_faults.demoted_for_a_moment, may_lose=ANSWERED),
    "failover by sentinels": Scenario(redis_faults.failed_over, may_lose=ANSWERED, sentinels=3),
    "a cluster's primaries killed": Scenario(
        cluster_faults.primaries_killed, may_lose=ANSWERED, clustered=True, codes=2000, rounds=10
    ),
    "a cluster's primary lost, its APIs without Postgres": Scenario(
        cluster_faults.primary_lost_without_postgres,
        may_lose=ANSWERED,
        clustered=True,
        codes=2000,
        rounds=10,
    ),
    "a cluster's slot moved": Scenario(cluster_faults.slot_moved, clustered=True, codes=2000, rounds=10),
    "a cluster's nodes and all processes killed": Scenario(
        cluster_faults.all_killed, may_lose=ANSWERED, clustered=True, codes=3000, rounds=5
    ),
    "an old dump is loaded": Scenario(redis_faults.old_dump, may_lose=ANSWERED),
    "an old dump is loaded while the worker sleeps": Scenario(
        redis_faults.old_dump_unwatched, may_lose=ANSWERED, replicated=False
    ),
    "Postgres restored from a base back-up": _restore(restore_faults.postgres_restored),
    "a standby promoted that lacks more than the outbox": _restore(restore_faults.standby_promoted),
    "Redis restored from an older file": _restore(restore_faults.redis_restored),
    "Redis and Postgres restored to different times": _restore(restore_faults.both_restored),
    "a restart without persistence": Scenario(redis_faults.started_empty, "nothing", ANSWERED),
    "SIGKILL of the recovering worker": Scenario(redis_faults.recovering_worker_killed, may_lose=ANSWERED),
    "SIGKILL of Redis while it is rebuilt": Scenario(redis_faults.killed_while_rebuilt, may_lose=ANSWERED),
    "the anchor lost": Scenario(redis_faults.anchor_lost, may_lose=ANSWERED, quarantines=True),
    "FLUSHALL": Scenario(redis_faults.emptied, may_lose=ANSWERED),
    "SCRIPT FLUSH": Scenario(redis_faults.scripts_flushed),
    "CONFIG SET, then power lost": Scenario(
        server_faults.unset, may_lose=ACCEPTED, replicated=False, powered=True, rounds=10
    ),
    "maxmemory": Scenario(server_faults.memory_full, replicated=False, alarms=('"kind": "OOM"',)),
    "Redis's disk full": Scenario(server_faults.redis_disk_full, replicated=False, small_disks=True, rounds=10),
    "Postgres's disk full": Scenario(server_faults.postgres_disk_full, replicated=False, small_disks=True, rounds=10),
    "a rolling upgrade, and back": Scenario(
        upgrading.upgraded_and_back, replicated=False, rounds=10, buyers=3, codes=400
    ),
    "events that can't be recorded": Scenario(process_faults.poisoned, replicated=False, alarms=("event_quarantined",)),
}

PLANTS = {mistake.rule: mistake for mistake in read_mistakes(Path(__file__).with_name("plants.txt"))}
"""The mistakes by name. Each is found by a fault, in a copy of the tree with its changes."""
