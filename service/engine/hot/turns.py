"""Join the requests that a process has for one partition at the end of a turn of the event loop, for decider.py.

They go out as one call of lua/run_requests.lua, which decides each on its own. A single request goes out as its own
script.
"""

from collections import deque
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from itertools import groupby
from types import MappingProxyType
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
BEHIND = 4
"""Calls in flight from which on Redis is behind."""
CALLS_OF_ONE = 4
"""Calls of a workspace that are in flight then: so many requests wait for Redis while it syncs to disk."""

Request = tuple[OnReply, str, Sequence[str], Sequence[str]]
"""What to call with the reply; the script, its keys and its arguments."""

log = structlog.get_logger()

_joined = frozenset(JOINED) - {"assign_any"}
"""An assignment joins a call only if its book was sold out: 64 may take a second."""
_OWN_SCRIPT, _USUAL, _SOLD_OUT = 0, 1, 2
"""The ways of lua/run_requests.lua to decide a request."""
_pack_list = msgspec.msgpack.Encoder().encode


def _workspace_of(request: Request) -> str:
    """The key of its settings; '' of a request without."""
    names = request[2]
    return names[1] if len(names) > 1 else ""


def _pack(values: Sequence[str | int]) -> bytes:
    """The values, one after the other, as MessagePack: a list without its head, which Lua would make a table of."""
    return _pack_list(values)[1 if len(values) < 16 else 3 :]


class _Queue:
    """The requests of a workspace that wait, its calls in flight, and how many it may have."""

    __slots__ = ("calls", "most", "waiting")

    def __init__(self) -> None:
        self.waiting: deque[Request] = deque()
        self.calls, self.most = 0, CALLS_OF_ONE


class Calls:
    """Sends the requests of a partition, for one epoch and one connection, and passes on their replies.

    While Redis is behind, or if a call ended early, workspaces have queues, and take turns: a request of each, up to
    MAX_REQUESTS, go out together. A workspace has few calls in flight, and one if its last ended early. So others wait
    for a few calls of a workspace, however many clients send however heavy requests.
    """

    __slots__ = ("_epoch_text", "_queues", "connection", "digests", "epoch", "link", "sold_out")

    def __init__(self, link: Link, epoch: int, digests: Mapping[str, str], sold_out: SoldOut) -> None:
        """Raises Refusal `unavailable` without a connection."""
        self.link, self.connection, self.sold_out = link, link.connection, sold_out
        self.epoch, self._epoch_text, self.digests = epoch, str(epoch), digests
        self._queues: dict[str, _Queue] = {}
        """By workspace: the key of its settings."""

    def may_join(self, script: str, names: Sequence[str], args: Sequence[Any]) -> bool:
        """Whether a request may share a call."""
        return (script in _joined and len(args) <= MAX_TEXTS) or self.sold_out.hints_at(script, names, args)

    def send_alone(self, request: Request) -> None:
        """Send a request as its own script, after those of its workspace that wait. Raises Refusal `unavailable`."""
        if self._queues and (queue := self._queues.get(_workspace_of(request))) and queue.waiting:
            queue.waiting.append(request)
            self.connection.waiting += 1
        else:
            self.link.send(partial(self._deliver, request), self._command(*request[1:]))

    def send_joined(self, requests: list[Request]) -> None:
        """Send requests in calls of MAX_REQUESTS."""
        if requests and (self._queues or self.connection.calls >= BEHIND):
            for request in requests:
                self._queues.setdefault(_workspace_of(request), _Queue()).waiting.append(request)
            self.connection.waiting += len(requests)
            self._send_waiting()
        else:
            for start in range(0, len(requests), MAX_REQUESTS):
                self._send(requests[start : start + MAX_REQUESTS])

    def _send_waiting(self) -> None:
        """Send what may be sent of the queues."""
        while ready := [queue for queue in self._queues.values() if queue.waiting and queue.calls < queue.most]:
            requests: list[Request] = []
            while len(requests) < MAX_REQUESTS and (ready := [queue for queue in ready if queue.waiting]):
                requests += [queue.waiting.popleft() for queue in ready[: MAX_REQUESTS - len(requests)]]
            self.connection.waiting -= len(requests)
            for joins, some in groupby(requests, lambda request: self.may_join(*request[1:])):
                for part in [[*some]] if joins else [[request] for request in some]:
                    self._send(part, {workspace: self._queues[workspace] for workspace in map(_workspace_of, part)})
        self._queues = {workspace: queue for workspace, queue in self._queues.items() if queue.calls or queue.waiting}

    def _send(self, requests: list[Request], queues: Mapping[str, _Queue] = MappingProxyType({})) -> None:
        """Send requests of these queues as one call, or as two if they are large. Refuse them if that fails."""
        try:
            if self.link.connection is not self.connection or self.connection.lost:
                raise Refusal.temporary("unavailable")
            is_single = len(requests) == 1
            command = self._command(*requests[0][1:]) if is_single else self._join(requests)
            if not is_single and sum(map(len, command)) > MAX_BYTES:
                half = len(requests) // 2
                self._send(requests[:half], queues)
                self._send(requests[half:], queues)
                return
            take = partial(self._deliver, requests[0]) if is_single else partial(self._distribute, requests)
            self.link.send(partial(self._end, queues, take) if queues else take, command, len(requests))
            for queue in queues.values():
                queue.calls += 1
        except (Refusal, TypeError, ValueError) as error:  # refused, or an argument that can't be packed
            if not isinstance(error, Refusal):
                log.error("request_not_packed", error=type(error).__name__)
            refusal = error if isinstance(error, Refusal) else Refusal.temporary("unavailable")
            for on_reply, *_ in requests:
                on_reply(refusal)

    def _end(self, queues: Mapping[str, _Queue], take: OnReply, reply: Reply) -> None:
        """End a call of these queues."""
        for queue in queues.values():
            queue.calls, queue.most = queue.calls - 1, CALLS_OF_ONE
        take(reply)
        self._send_waiting()

    def _command(self, script: str, names: Sequence[str], args: Sequence[Any]) -> tuple[Any, ...]:
        return ("EVALSHA", self.digests[script], str(len(names)), *names, *args, self._epoch_text)

    def _join(self, requests: list[Request]) -> tuple[Any, ...]:
        """The call of lua/run_requests.lua."""
        places, packed = dict[str, int](), [b""]
        hints, hints_at = self.sold_out.hints, self.sold_out.hints_at
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
        return ("EVALSHA", self.digests["run_requests"], "1", requests[0][2][0], *packed, self._epoch_text)

    def _deliver(self, request: Request, reply: Reply) -> None:
        """Pass a request its reply."""
        on_reply, script, names, args = request
        self.sold_out.learn(script, names, args, reply)
        on_reply(reply)

    def _distribute(self, requests: list[Request], reply: Reply) -> None:
        """Pass each request its own reply; an error, or Broken, is of all of them. If the call ended early, its replies
        end with None, and the other requests wait for a later call."""
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
        hints, learn = self.sold_out.hints, self.sold_out.learn
        for (on_reply, script, names, args), own in zip(decided, replies, strict=True):
            if hints or type(own) is int or (type(own) is list and own[0] in REFUSED):  # else there is nothing to learn
                learn(script, names, args, own)
            on_reply(own)
        if undecided:
            self._return(undecided)

    def _return(self, undecided: list[Request]) -> None:
        """Let requests that a call left undecided be the first that are sent next, and alone in flight."""
        for request in reversed(undecided):
            queue = self._queues.setdefault(_workspace_of(request), _Queue())
            queue.waiting.appendleft(request)
            queue.most = 1
        self.connection.waiting += len(undecided)
        self._send_waiting()


