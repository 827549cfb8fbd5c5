"""Each limit under two hundred requests at once, each on its own connection: exactly as many succeed as allowed."""

import contextlib
from collections.abc import Iterator

import pytest

from loadtests.target import Target
from loadtests.wire import Barrage
from tests.harness.service_fixture import Service, assert_no_drift, shared_service
from tests.lab.attacks.race_rounds import RACES, Race

AT_ONCE = 200


@pytest.fixture(scope="module", params=[1, 2], ids=["one API process", "two API processes"])
def service(request: pytest.FixtureRequest) -> Iterator[Service]:
    """A service of this file's own, with as many API processes. In the end both its stores must agree."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCRIP_API_PROCESSES", str(request.param))
        with shared_service() as service:
            yield service
            assert_no_drift(service)


@pytest.mark.parametrize("race", RACES, ids=lambda race: f"{race.limit}: {race.asked}")
async def test_a_race(service: Service, race: Race) -> None:
    """As many requests succeed as the limit allows, the others are refused, and both stores have what was answered."""
    with contextlib.closing(Barrage(service.run.url, "trial_admin")) as barrage:
        check = await race.round(Target(barrage, AT_ONCE))
    assert check.seen == check.expected


def test_every_limit_has_a_race() -> None:
    """Every limit of the contract has a race."""
    limits = "code, user, user's codes, user's coupons, book, order, last code, last gift, gift, checkout"
    assert {race.limit for race in RACES} == {*limits.split(", "), "idempotency key", "rollback"}
