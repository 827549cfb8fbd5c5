"""The client has what the service has: operations, fields, refusals, version."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from client.generate import Document, generate
from scrip_client import AsyncClient, Client, __version__, models, operations
from service.cli.main import main
from service.common.config import Settings
from service.common.logs import _make_process_marker
from service.serving.app import create_app

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def document() -> Document:
    return Document()


def operations_of(document: Document) -> dict[str, Any]:
    return {one["operationId"]: one for path in document.paths.values() for one in path.values()}


def test_the_generated_modules_are_current() -> None:
    """Each generated module is what `python client/generate.py` writes."""
    for path, text in generate().items():
        assert path.read_text() == text, f"run python client/generate.py: {path.name} has changed"


def test_every_operation_has_a_method(document: Document) -> None:
    """Both clients have a method for each operation of the service, and it has the operation's path."""
    for name in operations_of(document):
        snake = "".join(f"_{one.lower()}" if one.isupper() else one for one in name)
        assert getattr(Client, snake) is getattr(AsyncClient, snake) is getattr(operations, snake)


def test_the_examples_of_answers(document: Document) -> None:
    """Each example of an answer in the document is read as the client's type, and no field of it is lost."""
    responses = [one for operation in operations_of(document).values() for one in operation["responses"].values()]
    for response in responses:
        content = response.get("content", {}).get("application/json", {})
        kind = _kind(document, content.get("schema", {}))
        for example in content.get("examples", {}).values() if kind else ():
            read = msgspec.json.decode(json.dumps(example["value"]), type=kind)
            assert _plain(msgspec.to_builtins(read)) == _plain(example["value"])


def test_one_version() -> None:
    """Commands, logs, the document and the client have one version."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert CliRunner().invoke(main, ["--version"]).output == f"scrip {version}\n"
    line: dict[str, Any] = {"event": "e"}
    _make_process_marker("api")(None, "info", line)
    assert line["release"] == version
    assert create_app(Settings()).openapi_schema.info.version == __version__ == version


def _kind(document: Document, schema: dict[str, Any]) -> Any:
    if "$ref" not in schema:
        return None
    return eval(document.type_of(schema, sent=False, models="models."), {"models": models})


def _plain(value: Any) -> Any:
    """The value without nulls, and times in one form."""
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items() if one is not None}
    if isinstance(value, str):
        return re.sub(r"(:\d\d)(?:\.000|(\.\d{3}))0*Z$", r"\1\2Z", value)
    return [_plain(one) for one in value] if isinstance(value, list) else value
