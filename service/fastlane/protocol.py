"""The hot requests, answered from callbacks: no task, no future and no ASGI for any of them.

Written for speed. API CPU a request, lock and redeem, on two busy cores: 45 µs here, where Litestar takes 193 and Go's
net/http 43. 12 are Python of ours in a quiet moment (`make bench PART=lane`), half of them operations; a quarter is
the kernel's.
"""

import asyncio
from typing import Any

import structlog
from uvicorn import Config
from uvicorn.server import ServerState

from service.access.caller import Caller
from service.domain.errors import Refusal
from service.fastlane.bounded_protocol import BODY, HEAD, MAX_CONNECTIONS, WAITING, Bounded
from service.fastlane.request_heads import find_hot, find_hot_path
from service.fastlane.routes import (
    AGENT,
    AUTHORIZATION,
    CLOSES,
    FORWARDED,
    KEY,
    LENGTH,
    REQUEST_ID,
    WITH_CODE,
    WITHOUT_CODE,
    Lane,
    Shape,
    Told,
    told_by,
)
from service.operations.accounting import answers, new_request_id, now_s
from service.operations.base import Command, Rendered, Reply
from service.operations.run import Raw, begin, finish, finish_refused, needs_facts
from service.operations.table import Row

log = structlog.get_logger()


class Protocol(Bounded):
    """What uvicorn speaks with each connection. Without a lane, all goes to Litestar.

    1. A hot request's head is read here; any other, or one that says something unusual, goes on as it came.
    2. Once its body is there, authenticate, begin, and send the script.
    3. Finish from the reply's callback. If the client is gone by then, nothing is amiss: what was decided stands.
    """

    __slots__ = (
        "_began_s", "_body", "_caller", "_code", "_command", "_epoch", "_ip", "_lane", "_missing", "_path", "_proxied",
        "_recalling", "_request_id", "_row", "_shape", "_told",
    )  # fmt: skip
    _caller: Caller | None
    _command: Command
    _ip: str | None

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        max_connections: int = MAX_CONNECTIONS,
        lane: Lane | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop, max_connections)
        self._lane = lane
        if lane:
            self._heads = lane.heads(server_state)
        self._shape: Shape | None = None
        self._row: Row
        self._told: Told
        self._code: str | None = None
        self._path, self._request_id = b"", ""
        self._body = bytearray()
        self._missing = self._epoch = 0
        self._proxied = False
        self._began_s = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._ip = self.client[0] if self.client else None
        self._proxied = self._lane is not None and self._lane.proxies.trusts(self._ip)

    def data_received(self, data: bytes) -> None:
        if self._state == HEAD and not self._early and not self.flow.write_paused:  # nearly always; a call less
            data = self._begin(data)
            if not data:
                return
        super().data_received(data)

    def _begin(self, data: bytes) -> bytes:
        lane = self._lane
        path = find_hot_path(data) if lane else None
        if lane is None or path is None:
            return super()._begin(data)
        self._path, name, code = path.groups()
        row = (WITH_CODE if code else WITHOUT_CODE).get(name)
        shape = self._shape
        known = told_by(shape, data, path.end()) if shape else None
        if known is None:
            known = self._learn(lane, data)
        if known is None or row is None:
            return super()._begin(data)
        self._told, start = known
        self._row, self._code = row, code.decode() if code else None
        end = start + self._told[LENGTH]
        self._turn += 1
        if len(data) < end:
            self._state, self._body, self._missing = BODY, bytearray(data[start:]), end - len(data)
            return b""
        self._ask(lane, data[start:end])
        return data[end:]

    def _learn(self, lane: Lane, data: bytes) -> tuple[Told, int] | None:
        """What a whole head of a new shape says, and where it ends; None where Litestar takes the request."""
        found = find_hot(data)
        told = lane.told_in(found) if found else None
        if found is None or told is None:
            return None
        self._shape = lane.shape_of(found, told)
        return told, found.end()

    def _collect(self, data: bytes) -> bytes:
        part = data[: self._missing]
        self._body += part
        self._missing -= len(part)
        if self._lane and not self._missing:
            self._ask(self._lane, bytes(self._body))
        return data[len(part) :]

    def _ask(self, lane: Lane, body: bytes) -> None:
        """Have a request decided."""
        self._state, self._began_s = WAITING, now_s()
        told, row = self._told, self._row
        self._request_id = told[REQUEST_ID] or new_request_id()
        self._caller = None
        try:
            caller = self._caller = lane.keyring.authenticate(told[AUTHORIZATION] or "", row.roles)
            ip = self._ip
            if ip and self._proxied and told[FORWARDED] is not None:
                ip = lane.proxies.client(ip, told[FORWARDED])
            raw = Raw(b"POST", self._path, b"", body, self._code, told[KEY], ip, told[AGENT])
            command = self._command = begin(caller, row, raw)
            self._epoch = lane.decider.start(
                caller.partition, command.script, command.keys, command.args, self._on_reply
            )
        except Refusal as refusal:
            self._refused(refusal)
        except Exception as error:  # noqa: BLE001, told without its text
            self._failed(error)

    def _on_reply(self, reply: Reply) -> None:
        lane, caller = self._lane, self._caller
        assert lane and caller  # noqa: S101, PT018, they sent the script
        decider = lane.decider
        try:
            decided = decider.told(caller.partition, self._epoch, reply)
            if needs_facts(decided):
                self._recalling = asyncio.ensure_future(self._recall(lane, caller, decided))
                return
            rendered = finish(self._command, decided, decider.durability)
        except Refusal as refusal:
            self._refused(refusal)
        except Exception as error:  # noqa: BLE001, the connection to Redis serves others too
            self._failed(error)
        else:
            self._rendered(rendered)

    async def _recall(self, lane: Lane, caller: Caller, reply: Reply) -> None:
        """Rare: Postgres has to be asked first."""
        try:
            decided = await lane.recall(caller, self._command, reply)
            rendered = finish(self._command, decided, lane.decider.durability)
        except Refusal as refusal:
            self._refused(refusal)
        except Exception as error:  # noqa: BLE001, told without its text
            self._failed(error)
        else:
            self._rendered(rendered)

    def _rendered(self, rendered: Rendered) -> None:
        closes = self._ending or self._told[CLOSES] is not None
        self._answer(self._heads.answer(rendered, self._request_id, closes), rendered.status, "", closes)

    def _refused(self, refusal: Refusal) -> None:
        rendered = finish_refused(self._row, self._caller, refusal) if self._caller else None
        if rendered:
            self._rendered(rendered)
            return
        closes = self._ending or self._told[CLOSES] is not None
        answer = self._heads.refusal(refusal, self._request_id, closes)
        self._answer(answer, refusal.outcome.status, refusal.code, closes)

    def _failed(self, error: Exception) -> None:
        log.error("request_failed", request_id=self._request_id, exc_info=error)
        self._refused(Refusal("internal"))

    def _answer(self, answer: bytes, status: int, outcome: str, closes: bool) -> None:
        answers.note(self._row.route, status, outcome, self._request_id, self._began_s)
        self.server_state.total_requests += 1
        if self._state != WAITING:  # the client is gone
            return
        self._joined.flush()
        self._raw.write(answer)
        if closes:
            self._end()
        else:
            self._next()
