"""Walking Redis's keys: by their parser, whatever SCAN returns; and the buckets that are noted instead of walked."""

import random
import re
from pathlib import Path
from typing import Any, cast

import pytest

from service.engine.formats import key_names
from service.engine.hot.redis_server import PAGE_KEYS, Server
from service.engine.worker.opening.restorer import FEW_BUCKETS, Buckets

_SERVICE = Path(__file__).parents[2] / "service"
_MATCHES = re.compile(r"""["'](?:MATCH|KEYS)["']|[(,] ?match=f?["']|scan_iter""")


class Scanned:
    """A server whose SCAN returns these pages."""

    def __init__(self, *pages: list[str]) -> None:
        self.pages, self.asked = list(pages), list[tuple[Any, ...]]()

    async def call(self, *command: Any) -> Any:
        self.asked.append(command)
        page = self.pages.pop(0)
        return [str(len(self.pages)), page]


async def test_a_walk_yields_exact_kinds_alone() -> None:
    """A walk yields only keys of the requested kinds and its partition, in small pages; its pattern is the prefix."""
    mine = [f"{{p3}}:w1:d:{bucket}" for bucket in range(PAGE_KEYS + 1)]
    others = ["{p3}:w1:u:a:d:5", "{p3}:w1:i:x:d:5", "{p3}:gate", "{p3}:w1:d:x", "{p3}:else", "{p3}:w2:kd:CODE"]
    server = Scanned(mine[:100], [], [*others, mine[0]], mine[100:])
    pages = [page async for page in Server(cast("Any", server), 3).walk_keys({"d"})]
    assert [key.name for page in pages for key in page] == [*mine[:100], mine[0], *mine[100:]]
    assert max(map(len, pages)) <= PAGE_KEYS
    assert {command[2:4] for command in server.asked} == {("MATCH", "{p3}:*")}


async def test_a_walk_of_one_workspace() -> None:
    """Of one workspace's keys of a kind, Redis is asked for their names alone."""
    server = Scanned(["{p0}:w1:i:a", "{p0}:w1:i:x:w2:i:b"], [], ["{p0}:w1:i:"])
    pages = [page async for page in Server(cast("Any", server), 0).walk_keys_of(1, "i")]
    assert pages == [[key_names.Key(0, 1, "i", ("a",)), key_names.Key(0, 1, "i", ("x:w2:i:b",))]]
    assert {command[2:4] for command in server.asked} == {("MATCH", "{p0}:w1:i:*")}


async def test_clearing_spares_three_keys() -> None:
    """Clearing removes all keys with the prefix, of any layout, except gate, outbox and mark."""
    names = ["{p0}:gate", "{p0}:outbox", "{p0}:mend", "{p0}:w1:u:gate", "{p0}:of:another:layout", "{p0}:config"]
    pages = [page async for page in Server(cast("Any", Scanned(names)), 0).owned_names()]
    assert pages == [names[3:]]


@pytest.mark.parametrize("count", [0, 1, FEW_BUCKETS, FEW_BUCKETS + 1, 5000])
def test_buckets_are_noted_once(count: int) -> None:
    """Each noted bucket is returned once, in runs of a bounded length."""
    wanted = random.Random(count).sample(range(key_names.BUCKETS), count)
    wanted += [0, key_names.BUCKETS - 1] if count else []
    buckets = Buckets()
    for bucket in wanted * 2:
        buckets.add(bucket)
    runs = list(buckets.runs(500))
    assert [bucket for run in runs for bucket in run] == sorted(set(wanted))
    assert max(map(len, runs), default=0) <= 500


def test_one_module_scans() -> None:
    """Only one module of the service scans Redis by a pattern."""
    scanning = {path for path in _SERVICE.rglob("*.py") if _MATCHES.search(path.read_text())}
    assert scanning == {_SERVICE / "engine/hot/redis_server.py"}
