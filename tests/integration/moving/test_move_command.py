"""`scrip move`: an operator moves a workspace to another partition."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest
from click.testing import Result

from service.record.partitions import moves
from service.record.queries import query
from service.worker.moving.workspace_mover import MOST_ATTEMPTS
from tests.commands import scrip, succeeded
from tests.conftest import leave_out
from tests.service_fixture import Service, database, new_code, ok
from tests.waiting import elapse, until, wait_until


def _move(service: Service, *options: str) -> Result:
    return scrip("move", *options, DATABASE_URL=service.run.facts["databaseUrl"])


@pytest.fixture
def mover(patient: Service) -> Service:
    """A service with a workspace `mover` in the first partition."""
    if patient.partitions < 2:
        leave_out("SCRIP_TEST_PARTITIONS is below 2")
    if patient.client("mover_admin").get("/v1/users/nobody").status_code == 401:
        patient.make_workspace("mover", "live", 0)
    return patient


async def test_a_workspace_moves(mover: Service) -> None:
    """The command says what it will do, moves and audits; locks stay. Repeated, it says where the workspace is."""
    client, code = mover.client("mover_admin"), new_code()
    mover.book(code, client=client)
    locked = ok(client.post(f"/v1/coupons/lock/{code}", json={"userId": "ann"}), 201)
    planned = succeeded(_move(mover, "mover", "1", "--dry-run"))
    assert "mover moves from partition 0 to 1" in planned.output
    assert (
        await mover.fetch("SELECT FROM moves JOIN workspaces USING (workspace) WHERE workspaces.name = 'mover'") == []
    )

    moved = succeeded(_move(mover, "mover", "1"))
    assert "mover is in partition 1. It was closed for" in moved.output
    until(lambda: client.get(f"/v1/coupons/{code}").is_success)  # the API reads the partition five times a second
    body = {"userId": "ann", "lockToken": locked["lockToken"], "orderValue": "10.00"}
    ok(client.post(f"/v1/coupons/redeem/{code}", json=body), 201)
    (entry,) = [one for one in ok(client.get("/v1/audit"))["items"] if one["action"] == "workspace.moved"]
    assert (entry["before"], entry["after"]) == ({"partition": 0}, {"partition": 1})
    assert _move(mover, "mover", "1").output == "mover is in partition 1.\n"
    succeeded(_move(mover, "mover", "0"))


def test_refusals_say_what_to_do(mover: Service) -> None:
    """An unknown workspace or partition, and a move that doesn't wait, are refused."""
    assert "`scrip workspaces list` shows all" in _move(mover, "nobody", "1").output
    assert f"the partitions 0 to {mover.partitions - 1}" in _move(mover, "mover", str(mover.partitions)).output
    assert "No move of mover waits" in _move(mover, "mover", "1", "--cancel").output


async def test_a_user_is_deleted_while_the_workspace_moves(mover: Service) -> None:
    """A deletion that waits for a move's commit is done in the new partition, without a refusal."""
    mover.make_workspace("deleting", "live", 0)
    client = mover.client("deleting_admin")
    ((workspace, epoch),) = await mover.fetch(
        "SELECT workspace, epoch FROM workspaces JOIN partitions ON id = partition WHERE name = 'deleting'"
    )
    async with database(mover.run.facts["databaseUrl"]) as connection, connection.transaction():
        versions = await connection.fetch(query("lock_config_versions"), [0, 1])
        answer = asyncio.create_task(asyncio.to_thread(client.delete, "/v1/users/ann"))
        await wait_until(lambda: mover.fetch(_WAITING))
        version = max(row["version"] for row in versions) + 1
        await connection.execute(query("move_workspace"), workspace, 0, 1, version, epoch, 0, 0)
    assert (await answer).status_code == 204


async def test_a_deletion_waits_while_rows_are_moved(mover: Service) -> None:
    """A user is deleted once the rows of a move have followed: before, they would have to be moved again."""
    mover.make_workspace("switching", "live", 0)
    client = mover.client("switching_admin")
    ((workspace,),) = await mover.fetch("SELECT workspace FROM workspaces WHERE name = 'switching'")
    async with database(mover.run.facts["databaseUrl"]) as connection, _switching(connection, workspace):
        answer = asyncio.create_task(asyncio.to_thread(client.delete, "/v1/users/ann"))
        await elapse(0.5, "a deletion that waits")
        assert await connection.fetch("SELECT FROM erasures WHERE workspace = $1", workspace) == []
        await connection.execute("DELETE FROM moves WHERE workspace = $1", workspace)
    assert (await answer).status_code == 204


@asynccontextmanager
async def _switching(connection: asyncpg.Connection, workspace: int) -> AsyncIterator[None]:
    """A move whose rows are being moved, which the worker can't undo. If it did so before the lock, begin again: after
    MOST_ATTEMPTS it orders no other attempt."""
    is_switching = False
    while not is_switching:
        await connection.execute(_SWITCHING, workspace, moves.SWITCHING, MOST_ATTEMPTS)
        async with connection.transaction():
            await connection.execute("SELECT FROM moves FOR UPDATE")
            if is_switching := await moves.is_switching(connection, workspace):
                yield


_SWITCHING = """
INSERT INTO moves (workspace, source, target, state, reason, attempts) VALUES ($1, 0, 1, 'running', $2, $3)
ON CONFLICT (workspace) DO UPDATE SET state = excluded.state, reason = excluded.reason
"""
_WAITING = "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%UPDATE config_versions%'"
