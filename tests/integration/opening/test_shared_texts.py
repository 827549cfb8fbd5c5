"""Which texts of scripts an epoch gets: those that the server has since its last start, or new ones."""

import asyncio

import pytest

from service.engine.hot.fencing import parse_nonce
from service.engine.hot.redis_server import Fenced
from service.engine.hot.scripts import Scripts, templates
from service.engine.operations import coupon_view
from service.engine.record.partitions.partition_rows import read_partition
from service.engine.record.program_versions import store_scripts
from service.engine.worker.script_versions import LoadedScripts
from tests.integration.opening.opening_fixtures import PartitionSetup


async def begin(setup: PartitionSetup, loaded: LoadedScripts, partition: int = 1) -> str:
    """The part of a new epoch's nonce that is in its texts."""
    async with setup.server(partition) as server:
        return (await loaded.begin(server, await server.fitness())).shared


async def test_openings_of_a_server_add_no_scripts(setup: PartitionSetup) -> None:
    """Epochs of a server share its texts, so Redis stores no more of them; an API with an earlier one is refused."""
    await setup.reopen()
    first, cached = await read_partition(setup.pool, 0), await setup.redis.info("memory")
    for _ in range(3):
        await setup.reopen()
    last = await read_partition(setup.pool, 0)
    assert (last.epoch > first.epoch, last.nonce != first.nonce) == (True, True)
    assert parse_nonce(last.nonce).shared == parse_nonce(first.nonce).shared
    assert (await setup.redis.info("memory"))["number_of_cached_scripts"] == cached["number_of_cached_scripts"]
    setup.decider.learn(0, first.epoch, first.nonce)
    assert await setup.refusal(coupon_view.READ, "CODE-9") == "recovering"


@pytest.mark.parametrize("lost", ["all", "one"])
async def test_no_opening_brings_back_texts_that_a_server_has_lost(setup: PartitionSetup, lost: str) -> None:
    """A server that restarted has no scripts, and perhaps lost data. The opening of one partition there leaves the
    others closed: it gets new texts, even if one script alone is missing."""
    scripts = await setup.scripts()
    await setup.redis.script_flush()
    if lost == "one":
        for text in list(scripts.texts.values())[1:]:
            await setup.redis.script_load(text)
    assert await begin(setup, LoadedScripts(setup.pool)) != parse_nonce(scripts.nonce).shared
    async with setup.server() as server:
        assert not await server.has(scripts)


async def test_partitions_that_open_together_share_texts(setup: PartitionSetup) -> None:
    """After a start of Redis a worker loads one set of texts, for all partitions that it opens at the same time."""
    await setup.redis.script_flush()
    loaded = LoadedScripts(setup.pool)
    assert len(set(await asyncio.gather(*(begin(setup, loaded, partition) for partition in range(4))))) == 1


async def test_another_version_shares_the_texts_nonce(setup: PartitionSetup) -> None:
    """If the server has another stored version's scripts, it has not restarted: this version's get the same nonce."""
    scripts = await setup.scripts()
    other = {name: f"{text}-- other\n" for name, text in templates().items()}
    await store_scripts(setup.pool, "other", other)
    await setup.redis.script_flush()
    async with setup.server() as server:
        await server.load(Scripts(0, scripts.epoch, scripts.nonce, list(other), template_of=other.__getitem__))
        assert await begin(setup, LoadedScripts(setup.pool)) == parse_nonce(scripts.nonce).shared
        assert await server.has(scripts)


async def test_a_server_that_loses_its_scripts_during_an_opening_stays_closed(setup: PartitionSetup) -> None:
    """Scripts are loaded when an epoch begins, and never again for it."""
    loaded = LoadedScripts(setup.pool)
    async with setup.server() as server:
        nonce = str(await loaded.begin(server, await server.fitness()))
        await loaded.finish(server, 9, nonce)
        await setup.redis.script_flush()
        with pytest.raises(Fenced, match="lost its scripts"):
            await loaded.finish(server, 9, nonce)
