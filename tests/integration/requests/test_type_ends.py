"""Both ends of each type of the OpenAPI document, alone and in pairs: `make fuzz` sends all of them."""

from collections.abc import Iterator

import pytest

from tests.harness.service_fixture import Service, shared_service
from tests.schemathesis.type_ends import Sender

SEED = 7
MOST = 3
"""Ends of a place that are sent, beside all times."""


@pytest.fixture(scope="module")
def own_service() -> Iterator[Service]:
    """A service of its own: the requests start comparisons and jobs."""
    with shared_service() as service:
        yield service


def test_no_end_of_a_type_is_an_internal_error(own_service: Service) -> None:
    """Times, numbers, texts, ids and zones at both ends, and just beyond, are decided or refused; so are pairs of them,
    and both at the last time that a clock of a workspace can show."""
    sender = Sender(own_service)
    sender.send_alone(SEED, MOST)
    sender.send_pairs(SEED, 500)
    sender.set_clock("9999-12-31T23:59:59.999Z")
    sender.send_pairs(SEED + 1, 500)
    assert sender.failed == {}
    assert sum(sender.statuses[status] for status in (200, 201, 202, 204)) > 500
    assert sum(sender.statuses[status] for status in (400, 422)) > 500
