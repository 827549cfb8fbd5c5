"""docs/reliability.md says of each task of a worker and an API what one failure costs, or it has no data of tenants."""

import re

from tests.harness.trees import ROOT

TEXT = (ROOT / "docs" / "reliability.md").read_text("utf-8").partition("## What one failure costs")[2]
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in TEXT.splitlines() if line.startswith("| ")][
    1:
]
SOURCES = {
    "service/server/tasks/partition_tasks.py": r'"(\w+)": lambda',
    "service/server/tasks/process_tasks.py": r'"(\w+)": (?:lambda|Sampler)',
    "service/engine/worker/partition_worker.py": r'"(\w+)": lambda',
    "service/engine/worker/process.py": r'"(\w+)": (?:lambda|loaded|keeper)',
    "service/serving/wiring.py": r'f?"(\w+)(?:_\{number\})?": \w+\.run',
    "service/engine/deciding/deciding.py": r'"(\w+)": (?:self\.watch_scripts|CommitteePoll)',
}
WITHOUT_TENANTS = set(
    """loading_scripts statistics beating leases names jobs sampling key_messages partitions scripts
    committees""".split()
)
"""They read or write what belongs to no tenant, or counts of all."""


def test_each_task_is_in_the_table() -> None:
    """A new task has a row, or is named above as one without data of tenants."""
    tasks = {name for path, names in SOURCES.items() for name in re.findall(names, (ROOT / path).read_text("utf-8"))}
    assert tasks > WITHOUT_TENANTS
    named = {name for row in ROWS for name in re.findall(r"`(\w+)`", row[0])}
    assert named == tasks - WITHOUT_TENANTS | {"opening"}


def test_each_row_has_its_test() -> None:
    """The last column names a test that exists."""
    for row in ROWS:
        path, _, name = row[-1].strip("`").partition("::")
        assert re.search(rf"def {name}\(", (ROOT / path).read_text("utf-8")), row


def test_each_task_contains_what_fails() -> None:
    """A task's rule is that of SetAside, except where the record and the configuration have their own."""
    contained = {
        "counting",
        "erasing",
        "measuring",
        "reconciling",
        "retaining",
        "restocking",
        "watching_stock",
        "settling",
        "sending",
        "sweeping",
    }
    folders = [ROOT / "service" / part for part in ("engine", "server")]
    texts = "\n".join(path.read_text("utf-8") for folder in folders for path in folder.rglob("*.py"))
    assert set(re.findall(r'SetAside\(\w+, [\w.]+, "(\w+)"', texts)) == contained | {"housekeeping"}
