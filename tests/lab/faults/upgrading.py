"""A rolling upgrade, and the way back: another version beside the one that runs, without a failed request."""

import random
from pathlib import Path
from uuid import UUID, uuid4

import httpx

from service.engine.formats.number import FORMAT_NUMBER
from tests.harness.running import PARTITIONS
from tests.harness.trees import ROOT, Change, changed
from tests.harness.waiting import PATIENCE_S
from tests.lab.faults.deployment import Deployment
from tests.lab.faults.looking import Drill
from tests.lab.faults.nodes import wait_until

_OWN, _NEXT = (f"\nFORMAT_NUMBER = {number}\n" for number in (FORMAT_NUMBER, FORMAT_NUMBER + 1))
_NUMBER = Change("service/engine/formats/number.py", _OWN, _NEXT)


async def upgraded_and_back(deployment: Deployment, drill: Drill, dice: random.Random) -> None:
    """Two APIs and two workers are replaced by a new version's, one after the other, and then by the old version's. All
    scripts of the new version have other digests, its number of formats is the next, and a migration of it adds a
    column. Nothing is refused, and no epoch is opened."""
    deployment.add_workers(2)
    epoch, unanswered = (await deployment.row()).epoch, drill.ledger.unanswered.total()
    new = make_next_version(deployment.folder / f"tree-{uuid4().hex}")
    await _replace(deployment, drill, dice, new, migrates=True)
    await _replace(deployment, drill, dice, ROOT, migrates=False)
    if drill.ledger.unanswered.total() > unanswered:
        drill.wrong.append(f"failed requests: {dict(drill.ledger.unanswered)}")
    if refused := {look.code for look in [*drill.looks, *drill.reads] if look.code}:
        drill.wrong.append(f"failed reads: {sorted(refused)}")
    if (now := (await deployment.row()).epoch) != epoch:
        drill.wrong.append(f"epoch {now} was opened after {epoch}")


def make_next_version(new: Path) -> Path:
    """A copy of the tree whose scripts, number of formats and migrations are of a next version."""
    scripts = Change("service/engine/hot/scripts.py", "\nlocal W = ", f"\nlocal VERSION = '{new.name}'\nlocal W = ")
    changed([scripts, _NUMBER], new)
    migrations = new / "sql" / "migrations"
    number = len(list(migrations.glob("*.sql"))) + 1
    (migrations / f"{number:04}_next.sql").write_text("ALTER TABLE partitions ADD COLUMN of_the_next_version int;\n")
    return new


async def _replace(deployment: Deployment, drill: Drill, dice: random.Random, tree: Path, *, migrates: bool) -> None:
    """Replace each API and each worker, in any order. If the version is new, migrate once its first API runs."""
    processes = [*deployment.apis, *deployment.workers]
    if not migrates:
        dice.shuffle(processes)
    for old in processes:
        await drill.begin_fault(10)
        if old in deployment.workers:
            earlier = await _workers(deployment)
            new, _ = deployment.start_beside(old, tree)
            await wait_until(lambda earlier=earlier: _has_other_workers(deployment, earlier), "the new worker")
        else:
            new, url = deployment.start_beside(old, tree)
            if migrates and old is processes[0]:
                await wait_until(
                    lambda url=url: _fails(url, ["scripts_missing"] * PARTITIONS), "a version that is not migrated"
                )
                await deployment.command("migrate", tree=tree)
            await wait_until(lambda url=url: _fails(url, []), "the new API's scripts")
            drill.move(deployment.apis.index(old), url)
            await drill.until_more(10)
        await deployment.end_replaced(old, new)


async def _fails(url: str, reasons: list[str]) -> bool:
    """Whether so many partitions fail, for these reasons, by an API's own report."""
    async with httpx.AsyncClient(timeout=PATIENCE_S, verify=False) as client:
        report = (await client.get(f"{url}/health/ready")).json()
    return [one["reason"] for one in report["partitions"]] == reasons


async def _workers(deployment: Deployment) -> set[UUID]:
    """The workers that have registered."""
    return {row["id"] for row in await deployment.pool.fetch("SELECT id FROM processes WHERE kind = 'worker'")}


async def _has_other_workers(deployment: Deployment, earlier: set[UUID]) -> bool:
    return bool(await _workers(deployment) - earlier)
