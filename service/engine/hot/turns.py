"""Join the requests that a process has for one partition at the end of a turn of the event loop, for decider.py.

They go out as one call of lua/many.lua, which decides each on its own. A single request goes out as its own script.
"""

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec
import structlog

from service.engine.domain.errors import Refusal
from service.engine.hot.connection import Broken, OnReply, Reply
from service.engine.hot.link import Link
from service.engine.hot.scripts import JOINED
from service.engine.hot.sold_out import ARGUMENTS, REFUSED, SoldOut

MAX_REQUESTS = 64
"""Requests of a call: about 2 ms of Redis."""
MAX_BYTES = 256 << 10
"""Of a call with more than one request."""
MAX_TEXTS = 250
"""Keys or arguments of a request in a call: Lua unpacks them onto its stack."""

Request = tuple[OnReply, str, Sequence[str], Sequence[str]]
"""What to call with the reply; the script, its keys and its arguments."""

log = structlog.get_logger()

_joined = frozenset(JOINED) - {"assign_any"}
"""An assignment joins a call only if its book was sold out: 64 may take a second."""
_OWN_SCRIPT, _USUAL, _SOLD_OUT = 0, 1, 2
"""The ways of lua/many.lua to decide a request."""
_pack_list = msgspec.msgpack.Encoder().encode


def _pack(values: Sequence[str | int]) -> bytes:
    """The values, one after the other, as MessagePack: a list without its head, which Lua would make a table of."""
    return _pack_list(values)[1 if len(values) < 16 else 3 :]


class Turn:
    """The requests of a partition in this turn, for one epoch and one connection.

    A request goes out with the digests, and on the connection, of the moment when it was added, or not at all.
    """

    __slots__ = ("_digests", "_epoch_text", "_link", "_requests", "_sold_out", "connection", "epoch")

    def __init__(self, link: Link, epoch: int, digests: Mapping[str, str], sold_out: SoldOut) -> None:
        """Raises Refusal `unavailable` without a connection."""
        self._link, self.connection, self._sold_out = link, link.connection, sold_out
        self.epoch, self._epoch_text, self._digests = epoch, str(epoch), digests
        self._requests: list[Request] = []

    def add(self, on_reply: OnReply, script: str, names: Sequence[str], args: Sequence[Any]) -> None:
        """Send a request at the end of the turn, after all that were added before.

        `on_reply` gets its reply, an error, Broken, or the Refusal of a request that was not sent. Raises Refusal
        `unavailable` if too many requests wait.
        """
        if self._link.connection is not self.connection:
            raise Refusal.temporary("unavailable")
        request = (on_reply, script, names, args)
        if (script in _joined and len(args) <= MAX_TEXTS) or self._sold_out.hints_at(script, names, args):
            self.connection.waiting += 1
            self._requests.append(request)
        else:
            self.send()
            self._link.send(partial(self._deliver, request), self._command(script, names, args))

    def send(self) -> None:
        """Send what was added."""
        requests, self._requests = self._requests, []
        self.connection.waiting -= len(requests)
        for start in range(0, len(requests), MAX_REQUESTS):
            self._send(requests[start : start + MAX_REQUESTS])

    def _send(self, requests: list[Request]) -> None:
        try:
            if self._link.connection is not self.connection:
                raise Refusal.temporary("unavailable")
            if len(requests) == 1:
                self._link.send(partial(self._deliver, requests[0]), self._command(*requests[0][1:]))
                return
            command = self._join(requests)
            if sum(map(len, command)) > MAX_BYTES:
                half = len(requests) // 2
                self._send(requests[:half])
                self._send(requests[half:])
            else:
                self._link.send(partial(self._distribute, requests), command, len(requests))
        except (Refusal, TypeError, ValueError) as error:  # refused, or an argument that can't be packed
            if not isinstance(error, Refusal):
                log.error("request_not_packed", error=type(error).__name__)
            refusal = error if isinstance(error, Refusal) else Refusal.temporary("unavailable")
            for on_reply, *_ in requests:
                on_reply(refusal)

    def _command(self, script: str, names: Sequence[str], args: Sequence[Any]) -> tuple[Any, ...]:
        return ("EVALSHA", self._digests[script], str(len(names)), *names, *args, self._epoch_text)

    def _join(self, requests: list[Request]) -> tuple[Any, ...]:
        """The call of lua/many.lua."""
        places, packed = dict[str, int](), [b""]
        hints, hints_at = self._sold_out.hints, self._sold_out.hints_at
        for _, script, names, args in requests:
            way, settings, entry = _OWN_SCRIPT, 0, 0
            if hints and hints_at(script, names, args):
                way = _SOLD_OUT
            elif script != "assign_any" and ARGUMENTS.get(script) == len(args):  # with facts its own script decides
                way = _USUAL
            if way:
                settings = places.setdefault(names[1], len(places) + 1)
                entry = places.setdefault(names[2], len(places) + 1)
            packed.append(_pack((way, settings, entry, script, len(names) - 1, *names[1:], *args)))
        packed[0] = _pack([*places])
        return ("EVALSHA", self._digests["many"], "1", requests[0][2][0], *packed, self._epoch_text)

    def _deliver(self, request: Request, reply: Reply) -> None:
        """Pass a request its reply."""
        on_reply, script, names, args = request
        self._sold_out.learn(script, names, args, reply)
        on_reply(reply)

    def _distribute(self, requests: list[Request], reply: Reply) -> None:
        """Pass each request its own reply; an error, or Broken, is of all of them. If the call ended early, its replies
        end with None, and the other requests go out in another call."""
        if not isinstance(reply, list):
            for on_reply, *_ in requests:
                on_reply(reply)
            return
        undecided = requests[len(reply) - 1 :] if reply[1:] and reply[-1] is None else []
        decided, replies = requests[: len(requests) - len(undecided)], reply[:-1] if undecided else reply
        if len(replies) != len(decided):
            log.error("unexpected_replies", expected=len(requests), got=len(reply))
            self._distribute(requests, Broken())
            return
        hints, learn = self._sold_out.hints, self._sold_out.learn
        for (on_reply, script, names, args), own in zip(decided, replies, strict=True):
            if hints or type(own) is int or (type(own) is list and own[0] in REFUSED):  # else there is nothing to learn
                learn(script, names, args, own)
            on_reply(own)
        if undecided:
            self._send(undecided)


class RestrictedTurn(Turn):
    """Refuses some scripts, as their gate would: too much is unrecorded, and no worker has set the gate."""

    __slots__ = ("_refused",)

    def __init__(
        self, link: Link, epoch: int, digests: Mapping[str, str], sold_out: SoldOut, refused: Collection[str]
    ) -> None:
        super().__init__(link, epoch, digests, sold_out)
        self._refused = refused

    def add(self, on_reply: OnReply, script: str, names: Sequence[str], args: Sequence[Any]) -> None:
        """Raises Refusal `behind`, too."""
        if script.removesuffix("+") in self._refused:
            raise Refusal.temporary("behind")
        super().add(on_reply, script, names, args)
