"""The Lua scripts: each one step on one server, each reading the gate first."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.simulation import layout
from tests.simulation.events import Event, Id, Kept, kept_of
from tests.simulation.redis_model import READ_ONLY, Book, Code, Outbox, Server, Text, View

if TYPE_CHECKING:
    from tests.simulation.world import World

OK, REPEATED, RECALL, RECOVERING, NOSCRIPT = "ok", "repeated", "recall", "recovering", "NOSCRIPT"


class Reply(NamedTuple):
    """What a script answers. For the checks: what the server lacked at that moment, and the rows that it went by."""

    outcome: str
    event: Event | None = None
    value: Any = None
    witness: str = ""
    went_by: tuple[Code | None, Book | None] = (None, None)

    def __str__(self) -> str:
        return " ".join(str(part) for part in (self.outcome, self.event, self.value, self.witness) if part)


def compose(world: World, part: str, partition: int, epoch: int, nonce: int, replid: int) -> Text:
    """A script's text: partition, epoch, nonce, the state that the gate must have, and the verified replication id."""
    if "no nonce in the text" in world.planted:
        nonce = 0
    if "epoch numbered per partition" in world.planted:
        partition, nonce = -1, 0
    if "no replication id in the text" in world.planted:
        replid = 0
    return Text(part, partition, epoch, nonce, replid)


def evalsha(
    world: World, text: Text, partition: int, script: Callable[[View], Reply], code: str = ""
) -> Callable[[Server], Reply]:
    """Run a loaded script about a code, where the server knows it and the gate lets it pass."""

    def run(server: Server) -> Reply:
        if text not in server.scripts:
            return Reply(NOSCRIPT)
        if text.replid and text.replid != server.replid:
            return Reply(RECOVERING)
        view = View(server, partition)
        gate = view.get("gate")
        if gate is None or gate[0] != text.epoch or (gate[1] == "closed") != (text.part == "closed"):
            return Reply(RECOVERING)
        witness, went_by = world.check.lacks(server, partition), (view.get("code", code), view.get("book"))
        reply = script(view)
        if view.changes and server.source is not None:
            return Reply(READ_ONLY)
        server.write(view.changes)
        if reply.event and reply.outcome == OK and reply.event.kind != "M":
            world.check.decided(server, reply.event)
        if reply.event and reply.outcome == REPEATED:
            world.check.repeated(server, reply.event)
        return reply._replace(witness=witness, went_by=went_by)

    return run


# -- what requests run: each gets the text that it runs by, and the facts that it asked for before


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
        pool = sorted(view.get("pool", default=()))
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


# -- what configuration is written with


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
            view.put("pool", "", view.get("pool", default=frozenset()) | {layout.bucket(name)})
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


# -- what the worker mends with


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


# -- what the worker runs by its text: fence, and moving the gate


def fence(world: World, partition: int, epoch: int, nonce: int) -> Callable[[Server], Any]:
    """Close the gate for an epoch and begin it in the outbox; READONLY, or the gate where it is as late."""

    def run(server: Server) -> Any:
        view = View(server, partition)
        gate = view.get("gate")
        if server.source is not None:
            return READ_ONLY
        if gate is not None and gate[0] >= epoch:
            return gate
        outbox: Outbox = view.get("outbox", default=Outbox((), (0, 0)))
        if outbox.last[0] >= epoch:
            return gate
        if "stream deleted instead of fenced" in world.planted:
            outbox = Outbox((), (0, 0))
        first = Event(partition, "O", epoch, 0, nonce)
        view.put("outbox", "", Outbox((*outbox.entries, first), first.id))
        view.put("gate", "", (epoch, "closed"))
        server.write(view.changes)
        return OK

    return run


def move_gate(world: World, partition: int, was: Any, becomes: tuple[int, str], replid: int) -> Callable[[Server], Any]:
    """Change the gate, where it says what it was thought to; else what it says."""

    def run(server: Server) -> Any:
        view = View(server, partition)
        gate = view.get("gate")
        if server.source is not None:
            return READ_ONLY
        if "gate opened unconditionally" not in world.planted:
            if gate != was:
                return gate
            if replid and server.replid != replid and "no replication id in the text" not in world.planted:
                return "another replication id"
        view.put("gate", "", becomes)
        server.write(view.changes)
        if becomes[1] == "open" and was[1] == "closed":
            world.check.opened(server, partition, becomes[0])
        return OK

    return run


def load(world: World, text: Text, partition: int) -> Callable[[Server], str]:
    """SCRIPT LOAD. What requests run may be known to a whole server alone, or where nothing lets it through."""

    def run(server: Server) -> str:
        server.scripts.add(text)
        if text.part == "hot" and text.replid in (0, server.replid):
            world.check.loaded(server, partition, text.epoch)
        return OK

    return run


def trim(partition: int, first: tuple[int, int]) -> Callable[[Server], str]:
    """XTRIM MINID."""

    def run(server: Server) -> str:
        view = View(server, partition)
        outbox: Outbox | None = view.get("outbox")
        if outbox is None or server.source is not None:
            return READ_ONLY
        kept = tuple(entry for entry in outbox.entries if entry.id >= first)
        if len(kept) < len(outbox.entries):
            view.put("outbox", "", Outbox(kept, outbox.last))
        server.write(view.changes)
        return OK

    return run
