"""Schemas of structs in the OpenAPI document, from msgspec: exact bounds, nulls and unknown fields. documented.py and
app.py use this. It imports a private module of Litestar, which an update of Litestar may break."""

from typing import Any, get_args

import msgspec
from litestar._openapi.schema_generation import SchemaCreator
from litestar._openapi.schema_generation.plugins.struct import StructSchemaPlugin
from litestar.openapi.spec import Example, Schema
from litestar.typing import FieldDefinition

from service.engine.domain.field_types import END, Page
from service.server.api.field_texts import EXAMPLES, find_text


class Exact(Schema):
    """A schema that Litestar outputs unchanged."""

    def __init__(self, members: dict[str, Any]) -> None:
        super().__init__(description=members.get("description"))
        self._members = members

    def to_schema(self) -> dict[str, Any]:
        return self._members


class ExactExample(Example):
    """An example that keeps its nulls."""

    def to_schema(self) -> dict[str, Any]:
        return {"value": self.value}


class Structs(StructSchemaPlugin):
    """Litestar finds and names the structs; msgspec makes their schemas."""

    def to_openapi_schema(self, field_definition: FieldDefinition, schema_creator: SchemaCreator) -> Schema:
        schema = super().to_openapi_schema(field_definition, schema_creator)
        kind = field_definition.type_
        if issubclass(kind, Page):  # Litestar does not find the type of its items
            (item,) = get_args(vars(kind)["__orig_bases__"][0])
            schema_creator.for_field_definition(FieldDefinition.from_annotation(item))
        _, components = msgspec.json.schema_components([kind], ref_template="#/components/schemas/{name}")
        members = _to_json_schema(components[kind.__name__])
        schema.description = members.get("description")
        schema.properties = {
            name: Exact(_describe(kind, name, property_)) for name, property_ in members["properties"].items()
        }
        schema.required = members.get("required") or None
        schema.additional_properties = members.get("additionalProperties")
        return schema


def _describe(kind: type, name: str, members: dict[str, Any]) -> dict[str, Any]:
    """The schema of a field with one description: what it means, and what its type and the options of that say."""
    members = members | ({"anyOf": [dict(one) for one in members["anyOf"]]} if "anyOf" in members else {})
    parts: list[dict[str, Any]] = [members, *members.get("anyOf", ())]
    texts = [find_text(kind, name), *(one.pop("description", None) for one in parts)]
    members["description"] = " ".join(dict.fromkeys(filter(None, texts)))
    example = find_text(kind, name, EXAMPLES)
    if example is not None and not any("examples" in one for one in parts):
        members["examples"] = [example]
    return members


def _to_json_schema(node: Any) -> Any:
    """msgspec's schema as plain JSON Schema: a sent decimal has only its `anyOf`, and a pattern ends with `$`."""
    if isinstance(node, list):
        return [_to_json_schema(item) for item in node]
    if not isinstance(node, dict):
        return node
    if node.get("format") == "decimal" and "anyOf" in node:
        node = {name: value for name, value in node.items() if name not in ("format", "type")}
    if isinstance(node.get("pattern"), str):
        node = node | {"pattern": node["pattern"].replace(END, "$")}
    return {name: _to_json_schema(value) for name, value in node.items()}
