"""Every way in which Redis and Postgres come to differ is named, and mended."""

from collections.abc import Callable

from service.formats.coupon_state import Class
from tests.drifts.comparing import demo_workspace
from tests.drifts.rounds import KINDS, run_round
from tests.drifts.subject import World, tags
from tests.drifts.traffic import traffic
from tests.service_fixture import Service


async def test_each_is_named(own_service: Callable[[], Service]) -> None:
    """While buyers go on, one drift of every kind, in Redis and in Postgres: what differs is named, all of it and
    nothing else, until it is mended; then nothing is. `make faults PART=drifts` makes a thousand. The service is its
    own: what such a record comes to in another Redis is no other test's business."""
    service = own_service()
    async with traffic(service, 2000, change_every_s=0.5) as crowd:
        world = World(service, await demo_workspace(service), tags(1)).open(crowd.books["sale"][0].book_id)
        found = await run_round(world, list(KINDS))
    assert crowd.ledger.succeeded > 20
    assert (found.wrong, found.reported) == ([], found.made)
    assert set(found.made) == set(Class.__args__)
