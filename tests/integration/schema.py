"""Checks values and answers against the schemas of an OpenAPI document."""

import json
from typing import Any

import httpx
from jsonschema_rs import Draft202012Validator, ValidationError


class Unfit(AssertionError):
    """A value does not fit its schema."""


_validators: dict[tuple[int, str], tuple[dict[str, Any], Draft202012Validator]] = {}
"""By document and schema. Each holds its document, so that no other document gets its id."""


def check(value: Any, schema: dict[str, Any], document: dict[str, Any]) -> None:
    """Raise Unfit if the value does not fit the schema."""
    key = (id(document), json.dumps(schema))
    if key not in _validators:
        whole = {"components": {"schemas": document["components"]["schemas"]}} | schema
        _validators[key] = document, Draft202012Validator(whole, validate_formats=True)
    try:
        _validators[key][1].validate(value)
    except ValidationError as error:
        raise Unfit(f"{error.instance_path}: {error.message}") from None


def check_answer(answer: httpx.Response, operation: str, document: dict[str, Any]) -> None:
    """Raise Unfit or KeyError if the document does not describe this answer of the operation (`GET /v1/books`)."""
    method, path = operation.split(" ")
    described = document["paths"][path][method.lower()]["responses"][str(answer.status_code)]
    if answer.status_code == 204:
        assert not answer.content, operation
        return
    media = answer.headers["Content-Type"].removesuffix("; charset=utf-8")
    body: Any = answer.text if media == "text/csv" else answer.json()
    check(body, described["content"][media]["schema"], document)
    if media == "application/problem+json":
        assert f"`{body['code']}`" in described["description"], operation


def resolved(reference: str, document: dict[str, Any]) -> dict[str, Any]:
    """Return what a `$ref` within the document names; raise KeyError if it names nothing."""
    part: Any = document
    for name in reference.removeprefix("#/").split("/"):
        part = part[name]
    return part
