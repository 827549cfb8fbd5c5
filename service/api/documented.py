"""The parts of the OpenAPI document that Litestar does not derive from a handler's signature. Each controller calls a
`describe_*` for each route, and thereby gets the route's roles: those of its operation id in service/access/roles.py.
Clients generated from the document use operation ids and names. `Problem` is what problem_document.py writes.

Handlers decode bodies and queries themselves, for exact refusals; Litestar documents only what it decodes. A body's
struct is therefore declared as an additional response, which adds its schema to the components. The operation class
moves it to the request body.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
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
from service.operations.base import Texts

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


Answers = Mapping[int, tuple[Any, str] | tuple[Any, str, Any]]
"""Further responses, by status: struct, sentence, and an example if it is not that of the usual response."""


@dataclass(frozen=True, kw_only=True)
class _Content:
    """What is sent and returned."""

    body: Any = None
    """A struct, or a struct or schema for each media type."""
    query: type[msgspec.Struct] | None = None
    example: Any = None
    """Of the JSON body."""
    answer: Any = None
    """An example of the response."""
    answers: Answers = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class _Kind:
    """What the kind of a route adds."""

    refusals: str = ""
    parameters: tuple[Parameter, ...] = ()
    headers: Mapping[str, OpenAPIHeader] = field(default_factory=dict)
    """Of a success."""
    counted: bool = False
    """Whether a script counts the request for the caller's limits, so that admit does not."""
    roles: tuple[str, ...] = ()
    """By default those of service/access/roles.py."""
    is_open: bool = False
    """Whether it needs no credentials."""


_KEYED = "request_in_progress idempotency_key_reused"


