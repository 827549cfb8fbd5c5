"""Copying of keys that change, for a move."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from service.record.partitions.moves import CannotMove
from service.worker.moving import key_copier
from service.worker.moving.key_copier import LONG_S, PAUSED_S, SHORT_S, KeyCopier

COPIED_A_S = 10_000


class _Keys:
    """A workspace whose keys change so often a second, except while it is paused, on a clock that copying advances."""

    def __init__(self, changed_a_s: int) -> None:
        self._changed_a_s, self.now, self.changed, self._is_paused = changed_a_s, 100.0, 4_000.0, False
        self.pauses = list[tuple[float, float]]()

    def monotonic(self) -> float:
        return self.now

    @property
    def count(self) -> int:
        return int(self.changed)

    def take(self) -> list[str]:
        names, self.changed = [""] * self.count, 0.0
        return names

    async def copy_from(self, _: Any, names: Sequence[str]) -> None:
        took_s = 0.01 + len(names) / COPIED_A_S
        self.now += took_s
        self.changed += 0 if self._is_paused else took_s * self._changed_a_s

    @asynccontextmanager
    async def pause(self) -> AsyncIterator[None]:
        began, self._is_paused = self.now, True
        yield
        self._is_paused = False
        self.pauses.append((began, self.now))


def _copier(keys: _Keys, monkeypatch: pytest.MonkeyPatch) -> KeyCopier:
    monkeypatch.setattr(key_copier, "time", keys)
    return KeyCopier(cast("Any", keys), cast("Any", keys), cast("Any", keys), keys.pause)


async def test_no_pause_while_copying_is_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where keys change at half the rate at which they are copied, the copying settles without a pause."""
    keys = _Keys(COPIED_A_S // 2)
    copier = _copier(keys, monkeypatch)
    await copier.settle()
    assert copier.round_s <= SHORT_S
    assert keys.pauses == []


@pytest.mark.parametrize("times", [1, 2])
async def test_pauses_let_copying_catch_up(monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    """Where keys change up to twice as fast as they are copied, short pauses make rounds shorter."""
    keys = _Keys(COPIED_A_S * times)
    copier = _copier(keys, monkeypatch)
    await copier.settle(60.0)
    assert copier.round_s <= LONG_S
    assert 0 < len(keys.pauses) < key_copier.MOST_PAUSES
    assert all(end - began <= PAUSED_S + 0.01 for began, end in keys.pauses)


async def test_pauses_can_be_forbidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without pauses rounds get longer and longer."""
    keys = _Keys(COPIED_A_S * 2)
    copier = _copier(keys, monkeypatch)
    await copier.forbid_pauses()
    await copier.settle()
    assert copier.round_s > LONG_S
    assert keys.pauses == []


async def test_pauses_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """If pauses don't help, the attempt ends with that reason."""
    keys = _Keys(COPIED_A_S * 30)
    monkeypatch.setattr(key_copier, "MOST_PAUSES", 5)
    copier = _copier(keys, monkeypatch)
    with pytest.raises(CannotMove, match="its keys change faster than they are copied, also after 5 pauses"):
        await copier.settle(1000.0)
