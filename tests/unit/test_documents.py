"""What the documents name exists: links, files, tests and decisions."""

import ast
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.harness.blocks import read_blocks
from tests.reference import PAGES, read_openapi
from tests.site import list_pages, render_llms

ROOT = Path(__file__).parents[2]
FOLDERS = ("service", "client", "lua", "sql", "tests", "loadtests", "docs", "deploy", "examples")
_PATTERNS = ("*.md", ".github/**/*.md", "client/*.md", "docs/**/*.md", "examples/*.md")
DOCUMENTS = sorted(path for pattern in _PATTERNS for path in ROOT.glob(pattern))
DECISIONS = sorted(path for path in ROOT.glob("docs/decisions/*.md") if path.name != "README.md")
MAX_WORDS = 300
MAX_WORDS_OF_ALL = 15_000
EVERY = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))

MADE = frozenset("uv.lock table.md report.html bench.json plan.json run.json NNNN_name.sql".split())
"""Files that a program writes, one that was rejected, and one that stands for many."""
_code = re.compile(r"`([^`\n]+)`")
_path = re.compile(rf"[\w./-]+\.(?:py|lua|sql|md|c|js|css|html|toml|yaml|lock)|(?:{'|'.join(FOLDERS)})/[\w./-]+")
_source = re.compile(r"(?<![\w./*-])[\w./-]+\.(?:py|lua|sql)\b")
_block = re.compile(r"^ *```.*?^ *```$", re.DOTALL | re.MULTILINE)
_link = re.compile(r"\]\(([^)\s]+)\)")


def text_of(document: Path) -> str:
    """A document without its blocks of code."""
    return _block.sub("", document.read_text("utf-8"))


def commands_of(document: Path) -> str:
    """The words of a document's blocks of code, each as a code span."""
    blocks = " ".join(_block.findall(document.read_text("utf-8")))
    return " ".join(f"`{argument}`" for argument in blocks.split() if "/" in argument and "://" not in argument)


@cache
def api_paths() -> dict[str, Any]:
    """The paths of the OpenAPI document, each with its operations by method."""
    return read_openapi()["paths"]


@cache
def file_names() -> frozenset[str]:
    paths = (path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.is_file())
    return frozenset(path.name for path in (*paths, *ROOT.glob("*.*")))


def exists(named: str) -> bool:
    """Whether a path is in the tree, from its root, `tests/` or `service/`; a name without a folder may be anywhere."""
    if "/" not in named:
        return named in file_names() or named in MADE
    return any((ROOT / folder / named).exists() for folder in (".", "tests", "service"))


def missing_paths(text: str) -> list[str]:
    """The paths in a text's code spans that do not exist."""
    spans = (span.partition("::")[0] for span in _code.findall(text))
    return [span for span in spans if _path.fullmatch(span) and not exists(span)]


