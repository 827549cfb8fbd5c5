"""What the worker runs by its text: fence, moving the gate, loading scripts and trimming the outbox."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tests.simulation.events import Event
from tests.simulation.redis_model import READ_ONLY, Outbox, Server, Text, View
from tests.simulation.scripts import OK

if TYPE_CHECKING:
    from tests.simulation.world import World


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
