"""What requests run: each script gets the text that it runs by, and the facts that it asked for before."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from tests.simulation import layout
from tests.simulation.events import Event, Id, Kept, kept_of
from tests.simulation.redis_model import Book, Code, Outbox, Text, View
from tests.simulation.scripts import OK, RECALL, RECOVERING, REPEATED, Reply


class Facts(NamedTuple):
    """What a script asked for, by an event's id or a redemption's, and of when. None: there is none."""

    as_of: Any = None
    records: Mapping[Any, Event | None] = MappingProxyType({})


Script = Callable[[View], Reply]
Make = Callable[[Text, Facts], Script]


def _decided(view: View, text: Text, event: Event) -> Reply:
    if view.get("gate")[1] == "behind":
        return Reply("behind")
    written = view.append(text.epoch, event)
    if written is None:
        return Reply(RECOVERING)
    layout.apply(view, written)
    if event.key:
        layout.keep(view, event.key, kept_of(written))
    return Reply(OK, written)


def _handed(view: View, text: Text, facts: Facts) -> Mapping[Any, Event | None]:
    return facts.records if facts.as_of == _as_of(text) or "facts of any epoch believed" in view.planted else {}


def _as_of(text: Text) -> Any:
    return text.epoch, text.nonce


def _fact(view: View, text: Text, facts: Facts, event: Id) -> Event | None:
    """A redemption, by its event: as it was handed in, or as the outbox has it. None where it has to be asked for."""
    if found := _handed(view, text, facts).get(event):
        return found
    outbox: Outbox = view.get("outbox", default=Outbox((), (0, 0)))
    return next((entry for entry in outbox.entries if entry.id == event and entry.kind == "R"), None)


def _recall(text: Text, name: Any) -> Reply:
    return Reply(RECALL, None, (name, _as_of(text)))


def _known(view: View, text: Text, facts: Facts, event: Event) -> Reply | None:
    """What a request is answered whose key is known."""
    kept: Kept | None = view.get("i", event.key) if event.key else None
    if kept is None or kept.redeemed is None:
        return Reply(REPEATED, kept.answer) if kept else None
    redeemed = _fact(view, text, facts, kept.redeemed)
    if redeemed is None:
        if "no facts asked for" in view.planted:
            return None
        return _recall(text, kept.redeemed)
    if kept.rolled_back:
        about = {"order": redeemed.order, "redemption": redeemed.redemption_id, "key": event.key}
        rolled_back = Event(view.partition, "B", 0, 0, kept.rolled_back, redeemed.code, redeemed.user, **about)
        return Reply(REPEATED, rolled_back)
    return Reply(REPEATED, redeemed)


def assign_any(text: Text, event: Event, draw: float) -> Script:
    """Give a user a random free code."""

    def script(view: View) -> Reply:
        if known := _known(view, text, Facts(), event):
            return known
        pool = sorted(view.get("pool", default={}))
        if not pool:
            return Reply("out_of_stock")
        of = pool[int(draw * len(pool))]
        codes = sorted(code for code, entry in view.get("d", of, {}).items() if entry == layout.FREE)
        if not codes:
            return Reply("out_of_stock")
        return _decided(view, text, event._replace(code=codes[event.attempt % len(codes)]))

    return script


def assign_code(text: Text, event: Event) -> Script:
    """Give a user this code."""

    def script(view: View) -> Reply:
        if known := _known(view, text, Facts(), event):
            return known
        row: Code | None = view.get("code", event.code)
        c = layout.load(view, event.code)
        if c is None or row is None:
            return Reply("coupon_not_found")
        if c.off:
            return Reply("coupon_inactive")
        if c.owner is not None:
            return Reply("assigned_already" if c.owner == event.user else "coupon_assigned_to_other")
        if c.uses >= (c.limit or row.uses):
            return Reply("coupon_exhausted")
        return _decided(view, text, event)

    return script


def redeem(text: Text, event: Event, facts: Facts) -> Script:
    """Spend one use."""

    def script(view: View) -> Reply:
        if known := _known(view, text, facts, event):
            return known
        row: Code | None = view.get("code", event.code)
        book: Book | None = view.get("book")
        c = layout.load(view, event.code)
        if row is None or book is None or c is None:
            return Reply("coupon_not_found")
        places = layout.hget(view, "o", event.order) or () if event.order else ()
        for place, kept in places:
            if kept or not layout.stands(view, event.code, c, place):
                continue
            before = _fact(view, text, facts, place)
            if before is None:
                return _recall(text, place)
            if before.user == event.user:
                if event.key:
                    layout.keep(view, event.key, Kept(None, before.id, in_outbox=False))
                return Reply(REPEATED, before)
        if places:
            return Reply("order_already_used")
        return _refused(view, event, c, row, book) or _decided(view, text, event)

    return script


def _refused(view: View, event: Event, c: layout.Record, row: Code, book: Book) -> Reply | None:
    if c.off:
        return Reply("coupon_inactive")
    if c.owner not in (None, event.user):
        return Reply("coupon_assigned_to_other")
    if c.uses >= (c.limit or row.uses):
        return Reply("coupon_exhausted")
    if layout.taken_by(view, event.user) >= book.limit:
        return Reply("user_redemption_limit")
    return None


def rollback(text: Text, event: Event, facts: Facts) -> Script:
    """Give one use back, or keep it used."""

    def script(view: View) -> Reply:  # noqa: PLR0911, as lua/rollback.lua
        if known := _known(view, text, facts, event):
            return known
        told = _handed(view, text, facts).get(event.redemption, event)
        if told is None:
            return Reply("redemption_not_found")
        e = _fact(view, text, facts, event.redemption[:2]) if told is event else told
        if e is None or e.redemption_id != event.redemption:
            if "no facts asked for" in view.planted:
                return Reply("redemption_not_found")
            if e is None or "redemptions known by their numbers" not in view.planted:
                return _recall(text, event.redemption)
        c = layout.load(view, e.code)
        if c is None:
            return Reply("redemption_not_found")
        if not layout.stands(view, e.code, c, e.id):
            return Reply("already_rolled_back")
        return _decided(view, text, event._replace(code=e.code, user=e.user, order=e.order))

    return script


def read_code(code: str) -> Callable[[View], Reply]:
    """What is true of a code: a request that writes nothing."""

    def script(view: View) -> Reply:
        row: Code | None = view.get("code", code)
        return Reply(OK, None, row) if row else Reply("coupon_not_found")

    return script
