"""Codes on their way into Redis: in bounded runs, a bounded number of them at once."""

import asyncio
import contextlib
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from service.common import pace as paces
from service.common.pace import Pace
from service.engine.domain.configuration import CodeRow
from service.engine.hot.projection import CODES_A_RUN, FEW_CODES, PACED_CODES, RUNS_AT_ONCE, RedisProjector


def _rows(count: int) -> list[CodeRow]:
    shared: dict[str, Any] = {
        "workspace": 1, "partition": 0, "version": 7, "owner_id": None, "max_redemptions": None, "expires_ms": None,
        "active": True, "created_ms": 0,
    }  # fmt: skip
    return [CodeRow(book=1 + number % 2, code=f"CODE-{number}", **shared) for number in range(count)]


@pytest.mark.parametrize("pace", [None, Pace(1.0)])
async def test_runs_are_bounded(pace: Pace | None) -> None:
    """Codes are projected in bounded runs, a bounded number at once; with a pace one, whatever the lists."""
    sizes: list[int] = []
    going = most = 0

    async def run(_: int, script: str, __: Sequence[str], args: Sequence[Any]) -> list[Any]:
        nonlocal going, most
        going += 1
        most = max(most, going)
        await asyncio.sleep(0)
        going -= 1
        assert (script, args[1:3]) == ("put_codes", (7, ""))
        sizes.append((len(args) - 3) // 3)
        return [0]

    projector = RedisProjector(run, pace=pace)
    await projector.codes(1, 0, 7, _rows(5_000))
    assert sum(sizes) == 5_000
    assert max(sizes) == (PACED_CODES if pace else CODES_A_RUN)
    assert most == (1 if pace else RUNS_AT_ONCE)
    most = 0
    await asyncio.gather(*(projector.codes(1, 0, 7, _rows(FEW_CODES + 1)) for _ in range(3)))
    assert most == (1 if pace else 6)


async def test_few_codes_wait_for_no_turn() -> None:
    """A short list is written at once, while a long one pauses."""
    pace, wrote = Pace(0.5), list[int]()

    async def run(_: int, __: str, ___: Sequence[str], args: Sequence[Any]) -> list[Any]:
        wrote.append((len(args) - 3) // 3)
        return [0]

    projector = RedisProjector(run, pace=pace)
    async with pace.turn(1):
        many = asyncio.create_task(projector.codes(1, 0, 7, _rows(FEW_CODES + 1)))
        await projector.codes(1, 0, 7, _rows(1))
        assert wrote == [1]
    await many
    assert sum(wrote) == 1 + FEW_CODES + 1


async def test_each_turn_has_its_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several tasks work one after the other, at a share of the time: a piece waits for the rest of the pause of the
    one before it, also if that failed."""
    now, slept = 100.0, list[float]()

    async def rest(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr(paces, "MAX_PAUSE_S", 60.0)
    monkeypatch.setattr(paces, "time", SimpleNamespace(monotonic=lambda: now))
    monkeypatch.setattr(paces, "asyncio", SimpleNamespace(sleep=rest))
    pace = Pace(0.25)
    for works_s, idle_s in ((1.0, 2.0), (2.0, 60.0), (4.0, 0.0), (0.0, 0.0)):
        with contextlib.suppress(ValueError):
            async with pace.turn(1):
                now += works_s
                if works_s == 4.0:
                    raise ValueError
        now += idle_s
    assert slept == [0.0, 1.0, 0.0, 12.0]
