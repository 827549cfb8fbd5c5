"""The parts of an operation: a request struct, `prepare` (request → Command) and the Command's `render` (reply →
response). Each operation's file defines one; run.py, batches and transports use it.

Both functions are pure, but for the random token of a lock. Objects made for each request are msgspec structs: 0.1 µs,
a NamedTuple or dataclass 0.2.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from service.engine.domain.decoding import decode
from service.engine.domain.errors import Refusal
from service.engine.domain.field_types import UserId, canonicalize_code, explain_code
from service.engine.formats.events import RequestPart
from service.engine.operations.caller import Caller, resolve_user
from service.engine.operations.usual_requests import usual_struct

Reply = list[Any]
encode = msgspec.json.Encoder().encode


class Call(msgspec.Struct, gc=False):
    """A request without its body. `fingerprint` is '-' without an Idempotency-Key."""

    caller: Caller
    idempotency_key: str = ""
    fingerprint: str = "-"
    ip: str | None = None
    user_agent: str | None = None

    @property
    def answer_key(self) -> str:
        """The Redis key of the stored answer; without an Idempotency-Key no such key exists."""
        return self.caller.keys.answer + self.idempotency_key

    def coupon_keys(self, code: str, bucket: str) -> tuple[str, str, str, str, str]:
        """The first five keys of scripts about one coupon (find_coupon of lua/includes/request.lua)."""
        caller = self.caller
        k = caller.keys
        return (caller.gate, k.settings, k.answer + self.idempotency_key, k.directory + bucket, k.coupon + code)

    def reading_keys(self, code: str, bucket: str) -> tuple[str, str, str, str, str]:
        """As coupon_keys, for rows that read: without the Idempotency-Key. Their fingerprint is '-'."""
        k = self.caller.keys
        return (self.caller.gate, k.settings, k.answer, f"{k.directory}{bucket}", f"{k.coupon}{code}")

    def encode_request(self, op: str, sent: Mapping[str, Any] | None = None, reason: str = "", by: str = "") -> str:
        """The request's part of an event. `sent`: of the fields in sent_fields.py, as encode_sent returns them."""
        key = self.idempotency_key
        part = RequestPart(
            ip=self.ip or "", ua=self.user_agent or "", reason=reason, key=key, op=op if key else "", by=by
        )
        return encode(msgspec.structs.replace(part, **sent) if sent else part).decode()


class Rendered(msgspec.Struct, gc=False):
    """A response; `body` is None if empty."""

    status: int
    body: bytes | None
    replayed: bool = False
    rates: str = ""
    """The caller's remaining limits, as service/engine/domain/limits.py reads them."""


Render = Callable[[Reply, str], Rendered]
"""(script's reply, durability as in coupon_view.py) → response."""


def render_nothing(reply: Reply, durability: str) -> Rendered:
    """For scripts that no request runs alone: the response is not sent."""
    return Rendered(204, None)


class Command(msgspec.Struct):
    """One run of one script."""

    script: str
    keys: tuple[str, ...]
    args: tuple[str, ...]
    """All texts: service/engine/hot/connection.py writes those fastest."""
    render: Render


@dataclass(frozen=True, kw_only=True)
class Texts:
    """An operation in the OpenAPI document."""

    summary: str
    returns: str
    """What the usual response is or has."""
    description: str
    tag: str = "Coupons"
    example: Any = None
    """An example of the request body."""
    answer: Any = None
    """An example of the response body."""
    repeated: str = ""
    """When the status is 200 instead of 201."""


@dataclass(frozen=True, kw_only=True)
class Operation:
    """The part that an operation's file defines; service/engine/operations/table.py adds route, roles and script."""

    request: type[msgspec.Struct]
    prepare: Callable[..., Command]
    """(call, name in the path, request) → command. Raises Refusal."""
    answer: "type[msgspec.Struct] | None"
    """None if the response has no body."""
    texts: Texts
    status: int = 201
    durable: bool = False
    """Whether the response has a durability, and the request may prefer one."""
    answer_refusal: Callable[[Caller, Refusal], Rendered | None] | None = None
    """Replaces some refusals by a response; returns None for the others."""
    decoder: "msgspec.json.Decoder[Any]" = field(init=False)
    _user_decoder: "msgspec.json.Decoder[Any]" = field(init=False)
    usual_decoder: "msgspec.json.Decoder[Any] | None" = field(init=False)
    """For service/server/fastlane/shapes.py."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "decoder", msgspec.json.Decoder(self.request))
        object.__setattr__(self, "_user_decoder", msgspec.json.Decoder(without_user(self.request)))
        usual = usual_struct(self.request)
        object.__setattr__(self, "usual_decoder", usual and msgspec.json.Decoder(usual))

    def decode(self, caller: Caller, body: bytes) -> Any:
        """Decode the request. With a user's token the body may omit the user.

        Raises Refusal `forbidden` if the body names another user, and as service/engine/domain/decoding.py does.
        """
        if caller.user is None:
            return decode(self.decoder, body)
        return fill_user(caller, decode(self._user_decoder, body))


def without_user(request: type[msgspec.Struct]) -> type[msgspec.Struct]:
    """A request struct with an optional user, for callers with a user's token."""
    if "user_id" not in request.__struct_fields__:
        return request
    return msgspec.defstruct(request.__name__, [("user_id", UserId | None, None)], bases=(request,), kw_only=True)


def fill_user(caller: Caller, request: Any) -> Any:
    """Set the request's user to the token's. Refusal `forbidden` if the request names another."""
    if "user_id" in request.__struct_fields__:
        request.user_id = resolve_user(caller, request.user_id)
    return request


def parse_code(text: str) -> str:
    """The canonical code. Refusal `coupon_not_found` if the text can't be one."""
    code = canonicalize_code(text)
    if code is None:
        raise Refusal("coupon_not_found", f"No coupon has this code: {explain_code(text)}.")
    return code
