"""What the OpenAPI document says of a handler beyond its signature.

Bodies and queries are read by ourselves, so that refusals are in the contract's words; Litestar documents only what
it reads itself. A body's struct is therefore declared as one more response, which puts its schema among the
components, and moved to where it belongs when the operation is made.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

import msgspec
from litestar._openapi.schema_generation import SchemaCreator
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import (
    OpenAPIHeader,
    OpenAPIMediaType,
    OpenAPIResponse,
    Operation,
    Parameter,
    Reference,
    RequestBody,
    Schema,
)
from litestar.openapi.spec.enums import OpenAPIType
from litestar.typing import FieldDefinition

from service.access.caller import SCOPES
from service.access.roles import list_roles
from service.api.auth import OPEN
from service.api.schemas import Exact, ExactExample, Structs
from service.domain.field_types import Answer
from service.domain.outcomes import BY_CODE

_BODY = "body:"

_COMMON = "malformed unauthenticated forbidden rate_limited recovering unavailable".split()

_STRING, _INTEGER = OpenAPIType.STRING, OpenAPIType.INTEGER


def _header(description: str, schema: Schema, required: bool = False) -> OpenAPIHeader:
    return OpenAPIHeader(description=description, schema=schema, required=required)


_ANSWERED = _header("The request's id: the caller's, if it sent a valid one.", Schema(type=_STRING, min_length=1), True)
_LOCATION = _header("Where what was made is.", Schema(type=_STRING, pattern="^/v1/"))
_REPLAYED = _header("The answer of the first success under this Idempotency-Key.", Schema(enum=["true"]))
_APPLIED = _header("The preference, where it was met.", Schema(enum=["durability=recorded"]))
_LAG = _header("How far the record is behind, where not all of it is here yet.", Schema(type=_INTEGER, minimum=1))
_CHALLENGE = _header("How to authenticate.", Schema(enum=["Bearer"]), True)
_RETRY_AFTER = Schema(type=_INTEGER, minimum=1)
_SECONDS = "Seconds after which it may be tried again."
_RATES = {
    "RateLimit": _header('What is left: `"requests";r=99;t=60`.', Schema(type=_STRING)),
    "RateLimit-Policy": _header('Those limits: `"requests";q=100;w=60`.', Schema(type=_STRING)),
}

_REQUEST_ID = Parameter(
    name="X-Request-Id",
    param_in="header",
    description="1 to 128 printable ASCII characters, to find the request by; ignored where it is none.",
    schema=Schema(type=_STRING),
    required=False,
)
_PREFER = Parameter(
    name="Prefer",
    param_in="header",
    description="`durability=recorded`: answer once the change is committed in Postgres, after at most `wait` seconds.",
    schema=Schema(type=_STRING, examples=["durability=recorded, wait=5"]),
    required=False,
)
_IDEMPOTENCY_KEY = Parameter(
    name="Idempotency-Key",
    param_in="header",
    description="The same key with the same request answers what the first success answered.",
    schema=Schema(type=_STRING, min_length=1, max_length=255, pattern="^[!-~](?:[ -~]*[!-~])?$"),
    required=False,
)


_PROBLEM_HEADERS = {
    "401": {"WWW-Authenticate": _CHALLENGE},
    "409": {"Retry-After": _header(_SECONDS, _RETRY_AFTER)},
    "429": {"Retry-After": _header(_SECONDS, _RETRY_AFTER, required=True), **_RATES},
    "503": {"Retry-After": _header(_SECONDS, _RETRY_AFTER, required=True)},
}


class FieldProblem(Answer):
    """One bad field of a request."""

    field: str
    reason: str


class Problem(Answer):
    """A refusal, as RFC 9457 has it; `code` is for programs."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str
    request_id: str
    errors: list[FieldProblem] | msgspec.UnsetType = msgspec.UNSET


