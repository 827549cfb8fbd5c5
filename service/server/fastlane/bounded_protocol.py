"""uvicorn's protocol with bounds in size and time on requests, and in time on responses: the base of protocol.py, for
all requests. server.py reads MAX_CONNECTIONS; reading.py calls `has_left`."""

import asyncio
import select
from typing import Any

from httptools import HttpParserError, HttpParserUpgrade
from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from service.engine.domain.errors import Refusal, malformed
from service.engine.operations.caller import Caller
from service.server.answers.accounting import NOBODY, answers, new_request_id, now_s
from service.server.answers.refused_requests import refused_requests
from service.server.fastlane.connection_room import FREE_BYTES, STRANGERS, Room, owner_of
from service.server.fastlane.joined_writes import JoiningTransport
from service.server.fastlane.request_heads import drop_empty_lines, find_head, read_head, refused_start
from service.server.fastlane.response_bytes import response_writer_of

HEAD_S, BODY_S = 5.0, 10.0
"""For a head, from its first byte; for a hot body, or the next PROGRESS_BYTES of another body."""
PROGRESS_BYTES = 64 << 10
WRITE_S = 30.0
"""For a client to read a part of its response."""
LINGER_S = 2.0
"""How long to discard a refused client's data: an immediate close would reset the connection before it reads why."""
DISCARD_S = 0.02
"""Between two reads of such data, so that a client that goes on sending costs little."""
LAST_BYTES = 1 << 20
"""A connection ends with a request whose body is longer, so that no early response leaves much to be read."""
DRAIN_S = 0.5
"""How long an idle connection stays open at shutdown, for a request in flight."""
CHECK_S = 1.0
PIPELINED_BYTES = 64 << 10
TURN_BYTES = 8 << 10
"""Chunks of a body that a connection has read in one turn of the event loop: up to a millisecond of work."""
MAX_CONNECTIONS = 10_000
MAX_TURNED_AWAY = 500
"""Connections beyond the bound that get a refusal, or another's place; the others are closed."""

HEAD, BODY, PASSING, WAITING, LINGERING = range(5)
"""The states of a connection: between requests or in a head; collecting a hot body; passing a body to uvicorn; waiting
for the response; discarding data after a refusal."""

_FOREVER = float("inf")


def has_left(transport: asyncio.Transport) -> bool:
    """Whether the client has closed the connection, even if data that it sent before is still to be read."""
    if transport.is_closing():
        return True
    ends = select.poll()
    ends.register(transport.get_extra_info("socket").fileno(), select.POLLRDHUP)
    return bool(ends.poll(0))


