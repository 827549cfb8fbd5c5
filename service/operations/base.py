"""What an operation consists of: a request struct, `prepare`, which makes the script's call from it, and `render`,
which makes the answer from the script's reply.

Both functions are pure. What is made for each request is a msgspec struct: 0.1 µs, where a NamedTuple or a dataclass
takes 0.2."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from service.access.caller import Caller, resolve_user
from service.domain.decoding import decode
from service.domain.errors import Refusal
from service.domain.field_types import UserId, canonicalize_code

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


@dataclass(frozen=True, kw_only=True)
class Texts:
    """An operation in the OpenAPI document."""

    summary: str
    tag: str
    description: str
    example: Any = None
    """Of the request's body."""
    answer: Any = None
    """An example of the answer."""
    repeated: str = ""
    """When the status is 200 instead of the operation's own."""
    keyed: bool = True
    """Whether it takes an Idempotency-Key."""
    refusals: str = ""
    """The codes of refusals that not every operation has."""


@dataclass(frozen=True, kw_only=True)
class Operation:
    """What the operation's own file defines; service/operations/table.py has its route, roles and script."""

    request: type[msgspec.Struct]
    prepare: Callable[..., Command]
    """From the call, the name in the path and the request. Pure; raises Refusal."""
    answer: "type[msgspec.Struct] | None"
    """None where the answer has no body."""
    texts: Texts
    status: int = 201
    durable: bool = False
    """Whether the answer has a durability, and the request may prefer one."""
    answer_refusal: Callable[[Caller, Refusal], Rendered | None] | None = None
    """The answer that is given in a refusal's place; None for the refusal itself."""
    decoder: "msgspec.json.Decoder[Any]" = field(init=False)
    _user_decoder: "msgspec.json.Decoder[Any]" = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "decoder", msgspec.json.Decoder(self.request))
        object.__setattr__(self, "_user_decoder", msgspec.json.Decoder(without_user(self.request)))

    def decode(self, caller: Caller, body: bytes) -> Any:
        """The request. A user's token names its user, whom the body may leave out. Raises Refusal `forbidden` where the
        body names another user, and as service/domain/decoding.py does."""
        if caller.user is None:
            return decode(self.decoder, body)
        return for_user(caller, decode(self._user_decoder, body))


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
        request.user_id = resolve_user(caller, request.user_id)
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
    code = canonicalize_code(text)
    if code is None:
        raise Refusal("coupon_not_found")
    return code


def idempotency_of(call: Call) -> str:
    """The name of the key's entry; one that never exists without a key."""
    return f"{call.caller.prefix}i:{call.idempotency_key}"
