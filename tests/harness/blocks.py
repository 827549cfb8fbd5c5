"""The code blocks of the documents: read, and run one after the other as a reader does. Tests of documents use this."""

import json
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tests.harness.waiting import PATIENCE_S

INTERPRETERS = {"sh": "bash", "python": sys.executable, "js": "node --input-type=module"}
"""What runs the blocks of a language."""
_block = re.compile(r"^( *)```(\w*)\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)
_MARK = "@@ end of block @@"
_END = "END_OF_THE_BLOCK"


class Block(NamedTuple):
    """A block of code. `answer` is the next block, if that shows what this one prints."""

    language: str
    text: str
    answer: "Block | None" = None


def read_blocks(text: str) -> list[Block]:
    """The blocks of a document. What one prints is the JSON or text right after it, with at most a sentence between."""
    blocks: list[Block] = []
    for found in _block.finditer(text):
        blocks.append(Block(found[2], re.sub(f"^{found[1]}", "", found[3], flags=re.MULTILINE)))
        if found[2] in {"json", "text"} and len(blocks) > 1 and blocks[-2].language in INTERPRETERS:
            blocks[-2:] = [blocks[-2]._replace(answer=blocks[-1])]
    return blocks


def run_blocks(blocks: list[Block], folder: Path, environment: Mapping[str, str]) -> list[str]:
    """What each of these blocks prints, run in this folder in one shell, so that its variables stay."""
    script = ["set -eu -o pipefail"]
    for block in blocks:
        if block.language == "sh":
            script.append(block.text)
        else:
            script.append(f"{INTERPRETERS[block.language]} - <<'{_END}'\n{block.text}{_END}")
        script.append(f"echo; echo '{_MARK}'")
    shell = subprocess.run(
        ["bash", "-c", "\n".join(script)], cwd=folder, env={**environment}, capture_output=True, timeout=PATIENCE_S,
        check=False,
    )  # fmt: skip
    assert shell.returncode == 0, (shell.stderr.decode(), shell.stdout.decode())
    return shell.stdout.decode().split(_MARK)[:-1]


def matches(expected: Any, value: Any) -> bool:
    """Whether a value is that of the document, where `…` stands for any text."""
    if isinstance(expected, str) and isinstance(value, str):
        return re.fullmatch(".+".join(map(re.escape, expected.split("…"))), value) is not None
    if isinstance(expected, dict) and isinstance(value, dict):
        return expected.keys() == value.keys() and all(matches(expected[name], value[name]) for name in expected)
    if isinstance(expected, list) and isinstance(value, list):
        return len(expected) == len(value) and all(map(matches, expected, value))
    return expected == value


def shows(answer: Block, output: str) -> bool:
    """Whether a block shows what was printed: a value of JSON, or lines."""
    if answer.language == "json":
        return matches(json.loads(answer.text), json.loads(output))
    return matches(answer.text.split("\n"), [*output.replace("\r", "").strip("\n").split("\n"), ""])


def is_run(block: Block) -> bool:
    """Whether a test runs this block. It does not run `make`: tests/documents looks at it."""
    return block.language in INTERPRETERS and not block.text.startswith("make ")


def is_tour(blocks: list[Block]) -> bool:
    """Whether a reader runs these blocks against a service on this machine."""
    return any("SCRIP=http://127.0.0.1:8000" in block.text for block in blocks)
