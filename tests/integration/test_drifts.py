"""Every kind of difference between Redis and Postgres is named, and repaired."""

import asyncio
from collections.abc import Callable

from service.formats.coupon_state import Class
from tests.drifts.comparing import demo_workspace
from tests.drifts.rounds import KINDS, run_round
from tests.drifts.subject import World, tags
from tests.drifts.traffic import Traffic
from tests.service_fixture import Service

ROUND_S = 300.0


def test_each_is_named(own_service: Callable[[], Service]) -> None:
    """Under traffic, exactly the made differences of every kind are named, in Redis and in Postgres; after the repair
    none is. `make faults PART=drifts` makes a thousand."""
    service = own_service()
    with Traffic(service, ROUND_S, change_every_s=0.5) as traffic:
        world = World(service, asyncio.run(demo_workspace(service)), tags(1)).open(traffic.book_id)
        report = asyncio.run(run_round(world, list(KINDS)))
        assert traffic.went_well() > 20
    assert (report.wrong, report.found) == ([], report.made)
    assert set(report.made) == set(Class.__args__)
