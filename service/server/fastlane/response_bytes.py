"""Write responses as bytes, for the fast lane: equal to those that uvicorn writes from ASGI, header by header."""

from functools import lru_cache

from uvicorn.protocols.http.httptools_impl import STATUS_LINE
from uvicorn.server import ServerState

from service.engine.domain.errors import Refusal
from service.engine.domain.limits import make_rate_headers
from service.engine.operations.base import Rendered
from service.server.answers.accounting import SAFE_HEADERS
from service.server.answers.problem_document import MEDIA_TYPE, problem, problem_headers


class ResponseWriter:
    """Writes responses; caches the common part of their heads until uvicorn renews its date each second."""

    def __init__(self, server_state: ServerState) -> None:
        self._state = server_state
        self._of: list[tuple[bytes, bytes]] = []
        self._usual: dict[int, bytes] = {}

    def write_answer(self, rendered: Rendered, request_id: str, closes: bool) -> bytes:
        status, body, replayed = rendered.status, rendered.body, rendered.replayed
        if self._of is not self._state.default_headers:
            self._of, self._usual = self._state.default_headers, {}
        start = self._usual.get(status)
        if start is None:
            start = self._usual[status] = self._start(status)
        if body is not None and not replayed and not closes and not rendered.rates:
            parts = (start, len(body), request_id.encode(), body)
            return b"%bcontent-type: application/json\r\ncontent-length: %d\r\nx-request-id: %b\r\n\r\n%b" % parts
        own = {"idempotency-replayed": "true"} if replayed else {}
        own |= {name.lower(): value for name, value in make_rate_headers(rendered.rates).items()}
        return start + _rest(own, "application/json", body, request_id, closes)

    def write_refusal(self, refusal: Refusal, request_id: str, closes: bool) -> bytes:
        own = {name.lower(): value for name, value in problem_headers(refusal).items()}
        body = problem(refusal, request_id)
        return self._start(refusal.outcome.status) + _rest(own, MEDIA_TYPE, body, request_id, closes)

    def _start(self, status: int) -> bytes:
        headers = (*self._state.default_headers, *SAFE_HEADERS)
        return STATUS_LINE[status] + b"".join([b"%b: %b\r\n" % header for header in headers])


@lru_cache(maxsize=1)
def response_writer_of(server_state: ServerState) -> ResponseWriter:
    """The response writer of all connections of a server."""
    return ResponseWriter(server_state)


def _rest(own: dict[str, str], media_type: str, body: bytes | None, request_id: str, closes: bool) -> bytes:
    headers = own if body is None else own | {"content-type": media_type, "content-length": str(len(body))}
    headers = headers | {"x-request-id": request_id} | ({"connection": "close"} if closes else {})
    return "".join([f"{name}: {value}\r\n" for name, value in headers.items()]).encode() + b"\r\n" + (body or b"")
