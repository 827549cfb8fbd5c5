"""Run the deciding scripts, each once, in the epoch that Postgres has as open. recall.py, batches.py, the fast lane,
workspace_state.py and projection.py send requests with it; wiring.py gives it the epochs."""

import asyncio
import re
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import hiredis
import structlog

from service.common.tracebacks import find_missing_right
from service.engine.domain.errors import Refusal
from service.engine.domain.figures import refuse_outcome
from service.engine.domain.outcomes import RECALL
from service.engine.formats import key_names
from service.engine.formats.event_id import NO_EVENT, EventId, parse_event_id
from service.engine.formats.events import split_entry
from service.engine.formats.gate_text import parse_gate
from service.engine.formats.script_replies import expand_reply
from service.engine.hot.cluster import Report, slot_of
from service.engine.hot.cluster_links import ClusterLinks
from service.engine.hot.connection import Broken, OnReply
from service.engine.hot.fencing import Confirmed, Nonce, parse_nonce
from service.engine.hot.link import Link
from service.engine.hot.scripts import PROJECTION, SERVING, Scripts
from service.engine.hot.sold_out import SoldOut
from service.engine.hot.turns import Calls, RestrictedTurn, Turn

Reply = list[Any]

REDIRECTIONS = frozenset("MOVED ASK TRYAGAIN CLUSTERDOWN".split())
"""Errors of a cluster's node that can't decide the partition, or not now. Nothing was decided."""
_REFUSED_IN_SCRIPT = re.compile(r"[Aa]ttempted to .*(in a cluster node|while the cluster is down)").search

log = structlog.get_logger()


