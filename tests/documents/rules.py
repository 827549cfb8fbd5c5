"""What each document must keep to: a rule returns what it finds wrong on a page."""

import ast
import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import Any

from service.cli.process_commands import migrate
from service.common.config import Settings
from tests.documents.commands import is_option, known_options, read_commands, wrong_words
from tests.documents.figures import FIGURES, WORDS
from tests.documents.pages import DECISIONS, FOLDERS, Page, anchors, api_paths, exists
from tests.harness.trees import ROOT
from tests.log_events import read_events

MADE = frozenset("uv.lock table.md report.html bench.json plan.json run.json NNNN_name.sql".split())
"""Files that a program writes, one that was rejected, and one that stands for many."""
FOREIGN = {"--html", "--max-time", "--overrides", "--retry"}
"""Options of programs of others that a document names alone."""
VARIABLES = {str(field.validation_alias or f"SCRIP_{name.upper()}") for name, field in Settings.model_fields.items()}
OF_MIGRATE = {str(option.envvar) for option in migrate.params if option.envvar}
"""Variables of its options, which compose.yaml reads, too."""
OF_OTHERS = {"SCRIP_TEST_PARTITIONS", "SCRIP_LOAD_TOKEN", "SCRIP_URL", "SCRIP_KEY"}
"""Of tests, load tests and examples."""
MAX_WORDS = 300
_path = re.compile(rf"[\w./-]+\.(?:py|lua|sql|md|c|js|css|html|toml|yaml|lock)|(?:{'|'.join(FOLDERS)})/[\w./-]+")


def missing_paths(page: Page) -> Iterator[str]:
    """The paths in code spans and commands that don't exist."""
    for span in page.spans:
        path = span.partition("::")[0]
        if _path.fullmatch(path) and not exists(path) and path not in MADE:
            yield path


def missing_tests(page: Page) -> Iterator[str]:
    """The tests that are named as `file::test`, or after one as `::test`, and are not in that file."""
    file = ""
    for span in page.spans:
        path, colons, test = span.partition("::")
        file = path if path.endswith(".py") else file
        if colons and test not in functions_of(file):
            yield f"{file}::{test}"


@cache
def functions_of(named: str) -> frozenset[str]:
    """The names of a test file's functions; the file is named as in a document."""
    paths = [ROOT / named, ROOT / "tests" / named] if "/" in named else list((ROOT / "tests").rglob(named))
    trees = (ast.parse(path.read_text("utf-8")) for path in paths if path.is_file())
    nodes = (node for tree in trees for node in ast.walk(tree))
    return frozenset(node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def broken_links(page: Page) -> Iterator[str]:
    """The relative links that lead to no file, or to no heading of it."""
    for link in re.findall(r"\]\(([^)\s]+)\)", page.prose):
        path, _, anchor = link.partition("#")
        target = page.path.parent / path if path else page.path
        if "://" not in link and not (target.exists() and (not anchor or anchor in anchors(target))):
            yield link


def has_no_readers(page: Page) -> Iterator[str]:
    """A page of docs/ begins with its title and its readers. A decision has a form of its own."""
    is_of_site = page.path.is_relative_to(ROOT / "docs") and page.path not in DECISIONS
    if is_of_site and not re.match(r"# .+\n\n(?:\*\*)?For [a-z]", page.text):
        yield page.text[:80]


def unreadable_blocks(page: Page) -> Iterator[str]:
    """The blocks of code that their language doesn't allow. test_blocks.py runs those of a page for a service."""
    for block in page.blocks:
        try:
            READERS[block.language](block.text)
        except (AssertionError, ValueError, SyntaxError, KeyError, subprocess.CalledProcessError):
            yield block.text


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


def wrong_commands(page: Page) -> list[object]:
    """The commands of make, scrip and Python without a target, a command or a module, or with an unknown option."""
    return [(words, wrong) for words in read_commands(page.text) if words and (wrong := wrong_words(words))]


def unknown_options(page: Page) -> list[str]:
    """The options, named alone, that no program of this tree has."""
    named = (words[0].partition("=")[0] for words in read_commands(page.text) if words and is_option(words[0]))
    return [option for option in named if option not in known_options() | FOREIGN]


def unknown_metrics(page: Page) -> list[str]:
    names = page.find(r"`(scrip_(?!live_|test_|client)[a-z_]+)[`{]")
    return [name for name in names if f'"{name.removesuffix("_total")}' not in _sources()]


@cache
def _sources() -> str:
    return "".join(path.read_text("utf-8") for path in (ROOT / "service").rglob("*.py"))


def unknown_requests(page: Page) -> list[str]:
    """The `METHOD /v1/…` that are no operations of the API."""
    named = page.find(r"`(GET|POST|PUT|PATCH|DELETE) (/v1/[^`?\s…]*)")
    return [f"{method} {path}" for method, path in named if method.lower() not in api_paths().get(path, {})]


def unknown_settings(page: Page) -> list[str]:
    return [name for name in page.find(r"\bSCRIP_[A-Z_]+") if name not in VARIABLES | OF_MIGRATE | OF_OTHERS]


def unknown_log_events(page: Page) -> list[str]:
    """What a page says is in the log, and the source doesn't log."""
    named = map("".join, page.find(r"\blogs? `(\w+)`|`(\w+)` (?:with `\w+` )?in\s+the\s+log\b"))
    return [name for name in named if name not in read_events()]


def other_figures(page: Page) -> Iterator[tuple[str, object, float]]:
    """The figures of FIGURES that a page doesn't have, or not as the code has them."""
    text = " ".join(page.text.split())
    for pattern, value in FIGURES.get(page.name, {}).items():
        found = {WORDS.get(one.lower()) or float(one.replace(",", "")) for one in re.findall(pattern, text)}
        if found != {value}:
            yield pattern, found, value


def wrong_parts(page: Page) -> Iterator[str]:
    """A decision has its number, then a problem, a decision, what was rejected, and the cost, in at most 300 words."""
    if page.path in DECISIONS:
        if len(page.text.split()) > MAX_WORDS:
            yield f"more than {MAX_WORDS} words"
        parts = rf"# {page.path.name[:4]}: .+\*\*Problem\..+\*\*Decision\b.+\*\*Rejected\..+\*\*Cost\."
        if not re.match(parts, page.text, re.DOTALL):
            yield "no problem, decision, rejected or cost"


Rule = Callable[[Page], Iterable[Any]]
RULES: tuple[Rule, ...] = (
    missing_paths, missing_tests, broken_links, has_no_readers, unreadable_blocks, wrong_commands, unknown_options,
    unknown_metrics, unknown_requests, unknown_settings, unknown_log_events, other_figures, wrong_parts,
)  # fmt: skip
