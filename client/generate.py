"""Write models.py, operations.py and refusals.py of the client, from the service's OpenAPI document and its table of
outcomes. After a change of these, run `python client/generate.py`: a test fails until then."""

import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from service.common.config import Settings
from service.engine.domain.figures import FIGURES
from service.engine.domain.outcomes import BY_CODE
from service.serving.app import create_app

PACKAGE = Path(__file__).parent / "scrip_client" / "generated"
UNKNOWN = ("internal", "request_in_progress")
"""The refusals, beside `outcome_unknown` itself, after which the change may have been made."""
HELD = ("order_id", "lock_token")
"""What redeem_coupon takes of a lock, beside the coupon and its user."""
NULL_CLEARS = ("PATCH", "changeCodes")
"""Methods and operations in which a null means something else than a field that is left out."""
FILE_TOO = {"change_codes": ("prefix", "createdFrom", "createdUntil", "userColumn")}
"""Operations that also take a file of users, in a function of its own, with the parameters of that one alone. The last
paragraph of the description is about it."""
KEYWORDS = ("from", "for")
"""Names of fields that are no names in Python: there they end with `_`."""
MOST_CHOICES = 20
"""Longer lists of choices, such as of currencies, are no part of a type."""

Schema = Mapping[str, Any]
_PLAIN = {
    "string": "str", "integer": "int", "number": "float", "boolean": "bool", "any": "Any", "date-time": "datetime",
    "decimal": "Decimal",
}  # fmt: skip
_HEAD = "# Made by client/generate.py: change that, and run it."


class Document:
    """The OpenAPI document, and the names of the structs that the client needs from it."""

    def __init__(self) -> None:
        document = create_app(Settings()).openapi_schema.to_schema()
        self.paths, self.schemas = document["paths"], document["components"]["schemas"]
        operations = [operation for path in self.paths.values() for operation in path.values()]
        self.answered = set(self._reach(list_answers(one).values() for one in operations))
        sent = [list((one.get("requestBody") or {"content": {}})["content"].values()) for one in operations]
        bodies = [self.schemas[_name(one["schema"])] for content in sent for one in content if "$ref" in one["schema"]]
        self.sent = set(self._reach([body.get("properties", {}) for body in bodies]))

    def _reach(self, node: Any) -> Iterator[str]:
        if isinstance(node, Mapping):
            if "$ref" in node:
                yield _name(node)
                yield from self._reach(self.schemas[_name(node)])
            yield from self._reach([value for key, value in node.items() if key != "mapping"])
        elif not isinstance(node, str | int | float | None):
            for one in node:
                yield from self._reach(one)

    def type_of(self, schema: Schema, *, sent: bool, models: str = "") -> str:
        """The type in Python of a field that is sent or received. `models` goes before the names of structs."""
        of = partial(self.type_of, sent=sent, models=models)
        if "anyOf" in schema:
            options = [one for one in schema["anyOf"] if one.get("type") != "null"]
            null = " | None" if len(options) < len(schema["anyOf"]) else ""
            if [one.get("type") for one in options] == ["number", "string"]:
                return f"{models}Amount{null}"
            is_open = len(options) > 1 and "discriminator" not in schema
            return ("dict[str, Any]" if is_open else " | ".join(map(of, options))) + null
        if "$ref" in schema:
            name = _name(schema)
            is_page = name.endswith("Page")
            return (
                f"{models}Page[{of(self.schemas[name]['properties']['items']['items'])}]" if is_page else models + name
            )
        if sent and 0 < len(schema.get("enum", ())) <= MOST_CHOICES:
            return f"Literal[{', '.join(map(repr, schema['enum']))}]"
        kind = schema.get("type", "string")
        if kind == "array":
            return f"{'Sequence' if sent else 'list'}[{of(schema['items'])}]"
        if kind == "object":
            kind = f"dict[str, {of(schema.get('additionalProperties') or {'type': 'any'})}]"
        return _PLAIN.get(schema.get("format", kind)) or _PLAIN.get(kind, kind)


