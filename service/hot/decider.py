"""Running the scripts that decide: each once, on the epoch that Postgres says is open."""

import asyncio
import re
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import hiredis
import structlog

from service.domain.errors import Refusal
from service.domain.outcomes import RECALL
from service.formats import key_names
from service.formats.event_id import NO_EVENT, EventId, parse_event_id
from service.formats.gate_text import parse_gate
from service.hot.connection import Broken, Link, OnReply
from service.hot.scripts import PROJECTION, SERVING, Scripts, history_of, is_followed

Reply = list[Any]

FRESH_S = 0.5
"""So old may be what Postgres said of the epoch when a reply comes, where Redis has replicas: as long as an opening
waits."""

log = structlog.get_logger()


class Decider:
    """Runs a partition's scripts by digest; it never loads any, so a Redis that forgot them stays shut.

    Where Redis has replicas, another server may have been opened while this process was stopped, or cut off from
    Postgres: its connection may still lead to the old one. So what Postgres said must be fresh there
    (docs/decisions/0014).
    """

    def __init__(self, link: Link) -> None:
        self.link = link
        self._digests: dict[int, dict[str, str]] = {}
        self._epochs: dict[int, tuple[int, str]] = {}
        self._histories: dict[int, str] = {}
        self._asked_on: dict[int, int] = {}
        self._asked_at: dict[int, float] = {}
        """Of the partitions whose Redis has replicas."""

    @property
    def durability(self) -> str:
        """How safe a reply is: `fsynced` where Redis has it on disk, else `accepted`."""
        return "fsynced" if self.link.fsynced else "accepted"

    def learn(
        self, partition: int, epoch: int, nonce: str, generation: int | None = None, asked_at: float | None = None
    ) -> None:
        """Use this epoch's scripts from now on, on the connection (Link.generation) that there was when Postgres was
        asked, at `asked_at` (time.monotonic); now's where left out. A later one may lead to a server that an older
        epoch was opened on."""
        self._asked_on[partition] = self.link.generation if generation is None else generation
        self._asked_at.pop(partition, None)
        if is_followed(nonce):
            self._asked_at[partition] = time.monotonic() if asked_at is None else asked_at
        if self._epochs.get(partition) != (epoch, nonce):
            self._epochs[partition] = (epoch, nonce)
            self._histories[partition] = history_of(nonce)
            self._digests[partition] = Scripts(partition, epoch, nonce, [*SERVING, *PROJECTION]).digests

    def forget(self, partition: int) -> None:
        """Decide nothing in this partition until an epoch is learnt."""
        self._epochs.pop(partition, None)
        self._digests.pop(partition, None)

    def epoch(self, partition: int) -> int:
        """The epoch whose scripts run now; 0 for none."""
        return self._epochs.get(partition, (0, ""))[0]

    def moment(self, partition: int) -> tuple[int, int]:
        """Epoch and connection: what was decided at another moment may be gone."""
        return self.epoch(partition), self.link.generation

    async def run(self, partition: int, script: str, names: Sequence[str], args: Sequence[Any]) -> Reply:
        """A script's reply where it says yes, or asks for facts; else the Refusal that it names.

        Also Refusal `recovering` without a verified Redis, `unavailable` where nothing was sent, `outcome_unknown`
        where the connection broke before the reply.
        """
        digests, epoch = self._digests.get(partition), self.epoch(partition)
        if digests is None or self._is_other(partition):
            raise Refusal.temporary("recovering")
        try:
            reply = await self.link.call("EVALSHA", digests[script], len(names), *names, *args)
        except Broken as broken:
            reply = broken
        return self.told(partition, epoch, reply)

    def start(self, partition: int, script: str, names: Sequence[str], args: Sequence[Any], on_reply: OnReply) -> int:
        """As run, for those who don't await: `on_reply` gets what `told` makes the reply of, with the epoch that this
        returns. Refusal `recovering` or `unavailable` where nothing was sent."""
        digests = self._digests.get(partition)
        if digests is None or self._is_other(partition):
            raise Refusal.temporary("recovering")
        self.link.send(on_reply, ("EVALSHA", digests[script], len(names), *names, *args))
        return self._epochs[partition][0]

    def told(self, partition: int, epoch: int, reply: Any) -> Reply:
        """The reply of a script that was started, where it says yes; else the Refusal that run would raise."""
        if isinstance(reply, Broken) or (self._asked_at and self._is_stale(partition, epoch)):
            raise Refusal.temporary("outcome_unknown")
        return judged(reply)

    async def run_all(
        self, partition: int, runs: Sequence[tuple[str, Sequence[str], Sequence[Any]]]
    ) -> list[Reply | Refusal]:
        """As run, for many (script, names, args): sent in one turn of the loop, hence in one write, and decided in
        their order. Each one's reply, or the Refusal that run would raise."""
        digests, epoch = self._digests.get(partition), self.epoch(partition)
        if digests is None or self._is_other(partition):
            return [Refusal.temporary("recovering") for _ in runs]
        found: list[Any] = [None] * len(runs)
        left = len(runs)
        all_told: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def tell(place: int, reply: Any) -> None:
            nonlocal left
            found[place] = reply
            left -= 1
            if not left and not all_told.done():
                all_told.set_result(None)

        for place, (script, names, args) in enumerate(runs):
            try:
                self.link.send(partial(tell, place), ("EVALSHA", digests[script], len(names), *names, *args))
            except Refusal as refusal:
                tell(place, refusal)
        if runs:
            await all_told
        if self._is_stale(partition, epoch):
            return [Refusal.temporary("outcome_unknown") for _ in runs]
        return [_judged_or_refusal(reply) for reply in found]

    def _is_other(self, partition: int) -> bool:
        """Whether the link's server may have another's data than the one that was verified."""
        link = self.link
        if self._asked_on[partition] != link.generation:
            return True
        if self._asked_at and self._is_stale(partition, self.epoch(partition)):
            return True
        verified, here = self._histories[partition], link.history
        return verified != here and bool(verified) and bool(here)

    def _is_stale(self, partition: int, epoch: int) -> bool:
        """Whether a later epoch than this one may have been opened on another server by now."""
        asked_at = self._asked_at.get(partition)
        return asked_at is not None and (self.epoch(partition) != epoch or time.monotonic() - asked_at > FRESH_S)

    async def gate(self, partition: int) -> str:
        """What the gate says: `open`, `full`, `behind`, `closed`; '' where it is of another epoch, or missing, or
        where the server doesn't have the epoch's scripts: a gate outlives its restart, scripts don't."""
        digests = self._digests.get(partition)
        if digests is None or self._is_other(partition):
            return ""
        read, known = await asyncio.gather(
            self._read("GET", key_names.gate(partition)), self._read("SCRIPT", "EXISTS", *digests.values())
        )
        gate = parse_gate(read or "")
        return gate.state if gate.epoch == str(self.epoch(partition)) and all(known) else ""

    async def tail(self, partition: int) -> EventId:
        """The last event in the outbox; NO_EVENT for none."""
        reply = await self._read("XREVRANGE", key_names.outbox(partition), "+", "-", "COUNT", 1)
        return parse_event_id(reply[0][0]) if reply else NO_EVENT

    async def after(self, partition: int, event: EventId) -> list[tuple[EventId, bytes, bytes]]:
        """The outbox's first few entries after an event: its id, what was decided, the request's part."""
        found: list[tuple[EventId, bytes, bytes]] = []
        for entry_id, flat in await self._read("XRANGE", key_names.outbox(partition), f"({event}", "+", "COUNT", 3):
            fields = dict(zip(flat[::2], flat[1::2], strict=True))
            found.append((parse_event_id(entry_id), fields.get("d", "").encode(), fields.get("r", "").encode()))
        return found

    async def time_ms(self) -> int:
        """The server's clock, which scripts go by, in milliseconds since 1970."""
        second, microsecond = await self._read("TIME")
        return int(second) * 1000 + int(microsecond) // 1000

    async def _read(self, *command: Any) -> Any:
        try:
            reply = await self.link.call(*command)
        except Broken:
            raise Refusal.temporary("unavailable") from None
        if isinstance(reply, hiredis.ReplyError):
            raise refusal_from_reply(reply)
        return reply


