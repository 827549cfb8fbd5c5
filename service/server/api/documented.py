"""The parts of the OpenAPI document that Litestar does not derive from a handler's signature. Each controller calls
`describe_route` or a variant for each route, and so gets the route's roles: those of its operation id in roles.py.
Clients generated from the document use operation ids and names. `Problem` is what problem_document.py writes.

Handlers decode bodies and queries themselves, for exact refusals; Litestar documents only what it decodes. A body's
struct is therefore declared as an additional response, which adds its schema to the components. The operation class
moves it to the request body.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, cast

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

from service.engine.domain.field_types import Answer
from service.engine.domain.figures import Figures
from service.engine.domain.outcomes import BY_CODE, For
from service.engine.operations.caller import SCOPES
from service.server.access.roles import list_roles
from service.server.api.auth import OPEN
from service.server.api.reading import Listing, may_be_empty
from service.server.api.schemas import Exact, ExactExample, Structs

_BODY = "body:"

_COMMON = (
    "malformed unauthenticated forbidden workspace_suspended rate_limited recovering keys_outdated unavailable".split()
)

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
_CHALLENGE = _header("How to authenticate.", Schema(enum=["Bearer"]), True)
_RETRY_AFTER = Schema(type=_INTEGER, minimum=1)
_SECONDS = "Seconds to wait before a retry."
_RATES = {
    "RateLimit": _header('The remaining requests: `"requests";r=99;t=60`.', Schema(type=_STRING)),
    "RateLimit-Policy": _header('The limits: `"requests";q=100;w=60`.', Schema(type=_STRING)),
}


def _parameter(name: str, description: str, **limits: Any) -> Parameter:
    schema = Schema(type=_STRING, **limits)
    return Parameter(name=name, param_in="header", description=description, schema=schema, required=False)


_REQUEST_ID = _parameter(
    "X-Request-Id", "1 to 128 printable ASCII characters that identify the request in logs; ignored if invalid."
)
_PREFER = _parameter(
    "Prefer",
    "`durability=recorded`: respond once the change is committed in Postgres, or after `wait` seconds.",
    examples=["durability=recorded, wait=5"],
)
_IDEMPOTENCY_KEY = _parameter(
    "Idempotency-Key",
    "A repeated request with the same key gets the stored response of the first success. If that was rolled back "
    "since, it is refused, `already_rolled_back`; if its lock has ended, or its assignment was taken back, it is "
    "decided anew. 1 to 255 printable ASCII characters, without a space at either end.",
    min_length=1,
    max_length=255,
    pattern="^[!-~](?:[ -~]*[!-~])?$",
)
_PROBLEM_HEADERS = {
    "401": {"WWW-Authenticate": _CHALLENGE},
    "409": {"Retry-After": _header(_SECONDS, _RETRY_AFTER)},
    "429": {"Retry-After": _header(_SECONDS, _RETRY_AFTER, required=True), **_RATES},
    "503": {"Retry-After": _header(_SECONDS, _RETRY_AFTER, required=True)},
}


@dataclass
class _Operation(Operation):
    same_as: str | None = field(default=None, metadata={"alias": "x-same-as"})
    """The operation that does the same at another path, and that pages show in place of this one."""


class FieldProblem(Answer):
    """One bad field of a request."""

    field: str
    reason: str


class Problem(Figures, kw_only=True):
    """A rejected request (RFC 9457). Client programs compare `code`."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str
    for_: For = msgspec.field(name="for")
    request_id: str
    param: str | msgspec.UnsetType = msgspec.UNSET
    errors: list[FieldProblem] | msgspec.UnsetType = msgspec.UNSET


Answers = Mapping[int, tuple[Any, str] | tuple[Any, str, Any]]
"""Further responses, by status: struct, sentence, and an example if it is not that of the usual response."""


class _Shared(dict[Any, ResponseSpec]):
    """Not copied when Litestar copies each handler with all that it has: a tenth of the application's start."""

    def __deepcopy__(self, _memo: Any) -> "_Shared":
        return self


