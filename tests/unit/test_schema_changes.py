"""Migrations leave a database that the running version can go on using: Squawk finds no statement that breaks it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from service.common.resources import SQL_DIR

_LEFT_OUT = {
    "prefer-bigint-over-int": "numbers of partitions, workspaces and books are small",
    "prefer-bigint-over-smallint": "so are a currency's digits",
    "require-lock-timeout": "service/engine/record/migrations.py sets it",
    "require-statement-timeout": "an index of a large table may take long; nothing waits for it",
}
"""Rules that are not checked, and why."""


def find_faults(*paths: Path) -> set[str]:
    """The rules that these files break."""
    squawk = Path(sys.executable).with_name("squawk")
    options = ("--reporter", "json", "--pg-version", "14", "--assume-in-transaction", "--exclude", ",".join(_LEFT_OUT))
    found = subprocess.run([squawk, *options, *paths], capture_output=True, text=True, check=False)
    return {fault["rule_name"] for fault in json.loads(found.stdout)}


def test_migrations_break_no_running_version():
    """No migration drops, renames or narrows what the previous version uses, or locks a table for long. A file that
    takes away what no version next to it uses says `-- squawk-ignore <rule>` above the statement."""
    assert find_faults(*sorted((SQL_DIR / "migrations").glob("*.sql"))) == set()


@pytest.mark.parametrize(
    ("statement", "rule"),
    [
        ("ALTER TABLE books DROP COLUMN name", "ban-drop-column"),
        ("DROP TABLE books", "ban-drop-table"),
        ("ALTER TABLE books RENAME COLUMN name TO title", "renaming-column"),
        ("ALTER TABLE books ADD COLUMN x bigint NOT NULL", "adding-required-field"),
        ("ALTER TABLE books ALTER COLUMN name TYPE bigint", "changing-column-type"),
        ("ALTER TABLE books ADD CONSTRAINT x CHECK (book > 0)", "constraint-missing-not-valid"),
        ("CREATE INDEX x ON books (name)", "require-concurrent-index-creation"),
    ],
)
def test_a_breaking_statement_is_found(tmp_path: Path, statement: str, rule: str):
    """Squawk reports a statement that breaks the previous version, or blocks it."""
    (tmp_path / "0001_bad.sql").write_text(f"{statement};\n")
    assert rule in find_faults(tmp_path / "0001_bad.sql")
