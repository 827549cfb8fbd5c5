"""`scrip partitions`: an operator looks at the partitions."""

from typing import Any

import msgspec
from click.testing import Result

from tests.harness.commands import scrip, succeeded
from tests.harness.service_fixture import Service
from tests.harness.waiting import until


def _partitions(service: Service, *words: str) -> Result:
    return scrip("partitions", *words, **service.urls)


def _list(service: Service) -> dict[str, Any]:
    return msgspec.json.decode(_partitions(service, "--json").output)


async def test_the_partitions_are_listed(patient: Service) -> None:
    """The table has a row for each partition; JSON has the same. Without a Redis that replies, backlogs are unknown."""
    until(lambda: {one["backlog"] for one in _list(patient)["partitions"]} == {0})  # of earlier tests
    done = succeeded(_partitions(patient))
    header, *rows = [line.split() for line in done.output.splitlines()]
    assert header == ["PARTITION", "STATE", "EPOCH", "OWNER", "WORKSPACES", "BACKLOG"]
    listed = _list(patient)
    assert len(rows) == patient.partitions
    assert [[str(row[name.lower()]) for name in header] for row in listed["partitions"]] == rows
    ((workspaces,),) = await patient.fetch("SELECT count(*) FROM workspaces")
    assert sum(row["workspaces"] for row in listed["partitions"]) == workspaces
    assert {(row["state"], row["backlog"]) for row in listed["partitions"]} == {("open", 0)}
    away = scrip("partitions", **patient.urls | {"REDIS_URL": "redis://127.0.0.1:1/0"})
    assert [line.split()[-1] for line in away.output.splitlines()[1:]] == ["?"] * len(rows)
