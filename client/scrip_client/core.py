"""Builds requests, reads responses and decides about retries, but sends nothing: client.py and async_client.py run
`exchange`. The functions of operations.py make the calls."""

import itertools
import logging
import random
import uuid
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from time import monotonic
from typing import Any, BinaryIO, Generic, TypeAlias, TypeVar
from urllib.parse import quote

import httpx2
import msgspec

from scrip_client._version import __version__
from scrip_client.errors import OutcomeUnknown, Refused, ScripError, UnexpectedResponse, Unreachable
from scrip_client.generated.models import Page, Problem
from scrip_client.generated.refusals import BY_CODE, NotFound

T = TypeVar("T")
File: TypeAlias = str | bytes | BinaryIO
"""A file in CSV or plain text, as a whole or opened in binary mode."""
Codes: TypeAlias = Sequence[str] | File
"""Codes to upload: a list, or a file in CSV or plain text, as a whole or opened in binary mode."""
Reply: TypeAlias = httpx2.Response | httpx2.RequestError

_IMPOSSIBLE = (httpx2.UnsupportedProtocol, httpx2.LocalProtocolError)
"""What is wrong with the request, not on the way."""
_NOT_SENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout, httpx2.ProxyError)
_TRANSIENT = frozenset({408, 429, 503})
_UNDECIDED = frozenset({401, 403, 408, 429, 503})
"""Statuses of refusals that the service sends before it looks for the Idempotency-Key."""
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.25, 8.0
_NO_NAMES = frozenset(("", ".", ".."))
"""Parts that a path loses on its way."""

log = logging.getLogger("scrip_client")


@dataclass(frozen=True, kw_only=True)
class Call(Generic[T]):
    """One request. Sent again, it is the same request under the same Idempotency-Key."""

    operation: str
    method: str
    path: str
    answers: Mapping[int, Any] = field(default_factory=dict)
    """The type of the body, by status; a new status has the first."""
    query: Mapping[str, str] = field(default_factory=dict)
    body: bytes | BinaryIO = b""
    media_type: str = "application/json"
    idempotency_key: str = ""
    recorded_within_s: int | None = None
    changes: bool = True
    """Whether it changes anything."""

    @property
    def is_repeatable(self) -> bool:
        """Whether sending it twice changes no more than sending it once."""
        return bool(self.idempotency_key) or not self.changes or self.method in ("PATCH", "DELETE")

    @property
    def is_stream(self) -> bool:
        """Whether the body of its answer is a file."""
        return bytes in self.answers.values()

    def at_cursor(self, cursor: str) -> "Call[T]":
        """The same call of a list, for another page."""
        return replace(self, query={**self.query, "cursor": cursor})


@dataclass(frozen=True, kw_only=True)
class Answer(Generic[T]):
    """A response. `value` is what a method of the client returns."""

    value: T
    status: int
    headers: Mapping[str, str]
    attempts: int

    @property
    def replayed(self) -> bool:
        """Whether it is the stored answer of an earlier request under the same Idempotency-Key."""
        return "Idempotency-Replayed" in self.headers


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Of a client. No attempt begins after `deadline_s`; `timeout_s` is how long an attempt waits for the service."""

    url: str
    token: str
    deadline_s: float
    timeout_s: float


def make_call(
    operation: str,
    method: str,
    path: str,
    answers: Mapping[int, Any],
    *,
    query: Mapping[str, Any] | None = None,
    body: Mapping[str, Any] | Codes | None = None,
    media_type: str = "application/json",
    key: str | None = "",
    recorded_within_s: int | None = None,
    changes: bool = True,
) -> Call[Any]:
    """Make a call, with a new Idempotency-Key if `key` is None. Raises NotFound for a value that would change the path:
    URLs are sent without `.` and `..`, which would be another operation's."""
    if isinstance(body, str):
        body = body.encode()
    elif isinstance(body, Mapping):
        body = msgspec.json.encode(body)
    elif isinstance(body, Sequence) and not isinstance(body, bytes):
        body, media_type = msgspec.json.encode({"codes": body}), "application/json"
    call = Call[Any](
        operation=operation,
        method=method,
        path=path,
        answers=answers,
        query={name: _query_text(value) for name, value in (query or {}).items() if value is not None},
        body=body or b"",
        media_type=media_type,
        idempotency_key=str(uuid.uuid4()) if key is None else key,
        recorded_within_s=recorded_within_s,
        changes=changes,
    )
    if not _NO_NAMES.isdisjoint(path.split("/")[1:]):
        detail = "Nothing was sent: nothing has the name '', '.' or '..'. Send another one."
        problem = Problem(
            type="/problems/not_found", title="Not found", status=404, detail=detail, instance="", code="not_found",
            for_="caller", request_id="",
        )  # fmt: skip
        raise NotFound(f"{operation}: {detail}", call, problem)
    return call


def segment(text: str) -> str:
    """A part of a path. A lone surrogate, which no name has, becomes a question mark, which no name has either."""
    return quote(text, safe="", errors="replace")


def fields(**values: Any) -> dict[str, Any]:
    """The members of a body; None is left out."""
    return {name: value for name, value in values.items() if value is not None}


def changes(**values: Any) -> dict[str, Any]:
    """The members of a body in which None clears; UNSET is left out."""
    return {name: value for name, value in values.items() if value is not msgspec.UNSET}


