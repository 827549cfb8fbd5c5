"""Alertmanager's configuration in deploy/observability: it names alerts that exist, and one cause gives one page."""

import re
import subprocess
from typing import Any

import pytest

from tests.harness.plugin import require
from tests.unit.test_alerts import ALERTS, FOLDER, expand, read

FILE = FOLDER / "alertmanager.yaml"
CONFIG = read(FILE)
RULES: list[Any] = CONFIG["inhibit_rules"]
NAMES = {rule["alert"] for rule in ALERTS}

Labels = dict[str, str]


def matches(matchers: list[str], labels: Labels) -> bool:
    """Whether an alert with these labels fits all matchers."""
    parsed = [re.fullmatch(r'(\w+)(=~?)"(.+)"', matcher) for matcher in matchers]
    assert all(parsed), matchers
    return all(
        re.fullmatch(found[3] if found[2] == "=~" else re.escape(found[3]), labels.get(found[1], ""))
        for found in parsed
        if found
    )


def is_silenced(target: Labels, firing: list[Labels]) -> bool:
    return any(
        matches(rule["target_matchers"], target)
        and matches(rule["source_matchers"], source)
        and all(source.get(name) == target.get(name) for name in rule["equal"])
        for rule in RULES
        for source in firing
        if source is not target
    )


def notified(*firing: str) -> list[str]:
    """Which of these alerts are not silenced: `Scrip` and the severity are left out, `RedisDown page partition=3`."""
    alerts = []
    for text in firing:
        name, severity, *labels = text.split()
        alerts.append(
            {"alertname": f"Scrip{name}", "severity": severity, "namespace": "shop"}
            | dict(label.split("=") for label in labels)
        )
    return [text.split()[0] for text, alert in zip(firing, alerts, strict=True) if not is_silenced(alert, alerts)]


def test_amtool_accepts_it() -> None:
    """Alertmanager would start with it."""
    done = subprocess.run([require("amtool"), "check-config", FILE], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_alerts_exist() -> None:
    """Each name in a matcher is an alert, and each rule is for one namespace. A source is a page of the same rules."""
    pages = {rule["alert"] for rule in ALERTS if rule["labels"]["severity"] == "page"}
    for rule in RULES:
        assert "namespace" in rule["equal"]
        assert 'severity="page"' in rule["source_matchers"]
        for matchers, known in ((rule["source_matchers"], pages), (rule["target_matchers"], NAMES)):
            for pattern in re.findall(r'alertname=~?"(.+)"', "\n".join(matchers)):
                for name in expand(pattern):
                    assert any(re.fullmatch(name, one) for one in known), name


def test_no_two_alerts_silence_each_other() -> None:
    """No page silences, also through others, what silences it: both would be silent."""
    both = [{"alertname": name, "severity": "page", "namespace": "shop"} for name in NAMES]
    silences = {
        source["alertname"]: {target["alertname"] for target in both if is_silenced(target, [source])}
        for source in both
    }
    for name in NAMES:
        reached, more = set[str](), silences[name]
        while more - reached:
            reached |= more
            more = set[str]().union(*(silences[one] for one in reached))
        assert name not in reached


def test_each_severity_has_a_receiver() -> None:
    """Pages and tickets go to receivers of their own, and alerts of one name in one namespace are one notification."""
    route = CONFIG["route"]
    assert route["group_by"] == ["namespace", "alertname"]
    (page,) = route["routes"]
    assert (page["receiver"], page["matchers"]) == ("page", ['severity="page"'])
    assert [one["name"] for one in CONFIG["receivers"]] == ["page", route["receiver"]]


@pytest.mark.parametrize(
    ("firing", "left"),
    [
        (
            ("RedisDown page partition=3", "Errors page", "PartitionClosed page partition=3", "Errors ticket"),
            ["RedisDown"],
        ),
        (("RedisDown page partition=3", "PartitionClosed page partition=4"), ["RedisDown", "PartitionClosed"]),
        (("RedisMemory page server=a", "RedisMemory ticket server=a", "Errors page"), ["RedisMemory"]),
        (("RedisMemory page server=a", "RedisMemory ticket server=b"), ["RedisMemory", "RedisMemory"]),
        (
            ("PostgresDown page", "WorkerMissing page partition=1", "RecordingSlow page partition=1", "Errors page"),
            ["PostgresDown"],
        ),
        (("WorkerMissing page partition=1", "UnrecordedEventsOld page partition=1"), ["WorkerMissing"]),
        (("UnrecordedEventsMany page partition=1", "RecordingSlow page partition=1"), ["UnrecordedEventsMany"]),
        (("Errors page", "LowStock ticket", "Latency page"), ["Errors", "LowStock", "Latency"]),
        (("TaskFailing ticket partition=1", "WorkerMissing page partition=2"), ["TaskFailing", "WorkerMissing"]),
        (("RedisDown page partition=3", "Errors page namespace=other"), ["RedisDown", "Errors"]),
        (("RedisDown ticket instance=a", "Errors page"), ["RedisDown", "Errors"]),
    ],
)
def test_one_cause_one_page(firing: tuple[str, ...], left: list[str]) -> None:
    """Of alerts that fire together, those are notified which name the cause; other namespaces and partitions are."""
    assert notified(*firing) == left
