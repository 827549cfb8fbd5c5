"""A failover by a real sentinel. `make lab PART=faults ARGS="--only sentinels --rounds 0"` does twenty with three
sentinels, and with `--server redis` those of Redis."""

from tests.lab.faults.deployment import own_deployment
from tests.lab.faults.rounds import run_round
from tests.lab.faults.scenarios import SCENARIOS


async def test_the_service_follows_its_sentinels() -> None:
    """A sentinel replaces a primary that hangs, under load: the service comes back on the new one, nothing `recorded`
    is lost, and nothing is sold twice."""
    async with own_deployment(sentinels=1) as deployment:
        result = await run_round(deployment, SCENARIOS["failover by sentinels"], 1)
    assert result.verdict.wrong == []
    assert result.verdict.kept > 60
