"""What configuration is written with, and what the worker mends a closed Redis with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tests.simulation import layout
from tests.simulation.events import Event, Kept
from tests.simulation.redis_model import Book, Code, View
from tests.simulation.scripts import OK, RECOVERING, Reply

if TYPE_CHECKING:
    from tests.simulation.world import World


def put_row(world: World, name: str, row: Code | Book) -> Callable[[View], Reply]:
    """Project a row, where it is newer. A code enters the free pool only when it is new here, or its record says so."""

    def script(view: View) -> Reply:
        kind, name_ = ("book", "") if isinstance(row, Book) else ("code", name)
        found = view.get(kind, name_)
        if found is None or found.version < row.version:
            view.put("newest", "", max(row.version, view.get("newest", default=0)))
            view.put(kind, name_, row)
            if isinstance(row, Code):
                _put_code(view, name, row)
        elif "free pool refilled without asking the directory" in world.planted and isinstance(row, Code):
            layout.hset(view, "d", name, layout.FREE)
            layout.count_free(view, layout.bucket(name), 1)
        return Reply(OK)

    return script


def _put_code(view: View, name: str, row: Code) -> None:
    """As lua/put_codes.lua: one that says nothing of its own is no more than its entry."""
    c = layout.load(view, name)
    if c is None:
        c = layout.IDLE if row.active else layout.Record(row.version, off=True)
    elif c.version >= row.version or (c.version == 0 and row.active):
        return
    else:
        c = c._replace(version=row.version, off=not row.active)
    layout.save(view, name, c, row.uses)


def seen(after: int, version: int) -> Callable[[View], Reply]:
    """Remember that every change up to a version is here, where every one up to `after` is. The last such version, and
    the newest that anything is of."""

    def script(view: View) -> Reply:
        last = view.get("config", default=0)
        if after <= last < version:
            last = version
            view.put("config", "", last)
        return Reply(OK, None, (last, max(last, view.get("newest", default=0))))

    return script


def redo(world: World, events: Sequence[Event], *, mark: bool) -> Callable[[View], Reply]:
    """Apply recorded events again; where a prefix is mended, write the mark with them."""

    def script(view: View) -> Reply:
        for event in events:
            layout.apply(view, event, code_alone="redo of only the touched codes" in world.planted)
        if mark:
            view.put("mend", "", events[-1].id)
        return Reply(OK)

    return script


def restore_keys(kept: Mapping[str, Kept]) -> Callable[[View], Reply]:
    """Bring recorded idempotency keys back."""

    def script(view: View) -> Reply:
        for key, entry in kept.items():
            layout.keep(view, key, entry)
        return Reply(OK)

    return script


def clear(names: Sequence[tuple[str, str]]) -> Callable[[View], Reply]:
    """Remove keys."""

    def script(view: View) -> Reply:
        for kind, name in names:
            view.put(kind, name, None)
        return Reply(OK)

    return script


def mended(epoch: int, nonce: int) -> Callable[[View], Reply]:
    """Append what the cursor will enter at: who finds it finds all that was mended before it."""

    def script(view: View) -> Reply:
        written = view.append(epoch, Event(view.partition, "M", epoch, 0, nonce))
        return Reply(OK, written) if written else Reply(RECOVERING)

    return script


def put_mark(mark: Any) -> Callable[[View], Reply]:
    """Say that everything is about to be cleared (`whole`); or that nothing is left to mend (None): then all keys are
    of this layout."""

    def script(view: View) -> Reply:
        view.put("mend", "", mark)
        if mark is None:
            view.put("layout", "", layout.LAYOUT)
        return Reply(OK)

    return script
