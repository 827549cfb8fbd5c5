"""Schemas of structs in the OpenAPI document as msgspec knows them: exact, with bounds, nulls and what is refused."""

from typing import Any

import msgspec
from litestar._openapi.schema_generation import SchemaCreator
from litestar._openapi.schema_generation.plugins.struct import StructSchemaPlugin
from litestar.openapi.spec import Example, Schema
from litestar.typing import FieldDefinition


class _Exact(Schema):
    """A schema that goes out as it is."""

    def __init__(self, told: dict[str, Any]) -> None:
        options = [told, *told.get("anyOf", ())]
        super().__init__(description=next((said["description"] for said in options if "description" in said), None))
        self._told = told

    def to_schema(self) -> dict[str, Any]:
        return self._told


class ExactExample(Example):
    """An example whose nulls go out too."""

    def to_schema(self) -> dict[str, Any]:
        return {"value": self.value}


class Structs(StructSchemaPlugin):
    """Litestar finds and names the structs; msgspec says what each of them is."""

    def to_openapi_schema(self, field_definition: FieldDefinition, schema_creator: SchemaCreator) -> Schema:
        schema = super().to_openapi_schema(field_definition, schema_creator)
        kind = field_definition.type_
        _, components = msgspec.json.schema_components([kind], ref_template="#/components/schemas/{name}")
        told = _with_numbers(components[kind.__name__])
        schema.description = told.get("description")
        schema.properties = {name: _Exact(property_) for name, property_ in told["properties"].items()}
        schema.required = told.get("required") or None
        schema.additional_properties = told.get("additionalProperties")
        return schema


def _with_numbers(told: Any) -> Any:
    """Decimals may be JSON numbers as well, in requests; answers have them as strings."""
    if isinstance(told, list):
        return [_with_numbers(item) for item in told]
    if not isinstance(told, dict):
        return told
    if told.get("format") == "decimal":
        return {name: value for name, value in told.items() if name != "format"} | {"type": ["number", "string"]}
    return {name: _with_numbers(value) for name, value in told.items()}
