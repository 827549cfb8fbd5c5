"""Schemas of structs in the OpenAPI document as msgspec knows them: exact, with bounds, nulls and what is refused."""

from typing import Any

import msgspec
from litestar._openapi.schema_generation import SchemaCreator
from litestar._openapi.schema_generation.plugins.struct import StructSchemaPlugin
from litestar.openapi.spec import Example, Schema
from litestar.typing import FieldDefinition

from service.domain.field_types import END


class Exact(Schema):
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
        told = _as_clients_read(components[kind.__name__])
        schema.description = told.get("description")
        schema.properties = {name: Exact(property_) for name, property_ in told["properties"].items()}
        schema.required = told.get("required") or None
        schema.additional_properties = told.get("additionalProperties")
        return schema


def _as_clients_read(told: Any) -> Any:
    """What msgspec says, in JSON Schema's own words: a decimal is what its `anyOf` says, and `$` is the very end."""
    if isinstance(told, list):
        return [_as_clients_read(item) for item in told]
    if not isinstance(told, dict):
        return told
    if told.get("format") == "decimal":
        told = {name: value for name, value in told.items() if name not in ("format", "type")}
    if isinstance(told.get("pattern"), str):
        told = told | {"pattern": told["pattern"].replace(END, "$")}
    return {name: _as_clients_read(value) for name, value in told.items()}
