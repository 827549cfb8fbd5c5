"""A failover by a real sentinel. `make lab PART=faults ARGS="--only sentinels --rounds 0"` does twenty with three
sentinels, and with `--server redis` those of Redis."""

from tests.lab.faults.rounds import run_round
from tests.lab.faults.scenarios import SCENARIOS
from tests.lab.faults.stage import own_stage


async def test_the_service_follows_its_sentinels() -> None:
    """A sentinel replaces a primary that hangs, under load: the service comes back on the new one, nothing `recorded`
    is lost, and nothing is sold twice."""
    async with own_stage(sentinels=1) as stage:
        result = await run_round(stage, SCENARIOS["failover by sentinels"], 1)
    assert result.verdict.wrong == []
    assert result.verdict.kept > 60