def list_answers(operation: Schema) -> dict[str, Schema]:
    """The schemas of an operation's answers that are no refusals, by status; 201 comes before 200."""
    contents = ((status, response.get("content", {})) for status, response in operation["responses"].items())
    return {
        status: next(iter(content.values()))["schema"]
        for status, content in sorted(contents, key=lambda one: (one[0] > "3", -int(one[0])))
        if content and "application/problem+json" not in content
    }


def write_models(document: Document) -> Iterator[str]:
    """Yield the lines of models.py."""
    yield from (
        '"""What requests and answers are made of. An answer may have more fields than these, and other values of',
        'its texts."""',
        _HEAD,
        "from __future__ import annotations",
        "from collections.abc import Sequence",
        "from datetime import datetime",
        "from decimal import Decimal",
        "from typing import Any, Generic, Literal, TypeAlias, TypeVar",
        "import msgspec",
        'T = TypeVar("T")',
        "Amount: TypeAlias = Decimal | int | str",
        '"""Money that is sent; an answer has a Decimal."""',
        "class Model(msgspec.Struct, rename='camel', kw_only=True, omit_defaults=True):",
        '    """The base of all structs."""',
        "class Page(Model, Generic[T], kw_only=True):",
        '    """A page of a list. `next_cursor` is None on the last one."""',
        "    items: list[T]",
        "    next_cursor: str | None",
    )
    for name in sorted(document.answered | document.sent):
        if name.endswith("Page"):
            continue
        schema, sent = document.schemas[name], name not in document.answered
        properties, required = schema["properties"], schema.get("required", ())
        tag = "" if not sent else next((one for one in ("op", "type") if _is_tag(properties.get(one, {}))), "")
        options = f", tag_field={tag!r}, tag={properties[tag]['enum'][0]!r}" if tag else ""
        yield f"class {name}(Model, kw_only=True{options}):"
        yield _docstring(schema.get("description", name))
        for field, one in sorted(properties.items(), key=lambda item: item[0] not in required):
            if field == tag:
                continue
            kind = document.type_of(one, sent=sent)
            default = ""
            if field in KEYWORDS:
                default = f' = msgspec.field(name="{field}")'
            elif field not in required:
                kind, default = f"{kind.removesuffix(' | None')} | None", " = None"
            yield f"    {_snake(field)}: {kind}{default}"
            yield _docstring(one["description"])