def anchors(document: Path) -> set[str]:
    """What links may name behind `#`: GitHub's form of each heading."""
    headings = re.findall(r"^#+ (.+)$", text_of(document), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(text: str, folder: Path, document: Path) -> list[str]:
    """The links of a text in a folder that lead to no file, or to no heading of it."""
    broken: list[str] = []
    for link in _link.findall(text):
        path, _, anchor = link.partition("#")
        target = folder / path if path else document
        if "://" not in link and not (target.exists() and (not anchor or anchor in anchors(target))):
            broken.append(link)
    return broken


def missing_tests(text: str) -> list[str]:
    """The tests that are named as `file::test`, or after one as `::test`, and are not in that file."""
    missing: list[str] = []
    file = ""
    for span in _code.findall(text):
        path, colons, test = span.partition("::")
        file = path if path.endswith(".py") else file
        if colons and test not in functions_of(file):
            missing.append(f"{file}::{test}")
    return missing


@cache
def functions_of(named: str) -> frozenset[str]:
    """The names of a test file's functions; the file is named as in a document."""
    paths = [ROOT / named, ROOT / "tests" / named] if "/" in named else list((ROOT / "tests").rglob(named))
    trees = (ast.parse(path.read_text("utf-8")) for path in paths if path.is_file())
    nodes = (node for tree in trees for node in ast.walk(tree))
    return frozenset(node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


@EVERY
def test_named_files_exist(document: Path) -> None:
    """Each path in a code span or a command is a file or folder of the tree."""
    assert missing_paths(text_of(document) + commands_of(document)) == []


def test_files_that_heads_name_exist() -> None:
    """Each Python, Lua or SQL file that a module of the service names in its head exists."""
    paths = (ROOT / "service").rglob("*.py")
    heads = ((path, ast.get_docstring(ast.parse(path.read_text("utf-8"))) or "") for path in paths)
    assert [(path, named) for path, head in heads for named in _source.findall(head) if not exists(named)] == []


@EVERY
def test_links_lead_somewhere(document: Path) -> None:
    """Each relative link names a file, and a heading of it if it has an anchor."""
    assert broken_links(text_of(document), document.parent, document) == []


@EVERY
def test_named_tests_exist(document: Path) -> None:
    """Each test that is named with its file is in that file."""
    assert missing_tests(text_of(document) + commands_of(document)) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_a_page_of_reference_is_what_the_source_says(page: Path) -> None:
    """Pages that are made from the source are up to date; `python -m tests.reference` makes them again."""
    assert page.read_text("utf-8") == PAGES[page]()


def test_the_site_has_each_page_once() -> None:
    """The site's navigation and llms.txt have each page of docs/, once; decisions have an index of their own."""
    named = [path for _, _, path in list_pages()]
    assert len(named) == len({*named})
    pages = {path for path in ROOT.glob("docs/**/*.md") if path not in DECISIONS}
    assert pages <= {*named}
    assert [path for path in named if not path.is_file()] == []
    text = render_llms()
    assert [path for path in pages if f"]({path.relative_to(ROOT)}): For " not in text] == []


@EVERY
def test_a_page_says_for_whom_it_is(document: Path) -> None:
    """A page of docs/ begins with its title and its readers. A decision has a form of its own."""
    if document.is_relative_to(ROOT / "docs") and document not in DECISIONS:
        assert re.match(r"# .+\n\n(?:\*\*)?For [a-z]", document.read_text("utf-8"))


def _read_http(text: str) -> None:
    head, _, body = text.partition("\n\n")
    assert all(re.fullmatch(r"[\w-]+: .+", line) for line in head.splitlines()[1:])
    json.loads(body)


def _read_settings(text: str) -> None:
    assert all(re.fullmatch(r"[A-Z_]+=.+", line) for line in text.splitlines())


def _read_shell(text: str) -> None:
    subprocess.run(["bash", "-n"], input=text.encode(), capture_output=True, check=True)


def _read_node(text: str) -> None:
    if shutil.which("node"):
        command = ["node", "--check", "--input-type=module", "-"]
        subprocess.run(command, input=text.encode(), capture_output=True, check=True)


READERS: dict[str, Callable[[str], object]] = {
    "": str,
    "http": _read_http,
    "ini": _read_settings,
    "js": _read_node,
    "json": json.loads,
    "mermaid": str,
    "python": lambda text: compile(text, "block", "exec"),
    "sh": _read_shell,
    "text": str,
}
"""What reads the blocks of a language; it raises an error if it can't."""


@EVERY
def test_blocks_are_of_their_language(document: Path) -> None:
    """Each block of code can be read. tests/integration/commands/test_blocks.py runs those of a page for a service."""
    for block in read_blocks(document):
        READERS[block.language](block.text)
        if block.answer:
            READERS[block.answer.language](block.answer.text)


@pytest.mark.parametrize(("language", "text"), [("sh", "if true; then"), ("json", "{"), ("http", "GET /\na b\n\n{}")])
def test_a_block_of_another_language_is_found(language: str, text: str) -> None:
    """A block that its language does not allow is an error."""
    with pytest.raises((AssertionError, ValueError, subprocess.CalledProcessError)):
        READERS[language](text)


def test_documented_requests_exist() -> None:
    """Each row of docs/comes-from.md names a request of the API or a page, and a test."""
    pages = {"/checkout", "/schema", "/schema/openapi.json"}
    lines = (ROOT / "docs" / "comes-from.md").read_text("utf-8").splitlines()
    for line in lines:
        if not line.startswith("| ") or line.startswith("| what"):
            continue
        _, requests, test = (cell.strip() for cell in line.strip("|").split("|"))
        assert re.fullmatch(r"`tests/[\w/]+/test_\w+\.py::test_\w+`", test), test
        for method, path in re.findall(r"(GET|POST|PATCH|DELETE) (/[^`?\s]*)", requests):
            assert path in pages or method.lower() in api_paths()[path], (method, path)


def test_the_checks_can_fail() -> None:
    """A missing file, test, link and heading are each reported."""
    assert missing_paths("`service/hot/no_such.py`, `lua/redeem.lua`, `no_such.lua`") == [
        "service/hot/no_such.py",
        "no_such.lua",
    ]
    assert missing_tests("`unit/test_documents.py::test_none`, `::test_the_checks_can_fail`") == [
        "unit/test_documents.py::test_none"
    ]
    here = ROOT / "docs" / "glossary.md"
    links = "[a](none.md) [b](glossary.md#none) [c](glossary.md#glossary) [d](https://none.example)"
    assert broken_links(links, here.parent, here) == ["none.md", "glossary.md#none"]


def test_each_decision_is_in_the_index_once() -> None:
    """The index has a question for each decision, once, in ascending order within its subject."""
    _, *subjects = (ROOT / "docs" / "decisions" / "README.md").read_text("utf-8").split("\n## ")
    sections = [re.findall(r"^\| .+\? \| \[(\d{4})\]\((\S+)\) \|$", text, re.MULTILINE) for text in subjects]
    assert all(rows == sorted(rows) for rows in sections)
    named = sorted(row for rows in sections for row in rows)
    assert named == [(path.name[:4], path.name) for path in DECISIONS]


@pytest.mark.parametrize("path", DECISIONS, ids=lambda path: path.name)
def test_a_decision_has_its_parts(path: Path) -> None:
    """A decision has its number, then a problem, a decision, what was rejected, and the cost, in at most 300 words."""
    assert len(path.read_text("utf-8").split()) <= MAX_WORDS
    parts = rf"# {path.name[:4]}: .+\*\*Problem\..+\*\*Decision\b.+\*\*Rejected\..+\*\*Cost\."
    assert re.match(parts, path.read_text("utf-8"), re.DOTALL)


def test_all_decisions_together_are_short() -> None:
    """All decisions have at most 15,000 words: a new one may need an older one to become shorter."""
    assert sum(len(path.read_text("utf-8").split()) for path in DECISIONS) <= MAX_WORDS_OF_ALL


def test_decisions_that_are_referred_to_exist() -> None:
    """Each `docs/decisions/…` in documents, code and scripts is the beginning of a decision's path."""
    names = [path.name for path in DECISIONS]
    sources = (path for folder in FOLDERS for path in (ROOT / folder).rglob("*"))
    for path in (*sources, *DOCUMENTS):
        if path.suffix in {".py", ".lua", ".sql", ".md"}:
            for named in re.findall(r"docs/decisions/(\d{4}[\w-]*)", path.read_text("utf-8")):
                assert any(name.startswith(named) for name in names), (path, named)


def test_the_glossary_has_each_word_once_in_order() -> None:
    """The glossary's words are in alphabetical order, without a repetition, with one sentence each."""
    rows = re.findall(r"^\| (.+) \| (.+) \|$", text_of(ROOT / "docs" / "glossary.md"), re.MULTILINE)[1:]
    words = [term for term, _ in rows if term != "---"]
    assert words == sorted(set(words))
    assert [term for term, meaning in rows if meaning.count(". ") or not meaning.endswith((".", "---"))] == []
