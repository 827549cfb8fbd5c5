"""A deployment's Redis, beside one that is built from Postgres alone."""

from contextlib import closing
from pathlib import Path

from service.engine.formats import key_names
from service.engine.record.partitions.partition_rows import read_partitions
from tests.harness.reaching import reach
from tests.harness.rebuilt_redis import unlike_built
from tests.lab.faults.deployment import Deployment
from tests.lab.faults.nodes import wait_until


def live_url(deployment: Deployment) -> str:
    """The address of the service's Redis, without a proxy in between."""
    return deployment.cluster.url if deployment.is_clustered else f"redis://127.0.0.1:{deployment.primary.port}/0"


async def _until_configured(deployment: Deployment) -> None:
    """Wait until Redis has all configuration. If a change's API process died, or a later change was faster, the worker
    looks after it within seconds."""

    async def has_all() -> bool:
        for row in await read_partitions(deployment.pool):
            with closing(await reach(live_url(deployment), row.id)) as connection:
                here = await connection.call("GET", key_names.config(row.id))
            if int(here or 0) < row.config_version:
                return False
        return True

    await wait_until(has_all, "the configuration")


async def unlike_rebuilt(deployment: Deployment) -> list[str]:
    """As `unlike_built`, when Redis has all configuration; but for locks' keys."""
    folder = deployment.folder / "scratch"
    folder.mkdir(exist_ok=True)
    await _until_configured(deployment)
    return await unlike_built(
        live_url(deployment), deployment.pool, Path(deployment.binary), folder, deployment.held_keys
    )
