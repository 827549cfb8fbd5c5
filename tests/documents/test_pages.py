"""Single pages, the decisions and the settings say what the source says, and all of it."""

import ast
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.metrics import MetricWrapperBase

from service.common import build_info, left_out
from service.engine.hot import unrecorded
from service.engine.worker import metrics, server_metrics
from service.server.tasks import process_tasks
from service.serving import partition_metrics, process_metrics, request_metrics
from tests.documents.pages import DECISIONS, DOCUMENTS, FOLDERS, Page, api_paths, exists
from tests.documents.rules import OF_MIGRATE, VARIABLES, unknown_settings
from tests.harness.trees import ROOT
from tests.reference import PAGES
from tests.site import list_pages, render_llms

MAX_WORDS_OF_ALL = 15_000
_source = re.compile(r"(?<![\w./*-])[\w./-]+\.(?:py|lua|sql)\b")
_PROCESSES = {
    "API processes": (build_info, left_out, request_metrics, process_metrics, partition_metrics, unrecorded),
    "Workers": (build_info, metrics, server_metrics, process_tasks, unrecorded),
}

Described = dict[str, tuple[str, tuple[str, ...]]]


def _read(name: str) -> str:
    return (ROOT / name).read_text("utf-8")


def test_files_that_heads_name_exist() -> None:
    """Each Python, Lua or SQL file that a module of the service names in its head exists."""
    paths = (ROOT / "service").rglob("*.py")
    heads = ((path, ast.get_docstring(ast.parse(path.read_text("utf-8"))) or "") for path in paths)
    assert [(path, named) for path, head in heads for named in _source.findall(head) if not exists(named)] == []


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


def test_documented_requests_exist() -> None:
    """Each row of docs/comes-from.md names a request of the API or a page, and a test."""
    pages = {"/checkout", "/schema", "/schema/openapi.json"}
    lines = _read("docs/comes-from.md").splitlines()
    for line in lines:
        if not line.startswith("| ") or line.startswith("| what"):
            continue
        _, requests, test = (cell.strip() for cell in line.strip("|").split("|"))
        assert re.fullmatch(r"`tests/[\w/]+/test_\w+\.py::test_\w+`", test), test
        for method, path in re.findall(r"(GET|POST|PATCH|DELETE) (/[^`?\s]*)", requests):
            assert path in pages or method.lower() in api_paths()[path], (method, path)


def test_each_decision_is_in_the_index_once() -> None:
    """The index has a question for each decision, once, in ascending order within its subject."""
    _, *subjects = _read("docs/internals/decisions/README.md").split("\n## ")
    sections = [re.findall(r"^\| .+\? \| \[(\d{4})\]\((\S+)\) \|$", text, re.MULTILINE) for text in subjects]
    assert all(rows == sorted(rows) for rows in sections)
    named = sorted(row for rows in sections for row in rows)
    assert named == [(path.name[:4], path.name) for path in DECISIONS]


def test_all_decisions_together_are_short() -> None:
    """All decisions have at most 15,000 words: a new one may need an older one to become shorter."""
    assert sum(len(path.read_text("utf-8").split()) for path in DECISIONS) <= MAX_WORDS_OF_ALL


def test_decisions_that_are_referred_to_exist() -> None:
    """Each `docs/internals/decisions/…` in documents, code and scripts is the beginning of a decision's path."""
    names = [path.name for path in DECISIONS]
    sources = (path for folder in FOLDERS for path in (ROOT / folder).rglob("*"))
    for path in (*sources, *DOCUMENTS):
        if path.suffix in {".py", ".lua", ".sql", ".md"}:
            for named in re.findall(r"docs/internals/decisions/(\d{4}[\w-]*)", path.read_text("utf-8")):
                assert any(name.startswith(named) for name in names), (path, named)


def test_the_glossary_has_each_word_once_in_order() -> None:
    """The glossary's words are in alphabetical order, without a repetition, with one sentence each."""
    rows = re.findall(r"^\| (.+) \| (.+) \|$", Page(ROOT / "docs/glossary.md").prose, re.MULTILINE)[1:]
    words = [term for term, _ in rows if term != "---"]
    assert words == sorted(set(words))
    assert [term for term, meaning in rows if meaning.count(". ") or not meaning.endswith((".", "---"))] == []


def test_each_setting_is_in_the_example() -> None:
    """.env.example has a commented line for each setting, and for what compose.yaml needs."""
    assert _examples(_read(".env.example")) == VARIABLES | OF_MIGRATE | {"POSTGRES_PASSWORD", "REDIS_ADMIN_PASSWORD"}


def test_each_setting_is_in_the_table() -> None:
    """docs/deploy.md has a row for each setting."""
    assert _rows(_read("docs/deploy.md")) == VARIABLES


def test_other_files_name_settings_that_exist() -> None:
    """Compose file, example and files of deploy/ name settings that exist."""
    paths = [
        ROOT / "compose.yaml",
        ROOT / ".env.example",
        *(path for path in ROOT.glob("deploy/**/*") if path.is_file()),
    ]
    assert [(path, name) for path in paths for name in unknown_settings(Page(path))] == []


def test_lines_and_rows_that_are_too_many_are_found() -> None:
    """A line of the example and a row of the table are found, and no row of another table."""
    assert _examples("# Why\n#SCRIP_OTHER=1\n#REDIS_URL=a\n") == {"SCRIP_OTHER", "REDIS_URL"}
    assert _rows("## Settings\n\n| variable | default |\n|---|---|\n| `SCRIP_OTHER` | 1 |\n\n## Next\n| `A` | |\n") == {
        "SCRIP_OTHER"
    }


def _examples(text: str) -> set[str]:
    return set(re.findall(r"^#([A-Z_]+)=", text, re.MULTILINE))


def _rows(text: str) -> set[str]:
    """The first cells of the table below the heading `Settings`."""
    section = text.partition("## Settings\n")[2].partition("\n## ")[0]
    return set(re.findall(r"^\| `([A-Z_]+)` \|", section, re.MULTILINE))


def _documented(process: str) -> Described:
    section = _read("docs/metrics.md").partition(f"## {process}\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \|([\w, ]*)\|", section, re.MULTILINE)
    return {name: (kind, tuple(labels.replace(",", " ").split())) for name, kind, labels in rows}


def collectors_of(modules: Iterable[object]) -> list[Any]:
    """The metrics that these modules make, and their collectors."""
    objects = [one for module in modules for one in vars(module).values()]
    return [one for one in objects if hasattr(one, "describe") and not isinstance(one, type)]


def _exported(modules: Iterable[object]) -> Described:
    exported: Described = {}
    for collector in collectors_of(modules):
        for family in collector.describe():
            labels = collector if isinstance(collector, MetricWrapperBase) else family
            name = f"{family.name}_total" if family.type == "counter" else family.name
            exported[name] = (family.type, tuple(labels._labelnames))
    return exported


@pytest.mark.parametrize("process", _PROCESSES)
def test_documented_metrics(process: str) -> None:
    """Each metric of a process is documented with its type and labels, and each documented metric exists."""
    exported = _exported(_PROCESSES[process])
    assert len(exported) > 10
    assert _documented(process) == exported
