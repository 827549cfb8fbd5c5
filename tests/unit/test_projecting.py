"""Codes on their way into Redis: in bounded runs, a bounded number of them at once."""

import asyncio
from collections.abc import Sequence
from typing import Any

from service.domain.configuration import CodeRow
from service.hot.projection import CODES_A_RUN, RUNS_AT_ONCE, RedisProjector


def _rows(count: int) -> list[CodeRow]:
    shared: dict[str, Any] = {
        "workspace": 1, "partition": 0, "version": 7, "owner_id": None, "max_redemptions": None, "expires_ms": None,
        "active": True, "created_ms": 0,
    }  # fmt: skip
    return [CodeRow(book=1 + number % 2, code=f"CODE-{number}", **shared) for number in range(count)]


async def test_runs_are_bounded() -> None:
    """A long list of codes is projected in runs of bounded size, of which a bounded number wait at once."""
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

    await RedisProjector(run).codes(1, 0, 7, _rows(5_000))
    assert sum(sizes) == 5_000
    assert max(sizes) == CODES_A_RUN
    assert most == RUNS_AT_ONCE
