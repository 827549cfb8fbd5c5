"""Waiting for a service that fails and recovers."""

from functools import partial

import httpx

from tests.harness.service_fixture import Service, is_well
from tests.harness.waiting import until

wait = partial(until, away=(httpx.TransportError,))
"""While the service can't be reached, what is waited for is not there."""


def until_recorded(service: Service) -> None:
    """Wait until everything that was answered is recorded."""
    wait(lambda: is_well(service))
