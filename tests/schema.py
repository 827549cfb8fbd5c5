"""The part of JSON Schema that an OpenAPI document of ours uses, checked."""

import re
from datetime import datetime
from typing import Any
from uuid import UUID

import httpx

from service.domain.field_types import PRINTABLE

_TYPES: dict[str, Any] = {
    "string": str, "integer": int, "number": int | float, "boolean": bool, "array": list, "object": dict,
    "null": type(None),
}  # fmt: skip
_KNOWN = {
    "type", "properties", "required", "additionalProperties", "items", "oneOf", "anyOf", "enum", "const", "pattern",
    "minLength", "maxLength", "minimum", "maximum",
    "minItems", "maxItems", "uniqueItems", "exclusiveMinimum", "exclusiveMaximum", "format", "$ref",
    "title", "description", "examples", "default", "deprecated", "discriminator",
}  # fmt: skip


class Unfit(AssertionError):
    """A value that its schema doesn't allow."""


def check(value: Any, schema: dict[str, Any], document: dict[str, Any], at: str = "$") -> None:
    """Raise Unfit where the value doesn't fit; a keyword that we don't know is an error too."""
    if "$ref" in schema:
        check(value, resolved(schema["$ref"], document), document, at)
        return
    unknown = schema.keys() - _KNOWN
    _fits(not unknown, at, f"keywords {unknown}")
    if kind := schema.get("type"):
        kinds = kind if isinstance(kind, list) else [kind]
        _fits(any(_is(value, name) for name in kinds), at, f"{value!r} is no {kinds}")
    _fits("enum" not in schema or value in schema["enum"], at, f"{value!r} is not in {schema.get('enum')}")
    _fits("const" not in schema or value == schema["const"], at, f"{value!r} is not {schema.get('const')}")
    for word in ("oneOf", "anyOf"):
        if word in schema:
            fitting = [fit for fit in schema[word] if _does_fit(value, fit, document)]
            right = len(fitting) == 1 if word == "oneOf" else bool(fitting)
            _fits(right, at, f"{len(fitting)} of {word} fit {value!r}")
    if isinstance(value, str):
        _text(value, schema, at)
    if isinstance(value, int | float) and not isinstance(value, bool):
        _number(value, schema, at)
    if isinstance(value, list):
        _fits(schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)), at, "too many or too few")
        _fits(not schema.get("uniqueItems") or len({repr(item) for item in value}) == len(value), at, "one comes twice")
        for number, item in enumerate(value):
            check(item, schema.get("items", {}), document, f"{at}[{number}]")
    if isinstance(value, dict):
        _members(value, schema, document, at)


def check_answer(answer: httpx.Response, operation: str, document: dict[str, Any]) -> None:
    """Raise Unfit or KeyError where the document doesn't have the operation (`GET /v1/books`) answer so."""
    method, path = operation.split(" ")
    described = document["paths"][path][method.lower()]["responses"][str(answer.status_code)]
    if answer.status_code == 204:
        _fits(not answer.content, operation, "204 has a body")
        return
    media = answer.headers["Content-Type"].removesuffix("; charset=utf-8")
    told: Any = answer.text if media == "text/csv" else answer.json()
    check(told, described["content"][media]["schema"], document, operation)
    if media == "application/problem+json":
        _fits(f"`{told['code']}`" in described["description"], operation, f"{told['code']} is not described")


def resolved(reference: str, document: dict[str, Any]) -> dict[str, Any]:
    """What a `$ref` within the document names; KeyError where there is no such thing."""
    found: Any = document
    for part in reference.removeprefix("#/").split("/"):
        found = found[part]
    return found


def _number(value: float, schema: dict[str, Any], at: str) -> None:
    fits = schema.get("minimum", value) <= value <= schema.get("maximum", value)
    fits = fits and ("exclusiveMinimum" not in schema or schema["exclusiveMinimum"] < value)
    fits = fits and ("exclusiveMaximum" not in schema or value < schema["exclusiveMaximum"])
    _fits(fits, at, f"{value} is out of range")


def _text(value: str, schema: dict[str, Any], at: str) -> None:
    _fits(schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value)), at, "too long or too short")
    if pattern := schema.get("pattern"):
        # Python's re has no \p, and its $ also matches before a last line break.
        python = re.sub(r"\$(?=[|)]|\Z)", r"\\Z", pattern)
        fits = value.isprintable() if pattern == PRINTABLE else re.search(python, value)
        _fits(fits, at, f"{value!r} doesn't match {pattern}")
    match schema.get("format"):
        case "uuid":
            UUID(value)
        case "date-time":
            _fits(datetime.fromisoformat(value).tzinfo, at, f"{value!r} has no offset")


def _members(value: dict[str, Any], schema: dict[str, Any], document: dict[str, Any], at: str) -> None:
    missing = set(schema.get("required", ())) - value.keys()
    _fits(not missing, at, f"{missing} missing")
    known, more = schema.get("properties", {}), schema.get("additionalProperties", True)
    for name, member in value.items():
        if name in known:
            check(member, known[name], document, f"{at}.{name}")
        elif isinstance(more, dict):
            check(member, more, document, f"{at}.{name}")
        else:
            _fits(more, at, f"{name} is not a member")


def _is(value: Any, name: str) -> bool:
    if isinstance(value, bool):
        return name == "boolean"
    return isinstance(value, _TYPES[name])


def _does_fit(value: Any, schema: dict[str, Any], document: dict[str, Any]) -> bool:
    try:
        check(value, schema, document)
    except Unfit:
        return False
    return True


def _fits(true: Any, at: str, told: str) -> None:
    if not true:
        raise Unfit(f"{at}: {told}")