class Function:
    """The function of an operation: its parameters, and the arguments of `make_call`."""

    def __init__(self, document: Document, method: str, path: str, operation: Schema, sends_file: bool = False) -> None:
        self._document, self._operation, self._method, self._path = document, operation, method, path
        self._sends_file = sends_file
        self.name = _snake(operation["operationId"]) + ("_of_file" if sends_file else "")
        self.answers = {
            status: "bytes" if one.get("type") == "string" else document.type_of(one, sent=False, models="models.")
            for status, one in list_answers(operation).items()
        }
        self.answer = " | ".join(dict.fromkeys(self.answers.values())) or "None"
        self._needed = [f"{_snake(one)}: str" for one in re.findall(r"{(\w+)}", path)] + ["*"]
        self._optional: list[str] = []
        self._arguments: dict[str, str] = {}
        self._texts: list[str] = []
        self._take_body()
        self._take_parameters()

    def lines(self) -> Iterator[str]:
        """Yield its source."""
        parameters = [*self._needed, *self._optional]
        yield f"def {self.name}({', '.join(parameters).removesuffix(', *').removesuffix('*')}) -> Call[{self.answer}]:"
        summary, texts = self._operation["summary"], self._operation.get("description", "").split("\n\n")
        yield _docstring(f"{summary}. {texts[-1 if self._sends_file else 0]}", self._texts)
        path = re.sub(r"{(\w+)}", lambda found: f"{{segment({_snake(found[1])})}}", self._path)
        target = f'f"{path}"' if path != self._path else f'"{path}"'
        answers = ", ".join(f"{status}: {kind}" for status, kind in self.answers.items())
        arguments = "".join(f", {argument}={value}" for argument, value in self._arguments.items())
        yield f'    return make_call("{self.name}", "{self._method}", {target}, {{{answers}}}{arguments})'

    def fields_lines(self, name: str, held: Sequence[str]) -> Iterator[str]:
        """The class of its optional parameters but those that a lock has."""
        yield f"class {name}(TypedDict, total=False):"
        yield f'    """What {self.name} takes beside a lock."""'
        optional = [parameter.removesuffix(" = None") for parameter in self._optional]
        yield from (f"    {one}" for one in optional if one.partition(":")[0] not in held)

    def method_line(self) -> str:
        """The method of the clients."""
        kinds = {"models.Page": "Listed", "bytes": "Streamed"}
        kind = next((kind for answer, kind in kinds.items() if self.answer.startswith(answer)), "Single")
        return f"    {self.name} = {kind}({self.name})"

    def _take_body(self) -> None:
        content = self._operation.get("requestBody", {}).get("content", {})
        if "text/csv" in content and (self._sends_file or self.name not in FILE_TOO):
            name, kind = ("users", "File") if self._sends_file else ("codes", "Codes")
            self._needed.append(f"{name}: {kind}")
            self._optional.append('media_type: Literal["text/csv", "text/plain"] = "text/csv"')
            self._arguments |= {"body": name, "media_type": "media_type"}
        elif content:
            body = self._document.schemas[_name(content["application/json"]["schema"])]
            properties, required = body.get("properties", {}), body.get("required", ())
            null_clears = self._method in NULL_CLEARS or self._operation["operationId"] in NULL_CLEARS
            for field, one in properties.items():
                self._take(field, one, field in required, null_clears)
            members = ", ".join(f"{field}={_snake(field)}" for field in properties)
            self._arguments["body"] = f"{'changes' if null_clears else 'fields'}({members})"

    def _take_parameters(self) -> None:
        parameters = self._operation.get("parameters", [])
        headers = {one["name"] for one in parameters if one["in"] == "header"}
        unused = () if self._sends_file else FILE_TOO.get(self.name, ())
        query = [one for one in parameters if one["in"] == "query" and one["name"] not in unused]
        for one in query:
            self._take(one["name"], one["schema"] | {"description": one["description"]}, one["required"])
        if query:
            members = ", ".join(f'"{one["name"]}": {_snake(one["name"])}' for one in query)
            self._arguments["query"] = f"{{{members}}}"
        if "Idempotency-Key" in headers:
            self._optional.append("idempotency_key: str | None = None")
            self._arguments["key"] = "idempotency_key"
        if "Prefer" in headers:
            self._optional.append("recorded_within_s: int | None = None")
            self._arguments["recorded_within_s"] = "recorded_within_s"
        if self._method == "GET" or (self._method == "POST" and "Idempotency-Key" not in headers):
            self._arguments["changes"] = "False"

    def _take(self, field: str, schema: Schema, is_required: bool, null_clears: bool = False) -> None:
        kind = self._document.type_of(schema, sent=True, models="models.")
        plain = kind.removesuffix(" | None")
        self._texts.append(f"- {_snake(field)}: {schema['description']}")
        if is_required:
            self._needed.append(f"{_snake(field)}: {kind}")
        elif null_clears:
            null = "" if plain == kind else " | None"
            self._optional.append(f"{_snake(field)}: {plain} | UnsetType{null} = UNSET")
        else:
            self._optional.append(f"{_snake(field)}: {plain} | None = None")


