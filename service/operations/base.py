"""What an operation is: a request struct, `prepare(call, code, request)`, which says what script to run on what, and
the render function that comes with it, which makes the answer from the script's reply.

Both are pure: the HTTP handlers and the tests run the same ones. What is made for each request is a msgspec struct: 0.1
µs, where a NamedTuple or a dataclass takes 0.2."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from service.access.caller import Caller, own_user
from service.access.roles import roles_of
from service.domain.decoding import decode
from service.domain.errors import Refusal
from service.domain.field_types import UserId, canonical_code

Reply = list[Any]


class Call(msgspec.Struct):
    """What a request says beyond its body; `fingerprint` is of method, path, query and body, '-' without a key."""

    caller: Caller
    idempotency_key: str = ""
    fingerprint: str = "-"
    ip: str | None = None
    user_agent: str | None = None


class Rendered(msgspec.Struct):
    """An answer: body None for an empty one."""

    status: int
    body: bytes | None
    replayed: bool = False
    rates: str = ""
    """What is left of the caller's limits, as service/domain/limits.py reads it."""


Render = Callable[[Reply, str], Rendered]
"""From a script's reply and the durability that was reached."""


class Command(msgspec.Struct):
    """One run of one script."""

    script: str
    keys: tuple[str, ...]
    args: tuple[Any, ...]
    render: Render


@dataclass(frozen=True)
class Operation:
    """One of the hot path: bearers of any of `roles` may run it; `durable` where its answer says how safe it is."""

    operation_id: str
    request: type[msgspec.Struct]
    prepare: Callable[..., Command]
    durable: bool = False
    roles: tuple[str, ...] = field(init=False)
    decoder: "msgspec.json.Decoder[Any]" = field(init=False)
    _own_decoder: "msgspec.json.Decoder[Any]" = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "roles", roles_of(self.operation_id))
        object.__setattr__(self, "decoder", msgspec.json.Decoder(self.request))
        object.__setattr__(self, "_own_decoder", msgspec.json.Decoder(without_user(self.request)))

    def own(self, caller: Caller, body: bytes) -> Any:
        """The request that a user's token sends. Refusal `forbidden` where it is about another user, and as decode."""
        return for_user(caller, decode(self._own_decoder, body))


def without_user(request: type[msgspec.Struct]) -> type[msgspec.Struct]:
    """A request's struct in which the user may be left out, for callers whose tokens name him."""
    if "user_id" not in request.__struct_fields__:
        return request
    config = request.__struct_config__
    return msgspec.defstruct(
        request.__name__, [("user_id", UserId | None, None)], bases=(request,), kw_only=True, tag=config.tag,
        tag_field=config.tag_field,
    )  # fmt: skip


def for_user(caller: Caller, request: Any) -> Any:
    """The request, about the user that the caller's token names. Refusal `forbidden` where it names another."""
    if "user_id" in request.__struct_fields__:
        request.user_id = own_user(caller, request.user_id)
    return request


class Kept(msgspec.Struct, omit_defaults=True):
    """A request's part of an event, and of a redemption's record."""

    ip: str | None = None
    ua: str | None = None
    metadata: msgspec.Raw = msgspec.Raw(b"{}")
    reason: str = ""
    key: str = ""
    op: str = ""


encode = msgspec.json.Encoder().encode
read_kept = msgspec.json.Decoder(Kept).decode


def packed(call: Call, op: str, metadata: bytes = b"{}", reason: str = "") -> bytes:
    """The request's part of an event."""
    kept: dict[str, Any] = {"ip": call.ip} if call.ip else {}
    if call.user_agent:
        kept["ua"] = call.user_agent
    if metadata != b"{}":
        kept["metadata"] = msgspec.Raw(metadata)
    if reason:
        kept["reason"] = reason
    if call.idempotency_key:
        kept["key"] = call.idempotency_key
        kept["op"] = op
    return encode(kept)


def code_of(text: str) -> str:
    """The canonical code; Refusal `coupon_not_found` where the text can't be one."""
    code = canonical_code(text)
    if code is None:
        raise Refusal("coupon_not_found")
    return code


def idempotency_of(call: Call) -> str:
    """The name of the key's entry; one that never exists without a key."""
    return f"{call.caller.prefix}i:{call.idempotency_key}"