def documented(
    operation_id: str,
    summary: str,
    tag: str,
    *,
    aliases: "Mapping[str, str] | None" = None,
    body: Any = None,
    query: "type[msgspec.Struct] | None" = None,
    example: Any = None,
    answer: Any = None,
    answers: "Mapping[int, tuple[Any, str]] | None" = None,
    refusals: str = "",
    idempotent: bool = False,
    durable: bool = False,
    located: bool = False,
    lagging: bool = False,
    open_to_all: bool = False,
    counted: bool = False,
    hot: bool = False,
    roles: tuple[str, ...] = (),
) -> dict[str, Any]:
    """Keyword arguments for a route's decorator.

    `aliases` are the operation ids of other paths of the same handler; `body` is a struct, or a struct or schema for
    each media type; `example` an example of the JSON body, `answer` one of the answer; `answers` what else may come
    (status: struct, sentence); `refusals` the codes that are this operation's own. `idempotent` takes an
    Idempotency-Key, `durable` a preference; `located` says where what it made is; `lagging` may be behind, and says so;
    `open_to_all` asks for no credentials; `counted` where scripts count the request for the caller's limits, so that
    nothing else does; `hot` where, besides, the script keeps its Idempotency-Key's answer. `roles` are those that may
    do it, by default those that name its id.
    """
    bodies = body if isinstance(body, Mapping) else {"application/json": body} if body else {}
    codes = [] if open_to_all else [*_COMMON, *refusals.split()]
    if counted or hot:
        codes.append("too_many_misses")
    if bodies:
        codes += ["too_large", "unsupported_media_type"]
    if bodies or query:
        codes.append("invalid")
    if idempotent:
        codes += ["request_in_progress", "idempotency_key_reused"]
        codes += [] if hot else ["key_quota"]
    responses: dict[Any, ResponseSpec] = {
        f"{_BODY}{media}": ResponseSpec(kind, generate_examples=False, media_type=media)
        for media, kind in bodies.items()
        if not isinstance(kind, Schema)
    }
    texts = {media: OpenAPIMediaType(schema=kind) for media, kind in bodies.items() if isinstance(kind, Schema)}
    for status, (kind, sentence) in (answers or {}).items():
        responses[status] = ResponseSpec(kind, generate_examples=False, description=sentence)
    responses.update(_refusals(codes))
    roles = () if open_to_all else roles or list_roles(operation_id)
    if any(list_roles(alias) != roles for alias in (aliases or {}).values()):
        raise ValueError(f"{operation_id} and its aliases are not for the same roles")
    taken = [_REQUEST_ID, *([_IDEMPOTENCY_KEY] if idempotent else ()), *([_PREFER] if durable else ())]
    told = {"X-Request-Id": _ANSWERED}
    succeeded = {
        name: header
        for name, header, said in (
            ("Location", _LOCATION, located),
            ("Idempotency-Replayed", _REPLAYED, idempotent),
            ("Preference-Applied", _APPLIED, durable),
            ("Scrip-Lag-Seconds", _LAG, lagging),
        )
        if said
    }

    def operation(**fields: Any) -> Operation:
        made = Operation(**fields)
        found = made.responses or {}
        content = {
            media: item
            for name in [name for name in found if name.startswith(_BODY)]
            for media, item in (getattr(found.pop(name), "content", None) or {}).items()
        }
        content |= texts
        if content:
            made.request_body = RequestBody(content=content, required=True)
            _exemplify(content.get("application/json"), example)
        for status, response in found.items():
            content = getattr(response, "content", None) or {}
            _exemplify(content.get("application/json", content.get("text/csv")), answer)
            headers = succeeded | _RATES if status.startswith("2") else _PROBLEM_HEADERS.get(status, {})
            cast("OpenAPIResponse", response).headers = {**told, **headers}
        _empty(found.get("204"))
        made.security = [{"key": [role]} if role in SCOPES else {"token": []} for role in roles]
        made.parameters = [*(made.parameters or []), *_parameters(query), *taken]
        return made

    return {
        "operation_id": _named(operation_id, aliases) if aliases else operation_id,
        "summary": summary,
        "tags": [tag],
        "responses": responses,
        "operation_class": cast("type[Operation]", operation),
        "opt": OPEN if open_to_all else {"roles": roles, "counted": counted or hot},
    }


def _named(operation_id: str, aliases: Mapping[str, str]) -> Callable[..., str]:
    def named(_handler: Any, _method: Any, path: Iterable[Any]) -> str:
        parts = (part if isinstance(part, str) else f"{{{part.name}}}" for part in path)
        return aliases.get("/" + "/".join(parts), operation_id)

    return named


def _refusals(codes: Iterable[str]) -> dict[int, ResponseSpec]:
    """One response for each status, which names its codes."""
    by_status: dict[int, list[str]] = {}
    for code in dict.fromkeys(codes):
        outcome = BY_CODE[code]
        by_status.setdefault(outcome.status, []).append(f"`{code}`: {outcome.sentence}")
    return {
        status: ResponseSpec(
            Problem, generate_examples=False, media_type="application/problem+json", description="\n\n".join(lines)
        )
        for status, lines in sorted(by_status.items())
    }


def _exemplify(content: Any, value: Any) -> None:
    if content is not None and value is not None:
        content.examples = {"example": ExactExample(value=value)}


def _empty(response: Any) -> None:
    """A response without a body has no content."""
    if response is not None:
        cast("OpenAPIResponse", response).content = None


def _parameters(kind: "type[msgspec.Struct] | None") -> list[Parameter]:
    """A query struct's fields as parameters."""
    if kind is None:
        return []
    creator = SchemaCreator(plugins=[Structs()])
    reference = cast("Reference", creator.for_field_definition(FieldDefinition.from_annotation(kind)))
    schema = creator.schema_registry.from_reference(reference).schema
    return [
        Parameter(
            name=name,
            param_in="query",
            description=getattr(field, "description", None),
            schema=_as_text(cast("Exact", field)),
            required=name in (schema.required or ()),
        )
        for name, field in (schema.properties or {}).items()
    ]


def _as_text(schema: Exact) -> Exact:
    """A field's schema where the field is text in an address: there is no null, and an amount is a string."""
    told = schema.to_schema()
    options = [option for option in told.get("anyOf", ()) if option.get("type") != "null"]
    if len(options) == 1:
        told = {name: value for name, value in told.items() if name not in ("anyOf", "default")} | options[0]
    if "anyOf" in told:
        told = next(told | option for option in told["anyOf"] if option["type"] == "string")
        told.pop("anyOf")
    return Exact(told)
