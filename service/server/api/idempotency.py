"""`Idempotency-Key` outside the hot path: claim the key, run the request, store the response under the key. Controllers
whose routes take a key call `run_once`. A refusal releases the key. After a request that died, or whose outcome is
unknown, the claim expires in a minute. Stored bytes are read for up to a year, also by the next version."""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Generic, Literal, TypeVar

import msgspec
from litestar import Request, Response

from service.engine.domain.errors import Refusal
from service.engine.operations.base import encode
from service.engine.operations.call_headers import check_key
from service.engine.operations.caller import Caller
from service.server.api.auth import get_caller
from service.server.api.configuration_writes import committed
from service.server.api.context import Context
from service.server.api.hot_path import fingerprint

T = TypeVar("T")

_RENEW_S = 20.0
"""Less than the life of a claim, a minute (CLAIM_MS in service/server/in_redis/workspace_state.py)."""
_PLACEHOLDER = "\x01"
"""Replaces the request's user id in a stored response: neither JSON nor an address contains this character."""


class ActionResult(msgspec.Struct, Generic[T], kw_only=True):
    """The result of a request. `stored` is the body for repeats if it differs (without a secret). `reference` is
    stored instead of the body if `restore` of run_once can make the body again from it."""

    status: int
    body: T
    location: str = ""
    stored: T | None = None
    reference: str = ""
    key: Literal["stored", "free", "claimed"] = "stored"
    """The key's state afterwards. A repeat gets the stored response; or runs again, since nothing changed; or runs
    again after the claim has expired."""


class Stream:
    """A body that is too large for memory. Its digest, and that of what came `before` the parts, is available when all
    parts have been read."""

    def __init__(self, parts: AsyncIterator[bytes], before: bytes = b"") -> None:
        self._parts = parts
        self._digest = hashlib.blake2b(before, digest_size=16)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in self._parts:
            self._digest.update(part)
            yield part

    async def digest(self) -> bytes:
        """Read the remaining parts, and return the digest in hexadecimal."""
        async for _ in self:
            pass
        return self._digest.hexdigest().encode()


def read_key(request: Request[Any, Any, Any]) -> str | None:
    """The request's Idempotency-Key; None without one. Refusal `malformed` if it is invalid."""
    key = request.headers.get("idempotency-key")
    return None if key is None else check_key(key)


async def run_once(
    request: Request[Any, Any, Any],
    body: bytes | Stream,
    act: Callable[[], Awaitable[ActionResult[T]]],
    restore: Callable[[bytes], Awaitable[bytes]] | None = None,
    user: str | None = None,
) -> Response[T]:
    """Run `act`, or return the stored response if the request's Idempotency-Key has one.

    The fingerprint covers method, path, query and body. A streamed body's digest is stored before the response
    instead. `restore` makes the body from the stored bytes, which may be a reference. `user` is the user id in the
    request: the stored response does not contain it, so that it stays as it is when the user is deleted.
    """
    key = read_key(request)
    if key is None:
        return _response(await act())
    caller, hot = get_caller(request), request.app.state.context.hot
    fingerprint_ = fingerprint(request, body if isinstance(body, bytes) else b"", caller.user)
    known = await hot.claim_key(caller, key, fingerprint_)
    if known is not None:
        status, stored, location = known
        return await _make_replay(body, status, stored, location, restore, user)
    renewing = asyncio.create_task(_renew(request.app.state.context, caller, key, fingerprint_))
    try:
        result = await act()
        stored = result.reference.encode() or encode(_strip_user(user, result))
        if isinstance(body, Stream):
            stored = await body.digest() + b" " + stored
    except Refusal as refusal:
        if refusal.code != "outcome_unknown":
            with contextlib.suppress(Refusal):
                await hot.release_key(caller, key, fingerprint_)
        raise
    finally:
        renewing.cancel()
    if result.key == "free":
        with contextlib.suppress(Refusal):
            await hot.release_key(caller, key, fingerprint_)
    if result.key != "stored":
        return _response(result)
    location = _replace_last(user, _PLACEHOLDER, result.location)
    with committed():
        await hot.store_answer(caller, key, fingerprint_, result.status, stored, location)
    return _response(result)


async def _make_replay(
    body: bytes | Stream,
    status: int,
    stored: bytes,
    location: str,
    restore: Callable[[bytes], Awaitable[bytes]] | None,
    user: str | None,
) -> Response[Any]:
    if isinstance(body, Stream):
        digest, _, stored = stored.partition(b" ")
        if digest != await body.digest():
            raise Refusal("idempotency_key_reused")
    if restore is not None:
        stored = await restore(stored)
    if user is not None:
        stored, location = (
            stored.replace(_PLACEHOLDER.encode(), encode(user)),
            _replace_last(_PLACEHOLDER, user, location),
        )
    response = _response(ActionResult(status=status, body=msgspec.Raw(stored), location=location))
    response.headers["Idempotency-Replayed"] = "true"
    return response


def _strip_user(user: str | None, result: ActionResult[Any]) -> Any:
    stored = result.body if result.stored is None else result.stored
    if user is None or stored.user_id != user:
        return stored
    return msgspec.structs.replace(stored, user_id=msgspec.Raw(_PLACEHOLDER.encode()))


def _replace_last(old: str | None, new: str, location: str) -> str:
    before, _, last = location.rpartition("/")
    return f"{before}/{new}" if old is not None and last == old else location


async def _renew(context: Context, caller: Caller, key: str, fingerprint_: str) -> None:
    """Renew the claim until cancelled."""
    while True:
        await asyncio.sleep(_RENEW_S)
        with contextlib.suppress(Refusal):
            await context.hot.renew_claim(caller, key, fingerprint_)


def _response(result: ActionResult[Any]) -> Response[Any]:
    headers = {"Location": result.location} if result.location else {}
    return Response(encode(result.body), status_code=result.status, headers=headers, media_type="application/json")
