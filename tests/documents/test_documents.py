"""Each document keeps the rules of rules.py, and each rule finds a breach."""

from pathlib import Path

import pytest

from tests.documents import rules
from tests.documents.figures import FIGURES
from tests.documents.pages import DECISIONS, DOCUMENTS, Page
from tests.harness.trees import ROOT

HERE = ROOT / "docs" / "limits.md"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_document_keeps_the_rules(path: Path) -> None:
    """What a document names exists, its figures are the code's, its blocks can be read, and it says for whom it is."""
    page = Page(path)
    assert {rule.__name__: wrong for rule in rules.RULES if (wrong := [*rule(page)])} == {}


BREACHES: list[tuple[rules.Rule, str, list[object]]] = [
    (rules.missing_paths, "`lua/no.lua`, `lua/redeem.lua`, `no_such.lua`", ["lua/no.lua", "no_such.lua"]),
    (rules.missing_paths, "```sh\ncat docs/no_such.md\n```\n", ["docs/no_such.md"]),
    (rules.missing_tests, "`test_pages.py::test_none`, `::test_documented_metrics`", ["test_pages.py::test_none"]),
    (rules.broken_links, "[a](no.md) [b](scope.md#no) [c](limits.md#limits) [d](https://a)", ["no.md", "scope.md#no"]),
    (rules.has_no_readers, "# Limits\n\nEach request", ["# Limits\n\nEach request"]),
    (rules.unreadable_blocks, "```sh\nif true; then\n```\n", ["if true; then\n"]),
    (rules.unreadable_blocks, "```json\n{\n```\n", ["{\n"]),
    (rules.unreadable_blocks, "```http\nGET /\na b\n\n{}\n```\n", ["GET /\na b\n\n{}\n"]),
    (rules.unreadable_blocks, "```python\nif\n```\n", ["if\n"]),
    (rules.unreadable_blocks, "```ini\nno setting\n```\n", ["no setting\n"]),
    (rules.wrong_commands, "`make nonsense`", ["nonsense"]),
    (rules.wrong_commands, "`make lab PART=none`", ["none"]),
    (rules.wrong_commands, "`make bench PLANT=all`", ["PLANT"]),
    (rules.wrong_commands, '`make bench PART=bulk ARGS="--none"`', ["--none"]),
    (rules.wrong_commands, "`scrip partitions resize`", ["resize"]),
    (rules.wrong_commands, "`scrip nonsense`", ["nonsense"]),
    (rules.wrong_commands, "`scrip keys none`", ["keys", "none"]),
    (rules.wrong_commands, "`scrip rebuild --none`", ["--none"]),
    (rules.wrong_commands, "`python -m loadtests.none`", ["loadtests.none"]),
    (rules.wrong_commands, "`python -m tests.lab faults --none`", ["--none"]),
    (rules.wrong_commands, "```sh\ndocker compose run --rm worker nonsense  # Compose\n```", ["nonsense"]),
    (rules.unknown_options, "`--none`, `--help`", ["--none"]),
    (rules.unknown_metrics, "`scrip_none_total`", ["scrip_none_total"]),
    (rules.unknown_requests, "`GET /v1/none`, `GET /v1/books`", ["GET /v1/none"]),
    (rules.unknown_settings, "set `SCRIP_OTHER`, not scrip_api", ["SCRIP_OTHER"]),
    (rules.unknown_log_events, "it logs `none`; `none_again` in the log", ["none", "none_again"]),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "text", "wrong"), BREACHES)
def test_a_breach_is_found(rule: rules.Rule, text: str, wrong: list[object]) -> None:
    """A file, test, link, block, command, option, request or name that does not exist is reported, and no other."""
    found = [*rule(Page(HERE, text))]
    assert ([one for _, words in found for one in words] if rule is rules.wrong_commands else found) == wrong


def test_a_breach_of_one_page_is_found() -> None:
    """Another figure, a missing figure, and a decision that is too long or has no parts are reported."""
    page = Page(HERE)
    (pattern, value), *_ = FIGURES[page.name].items()
    ((found, *_),) = rules.other_figures(Page(HERE, page.text.replace(f"{value:.0f} KiB, ", "9 KiB, ")))
    assert found == pattern
    assert {pattern for pattern, *_ in rules.other_figures(Page(HERE, ""))} == {*FIGURES[page.name]}
    assert [*rules.wrong_parts(Page(DECISIONS[0], "word " * 301))] == [
        "more than 300 words", "no problem, decision, rejected or cost",
    ]  # fmt: skip


def test_each_rule_has_a_breach() -> None:
    """No rule is left without a test that it can fail."""
    assert {rule for rule, *_ in BREACHES} | {rules.other_figures, rules.wrong_parts} == {*rules.RULES}