class Turn:
    """The requests of a partition in this turn.

    A request goes out with the digests, and on the connection, of the moment when it was added, or not at all.
    """

    __slots__ = ("_calls", "_link", "_requests", "_sold_out", "connection", "epoch")

    def __init__(self, calls: Calls) -> None:
        self._calls, self._link, self._sold_out = calls, calls.link, calls.sold_out
        self.connection, self.epoch = calls.connection, calls.epoch
        self._requests: list[Request] = []

    def add(self, on_reply: OnReply, script: str, names: Sequence[str], args: Sequence[Any]) -> None:
        """Send a request at the end of the turn, after all that were added before.

        `on_reply` gets its reply, an error, Broken, or the Refusal of a request that was not sent. Raises Refusal
        `unavailable` if too many requests wait.
        """
        if self._link.connection is not self.connection:
            raise Refusal.temporary("unavailable")
        request = (on_reply, script, names, args)
        # as may_join, without its call
        if (script in _joined and len(args) <= MAX_TEXTS) or self._sold_out.hints_at(script, names, args):
            self.connection.waiting += 1
            self._requests.append(request)
        else:
            self.send()
            self._calls.send_alone(request)

    def send(self) -> None:
        """Send what was added."""
        requests, self._requests = self._requests, []
        self.connection.waiting -= len(requests)
        self._calls.send_joined(requests)


class RestrictedTurn(Turn):
    """Refuses some scripts, as their gate would: too much is unrecorded, and no worker has set the gate."""

    __slots__ = ("_refused",)

    def __init__(self, calls: Calls, refused: Collection[str]) -> None:
        super().__init__(calls)
        self._refused = refused

    def add(self, on_reply: OnReply, script: str, names: Sequence[str], args: Sequence[Any]) -> None:
        """Raises Refusal `behind`, too."""
        if script.removesuffix("+") in self._refused:
            raise Refusal.temporary("behind")
        super().add(on_reply, script, names, args)
