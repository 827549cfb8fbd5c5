"""Bulk work beside the hot path: slots by workspace, and turns on the event loop."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

import pytest

from service.engine.domain.errors import Refusal
from service.engine.operations.caller import Caller
from service.server.api import bulk
from service.server.api.bulk import PAGES_OF_ONE, PIECE, SCRIPTS, Bulk, Slots, Turns
from service.server.api.reading import Listing, unpack_request
from tests.harness.waiting import PATIENCE_S


def test_slots_of_a_workspace_and_of_all() -> None:
    """A workspace has its slots, all workspaces together have theirs; what ends, however it ends, frees its slot."""
    slots = Slots("uploads", 3, 2)
    with slots.one(1), slots.one(1):
        with pytest.raises(Refusal) as own, slots.one(1):
            pass
        assert own.value.code == "rate_limited"
        assert own.value.retry_after_ms
        with slots.one(2), pytest.raises(Refusal) as every, slots.one(3):
            pass
        assert every.value.code == "unavailable"
        with pytest.raises(ZeroDivisionError), slots.one(2):
            raise ZeroDivisionError
        assert slots.running == 2
    assert slots.running == 0
    assert not slots._running


def test_processes_share_out_slots() -> None:
    """The processes of an address have together as many as one."""
    bulk = Bulk(processes=8)
    with bulk.uploads.one(1), pytest.raises(Refusal), bulk.uploads.one(1):
        pass


def test_a_large_page_is_rendered_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page of more than PIECE rows is rendered in pieces, each in a turn; a smaller one at once."""
    turns, take = list[int](), Turns.take

    async def note(self: Turns, workspace: int) -> None:
        turns.append(workspace)
        await take(self, workspace)

    monkeypatch.setattr(Turns, "take", note)
    for count, wanted in ((PIECE, []), (2 * PIECE + 1, [7, 7, 7])):
        turns.clear()
        assert asyncio.run(Bulk().render(7, range(count), str)) == [str(row) for row in range(count)]
        assert turns == wanted


def test_large_reads_are_one_at_a_time() -> None:
    """Large pages, and pages of files, are read one after the other; a small page is read beside them."""
    seen, running = list[int](), 0

    async def read() -> int:
        nonlocal running
        running += 1
        seen.append(running)
        await asyncio.sleep(0)
        running -= 1
        return 1

    async def pages() -> AsyncIterator[list[int]]:
        for _ in range(3):
            yield [await read()]

    async def use(bulk: Bulk) -> None:
        large = (bulk.read(workspace, PIECE + 1, read) for workspace in (1, 2))
        assert await asyncio.gather(_all(bulk.read_pages(1, pages())), *large) == [[[1]] * 3, 1, 1]
        assert seen == [1] * 5
        await asyncio.gather(bulk.read(1, PIECE + 1, read), bulk.read(1, PIECE, read))
        assert seen[5:] == [1, 2]

    asyncio.run(use(Bulk()))


async def test_searches_keep_no_turn_of_other_reads() -> None:
    """While a search waits for Postgres, large pages and pages of files are read; another search waits. They take
    no slots of pages."""
    bulk, done, begun, began = Bulk(), asyncio.Event(), asyncio.Event(), list[int]()

    async def search(workspace: int) -> None:
        began.append(workspace)
        begun.set()
        await done.wait()

    async def pages() -> AsyncIterator[list[int]]:
        yield [1]

    searches = [asyncio.create_task(bulk.search(workspace, partial(search, workspace))) for workspace in (1, 2)]
    async with asyncio.timeout(PATIENCE_S):
        await begun.wait()
        assert await bulk.read(2, PIECE + 1, partial(asyncio.sleep, 0, 1)) == 1
        assert await _all(bulk.read_pages(2, pages())) == [[1]]
    assert began == [1]
    assert (bulk.searches.running, bulk.pages.running) == (2, 0)
    done.set()
    await asyncio.gather(*searches)
    assert began == [1, 2]


