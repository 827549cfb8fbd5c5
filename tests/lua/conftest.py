"""The same tests on the wheel's Valkey, with texts of usual cases and as `general` without, and on Debian's Redis;
some, or with `-k fakeredis` all, on fakeredis."""

import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any, TypeVar

import fakeredis
import msgpack
import pytest
import redis

from service.engine.hot.link import Link
from tests.harness.plugin import require
from tests.harness.script_runner import FakeLink
from tests.harness.servers import VALKEY, started
from tests.harness.shop import Shop
from tests.lua.general import changed_texts, without_usual

S = TypeVar("S", bound=Shop)
FAKED = ("test_lock.py", "test_redeem.py", "test_run_requests.py")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect most tests on fakeredis, unless `-k` names it: it takes four times as long as a server. The
    mutants use it, so the tests in FAKED show that it still runs the scripts; of a random test one seed does."""
    if "fakeredis" not in config.option.keyword:
        faked = [item for item in items if "[fakeredis" in item.name or "-fakeredis" in item.name]
        deselected = {item for item in faked if item.path.name not in FAKED or _is_another_seed(item)}
        config.hook.pytest_deselected(items=[*deselected])
        items[:] = [item for item in items if item not in deselected]


def _is_another_seed(item: pytest.Item) -> bool:
    return isinstance(item, pytest.Function) and item.callspec.params.get("seed") not in (None, 0)


@pytest.fixture(scope="session")
def valkey_for_scripts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Valkey's URL."""
    with started(VALKEY, tmp_path_factory.mktemp("valkey")) as url:
        yield url


@pytest.fixture(scope="session")
def redis_for_scripts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of Debian's Redis."""
    require("redis-server")
    with started(Path(shutil.which("redis-server") or ""), tmp_path_factory.mktemp("redis")) as url:
        yield url


@asynccontextmanager
async def shop_on(kind: str, url: str, shop_type: type[S] = Shop, texts: str = "") -> AsyncIterator[S]:
    """An open shop on an empty database of a server of this kind. Its scripts have the `texts` of usual cases or are
    `general`; by default they are usual on Valkey and fakeredis alone, so that each test runs with both."""
    general = texts == "general" or (not texts and kind in ("general", "redis"))
    with changed_texts(without_usual) if general else nullcontext():
        if kind == "fakeredis":
            server = fakeredis.FakeServer()
            client = fakeredis.FakeAsyncRedis(server=server, decode_responses=True, protocol=2, max_connections=1000)
            await _add_cmsgpack(server, client)
            yield await shop_type(FakeLink(client)).open()
            await client.aclose()
            return
        with redis.Redis.from_url(url) as client:
            client.flushdb()
        link = Link(url, "tests")
        await link.start()
        yield await shop_type(link).open()
        await link.stop()


async def _add_cmsgpack(server: Any, client: Any) -> None:
    """Give fakeredis's Lua the function that lua/run_requests.lua calls: the values of a text, one after the other."""

    def unpack(packed: bytes) -> tuple[Any, ...]:
        unpacker = msgpack.Unpacker(raw=True)
        unpacker.feed(packed)
        return tuple(unpacker)

    await client.eval("return 0", 0)  # which makes the Lua
    server._lua_runtime.globals()[b"cmsgpack"] = server._lua_runtime.table_from({b"unpack": unpack})
    server._lua_expected_globals.add(b"cmsgpack")


@pytest.fixture(params=["fakeredis", "valkey", "general", pytest.param("redis", marks=pytest.mark.check)])
def kind(request: pytest.FixtureRequest) -> str:
    """What stands for Redis."""
    return request.param


@pytest.fixture(params=[1, 3, None], ids=["single", "several", "unlimited"])
def uses(request: pytest.FixtureRequest) -> int | None:
    """How often a code may be redeemed; None is no limit. A test that takes it holds for all three."""
    return request.param


@pytest.fixture
def url(request: pytest.FixtureRequest, kind: str) -> str:
    """Where the server is; '' for fakeredis."""
    if kind == "fakeredis":
        return ""
    return request.getfixturevalue("redis_for_scripts" if kind == "redis" else "valkey_for_scripts")


@pytest.fixture
async def shop(kind: str, url: str) -> AsyncIterator[Shop]:
    """An open shop on an empty server of each kind; what it holds must add up at the end."""
    from tests.lua.consistency import assert_consistent

    async with shop_on(kind, url) as shop:
        yield shop
        await assert_consistent(shop)


def note_calls(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The requests of each call that the shop sends from now on."""
    sizes, send = list[int](), shop.link.send

    def noted(on_reply: Any, command: Any, requests: int = 1) -> None:
        sizes.append(requests)
        send(on_reply, command, requests)

    monkeypatch.setattr(shop.link, "send", noted)
    return sizes


@pytest.fixture
async def still(shop: Shop) -> Shop:
    """The same with a clock that only the test moves."""
    return await shop.freeze()
