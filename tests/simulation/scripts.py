"""The Lua scripts: each one step on one server, each reading the gate first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.simulation.events import Event, apply, settle
from tests.simulation.redis_model import READ_ONLY, Book, Code, Outbox, Server, Text, View

if TYPE_CHECKING:
    from tests.simulation.world import World

OK, REPEATED, RECOVERING, NOSCRIPT = "ok", "repeated", "recovering", "NOSCRIPT"


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
        return reply._replace(witness=witness, went_by=went_by)

    return run


# -- what requests run


def _decided(view: View, text: Text, event: Event) -> Reply:
    if view.get("gate")[1] == "behind":
        return Reply("behind")
    written = view.append(text.epoch, event)
    if written is None:
        return Reply(RECOVERING)
    view.apply(written)
    return Reply(OK, written)


def _known(view: View, key: str) -> Reply | None:
    kept: Event | None = view.get("key", key) if key else None
    return Reply(REPEATED, kept) if kept else None


def assign_any(text: Text, event: Event, draw: float) -> Callable[[View], Reply]:
    """Give a user a random free code."""

    def script(view: View) -> Reply:
        if known := _known(view, event.key):
            return known
        pool = sorted(view.get("pool", default=()))
        if not pool:
            return Reply("out_of_stock")
        return _decided(view, text, event._replace(code=pool[int(draw * len(pool))]))

    return script


def assign_code(text: Text, event: Event) -> Callable[[View], Reply]:
    """Give a user this code."""

    def script(view: View) -> Reply:
        if known := _known(view, event.key):
            return known
        code: Code | None = view.get("code", event.code)
        owner = view.get("owner", event.code)
        if code is None:
            return Reply("coupon_not_found")
        if not code.active:
            return Reply("coupon_inactive")
        if owner is not None:
            return Reply("assigned_already" if owner == event.user else "coupon_assigned_to_other")
        if view.get("uses", event.code, 0) >= code.uses:
            return Reply("coupon_exhausted")
        return _decided(view, text, event)

    return script


def redeem(text: Text, event: Event) -> Callable[[View], Reply]:
    """Spend one use."""

    def script(view: View) -> Reply:  # noqa: PLR0911, a refusal each  # noqa: PLR0911, a refusal each
        if known := _known(view, event.key):
            return known
        code: Code | None = view.get("code", event.code)
        book: Book | None = view.get("book")
        if code is None or book is None:
            return Reply("coupon_not_found")
        used: Event | None = view.get("order", event.order) if event.order else None
        if used:
            same = (used.code, used.user) == (event.code, event.user)
            return Reply(REPEATED, used) if same else Reply("order_already_used")
        if not code.active:
            return Reply("coupon_inactive")
        if view.get("owner", event.code) not in (None, event.user):
            return Reply("coupon_assigned_to_other")
        if view.get("uses", event.code, 0) >= code.uses:
            return Reply("coupon_exhausted")
        if view.get("user", event.user, 0) >= book.limit:
            return Reply("user_redemption_limit")
        return _decided(view, text, event)

    return script


def rollback(text: Text, event: Event) -> Callable[[View], Reply]:
    """Give one use back."""

    def script(view: View) -> Reply:
        if known := _known(view, event.key):
            return known
        found = view.get("redemption", event.redemption)
        if found is None:
            return Reply("redemption_not_found")
        code, user, order, state = found
        if state != "stands":
            return Reply("already_rolled_back")
        return _decided(view, text, event._replace(code=code, user=user, order=order))

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
        kind = "book" if isinstance(row, Book) else "code"
        found = view.get(kind, "" if kind == "book" else name)
        if "free pool refilled without asking the directory" in world.planted and isinstance(row, Code) and row.active:
            view.put("pool", "", view.get("pool", default=frozenset()) | {name})
        if found is not None and found.version >= row.version:
            return Reply(OK)
        view.put("newest", "", max(row.version, view.get("newest", default=0)))
        view.put(kind, "" if kind == "book" else name, row)
        if kind == "code" and "free pool refilled without asking the directory" not in world.planted:
            settle(view, name)
        return Reply(OK)

    return script


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
            apply(view, event, code_alone="redo of only the touched codes" in world.planted)
        if mark:
            view.put("mend", "", events[-1])
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
    """Say that everything is about to be cleared (`whole`); or that nothing is left to mend (None)."""

    def script(view: View) -> Reply:
        view.put("mend", "", mark)
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