def describe_read(
    operation_id: str,
    summary: str,
    tag: str,
    *,
    query: type[msgspec.Struct] | None = None,
    answer: Any = None,
    refusals: str = "",
    lagging: bool = False,
    detached: bool = False,
    counted: bool = False,
    aliases: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Keyword arguments for the decorator of a route that reads.

    - answer: an example of the response.
    - refusals: the outcome codes of this operation, besides those of all operations.
    - lagging: may return `Scrip-Lag-Seconds`. detached: `Scrip-Detached-To`.
    - counted: a script counts the request for the caller's limits.
    - aliases: operation ids of other paths of the same handler.
    """
    headers = {"Scrip-Lag-Seconds": _LAG} if lagging else {}
    headers |= {"Scrip-Detached-To": _DETACHED_TO} if detached else {}
    content = _Content(query=query, answer=answer)
    return _describe(
        operation_id, summary, tag, content, _Kind(refusals=refusals, headers=headers, counted=counted), aliases
    )


def describe_open(
    operation_id: str, summary: str, tag: str, *, answer: Any = None, answers: Answers | None = None
) -> dict[str, Any]:
    """As describe_read, for a route that needs no credentials."""
    content = _Content(answer=answer, answers=answers or {})
    return _describe(operation_id, summary, tag, content, _Kind(is_open=True))


def describe_change(
    operation_id: str,
    summary: str,
    tag: str,
    *,
    body: Any = None,
    query: type[msgspec.Struct] | None = None,
    example: Any = None,
    answer: Any = None,
    refusals: str = "",
) -> dict[str, Any]:
    """As describe_read, for a route with a body that takes no Idempotency-Key: a repeat changes nothing more.

    - body: a struct, or a struct or schema for each media type. example: an example of the JSON body.
    """
    content = _Content(body=body, query=query, example=example, answer=answer)
    return _describe(operation_id, summary, tag, content, _Kind(refusals=refusals))


def describe_action(
    operation_id: str,
    summary: str,
    tag: str,
    *,
    body: Any = None,
    query: type[msgspec.Struct] | None = None,
    example: Any = None,
    answer: Any = None,
    answers: Answers | None = None,
    refusals: str = "",
    located: bool = False,
    aliases: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """As describe_change, for a route that takes an Idempotency-Key. `located`: returns `Location`."""
    headers = {"Location": _LOCATION} if located else {}
    kind = _Kind(
        refusals=f"{refusals} {_KEYED} key_quota",
        parameters=(_IDEMPOTENCY_KEY,),
        headers=headers | {"Idempotency-Replayed": _REPLAYED},
    )
    content = _Content(body=body, query=query, example=example, answer=answer, answers=answers or {})
    return _describe(operation_id, summary, tag, content, kind, aliases)


def describe_hot(
    operation_id: str,
    texts: Texts,
    *,
    body: Any,
    answers: Answers | None = None,
    durable: bool = False,
    keyed: bool = True,
    kept_by_api: bool = False,
    roles: tuple[str, ...] = (),
) -> dict[str, Any]:
    """As describe_action, for a route whose scripts count the request for the caller's limits.

    - durable: accepts `Prefer`.
    - keyed: takes an Idempotency-Key.
    - kept_by_api: the API, and not the script, stores the response under the Idempotency-Key.
    - roles: by default those of service/access/roles.py.
    """
    parameters, headers = (_IDEMPOTENCY_KEY,) if keyed else (), dict[str, OpenAPIHeader]()
    refusals = f"{texts.refusals} {_KEYED}" if keyed else texts.refusals
    headers |= {"Idempotency-Replayed": _REPLAYED} if keyed else {}
    headers |= {"Preference-Applied": _APPLIED} if durable else {}
    kind = _Kind(
        refusals=f"{refusals} key_quota" if kept_by_api else refusals,
        parameters=(*parameters, _PREFER) if durable else parameters,
        headers=headers,
        counted=True,
        roles=roles,
    )
    content = _Content(body=body, example=texts.example, answer=texts.answer, answers=answers or {})
    return _describe(operation_id, texts.summary, texts.tag, content, kind)


def _describe(
    operation_id: str,
    summary: str,
    tag: str,
    content: _Content,
    kind: _Kind,
    aliases: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    body = content.body
    bodies = body if isinstance(body, Mapping) else {"application/json": body} if body else {}
    codes = [] if kind.is_open else [*_COMMON, *kind.refusals.split()]
    if kind.counted:
        codes.append("too_many_misses")
    if bodies:
        codes += ["too_large", "unsupported_media_type"]
    if bodies or content.query:
        codes.append("invalid")
    optional = len(bodies) == 1 and all(map(may_be_empty, bodies.values()))
    responses: dict[Any, ResponseSpec] = {
        f"{_BODY}{media}": ResponseSpec(struct, generate_examples=False, media_type=media)
        for media, struct in bodies.items()
        if not isinstance(struct, Schema)
    }
    texts = {media: OpenAPIMediaType(schema=schema) for media, schema in bodies.items() if isinstance(schema, Schema)}
    examples: dict[str, Any] = {}
    for status, (struct, sentence, *own) in content.answers.items():
        examples |= {str(status): example for example in own}
        responses[status] = ResponseSpec(struct, generate_examples=False, description=sentence)
    responses.update(_refusals(codes))
    roles = () if kind.is_open else kind.roles or list_roles(operation_id)
    if any(list_roles(alias) != roles for alias in (aliases or {}).values()):
        raise ValueError(f"{operation_id} and its aliases have different roles")
    always = {"X-Request-Id": _ANSWERED}

    def operation(**fields: Any) -> Operation:
        made = Operation(**fields)
        declared = made.responses or {}
        contents = {
            media: item
            for name in [name for name in declared if name.startswith(_BODY)]
            for media, item in (getattr(declared.pop(name), "content", None) or {}).items()
        }
        contents |= texts
        if contents:
            made.request_body = RequestBody(content=contents, required=not optional)
            _exemplify(contents.get("application/json"), content.example)
        for status, response in declared.items():
            contents = getattr(response, "content", None) or {}
            _exemplify(contents.get("application/json", contents.get("text/csv")), examples.get(status, content.answer))
            headers = {**kind.headers, **_RATES} if status.startswith("2") else _PROBLEM_HEADERS.get(status, {})
            cast("OpenAPIResponse", response).headers = {**always, **headers}
        _empty(declared.get("204"))
        made.security = [{"key": [role]} if role in SCOPES else {"token": []} for role in roles]
        made.parameters = [*(made.parameters or []), *_parameters(content.query), _REQUEST_ID, *kind.parameters]
        return made

    return {
        "operation_id": _name_operations(operation_id, aliases) if aliases else operation_id,
        "summary": summary,
        "tags": [tag],
        "responses": responses,
        "operation_class": cast("type[Operation]", operation),
        "opt": OPEN if kind.is_open else {"roles": roles, "counted": kind.counted},
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
