"""Every field of the OpenAPI document is described, and no text stays that no field has."""

import json
import re
from typing import Any

from service.server.api.field_texts import EXAMPLES, SHARED
from tests.reference import list_operations, read_openapi

_FORMS = "Printable", "A JSON number", "RFC 3339", "Your own", "In upper", "As the answer", "4 to", "2 to", "1 to"
"""How what types say of their values begins."""


def _list_fields() -> dict[str, dict[str, Any]]:
    """The fields of all schemas, by `<struct>.<name>`."""
    schemas = read_openapi()["components"]["schemas"]
    return {f"{of}.{name}": one for of, schema in schemas.items() for name, one in schema["properties"].items()}


def test_every_field_is_described() -> None:
    """Each field has one description, a sentence, in which nothing is twice. Add it to field_texts.py, or
    to the `msgspec.Meta` of the field's type."""
    for name, field in _list_fields().items():
        text = field.get("description", "")
        assert text.endswith("."), name
        assert not text.startswith(_FORMS), f"{name} says its form, but not its meaning"
        sentences = text.split(". ")
        assert len(sentences) == len(set(sentences)), (name, text)
        assert not any("description" in option for option in field.get("anyOf", [])), name


def test_every_text_is_used() -> None:
    """Each text describes a field, and is written once; each example is of a field."""
    fields = _list_fields()
    texts = [field["description"] for field in fields.values()]
    for text in SHARED.values():
        assert any(one.startswith(text) for one in texts), text
    assert len(set(SHARED.values())) == len(SHARED)
    names = {name.partition(".")[2] for name in fields} | fields.keys()
    assert EXAMPLES.keys() <= names


def test_a_pattern_is_described_in_words() -> None:
    """A field of a request with a pattern says in words what it accepts."""
    for name, field in _list_fields().items():
        options = [field, *field.get("anyOf", [])]
        patterns = [option["pattern"] for option in options if "pattern" in option]
        words = ("1 to", "4 to", "2 to", "Printable", "RFC 3339", "JSON number", "URL", "IANA", "As the answer")
        assert not patterns or any(word in field["description"] for word in words), (name, patterns)


def test_no_example_of_a_request_expires() -> None:
    """Each time in an example of a request is far off, so that what is copied from it works for years."""
    sent = json.dumps([(one.described.get("requestBody"), one.described["parameters"]) for one in list_operations()])
    times = re.findall(r'"(\d{4})-\d\d-\d\d(?:T[^"]+)?"', sent)
    assert times
    assert min(times) >= "2036"
