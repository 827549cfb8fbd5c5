"""How a Lua script runs: one step on one server, the gate read first. What requests run is in deciding.py, what Redis
is made whole with in mending.py, and what moves the gate in gates.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.simulation.events import Event
from tests.simulation.redis_model import READ_ONLY, Book, Code, Server, Text, View

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