class Decider:
    """Runs a partition's scripts by digest. It never loads scripts, so a Redis that lost them stays closed.

    With replicas, a worker may have opened another server while this process was stopped or without Postgres. The
    connection may still lead to the old server, so a confirmation of the epoch must be fresh: Postgres's, or that of a
    cluster's nodes (docs/internals/decisions/0047, 0054).
    """

    def __init__(self, links: Link | ClusterLinks) -> None:
        self._links = links
        self._sold_out = SoldOut()
        self._turns: dict[int, Turn] = {}
        self._calls: dict[int, Calls] = {}
        """Those of the last turn."""
        self._digests: dict[int, Mapping[str, str]] = {}
        self._epochs: dict[int, tuple[int, str]] = {}
        self._refused: dict[int, frozenset[str]] = {}
        """Scripts that are refused `behind`."""
        self._nonces: dict[int, Nonce] = {}
        self._polled_on: dict[int, int] = {}
        """By partition, the connection (Link.generation) for which its epoch holds; 0 for none."""
        self._confirmed: dict[int, Confirmed] = {}
        """Only of partitions with an epoch, or an earlier one, that must be fresh."""

    def link(self, partition: int) -> Link:
        return self._links.of(partition)

    @property
    def waiting(self) -> int:
        """Requests that were sent to Redis and have no reply yet."""
        return self._links.waiting

    def durability(self, partition: int) -> str:
        """The durability of a reply: `fsynced` if Redis syncs before it replies, else `accepted`."""
        return "fsynced" if self._links.syncs(partition) else "accepted"

    def learn(
        self, partition: int, epoch: int, nonce: str, made: int | None = None, polled_at: float | None = None
    ) -> None:
        """Use this epoch's scripts from now on.

        `made` (Link.made) and `polled_at` (time.monotonic) are of the moment when Postgres was polled, by default now.
        A later connection may lead to a server of an older epoch.
        """
        generation = self.link(partition).generation
        self._polled_on[partition] = generation if made is None or generation <= made else 0
        before = self._epochs.get(partition)
        if is_new := before != (epoch, nonce):
            self._turns.pop(partition, None)
            self._epochs[partition] = (epoch, nonce)
            self._nonces[partition] = parse_nonce(nonce)
            self._digests[partition] = Scripts(partition, epoch, nonce, [*SERVING, *PROJECTION]).digests
        polled_at = time.monotonic() if polled_at is None else polled_at
        if is_new and (self._nonces[partition].fencing or partition in self._confirmed):
            self._confirmed[partition] = Confirmed(self._nonces[partition], polled_at)
        elif partition in self._confirmed:
            self._confirmed[partition] = self._confirmed[partition].by_postgres(polled_at)

    @property
    def committee(self) -> frozenset[str]:
        """The nodes that may confirm some epoch."""
        return frozenset(node for partition in self._epochs for node in self._nonces[partition].committee)

    def confirm_slots(self, sent_at: float, report: Report) -> None:
        """Let a node, asked at `sent_at`, confirm epochs, as in Confirmed.by_node."""
        now = time.monotonic()
        for partition, confirmed in self._confirmed.items():
            self._confirmed[partition] = confirmed.by_node(sent_at, now, report.claim(slot_of(partition)))

    def restrict(self, partition: int, refused: frozenset[str]) -> None:
        """Refuse these scripts `behind` from the next turn on."""
        self._refused[partition] = refused

    def forget(self, partition: int) -> None:
        """Refuse all requests of this partition until `learn` is called. Those of this turn still go out."""
        self._turns.pop(partition, None)
        self._epochs.pop(partition, None)
        self._digests.pop(partition, None)

    def epoch(self, partition: int) -> int:
        """The current epoch; 0 for none."""
        return self._epochs.get(partition, (0, ""))[0]

    def is_in_epoch(self, partition: int, epoch: int) -> bool:
        """Whether the partition has been open since this epoch."""
        return self.epoch(partition) == epoch

    def moment(self, partition: int) -> tuple[int, int]:
        """Epoch and connection; a decision of another moment may be lost."""
        return self.epoch(partition), self.link(partition).generation

    async def run(self, partition: int, script: str, names: Sequence[str], args: Sequence[Any]) -> Reply:
        """Run a script and interpret its reply.

        Raises the script's Refusal; `recovering` without a verified Redis, `unavailable` if the command was not sent,
        `outcome_unknown` if the connection broke before the reply.
        """
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def resolve(reply: Any) -> None:
            if not future.done():
                future.set_result(reply)

        epoch = self.start(partition, script, names, args, resolve)
        return self.interpret(partition, epoch, await future)

    def start(self, partition: int, script: str, names: Sequence[str], args: Sequence[Any], on_reply: OnReply) -> int:
        """Start a script at the end of this turn (turns.py) and return the epoch. `on_reply` gets a raw
        reply for `interpret`.

        Raises Refusal `recovering` or `unavailable` if the command will not be sent.
        """
        turn = self._turns.get(partition) or self._begin_turn(partition)
        turn.add(on_reply, script, names, args)
        return turn.epoch

    def _begin_turn(self, partition: int) -> Turn:
        digests = self._digests.get(partition)
        if digests is None or self._may_differ(partition):
            raise Refusal.temporary("recovering")
        link, epoch, calls = self.link(partition), self.epoch(partition), self._calls.get(partition)
        if not calls or (calls.epoch, calls.digests) != (epoch, digests) or calls.connection is not link.connection:
            calls = self._calls[partition] = Calls(link, epoch, digests, self._sold_out)
        refused = self._refused.get(partition)
        turn = self._turns[partition] = RestrictedTurn(calls, refused) if refused else Turn(calls)

        def end() -> None:
            if self._turns.get(partition) is turn:
                del self._turns[partition]
            turn.send()

        turn.connection.before_flush(end)
        return turn

    def interpret(self, partition: int, epoch: int, reply: Any) -> Reply:
        """The reply of a started script. Raises Refusal as run does."""
        if type(reply) is str and not self._confirmed:  # nearly all
            return expand_reply(reply)
        if isinstance(reply, Refusal):
            raise reply
        if isinstance(reply, hiredis.ReplyError) and self._has_not_run(reply):  # in any epoch
            raise refusal_from_reply(reply)
        if isinstance(reply, Broken) or (self._confirmed and self._is_stale(partition, epoch)):
            raise Refusal.temporary("outcome_unknown")
        return interpret_reply(reply)

    def _has_not_run(self, error: hiredis.ReplyError) -> bool:
        """Whether nothing was decided: the server has no such script, or the node can't decide the partition now."""
        kind = kind_of(error)
        if kind in REDIRECTIONS:
            self._links.suspect()
        return kind == "NOSCRIPT" or kind in REDIRECTIONS

    async def run_all(
        self, partition: int, runs: Sequence[tuple[str, Sequence[str], Sequence[Any]]]
    ) -> list[Reply | Refusal]:
        """As run, for many (script, names, args) in one write. Returns refusals in place of replies."""
        replies: list[Any] = [None] * len(runs)
        left, epoch = len(runs), self.epoch(partition)
        all_replied: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def take(index: int, reply: Any) -> None:
            nonlocal left
            replies[index] = reply
            left -= 1
            if not left and not all_replied.done():
                all_replied.set_result(None)

        for index, (script, names, args) in enumerate(runs):
            try:
                self.start(partition, script, names, args, partial(take, index))
            except Refusal as refusal:
                take(index, refusal)
        if runs:
            await all_replied
        return [self._interpret_or_refuse(partition, epoch, reply) for reply in replies]

    def _interpret_or_refuse(self, partition: int, epoch: int, reply: Any) -> Reply | Refusal:
        try:
            return self.interpret(partition, epoch, reply)
        except Refusal as refusal:
            return refusal

    def _may_differ(self, partition: int) -> bool:
        """Whether the link's server may have other data than the verified one."""
        link = self.link(partition)
        if self._polled_on[partition] != link.generation:
            return True
        if self._confirmed and self._is_stale(partition, self.epoch(partition)):
            return True
        verified, connected = self._nonces[partition].history, link.history
        return verified != connected and bool(verified) and bool(connected)

    def _is_stale(self, partition: int, epoch: int) -> bool:
        """Whether another server may have been opened with a later epoch."""
        confirmed = self._confirmed.get(partition)
        if confirmed is None:
            return False
        return not (self.is_in_epoch(partition, epoch) and confirmed.is_fresh(time.monotonic()))

    async def read_verified_gate(self, partition: int) -> str:
        """The gate's state: `open`, `full`, `behind` or `closed`.

        '' if the gate is missing or has another epoch, or if the server lost the epoch's scripts in a restart.
        """
        if partition not in self._digests or self._may_differ(partition):
            return ""
        state, has_scripts = await asyncio.gather(self.read_gate_state(partition), self.has_scripts(partition))
        return state if has_scripts else ""

    async def read_gate_state(self, partition: int) -> str:
        """As gate, without looking for scripts and other servers."""
        gate = parse_gate(await self._read(partition, "GET", key_names.gate(partition)) or "")
        return gate.state if gate.epoch == str(self.epoch(partition)) else ""

    async def has_scripts(self, partition: int) -> bool:
        """Whether Redis has this version's scripts of the current epoch. Raises Refusal."""
        digests = self._digests.get(partition, {}).values()
        return bool(digests) and all(await self._read(partition, "SCRIPT", "EXISTS", *digests))

    async def read_outbox_length(self, partition: int) -> int:
        return await self._read(partition, "XLEN", key_names.outbox(partition))

    async def read_tail(self, partition: int) -> EventId:
        """The last event in the outbox; NO_EVENT for none."""
        reply = await self._read(partition, "XREVRANGE", key_names.outbox(partition), "+", "-", "COUNT", 1)
        return parse_event_id(reply[0][0]) if reply else NO_EVENT

    async def read_entries_after(self, partition: int, event: EventId) -> list[tuple[EventId, bytes, bytes]]:
        """The outbox's first three entries after an event: id, decision, request's part."""
        entries: list[tuple[EventId, bytes, bytes]] = []
        reply = await self._read(partition, "XRANGE", key_names.outbox(partition), f"({event}", "+", "COUNT", 3)
        for entry_id, flat in reply:
            d, r, _ = split_entry([text.encode() for text in flat])
            entries.append((parse_event_id(entry_id), d, r))
        return entries

    async def read_time_ms(self, partition: int) -> int:
        """The clock of the partition's server, which scripts use, in milliseconds since 1970."""
        second, microsecond = await self._read(partition, "TIME")
        return int(second) * 1000 + int(microsecond) // 1000

    async def _read(self, partition: int, *command: Any) -> Any:
        try:
            reply = await self.link(partition).call(*command)
        except Broken:
            raise Refusal.temporary("unavailable") from None
        if isinstance(reply, hiredis.ReplyError):
            self._has_not_run(reply)
            raise refusal_from_reply(reply)
        return reply


