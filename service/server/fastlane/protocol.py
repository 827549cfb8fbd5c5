"""Answer hot requests from callbacks without tasks, futures and ASGI; server.py gives this protocol to uvicorn.
traced_protocol.py overrides _ask, _on_reply and _answer; hot_path.py answers hot requests that fall back.

API CPU a request, lock and redeem, on two busy cores: 45 µs here, 193 in Litestar. On an idle machine 12 µs are
the service's Python (`make bench PART=lane`), half of them operations; a quarter is the kernel's.
"""

import asyncio
import contextlib
from typing import Any

import structlog

from service.engine.deciding.counting import count_refused
from service.engine.domain.errors import Refusal
from service.engine.domain.outcomes import RECALL
from service.engine.operations.base import Call, Command, Rendered, Reply
from service.engine.operations.caller import Caller
from service.engine.operations.run import Raw, begin, begin_decoded, finish, finish_refused
from service.engine.operations.table import Row
from service.server.answers.accounting import NOBODY, answers, new_request_id, now_s
from service.server.answers.refused_requests import refused_requests
from service.server.fastlane.bounded_protocol import BODY, HEAD, LINGERING, WAITING, Bounded
from service.server.fastlane.connection_room import FREE_BYTES
from service.server.fastlane.request_heads import find_rest
from service.server.fastlane.routes import (
    AGENT,
    AUTHORIZATION,
    CLOSES,
    FAST_ROWS,
    FORWARDED,
    KEY,
    LENGTH,
    METHOD,
    REQUEST_ID,
    HeadValues,
    Lane,
    find_route,
)
from service.server.fastlane.shapes import OPERATION, RequestShape, shapes_of

log = structlog.get_logger()


