"""`scrip partitions`: an operator looks at the partitions, and plans another number of them."""

from typing import Any
from uuid import uuid4

import msgspec
from click.testing import Result

from tests.commands import scrip
from tests.service_fixture import Service, database
from tests.waiting import until


def _partitions(service: Service, *words: str) -> Result:
    return scrip("partitions", *words, **service.urls)


def _list(service: Service) -> dict[str, Any]:
    return msgspec.json.decode(_partitions(service, "--json").output)


async def test_the_partitions_are_listed(patient: Service) -> None:
    """The table has a header and a row for each partition, whose workspaces are counted; JSON has the same. Without a
    Redis that replies, the backlog is unknown."""
    until(lambda: {one["backlog"] for one in _list(patient)["partitions"]} == {0})  # of earlier tests
    done = _partitions(patient)
    assert done.exit_code == 0, done.output
    header, *rows = [line.split() for line in done.output.splitlines()]
    assert header == ["PARTITION", "STATE", "EPOCH", "OWNER", "WORKSPACES", "BACKLOG"]
    listed = _list(patient)
    assert listed["number"] == patient.partitions == len(rows)
    assert [[str(row[name.lower()]) for name in header] for row in listed["partitions"]] == rows
    ((workspaces,),) = await patient.fetch("SELECT count(*) FROM workspaces")
    assert sum(row["workspaces"] for row in listed["partitions"]) == workspaces
    assert {(row["state"], row["backlog"]) for row in listed["partitions"]} == {("open", 0)}
    away = scrip("partitions", **patient.urls | {"REDIS_URL": "redis://127.0.0.1:1/0"})
    assert [line.split()[-1] for line in away.output.splitlines()[1:]] == ["?"] * len(rows)


async def test_a_plan_changes_nothing(patient: Service) -> None:
    """A dry run lists the partitions that come or go, and each workspace that moves."""
    planned = "SELECT to_jsonb(settings) FROM settings UNION ALL SELECT to_jsonb(ordered_at) FROM moves"
    before = await patient.fetch(planned)
    number = patient.partitions
    more = _partitions(patient, "resize", str(number + 2), "--dry-run")
    assert more.exit_code == 0, more.output
    assert f"The partitions {number} to {number + 1} are created." in more.output
    fewer = _partitions(patient, "resize", "1", "--dry-run").output
    assert number == 1 or "removed." in fewer
    ((elsewhere,),) = await patient.fetch("SELECT count(*) FROM workspaces WHERE partition <> 0")
    assert fewer.count(" to 0 (") == elsewhere
    assert await patient.fetch(planned) == before


async def test_refusals_say_what_to_do(patient: Service) -> None:
    """Numbers that can't be are refused, and so is a change while processes of another version run."""
    assert "1<=x<=1024" in _partitions(patient, "resize", "0").output
    assert "can't be combined" in _partitions(patient, "--json", "resize", "4").output
    other = uuid4()
    async with database(patient.run.facts["databaseUrl"]) as connection:
        await connection.execute("INSERT INTO processes VALUES ($1, 'worker', 'other', 1)", other)
        refused = _partitions(patient, "resize", str(patient.partitions))
        await connection.execute("DELETE FROM processes WHERE id = $1", other)
    assert (refused.exit_code, "Finish the upgrade" in refused.output) == (1, True)
