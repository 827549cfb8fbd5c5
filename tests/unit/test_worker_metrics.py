"""The worker's gauges of a partition exist only while it has the partition's lease."""

import asyncio
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast, get_args

import asyncpg
import pytest
from prometheus_client import generate_latest

from service.common.redis_address import Host
from service.engine.hot.discovery import SentinelView
from service.engine.record.processes import Description
from service.engine.record.server_state import ServerState
from service.engine.worker import metrics, server_metrics
from service.engine.worker.metrics import LowBook, RetryError, Step, Way
from service.engine.worker.server_metrics import ServerMetrics
from service.engine.worker.write_behind import _kind_of
from service.server.in_postgres.job_rows import Kind
from service.server.tasks import process_tasks
from tests.harness.waiting import wait_until

PARTITION = 977


def test_a_former_holder_shows_nothing() -> None:
    """At the lease's end all gauges of the partition are gone, and those of another one stay."""
    for partition in (PARTITION, PARTITION + 1):
        metrics.follow(partition, lambda: 1)
        metrics.low_books.show(partition, [LowBook("shop", f"book-{partition}", 3)])
        metrics.count_task_failure(partition, "opening")
        metrics.Webhooks(partition).set_pending(4, 5.0, "shop")
    metrics.unfollow(PARTITION)
    lines = generate_latest().decode().splitlines()
    mine = [line for line in lines if f'partition="{PARTITION}"' in line]
    assert mine
    assert all(line.partition("{")[0].endswith("_total") for line in mine)
    assert [line for line in lines if "scrip_book_free_codes{" in line] == [
        f'scrip_book_free_codes{{book="book-{PARTITION + 1}",workspace="shop"}} 3.0'
    ]
    others = {line.partition("{")[0] for line in lines if f'partition="{PARTITION + 1}"' in line}
    assert {"scrip_outbox_held_events", "scrip_task_failing", "scrip_webhook_pending_deliveries"} <= others
    metrics.unfollow(PARTITION + 1)


def test_nothing_is_held_without_standbys() -> None:
    """Without SCRIP_STANDBYS there is no number that could only be 0."""
    metrics.follow(PARTITION, None)
    assert f'scrip_outbox_held_events{{partition="{PARTITION}"}}'.encode() not in generate_latest()
    metrics.unfollow(PARTITION)


def test_servers() -> None:
    """Of each Redis memory and replicas are shown, and whether it fails to write; of clocks the largest difference."""
    none, two = SimpleNamespace(count=0), SimpleNamespace(count=2)
    seen = SimpleNamespace(used_bytes=10, max_bytes=0, writes_fail=False, replication=two)
    failing = SimpleNamespace(used_bytes=20, max_bytes=40, writes_fail=True, replication=none)
    watches = [
        SimpleNamespace(last_fitness=seen, clock_offset_s=0.1, connection=SimpleNamespace(host="a:1")),
        SimpleNamespace(last_fitness=failing, clock_offset_s=-3.0, connection=SimpleNamespace(host=None)),
        SimpleNamespace(last_fitness=None, clock_offset_s=0.0, connection=SimpleNamespace(host="new:1")),
    ]
    shown = ServerMetrics()
    assert not [family for family in shown.collect() if family.samples]
    shown.redis = cast("Any", SimpleNamespace(watches=lambda: watches))
    samples = {
        (sample.name.removeprefix("scrip_"), sample.labels["server"]): sample.value
        for family in shown.collect()
        for sample in family.samples
    }
    assert samples == {
        ("redis_memory_used_bytes", "a:1"): 10,
        ("redis_memory_used_bytes", "socket"): 20,
        ("redis_memory_limit_bytes", "a:1"): 0,
        ("redis_memory_limit_bytes", "socket"): 40,
        ("redis_persistence_failing", "a:1"): 0,
        ("redis_persistence_failing", "socket"): 1,
        ("redis_replicas", "a:1"): 2,
        ("redis_replicas", "socket"): 0,
        ("clock_offset_seconds", "redis"): -3.0,
    }