def exchange(call: Call[T], settings: Settings) -> Generator[dict[str, Any] | float, Any, Answer[T]]:
    """Yield what to send, as arguments of `build_request` of httpx2, and how many seconds to wait; receive the Reply.

    1. Every attempt is the same request, under the same Idempotency-Key.
    2. A lost answer, and a refusal that says to wait, are followed by another attempt, if the call is repeatable.
    3. It waits as long as `Retry-After` says, else longer each time. A wait that would pass the deadline ends the call.
    4. Once an answer was lost, only an answer that the key decides ends the doubt: else OutcomeUnknown is raised.
    """
    deadline = monotonic() + settings.deadline_s
    file = None if isinstance(call.body, bytes) else call.body
    start = file.tell() if file and file.seekable() else None
    lost: OutcomeUnknown | None = None
    for number in itertools.count(1):
        if file and start is not None:
            file.seek(start)
        reply: Reply = yield _request(call, settings, deadline - monotonic())
        if isinstance(reply, httpx2.Response) and (reply.is_success or reply.status_code in call.answers):
            return _read_answer(call, reply, number)
        failure = _read_failure(call, reply)
        if isinstance(failure, OutcomeUnknown):
            lost = failure
        elif lost and call.method == "DELETE" and isinstance(failure, Refused) and failure.status == 404:
            return Answer(value=None, status=204, headers={}, attempts=number)  # type: ignore[arg-type]
        elif isinstance(failure, Refused) and call.idempotency_key and failure.status not in _UNDECIDED:
            raise failure
        pause = _pause_s(failure, number)
        may_send = isinstance(reply, _NOT_SENT) or (call.is_repeatable and not (file and start is None))
        if not (may_send and _is_transient(failure)) or monotonic() + pause > deadline:
            if lost and lost is not failure:
                raise lost from failure
            raise failure
        log.info("%s: attempt %d: %s; the next in %.1f s", call.operation, number, failure, pause)
        yield pause
    raise AssertionError


def _request(call: Call[Any], settings: Settings, left_s: float) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {settings.token}", "User-Agent": f"scrip-client/{__version__}"}
    timeout_s = settings.timeout_s
    if call.idempotency_key:
        headers["Idempotency-Key"] = call.idempotency_key
    if call.recorded_within_s is not None:
        headers["Prefer"] = f"durability=recorded, wait={call.recorded_within_s}"
        timeout_s += call.recorded_within_s
    if call.body:
        headers["Content-Type"] = call.media_type
    if isinstance(call.body, bytes):  # a file takes as long as it takes
        timeout_s = min(timeout_s, max(left_s, 0.001))
    return {
        "method": call.method,
        "url": settings.url + call.path,
        "params": dict(call.query),
        "headers": headers,
        "content": call.body or None,
        "timeout": timeout_s,
    }


def _read_answer(call: Call[T], response: httpx2.Response, attempts: int) -> Answer[T]:
    kind = call.answers.get(response.status_code, next(iter(call.answers.values()), None))
    value: Any = None
    if kind is bytes:
        value = response  # not read yet
    elif kind is not None:
        try:
            value = msgspec.json.decode(response.content, type=kind)
        except msgspec.DecodeError as error:
            raise UnexpectedResponse(f"{call.operation}: {response.status_code} with {error}", call) from error
    return Answer(value=value, status=response.status_code, headers=response.headers, attempts=attempts)


def _read_failure(call: Call[Any], reply: Reply) -> ScripError:
    if isinstance(reply, _IMPOSSIBLE):
        raise reply
    if isinstance(reply, Exception):
        failure: ScripError
        message = f"{call.operation}: {type(reply).__name__}: {reply}"
        is_unknown = call.changes and not isinstance(reply, _NOT_SENT)
        failure = OutcomeUnknown(message, call) if is_unknown else Unreachable(message, call)
        failure.__cause__ = reply
        return failure
    status, wait = reply.status_code, reply.headers.get("Retry-After", "")
    retry_after_s = float(wait) if wait.isdecimal() else None
    try:
        problem = msgspec.json.decode(reply.content, type=Problem)
    except msgspec.DecodeError:
        kind = UnexpectedResponse if status < 500 else OutcomeUnknown if call.changes else Unreachable
        return kind(f"{call.operation}: {status}, which is no answer of Scrip", call, None, retry_after_s)
    message = f"{call.operation}: {status} {problem.code}: {problem.detail} (request {problem.request_id})"
    unlisted = OutcomeUnknown if status >= 500 else Refused
    return BY_CODE.get(problem.code, unlisted)(message, call, problem, retry_after_s)


def _is_transient(failure: ScripError) -> bool:
    if isinstance(failure, OutcomeUnknown | Unreachable):
        return True
    return isinstance(failure, Refused) and failure.status in _TRANSIENT


def _pause_s(failure: ScripError, attempts: int) -> float:
    if failure.retry_after_s is not None:
        return failure.retry_after_s
    return min(_FIRST_PAUSE_S * 2 ** (attempts - 1), _LONGEST_PAUSE_S) * random.uniform(0.5, 1)  # noqa: S311, no secret


def _query_text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return value.isoformat() if isinstance(value, datetime) else str(value)


def next_page(call: Call[Page[T]], page: Page[T]) -> Call[Page[T]] | None:
    """The call of the page after this one; None after the last."""
    return None if page.next_cursor is None else call.at_cursor(page.next_cursor)


def broken_file(call: Call[bytes], error: Exception) -> Unreachable:
    """The error of a file that ends too early."""
    return Unreachable(f"{call.operation}: the file broke off: {type(error).__name__}: {error}", call)
