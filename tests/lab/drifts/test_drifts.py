"""Every kind of difference between Redis and Postgres is named, and repaired."""

from collections.abc import Callable
from typing import get_args

import pytest

from loadtests.buyers import Crowd
from loadtests.ledger import Ledger
from loadtests.plan import make_few_books, new_mark
from service.engine.formats.coupon_state import Class
from service.server.record import bulk_reads
from tests.harness.comparing import compared
from tests.harness.drifts import World
from tests.harness.service_fixture import Service
from tests.lab.drifts.rounds import KINDS, run_round
from tests.lab.faults.database import standby_of

BUYERS, CODES = 3, 2000
PAY_S, CHANGE_EVERY_S = 0.05, 0.5


async def test_each_is_named(own_service: Callable[[], Service], monkeypatch: pytest.MonkeyPatch) -> None:
    """Under traffic, a comparison by a replica names nothing, and then exactly the made differences of every kind, in
    Redis and in Postgres; after a repair by the primary none is left."""
    monkeypatch.setattr(bulk_reads, "NAMES_A_PAGE", 50)
    service, mark = own_service(), new_mark()
    with Ledger([service.run.url], "demo_admin", seed=1, hasty=True, keep=False) as ledger:
        crowd = Crowd(ledger, await make_few_books(ledger, mark, CODES), mark, PAY_S)
        async with standby_of(service.run.facts["databaseUrl"]) as url, crowd.buying(BUYERS, CHANGE_EVERY_S):
            for _ in range(3):
                assert (await compared(service, replica_url=url))[1] == []
            world = World(service, crowd.books["sale"][0].book_id)
            assert await run_round(world, url) == []
        assert (ledger.unwanted, ledger.succeeded > 20) == (0, True)


def test_every_class_has_a_kind() -> None:
    """Each class of difference is made in some way."""
    classes = {one for kind in KINDS.values() for classes in kind.named.values() for one in classes.split()}
    assert classes == set(get_args(Class))
