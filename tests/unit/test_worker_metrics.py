"""The worker's gauges of a partition exist only while it has the partition's lease."""

from types import SimpleNamespace
from typing import Any, cast

from prometheus_client import generate_latest

from service.worker import metrics

PARTITION = 977


def test_a_former_holder_shows_nothing() -> None:
    """At the lease's end all gauges of the partition are gone, whoever set them, and those of another one stay."""
    flusher = cast("Any", SimpleNamespace(held=1, events_per_second=2.0, recorded=3))
    for partition in (PARTITION, PARTITION + 1):
        metrics.follow(partition, flusher)
        metrics.count_task_failure(partition, "opening")
        metrics.Webhooks(partition).set_pending(4, 5.0)
    metrics.unfollow(PARTITION)
    lines = generate_latest().decode().splitlines()
    mine = [line for line in lines if f'partition="{PARTITION}"' in line]
    assert all(line.startswith(("scrip_task_failures_", "scrip_webhook")) and "pending" not in line for line in mine)
    others = {line.partition("{")[0] for line in lines if f'partition="{PARTITION + 1}"' in line}
    assert {"scrip_outbox_held_events", "scrip_task_failing", "scrip_webhook_pending_deliveries"} <= others
    metrics.unfollow(PARTITION + 1)