@pytest.mark.parametrize("rows", [SCRIPTS, SCRIPTS + 1, PIECE + 1])
def test_scripts_at_once_are_bounded(rows: int) -> None:
    """Two requests with a script for each of their rows: each starts at most SCRIPTS, both together if there are more.
    A large page needs a slot."""
    running, most, slots = 0, 0, set[int]()

    async def run_script(row: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        slots.add(bulk.pages.running)
        await asyncio.sleep(0)
        running -= 1
        return row

    async def use() -> None:
        pages = await asyncio.gather(*(bulk.gather(workspace, range(rows), run_script) for workspace in (1, 2)))
        assert pages == [[*range(rows)]] * 2

    bulk = Bulk()
    asyncio.run(use())
    assert most == (2 * SCRIPTS if rows == SCRIPTS else SCRIPTS)
    assert (slots == {0}) == (rows <= PIECE)


def test_no_page_starts_its_scripts_by_itself() -> None:
    """Handlers run a script for each row by Bulk.gather, never by asyncio.gather."""
    folder = Path(bulk.__file__).parents[2]
    handlers = [*folder.glob("server/api/controllers/*.py"), folder / "console/stocks.py"]
    assert [path.name for path in handlers if "asyncio.gather(" in path.read_text()] == []
    assert len(handlers) > 10


async def _all(pages: AsyncIterator[Sequence[int]]) -> list[Sequence[int]]:
    return [page async for page in pages]


def test_large_pages_at_once_are_bounded() -> None:
    """While a workspace's large pages are read or rendered, it gets no other; small pages and other workspaces do. A
    page of 100 rows is large, a page of the default is small."""
    bulk, large, small = Bulk(), {"limit": "100"}, dict[str, str]()
    with ExitStack() as stack:
        for _ in range(PAGES_OF_ONE):
            stack.enter_context(bulk.pages.one(1))
        for workspace, query in ((1, small), (2, large)):
            unpack_request(_request(bulk, workspace, query), Listing)
        with pytest.raises(Refusal, match="rate_limited"):
            unpack_request(_request(bulk, 1, large), Listing)
        with pytest.raises(Refusal, match="rate_limited"):
            asyncio.run(bulk.render(1, range(PIECE + 1), str))
        with pytest.raises(Refusal, match="rate_limited"):
            asyncio.run(bulk.read(1, PIECE + 1, partial(asyncio.sleep, 0)))
    unpack_request(_request(bulk, 1, large), Listing)


def _request(bulk: Bulk, workspace: int, query: dict[str, str]) -> Any:
    """A request of a workspace, to a process with this bulk work."""
    caller = Caller(None, workspace, UUID(int=0), 0, "live", frozenset())
    app = SimpleNamespace(state=SimpleNamespace(context=SimpleNamespace(bulk=bulk, pool=None)))
    return SimpleNamespace(app=app, scope={"query_string": urlencode(query).encode(), "state": {"caller": caller}})


def _take_turns(wanted: dict[int, int], cancelled: int = 0) -> list[int]:
    """The workspaces in the order of their turns; 0 for a round of the event loop."""
    order = list[int]()

    async def work(turns: Turns, workspace: int) -> None:
        await turns.take(workspace)
        order.append(workspace)

    async def run() -> None:
        turns = Turns()
        tasks = [asyncio.create_task(work(turns, workspace)) for workspace, many in wanted.items() for _ in range(many)]
        await asyncio.sleep(0)
        for task in tasks[:cancelled]:
            task.cancel()
        while not all(task.done() for task in tasks):
            order.append(0)
            await asyncio.sleep(0)

    asyncio.run(run())
    return order


def test_one_turn_in_a_round() -> None:
    """At most one piece runs in a round of the event loop."""
    order = _take_turns({1: 20})
    assert order.count(1) == 20
    assert not any(order[place] and order[place + 1] for place in range(len(order) - 1))


def test_workspaces_take_turns() -> None:
    """A workspace with one request does not wait for all of another's."""
    order = [workspace for workspace in _take_turns({1: 50, 2: 1, 3: 2}) if workspace]
    assert order[:5] == [1, 2, 3, 1, 3]
    assert order.count(1) == 50


def test_a_cancelled_turn_is_passed_on() -> None:
    """The next one gets the turn of a task that was cancelled."""
    assert sorted(filter(None, _take_turns({1: 5, 2: 2}, cancelled=4))) == [1, 2, 2]


def test_pauses_between_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a turn, bulk work pauses for twice its time; short pauses are saved up until a timer can wait for them."""
    spent_s = iter([0.0, 0.0004, 1.0, 1.0004, 2.0, 2.0102])
    pauses = list[float]()

    async def run() -> None:
        loop, turns = asyncio.get_running_loop(), Turns()

        def call_later(delay_s: float, callback: Callable[[], None]) -> None:
            pauses.append(delay_s)
            loop.call_soon(callback)

        monkeypatch.setattr(loop, "call_later", call_later)
        for _ in range(3):
            await turns.take(1)
            await asyncio.sleep(0)
        for _ in range(3):
            await asyncio.sleep(0)

    monkeypatch.setattr(bulk.time, "perf_counter", lambda: next(spent_s))
    asyncio.run(run())
    assert pauses == pytest.approx([0.0016, 0.0204])