@pytest.mark.parametrize(("standbys", "missing"), [(0, {}), (1, {"": 0}), (3, {"": 2})])
async def test_clocks_and_sentinels(standbys: int, missing: dict[str, float], monkeypatch: pytest.MonkeyPatch) -> None:
    """Clocks of APIs and workers are shown less this worker's: of each kind the one that differs most. Sentinels are
    counted by whether they answer; standbys that are missing, if some are wanted. While Postgres does not answer
    yet, the last answer is shown; while it is away, none."""
    apis = [Description(name, "api", ahead_s, 1, 1) for name, ahead_s in (("a", 0.5), ("b", -4.0), ("c", None))]
    own = Description("w", "worker", 1.0, 1, None)
    now = datetime.now(UTC)
    server = ServerState(3, 97, archives=True, archived_at=None, failed_at=now, archive_waits=False)
    is_away, waiting, answers = False, 0, asyncio.Event()
    answers.set()

    async def answer(value: Any) -> Any:
        nonlocal waiting
        waiting += 1
        await answers.wait()
        waiting -= 1
        if is_away:
            raise OSError
        return value

    looks: dict[str, Any] = {
        "describe_process": own.clock_ahead_s,
        "read_descriptions": [*apis, own],
        "read_server_state": server,
        "count_streaming": 1,
        "count_set_aside": {},
    }
    for name, value in looks.items():
        monkeypatch.setattr(server_metrics, name, lambda *_, value=value: answer(value))
    monkeypatch.setattr(server_metrics, "POLL_S", 0.0)
    shown = ServerMetrics()
    view = SentinelView(1, Host("a", 1), 2, 3, 1)

    async def ask() -> list[SentinelView | None]:
        return [view, None, None]

    shown.redis = cast("Any", SimpleNamespace(watches=list, ask_sentinels=ask))

    def read(name: str) -> dict[str, float]:
        (family,) = [one for one in shown.collect() if one.name == f"scrip_{name}"]
        return {"".join(one.labels.values()): one.value for one in family.samples}

    following = asyncio.create_task(shown.follow_servers(cast("Any", None), standbys, "w", 1))
    await wait_until(lambda: read("archive_failing") == {"": 1})
    assert read("standbys_missing") == missing
    clocks = {"redis": 0.0, "postgres": -1.0, "api": -5.0, "worker": 0.0}
    assert read("clock_offset_seconds") == clocks
    assert read("sentinels") == {"up": 1, "down": 2}
    assert (read("postgres_connections"), read("postgres_connections_limit")) == ({"": 3}, {"": 97})
    answers.clear()
    await wait_until(lambda: waiting)
    assert (read("archive_failing"), read("clock_offset_seconds")) == ({"": 1}, clocks)
    is_away = True
    answers.set()
    await wait_until(lambda: read("archive_failing") == read("standbys_missing") == {})
    assert read("sentinels") == {"up": 1, "down": 2}
    following.cancel()


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (asyncpg.DiskFullError(), "disk_full"),
        (TimeoutError(), "timeout"),
        (asyncpg.QueryCanceledError(), "timeout"),
        (ConnectionResetError(), "connection"),
        (asyncpg.AdminShutdownError(), "connection"),
        (asyncpg.UndefinedTableError(), "other"),
    ],
)
def test_errors_of_recording(error: Exception, kind: RetryError) -> None:
    """A pause of recording counts by what stopped it."""
    assert _kind_of(error) == kind


def show_all(partitions: int) -> None:
    """Give each metric of a worker all of its labels, as for a worker with so many partitions and tasks that fail."""
    process_tasks.show_jobs(dict.fromkeys(((kind, "running") for kind in get_args(Kind)), 1))
    for step in get_args(Step):
        metrics.time_opening(step, 0)
    for partition in range(partitions):
        metrics.follow(partition, lambda: 1)
        for way in get_args(Way):
            metrics.count_opening(partition, way)
        for task in range(20):
            metrics.count_task_failure(partition, str(task))
        metrics.Webhooks(partition).set_pending(4, 5.0, "shop")
        books = [LowBook("shop", f"{partition}-{number}", number) for number in range(metrics.MAX_LOW_BOOKS)]
        metrics.low_books.show(partition, books)
