"""Every kind of difference between Redis and Postgres is named, and repaired."""

from collections.abc import Callable

from service.formats.coupon_state import Class
from tests.drifts.comparing import demo_workspace
from tests.drifts.rounds import KINDS, run_round
from tests.drifts.subject import World, tags
from tests.drifts.traffic import traffic
from tests.service_fixture import Service


async def test_each_is_named(own_service: Callable[[], Service]) -> None:
    """Under traffic, exactly the made differences of every kind are named, in Redis and in Postgres; after the repair
    none is. `make faults PART=drifts` makes a thousand."""
    service = own_service()
    async with traffic(service, 2000, change_every_s=0.5) as crowd:
        world = World(service, await demo_workspace(service), tags(1)).open(crowd.books["sale"][0].book_id)
        report = await run_round(world, list(KINDS))
    assert crowd.ledger.succeeded > 20
    assert (report.wrong, report.reported) == ([], report.made)
    assert set(report.made) == set(Class.__args__)