def write_operations(document: Document) -> Iterator[str]:
    """Yield the lines of operations.py."""
    yield from (
        '"""A function for each operation, which makes its call, and the methods of both clients."""',
        _HEAD,
        "from collections.abc import Sequence",
        "from datetime import datetime",
        "from typing import Any, Literal, TypedDict",
        "from msgspec import UNSET, UnsetType",
        "from scrip_client.generated import models",
        "from scrip_client.core import Call, Codes, File, changes, fields, make_call, segment",
        "from scrip_client.method import Listed, Single, Streamed",
    )
    functions = [
        Function(document, method.upper(), path, operation, sends_file)
        for path, item in sorted(document.paths.items())
        for method, operation in sorted(item.items())
        for sends_file in ((False, True) if _snake(operation["operationId"]) in FILE_TOO else (False,))
    ]
    for function in functions:
        yield from function.lines()
        if function.name == "redeem_coupon":
            yield from function.fields_lines("RedeemFields", HELD)
    yield from ("class Methods:", '    """A method for each operation."""')
    yield from (function.method_line() for function in functions)


def write_refusals(document: Document) -> Iterator[str]:
    """Yield the lines of refusals.py."""
    yield from (
        '"""An exception for each refusal of the service. `Refused` is the base of those that changed nothing."""',
        _HEAD,
        "from datetime import datetime",
        "from decimal import Decimal",
        "from scrip_client.errors import OutcomeUnknown, Refused, ScripError",
    )
    members = document.schemas["Problem"]["properties"].items()
    types = {_snake(name): document.type_of(one, sent=False) for name, one in members}
    classes = {"outcome_unknown": "OutcomeUnknown"}
    for code, outcome in BY_CODE.items():
        if code in classes:
            continue
        classes[code] = "".join(part.title() for part in code.split("_"))
        yield f"class {classes[code]}({'OutcomeUnknown' if code in UNKNOWN else 'Refused'}):"
        yield _docstring(f"{outcome.status}, for `{outcome.for_}`. {outcome.sentence} {outcome.remedy}")
        yield f'    code = "{code}"'
        yield f'    for_ = "{outcome.for_}"'
        if names := FIGURES[code][1].split() if code in FIGURES else []:
            yield f"    figures = {tuple(names)}"
            yield from (f"    {name}: {types[name].removesuffix(' | None')} | None" for name in names)
    yield "BY_CODE: dict[str, type[ScripError]] = {"
    yield from (f'    "{code}": {name},' for code, name in classes.items())
    yield "}"


def _is_tag(schema: Schema) -> bool:
    return len(schema.get("enum", ())) == 1


def _name(reference: Schema) -> str:
    return reference["$ref"].rpartition("/")[2]


def _snake(name: str) -> str:
    return f"{name}_" if name in KEYWORDS else re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def _docstring(text: str, items: Sequence[str] = ()) -> str:
    """A docstring with the indent of a function, wrapped, and a list of items."""
    lines = textwrap.wrap(f'"""{" ".join(text.split())}', 113)
    if items:
        lines += ["", *(line for item in items for line in textwrap.wrap(item, 113, subsequent_indent="  "))]
    end = '"""' if len(lines) == 1 else '\n    """'
    return "\n".join(f"    {line}".rstrip() for line in lines).replace("\\", r"\\") + end


def format_source(lines: Iterator[str]) -> str:
    """The source as `make format` leaves it."""
    ruff = [sys.executable, "-m", "ruff"]
    options = ["--stdin-filename", str(PACKAGE / "made.py"), "-"]
    source = "\n".join(lines)
    for command in (
        ["check", "--quiet", "--fix-only", "--select", "F401,I", *options],
        ["format", "--quiet", *options],
    ):
        source = subprocess.run([*ruff, *command], input=source, text=True, check=True, stdout=subprocess.PIPE).stdout
    return source


def generate() -> dict[Path, str]:
    """The generated modules' texts, by path."""
    document = Document()
    return {
        PACKAGE / "models.py": format_source(write_models(document)),
        PACKAGE / "operations.py": format_source(write_operations(document)),
        PACKAGE / "refusals.py": format_source(write_refusals(document)),
    }


if __name__ == "__main__":
    for path, text in generate().items():
        path.write_text(text)
