"""The parts of the OpenAPI document that Litestar does not derive from a handler's signature.

Handlers decode bodies and queries themselves, for exact refusals; Litestar documents only what it decodes. A body's
struct is therefore declared as an additional response, which adds its schema to the components. The operation class
moves it to the request body.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, cast

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
from service.api.reading import may_be_empty
from service.api.schemas import Exact, ExactExample, Structs
from service.domain.field_types import Answer
from service.domain.outcomes import BY_CODE

_BODY = "body:"

_COMMON = "malformed unauthenticated forbidden rate_limited recovering keys_outdated unavailable".split()

_STRING, _INTEGER = OpenAPIType.STRING, OpenAPIType.INTEGER


def _header(description: str, schema: Schema, required: bool = False) -> OpenAPIHeader:
    return OpenAPIHeader(description=description, schema=schema, required=required)


_ANSWERED = _header(
    "The request's id: the client's if valid, else a new one.", Schema(type=_STRING, min_length=1), True
)
_LOCATION = _header("The address of the created resource.", Schema(type=_STRING, pattern="^/v1/"))
_REPLAYED = _header("Present if this is the stored response of this Idempotency-Key.", Schema(enum=["true"]))
_APPLIED = _header("Present if the preference was met.", Schema(enum=["durability=recorded"]))
_LAG = _header("How many seconds the answer is behind, if not 0.", Schema(type=_INTEGER, minimum=1))
_DETACHED_TO = _header(
    "The newest month of facts that is detached from Postgres: this list may lack facts of it, and of earlier ones.",
    Schema(type=_STRING, pattern="^[0-9]{4}-[0-9]{2}$"),
)
_CHALLENGE = _header("How to authenticate.", Schema(enum=["Bearer"]), True)
_RETRY_AFTER = Schema(type=_INTEGER, minimum=1)
_SECONDS = "Seconds to wait before a retry."
_RATES = {
    "RateLimit": _header('The remaining requests: `"requests";r=99;t=60`.', Schema(type=_STRING)),
    "RateLimit-Policy": _header('The limits: `"requests";q=100;w=60`.', Schema(type=_STRING)),
}

_REQUEST_ID = Parameter(
    name="X-Request-Id",
    param_in="header",
    description="1 to 128 printable ASCII characters that identify the request in logs; ignored if invalid.",
    schema=Schema(type=_STRING),
    required=False,
)
_PREFER = Parameter(
    name="Prefer",
    param_in="header",
    description="`durability=recorded`: respond once the change is committed in Postgres, or after `wait` seconds.",
    schema=Schema(type=_STRING, examples=["durability=recorded, wait=5"]),
    required=False,
)
_IDEMPOTENCY_KEY = Parameter(
    name="Idempotency-Key",
    param_in="header",
    description="A repeated request with the same key gets the stored response of the first success.",
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
    """A rejected request (RFC 9457). Client programs compare `code`."""

    type: Annotated[str, msgspec.Meta(description="The address of the documentation of this `code`.")]
    title: Annotated[str, msgspec.Meta(description="What happened, the same for each `code`.")]
    status: int
    detail: Annotated[str, msgspec.Meta(description="What was sent, what is accepted, and what to do next.")]
    instance: str
    code: str
    request_id: str
    param: Annotated[
        str | msgspec.UnsetType, msgspec.Meta(description="The first bad field; only if a field is bad.")
    ] = msgspec.UNSET
    errors: Annotated[
        list[FieldProblem] | msgspec.UnsetType,
        msgspec.Meta(description="Every bad field, at most 20; with status 400 and 422."),
    ] = msgspec.UNSET


def describe(
    operation_id: str,
    summary: str,
    tag: str,
    *,
    aliases: "Mapping[str, str] | None" = None,
    body: Any = None,
    query: "type[msgspec.Struct] | None" = None,
    example: Any = None,
    answer: Any = None,
    answers: "Mapping[int, tuple[Any, str] | tuple[Any, str, Any]] | None" = None,
    refusals: str = "",
    idempotent: bool = False,
    durable: bool = False,
    located: bool = False,
    lagging: bool = False,
    detached: bool = False,
    open_to_all: bool = False,
    counted: bool = False,
    hot: bool = False,
    roles: tuple[str, ...] = (),
) -> dict[str, Any]:
    """Keyword arguments for a route's decorator.

    - aliases: operation ids of other paths of the same handler.
    - body: a struct, or a struct or schema for each media type. example: an example of the JSON body.
    - answer: an example of the response. answers: further responses, by status: struct, sentence, and an example if it
      is not that of `answer`.
    - refusals: the outcome codes of this operation, besides those of all operations.
    - idempotent: accepts an Idempotency-Key. durable: accepts `Prefer`.
    - located: returns `Location`. lagging: may return `Scrip-Lag-Seconds`. detached: `Scrip-Detached-To`.
    - open_to_all: needs no credentials.
    - counted: a script counts the request for the caller's limits, so that admit does not.
    - hot: as counted, and the script stores the response under the Idempotency-Key.
    - roles: the roles that may run the operation; default: those of service/access/roles.py.
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
    optional = len(bodies) == 1 and all(map(may_be_empty, bodies.values()))
    responses: dict[Any, ResponseSpec] = {
        f"{_BODY}{media}": ResponseSpec(kind, generate_examples=False, media_type=media)
        for media, kind in bodies.items()
        if not isinstance(kind, Schema)
    }
    texts = {media: OpenAPIMediaType(schema=kind) for media, kind in bodies.items() if isinstance(kind, Schema)}
    examples: dict[str, Any] = {}
    for status, (kind, sentence, *own) in (answers or {}).items():
        examples |= {str(status): example for example in own}
        responses[status] = ResponseSpec(kind, generate_examples=False, description=sentence)
    responses.update(_refusals(codes))
    roles = () if open_to_all else roles or list_roles(operation_id)
    if any(list_roles(alias) != roles for alias in (aliases or {}).values()):
        raise ValueError(f"{operation_id} and its aliases have different roles")
    parameters = [_REQUEST_ID, *([_IDEMPOTENCY_KEY] if idempotent else ()), *([_PREFER] if durable else ())]
    always = {"X-Request-Id": _ANSWERED}
    succeeded = {
        name: header
        for name, header, is_sent in (
            ("Location", _LOCATION, located),
            ("Idempotency-Replayed", _REPLAYED, idempotent),
            ("Preference-Applied", _APPLIED, durable),
            ("Scrip-Lag-Seconds", _LAG, lagging),
            ("Scrip-Detached-To", _DETACHED_TO, detached),
        )
        if is_sent
    }

    def operation(**fields: Any) -> Operation:
        made = Operation(**fields)
        declared = made.responses or {}
        content = {
            media: item
            for name in [name for name in declared if name.startswith(_BODY)]
            for media, item in (getattr(declared.pop(name), "content", None) or {}).items()
        }
        content |= texts
        if content:
            made.request_body = RequestBody(content=content, required=not optional)
            _exemplify(content.get("application/json"), example)
        for status, response in declared.items():
            content = getattr(response, "content", None) or {}
            _exemplify(content.get("application/json", content.get("text/csv")), examples.get(status, answer))
            headers = succeeded | _RATES if status.startswith("2") else _PROBLEM_HEADERS.get(status, {})
            cast("OpenAPIResponse", response).headers = {**always, **headers}
        _empty(declared.get("204"))
        made.security = [{"key": [role]} if role in SCOPES else {"token": []} for role in roles]
        made.parameters = [*(made.parameters or []), *_parameters(query), *parameters]
        return made

    return {
        "operation_id": _name_operations(operation_id, aliases) if aliases else operation_id,
        "summary": summary,
        "tags": [tag],
        "responses": responses,
        "operation_class": cast("type[Operation]", operation),
        "opt": OPEN if open_to_all else {"roles": roles, "counted": counted or hot},
    }


def _name_operations(operation_id: str, aliases: Mapping[str, str]) -> Callable[..., str]:
    def named(_handler: Any, _method: Any, path: Iterable[Any]) -> str:
        parts = (part if isinstance(part, str) else f"{{{part.name}}}" for part in path)
        return aliases.get("/" + "/".join(parts), operation_id)

    return named


def _refusals(codes: Iterable[str]) -> dict[int, ResponseSpec]:
    """One response for each status, whose description lists its codes."""
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
    """Remove the content of a response without a body."""
    if response is not None:
        response.content = None


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
    """The schema of a field in a query: without null, and an amount is a string."""
    members = schema.to_schema()
    options = [option for option in members.get("anyOf", ()) if option.get("type") != "null"]
    if len(options) == 1:
        members = {name: value for name, value in members.items() if name not in ("anyOf", "default")} | options[0]
    if "anyOf" in members:
        members = next(members | option for option in members["anyOf"] if option["type"] == "string")
        members.pop("anyOf")
    return Exact(members)
