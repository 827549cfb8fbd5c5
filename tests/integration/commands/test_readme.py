"""README's examples."""

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.service_fixture import Service
from tests.waiting import PATIENCE_S

README = (Path(__file__).parents[3] / "README.md").read_text()
EXAMPLE = re.compile(r"```sh\n(curl .*?)```\n\n```json\n(.*?)```", re.DOTALL)


def matches(expected: Any, value: Any) -> bool:
    """Return whether a JSON value is README's, where `…` stands for any text."""
    if expected == "…":
        return isinstance(value, str) and value != ""
    if isinstance(expected, dict) and isinstance(value, dict):
        return expected.keys() == value.keys() and all(matches(expected[name], value[name]) for name in expected)
    if isinstance(expected, list) and isinstance(value, list):
        return len(expected) == len(value) and all(map(matches, expected, value))
    return expected == value


def test_the_examples(own_service: Callable[[], Service]) -> None:
    """On a new service README's curl commands, in its order, answer what README shows."""
    url, examples = own_service().run.url, EXAMPLE.findall(README)
    assert len(examples) == 4
    for command, expected in examples:
        line = command.replace("http://127.0.0.1:8000", url)
        shell = subprocess.run(["bash", "-c", line], capture_output=True, check=True, timeout=PATIENCE_S)
        response = json.loads(shell.stdout)
        assert matches(json.loads(expected), response), response
