"""Clients on connections that lose replies."""

import pytest

from tests.harness.plugin import require
from tests.harness.service_fixture import Service
from tests.lab.faults.client import BUYERS, redeem_all


@pytest.mark.parametrize("buyers", BUYERS)
async def test_lost_replies(service: Service, buyers: str) -> None:
    """Through a proxy that loses one reply in ten and resets one connection in fifty, each redemption happens once,
    by the Python client and by the example in Node."""
    if buyers == "node":
        require("node")
    verdict = await redeem_all(
        service.run.url, f"{service.workspace}_admin", redemptions=60, in_flight=6, seed=1, buy=BUYERS[buyers]
    )
    assert verdict.wrong == []
    assert verdict.faults["lost reply"] > 0
