"""The alerts of deploy/observability: promtool accepts and tests them, and what they name exists."""

import re
import subprocess
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.common.remedies import REMEDIES
from service.engine.domain.outcomes import BY_CODE
from service.engine.operations.table import ROWS
from tests.documents.pages import anchors, api_paths
from tests.harness.plugin import require
from tests.harness.trees import ROOT

FOLDER = ROOT / "deploy" / "observability"
TESTS = sorted(FOLDER.glob("*.test.yaml"))


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text("utf-8"))


RULES = [rule for group in read(FOLDER / "rules.yaml")["groups"] for rule in group["rules"]]
ALERTS = [rule for rule in RULES if "alert" in rule]
RUNBOOKS = (ROOT / "docs" / "operations.md").read_text("utf-8")
PARTS = ["Means", "Confirm", "Do", "Don't", "Ends when"]


def expand(pattern: str) -> list[str]:
    """The alternatives of a pattern, those in parentheses too: `a_(b|c)|d` is a_b, a_c and d."""
    alternatives = re.findall(r"(?:\([^)]*\)|[^|(])+", pattern)
    parts = [re.findall(r"\([^)]*\)|[^(]+", one) for one in alternatives]
    return ["".join(one) for each in parts for one in product(*(part.strip("()").split("|") for part in each))]


def promtool(*arguments: str) -> None:
    """Run promtool within the folder; fail with what it prints."""
    command = [require("promtool"), *arguments]
    done = subprocess.run(command, check=False, cwd=FOLDER, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_accepts_the_rules() -> None:
    """promtool finds no mistake in the rules, and no rule twice."""
    promtool("check", "rules", "rules.yaml")


@pytest.mark.parametrize("name", [path.name for path in TESTS])
def test_the_alerts_fire_when_they_should(name: str) -> None:
    """Each alert fires for its failure, and none in an upgrade, a move, or a sale that sells out."""
    promtool("test", "rules", name)


def test_each_alert_has_a_test() -> None:
    """Each alert is expected to fire with each of its severities, in a test which also expects that it does not."""
    seen: set[tuple[str, str]] = set()
    for test in (test for path in TESTS for test in read(path)["tests"]):
        looks = [
            {
                (found[0], found[1])
                for one in look.get("exp_samples", [])
                for found in re.findall(r'="(\w+)", severity="(\w+)"', one["labels"])
            }
            for look in test["promql_expr_test"]
        ]
        seen |= set.union(*looks) - set.intersection(*looks)
    assert seen == {(rule["alert"], rule["labels"]["severity"]) for rule in ALERTS}


def test_the_form_of_an_alert() -> None:
    """Each alert is a page or a ticket, and says in sentences what has happened."""
    for rule in ALERTS:
        assert rule["labels"] in ({"severity": "page"}, {"severity": "ticket"}), rule["alert"]
        assert {"summary", "description", "runbook_url"} == {*rule["annotations"]}, rule["alert"]
        assert all(rule["annotations"][name].endswith(".") for name in ("summary", "description")), rule["alert"]


def test_the_hot_path() -> None:
    """The rule of the hot path selects the routes of the table of operations, and no other route of the API."""
    (rule,) = [rule for rule in RULES if rule.get("record") == "scrip:hot_requests:rate1m"]
    patterns = re.findall(r'route=~ ?"([^"]+)"', rule["expr"])
    routes = {f"{method.upper()} {path}" for path, methods in api_paths().items() for method in methods}
    hot = {row.route for row in ROWS}
    assert len(patterns) == 2
    assert {route for route in routes | hot if all(re.fullmatch(pattern, route) for pattern in patterns)} == hot


def test_the_outcomes_exist() -> None:
    """Each outcome that a rule names is one of the service's."""
    named = {
        one
        for rule in RULES
        for pattern in re.findall(r'outcome[!=~]+"([^"]+)"', rule["expr"])
        for one in expand(pattern)
    }
    assert {"coupon_locked", "request_timeout", "too_many_misses"} <= named
    assert [one for one in named if not any(re.fullmatch(one, code) for code in BY_CODE)] == []


def test_each_alert_has_a_runbook() -> None:
    """docs/operations.md has a heading for each alert and no other, and each alert's address ends in its heading."""
    headings = re.findall(r"^### (\w+)$", RUNBOOKS, re.MULTILINE)
    assert sorted(headings) == sorted({rule["alert"] for rule in ALERTS})
    for rule in ALERTS:
        _, _, target = rule["annotations"]["runbook_url"].rpartition("/")
        assert target == f"operations.md#{rule['alert'].lower()}"


def test_the_form_of_a_runbook() -> None:
    """Each runbook has the same five parts in the same order."""
    for text in re.split(r"^### ", RUNBOOKS, flags=re.MULTILINE)[1:]:
        assert re.findall(r"^- \*\*([\w' ]+)\*\*", text, re.MULTILINE) == PARTS, text.split()[0]


def test_the_symptoms_lead_to_runbooks() -> None:
    """The index of symptoms, the advice of commands, and the console's alarms name headings that exist."""
    index = RUNBOOKS.partition("## By symptom")[2].partition("\n## ")[0]
    targets = re.findall(r"\(#(\w+)\)", index)
    sources = "".join(path.read_text("utf-8") for path in (ROOT / "service").rglob("*.py"))
    targets += re.findall(r"docs/operations\.md#([\w-]+)", sources)
    overview = (ROOT / "service/console/static/console/assets/overview.js").read_text("utf-8")
    targets += [name.lower() for name in re.findall(r'add\("(\w+)"', overview)]
    assert {"scripquarantine", "scripredisdown", "scriptaskfailing"} <= {*targets}
    assert {*targets} <= anchors(ROOT / "docs" / "operations.md")


def test_the_slow_log_is_off() -> None:
    """The shipped servers have no slow log, so each runbook that reads it switches it on before and off afterwards."""
    assert "slowlog-log-slower-than -1" in (ROOT / "deploy/systemd/redis-scrip.conf").read_text("utf-8")
    assert not [name for name, remedy in REMEDIES.items() if "SLOWLOG" in remedy]
    steps = ["CONFIG SET slowlog-log-slower-than 10000", "SLOWLOG GET", "CONFIG SET slowlog-log-slower-than -1"]
    for text in re.split(r"^### ", RUNBOOKS, flags=re.MULTILINE):
        if "SLOWLOG" in text:
            places = [text.find(step) for step in (*steps, "SLOWLOG RESET")]
            assert -1 not in places
            assert places == sorted(places), text.split()[0]
