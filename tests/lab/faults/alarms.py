"""Failures of real processes, which Prometheus watches with the shipped rules, and of which Alertmanager sends what the
shipped routes send: which page or ticket comes, and when.

It prints for each failure how long its page or ticket took, which others came, and how long until its alert had ended.
It needs Debian's `prometheus` and `prometheus-alertmanager`; for a disk that is nearly full also
`prometheus-node-exporter`, and the right to mount. A failure takes a minute to forty: the rules wait before they wake
anybody."""

import argparse
import asyncio
import contextlib
import re
import shutil
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.harness.running import HOME, data_folder
from tests.harness.waiting import elapse
from tests.lab.faults import burning, filling
from tests.lab.faults import planted_alarms as plant
from tests.lab.faults.watched import ALERTMANAGER, CALM_S, PATIENCE_S, Plant, Watched

_SILENT = "silent "


class Failure:
    """A failure, what is sent for it, what may be sent beside it, and the deployment's options. Nothing sent: ''. After
    `silent` is what fires in Prometheus, and is not sent, as Alertmanager inhibits it."""

    def __init__(self, plant: Plant, sends: str, *beside: str, **options: Any) -> None:
        self.plant, self.sends, self.beside, self.options = plant, sends, beside, options


FAILURES = {
    "Redis is full": Failure(plant.memory(1), "page ScripRedisMemory"),
    "Redis is nearly full": Failure(plant.memory(0.97), "page ScripRedisMemory"),
    "Redis uses 85 % of its memory": Failure(plant.memory(0.85), "ticket ScripRedisMemory"),
    "Redis has no limit of memory": Failure(plant.memory(0), "ticket ScripRedisUnlimited"),
    "Redis is gone": Failure(plant.redis_gone, "page ScripRedisDown"),
    "Redis is slow": Failure(plant.redis_slow, "page ScripLatency"),
    "Redis is emptied, and can't be rebuilt": Failure(plant.cannot_open, "page ScripPartitionClosed"),
    "Redis refuses a command": Failure(plant.redis_refuses, "page ScripErrors"),
    "Redis can't save": Failure(plant.redis_cannot_save, "page ScripRedisPersistence"),
    "each process is killed, and starts": Failure(plant.each_killed, ""),
    "one of two workers is dead": Failure(plant.dead("workers", 1), "ticket ScripProcessMissing"),
    "all workers are dead": Failure(plant.dead("workers"), "page ScripWorkerMissing", "ticket ScripProcessMissing"),
    "one of two APIs is dead": Failure(plant.dead("apis", 1), "ticket ScripProcessMissing"),
    "all APIs are dead": Failure(plant.dead("apis"), "page ScripProcessMissing", "ticket ScripProcessMissing"),
    "a worker is stuck": Failure(plant.worker_stuck, "ticket ScripProcessMissing"),
    "Postgres is slow": Failure(plant.postgres_slow, "page ScripPostgresDown"),
    "Postgres is slow for one partition": Failure(plant.partition_slow, f"page ScripRecordingSlow {HOME}"),
    "Postgres is gone": Failure(plant.postgres_gone, "page ScripPostgresDown"),
    "Postgres was restored, and is older": Failure(plant.postgres_older, "page ScripPostgresOlder"),
    "Postgres can't archive": Failure(plant.archive("false"), "ticket ScripArchive"),
    "Postgres's archive_command hangs": Failure(
        plant.archive("while test -e {}; do sleep 1; done"), "ticket ScripArchive"
    ),
    "Postgres's connections are nearly all in use": Failure(plant.connections(0.95), "page ScripConnections"),
    "Postgres's connections are mostly in use": Failure(plant.connections(0.85), "ticket ScripConnections"),
    "a table of the record is locked": Failure(
        plant.locked("redemptions"),
        "page ScripUnrecordedEventsOld",
        "page ScripRecordingSlow",
        "ticket ScripRecordingSlow",
    ),
    "a standby is gone": Failure(plant.standby_gone, "ticket ScripStandby", standbys=1),
    "a standby is gone from a great sale": Failure(
        filling.fill_outbox_of_standby, "page ScripStandby", "ticket ScripStandby", standbys=1
    ),
    "a great sale is not recorded": Failure(
        filling.fill_outbox, "page ScripUnrecordedEventsMany", "page ScripRecordingSlow"
    ),
    "a replica is gone": Failure(plant.replica_gone, "ticket ScripRedisReplica", replicated=True),
    "one of three sentinels hangs": Failure(
        plant.sentinels_hang(1), "ticket ScripSentinels", replicated=True, sentinels=3
    ),
    "two of three sentinels hang": Failure(
        plant.sentinels_hang(2), "page ScripSentinels", replicated=True, sentinels=3
    ),
    "an upgrade, a failover and a rebuild": Failure(plant.ordinary, "", replicated=True, sentinels=3),
    "Redis and Postgres differ": Failure(plant.drift, "ticket ScripDrift"),
    "Redis and Postgres were not compared": Failure(plant.not_compared, "ticket ScripNoComparison"),
    "an event is in quarantine": Failure(plant.quarantined, "page ScripQuarantine"),
    "codes are blocked": Failure(plant.blocked, "page ScripQuarantine"),
    "codes stay blocked": Failure(plant.blocked, "silent ticket ScripBlockedCodes", "page ScripQuarantine"),
    "a book can't be read": Failure(plant.book_unreadable, "page ScripLeftOut"),
    "a book runs low": Failure(plant.low_stock, "ticket ScripLowStock"),
    "a book's counters can't be read": Failure(plant.counters_unreadable, "ticket ScripSetAside"),
    "the book for sale is switched off": Failure(plant.switched_off, "ticket ScripRefusals"),
    "a workspace fills its storage": Failure(filling.fill_storage, "ticket ScripStorage"),
    "a certificate ends tomorrow": Failure(plant.certificate_ends(2), "page ScripCertificate"),
    "a certificate ends in ten days": Failure(plant.certificate_ends(10), "ticket ScripCertificate"),
    "a receiver of webhooks fails": Failure(plant.webhook_fails, "ticket ScripWebhooks"),
    "a client runs away": Failure(
        plant.flood(40, "/v1/coupons/redeem/SALE-drill-000", "drill", requestsPerMinute=60),
        "ticket ScripRateLimited",
        "ticket ScripRefusals",
    ),
    "codes are guessed": Failure(plant.flood(20, "/v1/coupons/lock/GUESS-{}", "drill"), "ticket ScripGuessing"),
    "an API gets more than it can serve": Failure(
        plant.api_overloaded, "ticket ScripSaturation", "ticket ScripRefusals"
    ),
    "a disk is full": Failure(plant.disk_full, "page ScripDisk", own_disks=True),
    "a disk is nearly full": Failure(filling.fill_disk, "ticket ScripDisk"),
    "an API has a wrong setting": Failure(plant.wrong_setting, "ticket ScripRedisDown"),
    "an API does not reach Postgres": Failure(plant.api_cut, "ticket ScripPostgresDown"),
    "a worker does not reach Redis": Failure(plant.worker_cut, "ticket ScripTaskFailing"),
    "a worker's password is refused": Failure(plant.worker_refused, "ticket ScripTaskFailing"),
    "Redis's clock is off": Failure(plant.redis_clock, "ticket ScripClock"),
    "an API's clock is off": Failure(plant.api_clock, "ticket ScripClock"),
    "an API has too many connections": Failure(filling.fill_connections, "page ScripSaturation"),
    "a few requests fail, after bad days": Failure(burning.fail_some, "ticket ScripErrors", worn=True),
    "Redis pauses often, after bad days": Failure(burning.delay_some, "ticket ScripLatency", worn=True),
    "recording stops for a moment, after bad days": Failure(
        burning.delay_recording, f"ticket ScripRecordingSlow {HOME}", worn=True
    ),
    "a tenant floods": Failure(plant.tenant_floods, "ticket ScripTenantFlood", "ticket ScripGuessing"),
}