class Protocol(Bounded):
    """uvicorn's protocol with the fast lane. Without a lane, all requests go to Litestar.

    1. Read a hot request's head. Other requests, and those with unusual headers, fall back to Litestar.
    2. Collect the body, authenticate, begin, and send the script. A whole request of an adopted shape is read at once.
    3. Finish in the reply's callback. The decision stands if the client has disconnected.
    """

    __slots__ = (
        "_began_s", "_body", "_caller", "_command", "_epoch", "_ip", "_lane", "_misses", "_name", "_path", "_proxied",
        "_request_id", "_row", "_shapes", "_usual", "_values", "_waiting_for",
    )  # fmt: skip
    _caller: Caller | None
    _command: Command
    _ip: str | None

    def __init__(self, *args: Any, lane: Lane | None = None, **options: Any) -> None:
        """Bounded's arguments, and the lane."""
        super().__init__(*args, **options)
        self._lane = lane
        if lane:
            self._shapes = shapes_of(lane)
        self._usual: dict[bytes, RequestShape] = {}
        self._misses = 0
        self._row: Row
        self._values: HeadValues
        self._name: str | None = None
        self._path, self._request_id = b"", ""
        self._body = bytearray()
        self._epoch = 0
        self._proxied = False
        self._began_s = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._ip = self.client[0] if self.client else None
        self._proxied = self._lane is not None and self._lane.proxies.trusts(self._ip)

    def data_received(self, data: bytes) -> None:
        if self._state == HEAD and not (self._partial_head or self._buffered or self.flow.write_paused):  # saves a call
            if self._usual and self._ask_by_shape(data):
                return
            data = self._begin(data)
            if not data:
                return
        super().data_received(data)

    def _begin(self, data: bytes) -> bytes:
        lane = self._lane
        route = find_route(data) if lane else None
        if lane is None or route is None or route.lastindex is None:
            return super()._begin(data)
        head = find_rest(data, route.end())
        values = lane.read_values(head) if head else None
        if head is None or values is None:
            return super()._begin(data)
        number, start = route.lastindex, head.end()
        self._row, self._path = FAST_ROWS[number - 1], data[len(METHOD) : route.end()]
        self._name, self._values = route[number].decode() or None, values
        end = start + values[LENGTH]
        self._progress += 1
        if len(data) < end:
            return self._begin_body(lane, data[start:], end - len(data))
        if end - start > FREE_BYTES:
            self._admit_early(lane)
            if not self._room.turns.may_begin(self):
                return data
            if not self._keep_whole(end - start):
                return b""
        self._ask(lane, data[start:end])
        self._misses += 1
        if not self._misses & (self._misses - 1) and self._misses > 2 and len(data) == end and self._caller:
            shape = self._shapes.adopt(self._row, values, data, self._began_s)
            if shape:
                self._usual[data[OPERATION]] = shape
        return data[end:]

    def _begin_body(self, lane: Lane, part: bytes, missing: int) -> bytes:
        """Collect the rest of a body. One of more than FREE_BYTES is collected for a known caller alone; usual bodies
        are shorter, and authenticated once."""
        if len(part) + missing > FREE_BYTES:
            try:
                self._authenticate(lane)
            except Refusal as refusal:
                self._refuse(refusal)
                return b""
        self._state, self._body, self._body_left = BODY, bytearray(part), missing
        self._in_body = len(part)
        self._note_bytes()
        return b""

    def _forget(self) -> None:
        self._body = bytearray()
        super()._forget()

    def _admit_early(self, lane: Lane) -> None:
        """Let the room know whose large body this is, before it is decoded."""
        if self._is_new:
            with contextlib.suppress(Refusal):  # _ask refuses it
                self._authenticate(lane)

    def _keep_whole(self, size: int) -> bool:
        """Let the room know of a large body that has arrived as a whole. Returns whether the request may go on."""
        self._in_body = size
        self._note_bytes()
        return self._state != LINGERING

    def _authenticate(self, lane: Lane) -> None:
        self.admit(lane.keyring.authenticate(self._values[AUTHORIZATION] or "", self._row.roles, now_s()))

    def _ask_by_shape(self, data: bytes) -> bool:
        """Begin a whole request of an adopted shape, and return whether it is one. A shape that does not match is
        dropped. Another is adopted after the connection's fourth, eighth, sixteenth … request without one."""
        lane, shape = self._lane, self._usual.get(data[OPERATION])
        if lane is None or shape is None:
            return False
        read = shape.read(data.decode("latin-1"))
        if read is None:
            del self._usual[data[OPERATION]]
            return False
        self._row, self._progress = shape.row, self._progress + 1
        self._values, self._name, body, request = read
        if self._values[KEY] is not None:  # only a fingerprint needs it
            self._path = f"{shape.path}{self._name or ''}".encode()
        self._ask(lane, body.encode(), request)
        return True

    def _collect(self, data: bytes) -> bytes:
        left = self._body_left or 0
        part = data[:left]
        self._body += part
        self._body_left = left - len(part)
        self._in_body += len(part)
        if self._lane and not self._body_left:
            body, self._body = bytes(self._body), bytearray()
            self._ask(self._lane, body)
        else:
            self._note_bytes()
        return data[len(part) :]

    def _ask(self, lane: Lane, body: bytes, request: Any = None) -> None:
        """Begin a request and send its script. `request`: the body, if it is decoded."""
        self._state, self._began_s = WAITING, now_s()
        values, row = self._values, self._row
        self._request_id = values[REQUEST_ID] or new_request_id()
        self._caller, ip = None, self._ip
        try:
            caller = self._caller = lane.keyring.authenticate(values[AUTHORIZATION] or "", row.roles, self._began_s)
            if self._is_new:
                self.admit(caller)
            if ip and self._proxied and values[FORWARDED] is not None:
                ip = lane.proxies.client(ip, values[FORWARDED])
            key, agent = values[KEY], values[AGENT]
            if request is not None and key is None and caller.user is None:  # saves what only fingerprints need
                command = begin_decoded(row, Call(caller, "", "-", ip, agent), self._name, request)
            else:
                command = begin(caller, row, Raw(b"POST", self._path, b"", body, self._name, key, ip, agent, request))
            self._command = command
            self._epoch = lane.decider.start(
                caller.partition, command.script, command.keys, command.args, self._on_reply
            )
        except Refusal as refusal:
            if self._caller and self._caller.limits:
                self._waiting_for = asyncio.ensure_future(self._count(lane, Call(self._caller, ip=ip), refusal))
            else:
                self._refused(refusal)
        except Exception as error:  # noqa: BLE001, answered without its text
            self._failed(error)

    def _on_reply(self, reply: Reply) -> None:
        lane, caller = self._lane, self._caller
        assert lane and caller  # noqa: S101, PT018, _ask has set both
        decider = lane.decider
        try:
            decided = decider.interpret(caller.partition, self._epoch, reply)
            if decided[0] == RECALL:
                self._waiting_for = asyncio.ensure_future(self._recall(lane, caller, decided))
                return
            rendered = finish(self._command, decided, decider.durability(caller.partition))
        except Refusal as refusal:
            self._refused(refusal)
        except Exception as error:  # noqa: BLE001, the connection to Redis serves others too
            self._failed(error)
        else:
            self._rendered(caller, rendered)

    async def _count(self, lane: Lane, call: Call, refusal: Refusal) -> None:
        """Refuse a request without its script, once it is counted."""
        try:
            self._refused(await count_refused(lane.decider, call, refusal))
        except Exception as error:  # noqa: BLE001, answered without its text
            self._failed(error)

    async def _recall(self, lane: Lane, caller: Caller, reply: Reply) -> None:
        """Fetch facts from Postgres, and run the script again."""
        try:
            decided = await lane.recall(caller, self._command, reply)
            rendered = finish(self._command, decided, lane.decider.durability(caller.partition))
        except Refusal as refusal:
            self._refused(refusal)
        except Exception as error:  # noqa: BLE001, answered without its text
            self._failed(error)
        else:
            self._rendered(caller, rendered)

    def _rendered(self, caller: Caller, rendered: Rendered) -> None:
        closes = self._ending or self._values[CLOSES] is not None
        self._answer(self._writer.write_answer(rendered, self._request_id, closes), rendered.status, "", closes)

    def _refused(self, refusal: Refusal) -> None:
        caller = self._caller
        rendered = finish_refused(self._row, caller, refusal) if caller else None
        if caller and rendered:
            self._rendered(caller, rendered)
            return
        workspace, status = caller.workspace if caller else refusal.workspace, refusal.outcome.status
        refused_requests.add(
            workspace, self._row.route, status, refusal.code, self._request_id, self._began_s, self._name
        )
        closes = self._ending or self._values[CLOSES] is not None
        answer = self._writer.write_refusal(refusal, self._request_id, closes)
        self._answer(answer, status, refusal.code, closes)

    def _failed(self, error: Exception) -> None:
        log.error("request_failed", request_id=self._request_id, exc_info=error)
        self._refused(Refusal("internal"))

    def _answer(self, answer: bytes, status: int, outcome: str, closes: bool) -> None:
        account = self._caller.account if self._caller else NOBODY
        answers.note(account, self._row.route, status, outcome, self._request_id, self._began_s)
        self.server_state.total_requests += 1
        if self._state != WAITING:  # the client is gone
            return
        if self._joined.parts:
            self._joined.flush()
        self._raw.write(answer)
        if closes:
            self._end()
        elif self._buffered or self._reported_bytes or self.flow.read_paused:
            self._next()
        else:  # as _next
            self._state, self._passed, self._progress = HEAD, 0, self._progress + 1