class Bounded(HttpToolsProtocol):
    """Reads a connection's requests one after the other.

    1. Collect a head, bounded in bytes and time, and check it strictly. Refuse an invalid one and close the connection.
    2. Pass the head to uvicorn's parser, and the body as it arrives.
    3. After the response, read the next request. Buffer up to 64 KiB of pipelined data, then pause reading.
       Each turn of the event loop reads one buffered request of an owner's connections, or TURN_BYTES of chunks, and
       begins one that goes to Litestar, or has a large body: others wait little for many (reading_turns.py).
    4. Check once a second for progress. Refuse a slow request with 408, or abort the connection.
    5. At shutdown, answer open requests with `Connection: close`, and requests that arrive within half a second.

    Slots, because uvicorn's attributes and these are too many for Python's fast dict (0.3 µs a request).
    """

    __slots__ = (
        "_age_s", "_body_left", "_buffered", "_ending", "_in_body", "_in_head", "_is_due", "_is_new", "_joined",
        "_max_connections", "_partial_head", "_passed", "_progress", "_progress_checked", "_raw", "_reported_bytes",
        "_room", "_state", "_timer", "_unsent", "_writer", "owner",
    )  # fmt: skip

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        max_connections: int = MAX_CONNECTIONS,
        room: Room | None = None,
    ) -> None:
        """uvicorn's arguments. `room` is shared by the connections of a process."""
        super().__init__(config, server_state, app_state, _loop)
        self._writer = response_writer_of(server_state)
        self._max_connections = max_connections
        self._room = room or Room()
        self.owner, self._is_new = STRANGERS, True
        self._state = HEAD
        self._partial_head = bytearray()  # an incomplete head
        self._body_left: int | None = 0  # bytes of the body still to arrive; None if it is chunked
        self._passed = 0  # bytes since the last progress
        self._buffered = bytearray()  # data to be read after a response, or in the owner's turn
        self._is_due = False  # whether it waits for its owner's turn
        self._ending = False
        self._progress = self._progress_checked = 0  # grows with all progress
        self._unsent = 0
        self._in_body = 0  # bytes of the body of the request in progress, at most PROGRESS_BYTES
        self._reported_bytes = 0  # bytes that were reported to the room
        self._age_s = 0.0

    @property
    def is_in_flight(self) -> bool:
        """Whether the connection has a request whose head was read and whose response is not sent."""
        return self._state in (BODY, PASSING, WAITING)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._raw = transport
        self._joined = JoiningTransport(transport, self.loop, self._end)
        super().connection_made(self._joined)  # type: ignore[arg-type]
        self._timer = self.loop.call_later(CHECK_S, self._check_progress)
        over = len(self.connections) - self._max_connections
        if over > 0:
            answers.note_refused_connection()
            self._make_room(over)
        self._room.enter(self, self.loop.time())

    def _make_room(self, over: int) -> None:
        """End another connection (connection_room.py), so that no client keeps others out; without one, refuse this."""
        if over > MAX_TURNED_AWAY:
            self._raw.abort()
        elif giving := self._room.make_room(self._max_connections, self.loop.time()):
            giving.abort()
        else:
            self._refuse(Refusal.temporary("unavailable"))

    def admit(self, caller: Caller) -> None:
        """Let the connection be its first known caller's."""
        if self._is_new:
            self._is_new = False
            self._room.admit(self, owner_of(caller.workspace, caller.scopes), self.loop.time())

    def abort(self) -> None:
        """For connection_room.py, as the next three."""
        self._raw.abort()

    def is_idle(self) -> bool:
        return self._state in (HEAD, BODY) and not self._unsent and not self._buffered

    def may_give_way(self) -> bool:
        return self._state != WAITING or self._unsent > 0 or len(self._buffered) > FREE_BYTES

    def give_way(self) -> None:
        if self._unsent:
            self._raw.abort()
        elif self._state == WAITING:  # the last request to be answered
            self._buffered, self._joined.is_held = bytearray(), True
            self._raw.pause_reading()
            self.shutdown()
            self._note_bytes()
        else:
            self._refuse(Refusal.temporary("rate_limited", "Unfinished requests take too much memory; try again."))

    def _note_bytes(self) -> None:
        """Report buffered bytes to the room, if they are many. The room may then end this connection, or others."""
        size = len(self._partial_head) + len(self._buffered) + self._in_body + self._unsent
        size = 0 if size <= FREE_BYTES else size
        if size != self._reported_bytes:
            self._reported_bytes = size
            self._room.report_bytes(self, size)

    def connection_lost(self, exc: Exception | None) -> None:
        self._timer.cancel()
        self._room.leave(self)
        if self.scope:  # else they would keep each other from being freed
            self.scope.get("state", {}).pop("admit_connection", None)
        self._forget()
        super().connection_lost(exc)
        self._joined.forget()

    def data_received(self, data: bytes) -> None:
        if self._buffered:
            self._buffered += data
        elif rest := self._take(data):
            self._buffered += rest
            self._read_soon()
        if len(self._buffered) > FREE_BYTES:
            self._note_bytes()
        if len(self._buffered) > PIPELINED_BYTES and not self._joined.is_held:
            self._joined.is_held = True
            self._raw.pause_reading()

    def _read_soon(self) -> None:
        """Read buffered data in the owner's turn, unless it waits for a response."""
        waits = self._state == WAITING or (self._state == HEAD and self.flow.write_paused)
        if self._buffered and not waits and not self._is_due:
            self._is_due = True
            self._room.turns.add(self)

    def read_buffered(self) -> None:
        """In the owner's turn (reading_turns.py)."""
        piece = bytes(self._buffered[:TURN_BYTES])
        rest = self._take(piece)
        del self._buffered[: len(piece) - len(rest)]
        self._is_due = False
        self._read_soon()
        if not self._buffered:
            self._release()
        if self._reported_bytes:
            self._note_bytes()

    def _release(self) -> None:
        """Let the transport read again."""
        if self._joined.is_held:
            self._joined.is_held = False
            if not self.flow.read_paused and not self._raw.is_closing():
                self._raw.resume_reading()

    def _take(self, data: bytes) -> bytes:
        """Process one request, or a piece of a body. Returns what waits for a response, or for the owner's turn."""
        while data:
            state = self._state
            if state == LINGERING:
                self.flow.pause_reading()
                self.loop.call_later(DISCARD_S, self.flow.resume_reading)
                return b""
            if state == WAITING or (state == HEAD and self.flow.write_paused):
                return data
            if state == HEAD:
                if self._partial_head:
                    data = self._join_head(data)
                if data:
                    data = self._begin(data)
                if self._state == HEAD:
                    return data
            elif state == PASSING and self._body_left is None:  # of short chunks each takes time
                self._pass(data[:TURN_BYTES])
                return b"" if self._state == LINGERING else data[TURN_BYTES:]
            elif self._ends_large(data) and not self._room.turns.may_begin(self):
                return data
            else:
                data = self._pass(data) if state == PASSING else self._collect(data)
        return b""

    def _ends_large(self, data: bytes) -> bool:
        """Whether the data has the last byte of a large body, which may take long to decode."""
        return (
            self._body_left is not None
            and len(data) >= self._body_left
            and self._in_body + self._body_left > FREE_BYTES
        )

    def _join_head(self, data: bytes) -> bytes:
        """The head that began earlier, and this data; nothing while its end is missing."""
        checked = len(self._partial_head)
        self._partial_head += data
        if self._partial_head.find(b"\r\n\r\n", max(checked - 3, 0)) < 0:
            self._check_start(checked)
            return b""
        data = bytes(self._partial_head)
        self._partial_head.clear()
        if self._reported_bytes:
            self._note_bytes()
        return data

    def _check_start(self, checked: int) -> None:
        """Refuse an incomplete head that can't become one. Earlier calls have checked `checked` bytes of it."""
        if refusal := refused_start(self._partial_head, checked):
            self._refuse(refusal)
        else:
            self._progress += not self._passed
            self._passed = len(self._partial_head)
            self._note_bytes()

    def _begin(self, data: bytes) -> bytes:
        """Process a head. Returns the rest of the data: all of it if another connection has the owner's turn."""
        match = find_head(data)
        if match is None:
            if data.startswith(b"\r\n"):
                rest = drop_empty_lines(data)
                return self._begin(rest) if rest else rest
            self._partial_head += data
            self._check_start(0)
            return b""
        try:
            head = read_head(data, match)
        except Refusal as refusal:
            self._refuse(refusal)
            return b""
        if not self._room.turns.may_begin(self):
            return data
        self._state, self._body_left, self._passed, self._in_body = PASSING, head.length, 0, 0
        self._progress += 1
        if self._feed(head.data) and head.length == 0:
            self._read()
        return data[match.end() :]

    def _pass(self, data: bytes) -> bytes:
        """Pass a part of the body to uvicorn. Returns the rest of the data."""
        left = self._body_left
        part = data if left is None else data[:left]
        self._passed += len(part)
        if self._passed >= PROGRESS_BYTES:
            self._progress, self._passed = self._progress + 1, 0
        if left is not None:
            self._body_left = left - len(part)
        self._in_body = min(self._in_body + len(part), PROGRESS_BYTES)
        if self._feed(part) and self._body_left == 0:
            self._read()
        elif self._state == PASSING:
            self._note_bytes()
        return data[len(part) :]

    def _collect(self, data: bytes) -> bytes:
        """Collect a hot body. Returns the rest of the data."""
        raise NotImplementedError

    def _feed(self, data: bytes) -> bool:
        try:
            self.parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade):
            if self._state == PASSING:
                self._refuse(malformed("request", "can't be read"))
            return False
        return self._state == PASSING

    def _read(self) -> None:
        """Wait for the response: uvicorn has the whole request."""
        self._state = WAITING
        if self.cycle.response_complete:
            self._next()

    def _next(self) -> None:
        """Read the next request: the response is written."""
        self._state, self._passed, self._in_body = HEAD, 0, 0
        self._progress += 1
        if self._reported_bytes:
            self._note_bytes()
        if self.flow.read_paused:
            self.flow.resume_reading()
        self._read_soon()

    def _refuse(self, refusal: Refusal) -> None:
        """Refuse invalid or slow data, and close the connection."""
        cycle = self.cycle
        if self._state == PASSING and cycle and not cycle.response_complete:
            cycle.disconnected, cycle.body = True, bytearray()
            cycle.message_event.set()
            if cycle.response_started:
                self._raw.abort()
                return
        request_id, status, began_s = new_request_id(), refusal.outcome.status, now_s()
        self._joined.flush()
        self._raw.write(self._writer.write_refusal(refusal, request_id, True))
        answers.note(NOBODY, "-", status, refusal.code, request_id, began_s)
        refused_requests.add(NOBODY, "-", status, refusal.code, request_id, began_s, None)
        self._linger()

    def _end(self) -> None:
        """Close the connection after the response."""
        if self._state == PASSING:
            self._linger()
        else:
            self._state = LINGERING
            self._raw.close()

    def _linger(self) -> None:
        self._forget()
        self._progress += 1
        self.flow.resume_reading()
        self._release()
        if self._raw.can_write_eof() and not self._raw.is_closing():
            self._raw.write_eof()

    def _forget(self) -> None:
        """Read nothing more of what the client sends."""
        self._state, self._buffered, self._partial_head, self._in_body = LINGERING, bytearray(), bytearray(), 0
        if self._reported_bytes:
            self._note_bytes()

    def _note_unsent(self) -> bool:
        """Note what the client has not read, and return whether that has changed."""
        unsent = self._raw.get_write_buffer_size()
        if unsent == self._unsent:
            return False
        self._unsent = unsent
        self._note_bytes()
        return True

    def _check_progress(self) -> None:
        if self._note_unsent() or self._progress != self._progress_checked or self._is_due:
            self._progress_checked, self._age_s = self._progress, 0.0
        else:
            self._age_s += CHECK_S
            if self._age_s >= self._patience_s():
                self._give_up()
        self._timer = self.loop.call_later(CHECK_S, self._check_progress)

    def _patience_s(self) -> float:
        """How long the connection may make no progress."""
        if self._unsent:
            return WRITE_S
        if self._state == HEAD:
            return HEAD_S if self._passed else self.timeout_keep_alive
        if self._state == PASSING:
            if self.flow.read_paused:
                return _FOREVER
            return LINGER_S if self.cycle.response_complete else BODY_S
        return {BODY: BODY_S, LINGERING: LINGER_S}.get(self._state, _FOREVER)

    def _give_up(self) -> None:
        if self._unsent or self._state == LINGERING or (self._state == PASSING and self.cycle.response_complete):
            self._raw.abort()
        elif self._state == HEAD and not self._passed:
            self._raw.close()
        else:
            self._refuse(Refusal("request_timeout"))

    # Callbacks of uvicorn's server, parser and cycle

    def shutdown(self) -> None:
        self._ending = True
        if self._state == HEAD:
            self.loop.call_later(DRAIN_S, self._close_idle)
        elif self.cycle:
            self.cycle.keep_alive = False

    def _close_idle(self) -> None:
        if self._state == HEAD and not self._passed and not self._buffered:
            self._raw.close()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._note_unsent()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._note_unsent()
        if self._state == HEAD:
            self._next()

    def on_message_begin(self) -> None:
        if self._state != PASSING:
            raise ValueError("what follows a chunked body is not read")
        self._in_head = True
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:  # else it is a trailer: handlers must not read it as a header
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_head = False
        self.expect_100_continue &= self.parser.get_http_version() != "1.0"  # such a client takes it for the response
        super().on_headers_complete()
        self.scope.setdefault("state", {}).update(transport=self._raw, admit_connection=self.admit)
        if self._ending or self._body_left is None or self._body_left > LAST_BYTES:
            self.cycle.keep_alive = False

    def on_message_complete(self) -> None:
        super().on_message_complete()
        if self._body_left is None and not self.cycle.response_complete:
            self._state = WAITING

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        if self._state == WAITING:
            self._next()
        elif self._state == PASSING:
            self._progress += 1
            self.flow.resume_reading()
