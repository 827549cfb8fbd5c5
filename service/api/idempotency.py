"""`Idempotency-Key` off the hot path: the key is claimed first, and kept with the answer once there is one.

A refusal lets the key go. A request that died, or whose outcome isn't known, keeps it for a minute.
"""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Generic, Literal, TypeVar

import msgspec
from litestar import Request, Response

from service.access.caller import Caller
from service.api.context import Context
from service.api.hot_path import fingerprint
from service.domain.errors import Refusal
from service.operations.call_headers import checked_key

T = TypeVar("T")

_RENEW_S = 20.0
_NAMED = "\x01"
"""In the place of the user whom the request names: no JSON text and no address holds this character."""
_encode = msgspec.json.Encoder().encode


class Answered(msgspec.Struct, Generic[T], kw_only=True):
    """What a request did; `kept` is what a repeat is answered where that is something else (without a secret);
    `reference` is kept in its place where the answer can be made again of less (`restore`, below)."""

    status: int
    body: T
    location: str = ""
    kept: T | None = None
    reference: str = ""
    key: Literal["kept", "free", "claimed"] = "kept"
    """What becomes of the key: a repeat hears the same; or is done anew, since nothing changed; or in a minute."""


class Stream:
    """A body that is too large to look at first. Its digest is known when all of it has gone through."""

    def __init__(self, parts: AsyncIterator[bytes]) -> None:
        self._parts = parts
        self._digest = hashlib.blake2b(digest_size=16)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in self._parts:
            self._digest.update(part)
            yield part

    async def digest(self) -> bytes:
        """The digest in hexadecimal, once what is left has been read."""
        async for _ in self:
            pass
        return self._digest.hexdigest().encode()


async def once(
    request: Request[Any, Any, Any],
    caller: Caller,
    body: bytes | Stream,
    act: Callable[[], Awaitable[Answered[T]]],
    restore: Callable[[bytes], Awaitable[bytes]] | None = None,
    user: str | None = None,
) -> Response[T]:
    """Do it, unless it was done under the same key before.

    The fingerprint is of method, path, query and body. A streamed body's digest is kept in front of the answer instead.
    `restore` makes the answer's body of what is kept, where that may be a reference. `user` is whom the request itself
    names: what is kept doesn't, so that it needs no change when the user is deleted.
    """
    if "idempotency-key" not in request.headers:
        return _response(await act())
    hot = request.app.state.context.hot
    key = checked_key(request.headers["idempotency-key"])
    print_ = fingerprint(request, body if isinstance(body, bytes) else b"", caller.user)
    known = await hot.claim(caller, key, print_)
    if known is not None:
        status, stored, location = known
        return await _replayed(body, status, stored, location, restore, user)
    renewing = asyncio.create_task(_renew(request.app.state.context, caller, key, print_))
    try:
        answered = await act()
        kept = answered.reference.encode() or _encode(_without(user, answered))
        if isinstance(body, Stream):
            kept = await body.digest() + b" " + kept
    except Refusal as refusal:
        if refusal.code != "outcome_unknown":
            with contextlib.suppress(Refusal):
                await hot.release(caller, key, print_)
        raise
    finally:
        renewing.cancel()
    if answered.key == "free":
        with contextlib.suppress(Refusal):
            await hot.release(caller, key, print_)
    if answered.key != "kept":
        return _response(answered)
    try:
        await hot.settle(caller, key, print_, answered.status, kept, _named(user, _NAMED, answered.location))
    except Refusal as refusal:  # what was done stands, it just isn't kept
        raise Refusal("outcome_unknown", retry_after_ms=refusal.retry_after_ms or 1000) from refusal
    return _response(answered)


async def _replayed(
    body: bytes | Stream,
    status: int,
    kept: bytes,
    location: str,
    restore: Callable[[bytes], Awaitable[bytes]] | None,
    user: str | None,
) -> Response[Any]:
    if isinstance(body, Stream):
        digest, _, kept = kept.partition(b" ")
        if digest != await body.digest():
            raise Refusal("idempotency_key_reused")
    if restore is not None:
        kept = await restore(kept)
    if user is not None:
        kept, location = kept.replace(_NAMED.encode(), _encode(user)), _named(_NAMED, user, location)
    response = _response(Answered(status=status, body=msgspec.Raw(kept), location=location))
    response.headers["Idempotency-Replayed"] = "true"
    return response


def _without(user: str | None, answered: Answered[Any]) -> Any:
    kept = answered.body if answered.kept is None else answered.kept
    if user is None or kept.user_id != user:
        return kept
    return msgspec.structs.replace(kept, user_id=msgspec.Raw(_NAMED.encode()))


def _named(old: str | None, new: str, location: str) -> str:
    before, _, last = location.rpartition("/")
    return f"{before}/{new}" if old is not None and last == old else location


async def _renew(context: Context, caller: Caller, key: str, print_: str) -> None:
    """Keep the claim while the request runs."""
    while True:
        await asyncio.sleep(_RENEW_S)
        with contextlib.suppress(Refusal):
            await context.hot.renew(caller, key, print_)


def _response(answered: Answered[Any]) -> Response[Any]:
    headers = {"Location": answered.location} if answered.location else {}
    return Response(_encode(answered.body), status_code=answered.status, headers=headers, media_type="application/json")