def describe_route(
    operation_id: str,
    summary: str,
    tag: str = "",
    *,
    returns: str,
    query: type[msgspec.Struct] | None = None,
    body: Any = None,
    example: Any = None,
    answer: Any = None,
    item: Any = None,
    answers: Answers | None = None,
    refusals: str = "",
    lagging: bool = False,
    located: bool = False,
    durable: bool = False,
    keyed: Literal["by_api", "by_script"] | None = None,
    counted: bool = False,
    roles: tuple[str, ...] = (),
    is_open: bool = False,
    aliases: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Keyword arguments for the decorator of a route.

    - returns: what the usual response is or has. tag: if the controller has no `tags`.
    - body: a struct, or a struct or schema for each media type. example: an example of the JSON body.
    - answer: an example of the response. item: for a list, an example of its items; its query is by default Listing.
    - refusals: the outcome codes of this operation, in addition to those of all operations.
    - lagging: may return `Scrip-Lag-Seconds`. located: `Location`.
    - durable: accepts `Prefer`. keyed: takes an Idempotency-Key, under which the API or the script stores the response.
    - counted: a script counts the request for the caller's limits, so that admit does not.
    - roles: by default those of service/server/access/roles.py. is_open: needs no credentials.
    - aliases: operation ids of other paths of the same handler.
    """
    if item is not None:
        query, answer = query or Listing, {"items": [item], "nextCursor": None}
    bodies = body if isinstance(body, Mapping) else {"application/json": body} if body else {}
    codes = [
        *(() if is_open else _COMMON),
        *refusals.split(),
        *(("request_in_progress", "idempotency_key_reused") if keyed else ()),
        *(("key_quota",) if keyed == "by_api" else ()),
        *(("too_many_misses",) if counted else ()),
        *(("too_large", "unsupported_media_type") if bodies else ()),
        *(("invalid",) if bodies or query else ()),
    ]
    sent = (
        ("Scrip-Lag-Seconds", _LAG, lagging),
        ("Location", _LOCATION, located),
        ("Idempotency-Replayed", _REPLAYED, keyed),
        ("Preference-Applied", _APPLIED, durable),
    )
    of_success = {name: header for name, header, is_sent in sent if is_sent} | _RATES
    parameters = [_REQUEST_ID, *([_IDEMPOTENCY_KEY] if keyed else ()), *([_PREFER] if durable else ())]
    optional = len(bodies) == 1 and all(map(may_be_empty, bodies.values()))
    responses = _Shared(
        {
            f"{_BODY}{media}": ResponseSpec(struct, generate_examples=False, media_type=media)
            for media, struct in bodies.items()
            if not isinstance(struct, Schema)
        }
    )
    texts = {media: _describe_text(schema) for media, schema in bodies.items() if isinstance(schema, Schema)}
    examples: dict[str, Any] = {}
    for status, (struct, sentence, *own) in (answers or {}).items():
        examples |= {str(status): one for one in own}
        responses[status] = ResponseSpec(struct, generate_examples=False, description=sentence)
    responses.update(_refusals(codes))
    if not is_open:
        roles = roles or list_roles(operation_id)
    if any(list_roles(alias) != roles for alias in (aliases or {}).values()):
        raise ValueError(f"{operation_id} and its aliases have different roles")

    def operation(**fields: Any) -> Operation:
        made = _Operation(**fields)
        made.same_as = None if made.operation_id == operation_id else operation_id
        declared = made.responses or {}
        contents = {
            media: content
            for name in [name for name in declared if name.startswith(_BODY)]
            for media, content in (getattr(declared.pop(name), "content", None) or {}).items()
        }
        contents |= texts
        if contents:
            made.request_body = RequestBody(content=contents, required=not optional)
            _exemplify(contents.get("application/json"), example)
        for status, response in declared.items():
            contents = getattr(response, "content", None) or {}
            _exemplify(contents.get("application/json", contents.get("text/csv")), examples.get(status, answer))
            headers = of_success if status.startswith("2") else _PROBLEM_HEADERS.get(status, {})
            cast("OpenAPIResponse", response).headers = {"X-Request-Id": _ANSWERED, **headers}
        if "204" in declared:  # it has no body
            cast("OpenAPIResponse", declared["204"]).content = None
        made.security = [{"key": [role]} if role in SCOPES else {"token": []} for role in roles]
        made.parameters = [*(made.parameters or []), *_parameters(query), *parameters]
        return made

    return {
        "operation_id": _name_operations(operation_id, aliases) if aliases else operation_id,
        "summary": summary,
        "tags": [tag] if tag else None,
        "response_description": returns,
        "responses": responses,
        "operation_class": cast("type[Operation]", operation),
        "opt": OPEN if is_open else {"roles": roles, "counted": counted},
    }


describe_history = partial(describe_route, lagging=True)
"""For a route that waits for Postgres, and returns what it has after a while."""
describe_action = partial(describe_route, keyed="by_api")
"""For a route whose response the API stores under the Idempotency-Key."""


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


def _describe_text(schema: Schema) -> OpenAPIMediaType:
    content = OpenAPIMediaType(schema=schema)
    _exemplify(content, next(iter(schema.examples or ()), None))
    return content


def _exemplify(content: Any, value: Any) -> None:
    if content is not None and value is not None:
        content.examples = {"example": ExactExample(value=value)}


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