@dataclass
class Seen:
    """What was sent for each failure by its name, and when; and what else."""

    sent_s: dict[str, float] = field(default_factory=dict)
    ended_s: dict[str, float] = field(default_factory=dict)
    beside: set[str] = field(default_factory=set)
    wrong: list[str] = field(default_factory=list)


async def watch(failures: Mapping[str, Failure], folder: Path) -> Seen:
    """Plant failures at once, wait until the alert of each is sent, undo all, and wait until none is left."""
    seen = Seen()
    options: dict[str, Any] = {}
    for failure in failures.values():
        options |= failure.options
    async with (
        Watched(folder, **options) as deployment,
        deployment.watching(),
        contextlib.AsyncExitStack() as planted,
    ):
        await elapse(CALM_S, "no alert may come")
        seen.wrong += [f"sent before: {name}" for name in sorted(deployment.sent)]
        deployment.sent.clear()
        began: dict[str, float] = {}
        for name, failure in failures.items():
            began[name] = time.monotonic()
            planted.push_async_callback(await failure.plant(deployment))
        expected = {name: failure.sends for name, failure in failures.items() if failure.sends}
        fired: dict[str, float] = {}

        async def note_sent() -> bool:
            for alert in await deployment.alerts():
                fired.setdefault(f"{_SILENT}{alert}", time.monotonic())
            for name, sends in expected.items():
                times = [at for sent, at in (deployment.sent | fired).items() if sent.startswith(sends)]
                seen.sent_s |= {name: min(times) - began[name]} if times else {}
            return len(seen.sent_s) == len(expected)

        await _look(note_sent)
        await elapse(CALM_S, "no other alert may come")
        undone = time.monotonic()
        await planted.aclose()

        async def note_ended() -> bool:
            firing = await deployment.alerts()
            for name, sends in expected.items():
                if not _has(firing, sends.removeprefix(_SILENT)):
                    seen.ended_s.setdefault(name, time.monotonic() - undone)
            return not firing

        if not await _look(note_ended):
            seen.wrong += [f"fires: {name}" for name in sorted(await deployment.alerts())]
        # Alertmanager sends what was silenced, and failures that send nothing have no alert to wait for.
        await elapse(CALM_S if expected else 5 * CALM_S, "no alert may come")
        seen.beside = {one for one in deployment.sent if not any(_has({one}, sends) for sends in expected.values())}
    allowed = tuple(sends for failure in failures.values() for sends in failure.beside)
    seen.wrong += [f"sent beside: {name}" for name in sorted(seen.beside) if not name.startswith(allowed)]
    seen.wrong += [f"not sent: {sends}" for name, sends in expected.items() if name not in seen.sent_s]
    return seen


