"""Every kind of difference between Redis and Postgres is named, and repaired."""

from collections.abc import Callable

import pytest

from service.formats.coupon_state import Class
from service.record.partitions import bulk_reads
from tests.drifts.rounds import KINDS, run_round
from tests.drifts.subject import World, tags
from tests.drifts.traffic import traffic
from tests.faults.database import standby_of
from tests.service_fixture import Service


async def test_each_is_named(own_service: Callable[[], Service], monkeypatch: pytest.MonkeyPatch) -> None:
    """Under traffic, a comparison by a replica names exactly the made differences of every kind, in Redis and in
    Postgres; after a repair by the primary none is left. `make faults PART=drifts` makes a thousand."""
    monkeypatch.setattr(bulk_reads, "NAMES_A_PAGE", 50)
    service = own_service()
    async with (
        standby_of(service.run.facts["databaseUrl"]) as url,
        traffic(service, 2000, change_every_s=0.5) as crowd,
    ):
        world = World(service, tags(1)).open(crowd.books["sale"][0].book_id)
        report = await run_round(world, list(KINDS), replica_url=url)
    assert crowd.ledger.succeeded > 20
    assert (report.wrong, report.reported) == ([], report.made)
    assert set(report.made) == set(Class.__args__)
