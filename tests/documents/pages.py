"""The documents: Markdown files for people. A page is one of them, with what rules look for."""

import re
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from tests.harness.blocks import Block, read_blocks
from tests.harness.trees import ROOT
from tests.reference import read_openapi

FOLDERS = ("service", "client", "lua", "sql", "tests", "loadtests", "docs", "deploy", "examples")
_PATTERNS = ("*.md", ".github/**/*.md", "client/*.md", "docs/**/*.md", "examples/*.md")
DOCUMENTS = sorted(path for pattern in _PATTERNS for path in ROOT.glob(pattern))
DECISIONS = sorted(path for path in ROOT.glob("docs/internals/decisions/*.md") if path.name != "README.md")
_block = re.compile(r"^ *```.*?^ *```$", re.DOTALL | re.MULTILINE)
_span = re.compile(r"`([^`\n]+)`")


class Page:
    """A document, or a text in its place."""

    def __init__(self, path: Path, text: str | None = None) -> None:
        self.path, self.name = path, str(path.relative_to(ROOT))
        self.text = path.read_text("utf-8") if text is None else text
        self.prose = _block.sub("", self.text)
        """The text without its blocks of code."""

    @cached_property
    def spans(self) -> list[str]:
        """The code spans, and the words of the blocks of code that may be paths."""
        words = " ".join(_block.findall(self.text)).split()
        return _span.findall(self.prose) + [word for word in words if "/" in word and "://" not in word]

    @cached_property
    def blocks(self) -> list[Block]:
        return [one for block in read_blocks(self.text) for one in (block, block.answer) if one]

    def find(self, pattern: str) -> list[Any]:
        return re.findall(pattern, self.text)


def anchors(document: Path) -> set[str]:
    """What links may name behind `#`: GitHub's form of each heading."""
    headings = re.findall(r"^#+ (.+)$", Page(document).prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@cache
def api_paths() -> dict[str, Any]:
    """The paths of the OpenAPI document, each with its operations by method."""
    return read_openapi()["paths"]


@cache
def _file_names() -> frozenset[str]:
    paths = (path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.is_file())
    return frozenset(path.name for path in (*paths, *ROOT.glob("*.*")))


def exists(named: str) -> bool:
    """Whether a path is in the tree, from its root, `tests/` or `service/`; a name without a folder may be anywhere."""
    if "/" not in named:
        return named in _file_names()
    return any((ROOT / folder / named).exists() for folder in (".", "tests", "service"))