def _has(names: Iterable[str], prefix: str) -> bool:
    return any(name.startswith(prefix) for name in names)


async def _look(reached: Callable[[], Awaitable[bool]]) -> bool:
    """Wait for this; False if it never comes."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if await reached():
            return True
        await elapse(1, "Prometheus looks by itself")
    return False


async def watch_all(names: list[str], folder: Path, *, together: bool) -> bool:
    """Print a row for each failure; whether all were as expected."""
    good = True
    print("| failure | sends | after, s | ends after, s | beside | wrong |\n|---|---|---|---|---|---|", flush=True)
    for number, some in enumerate([names] if together else [[name] for name in names]):
        failures = {name: FAILURES[name] for name in some}
        seen = await watch(failures, folder / str(number))
        good = good and not seen.wrong
        beside, wrong = ", ".join(sorted(seen.beside)), "; ".join(seen.wrong)
        for name, failure in failures.items():
            times = _round(seen.sent_s.get(name)), _round(seen.ended_s.get(name))
            print(f"| {' | '.join([name, failure.sends or 'nothing', *times, beside, wrong])} |", flush=True)
    return good


def _round(seconds: float | None) -> str:
    return "–" if seconds is None else f"{seconds:.0f}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="failures whose name matches this")
    parser.add_argument("--together", action="store_true", help="all of these at once, in one deployment")
    asked = parser.parse_args()
    for program in ("prometheus", "promtool", ALERTMANAGER):
        if not shutil.which(program):
            sys.exit(f"{program} is not on the path: install Debian's prometheus and prometheus-alertmanager.")
    names = [name for name in FAILURES if re.search(asked.only, name)]
    with data_folder() as folder:
        return not asyncio.run(watch_all(names, folder, together=asked.together))