def interpret_reply(reply: Any) -> Reply:
    """The reply of a script that succeeded or needs facts (RECALL). Raises its Refusal otherwise."""
    if isinstance(reply, hiredis.ReplyError):
        raise refusal_from_reply(reply)
    reply = expand_reply(reply)
    if reply[0] > RECALL:
        raise _read_refusal(reply)
    return reply


def _read_refusal(reply: Reply) -> Refusal:
    """A function of its own: an exception and the frame that raises it by its name keep each other, and so everything
    of the request, until the garbage collector comes."""
    refusal = refuse_outcome(reply[0], reply[1] if len(reply) > 1 else None)
    if len(reply) > 2:
        refusal.rates = reply[2]
    return refusal


def is_wrong_type(reply: Any) -> bool:
    """Whether a command failed because of the key's type."""
    return isinstance(reply, hiredis.ReplyError) and str(reply).startswith("WRONGTYPE")


def script_line(error: hiredis.ReplyError) -> str:
    """The line of the script that failed, `user_script:7`; '' if the error names none."""
    line = re.search(r"user_script:\d+", str(error))
    return line[0] if line else ""


def kind_of(error: hiredis.ReplyError) -> str:
    """The kind of an error, the first word of its text. Redis names none if a script may not read a key: its slot is
    being moved key by key, or the cluster is down. Scripts notice that before they write (decision 0051)."""
    text = str(error)
    kind = text.partition(" ")[0]
    return "TRYAGAIN" if kind == "ERR" and _REFUSED_IN_SCRIPT(text) else kind


def refusal_from_reply(error: hiredis.ReplyError) -> Refusal:
    """The Refusal for an error of Redis."""
    kind = kind_of(error)
    if kind == "NOSCRIPT" or kind in REDIRECTIONS:
        return Refusal.temporary("recovering")
    if command := find_missing_right(error):
        log.error("redis_right_missing", command=command)
    elif kind == "ERR":
        log.error("script_failed", line=script_line(error))
    else:
        log.error("redis_error", kind=kind if kind.isupper() else "other")
    # a script that failed may have written before
    return Refusal.temporary("outcome_unknown" if kind == "ERR" else "unavailable")