def _judged_or_refusal(reply: Any) -> Reply | Refusal:
    if isinstance(reply, Refusal):
        return reply
    if isinstance(reply, Broken):
        return Refusal.temporary("outcome_unknown")
    try:
        return judged(reply)
    except Refusal as refusal:
        return refusal


def judged(reply: Any) -> Reply:
    """The reply of a script that said yes, or asks for facts (RECALL); Refusal otherwise."""
    if isinstance(reply, hiredis.ReplyError):
        raise refusal_from_reply(reply)
    if reply[0] > RECALL:
        refusal = Refusal.from_number(reply[0], reply[1] if len(reply) > 1 else None)
        if len(reply) > 2:
            refusal.rates = reply[2]
        raise refusal
    return reply


def is_wrong_type(reply: Any) -> bool:
    """Whether Redis refused a command because the key holds another type than the command is for."""
    return isinstance(reply, hiredis.ReplyError) and str(reply).startswith("WRONGTYPE")


def refusal_from_reply(error: hiredis.ReplyError) -> Refusal:
    """What an error of Redis's means: nothing was decided by a server that is not ours to use, or that is full."""
    kind = str(error).partition(" ")[0]
    if kind == "NOSCRIPT":
        return Refusal.temporary("recovering")
    if kind == "ERR":  # a script failed on its way, perhaps after its first write
        line = re.search(r"user_script:\d+", str(error))
        log.error("script_failed", line=line[0] if line else "")
        return Refusal.temporary("outcome_unknown")
    log.error("redis_error", kind=kind if kind.isupper() else "other")
    return Refusal.temporary("unavailable")
