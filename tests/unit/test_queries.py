"""The SQL statements: each has a head, and Python reads it by its name."""

import re
from pathlib import Path

import pytest

from service.common.resources import SQL_DIR
from service.engine.record.queries import query, read_queries

FOLDER = SQL_DIR / "queries"
QUERIES = read_queries(FOLDER)


@pytest.mark.parametrize("name", QUERIES)
def test_a_head_lists_the_parameters(name: str):
    """A statement's head has its name, a sentence, and the parameters that it uses, with their types."""
    head = [line for line in QUERIES[name].splitlines() if line.startswith("-- ")]
    assert head[0] == f"-- name: {name}"
    sentence = " ".join(line[3:] for line in head[1:] if not line.startswith("-- $"))
    assert re.match(r"[A-Z].*[.]$", sentence)
    declared = re.findall(r"\$(\d+) [a-z_0-9]+ [a-z0-9]+(?:\[\])?(?=  \$|$)", "  ".join(line[3:] for line in head[1:]))
    used = re.findall(r"\$(\d+)", "\n".join(line for line in QUERIES[name].splitlines() if not line.startswith("--")))
    assert list(map(int, declared)) == list(range(1, len(declared) + 1))
    assert set(declared) == set(used)


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.sql")), ids=lambda path: path.name)
def test_statements_are_in_alphabetical_order(path: Path):
    """A file's statements are in the order of their names."""
    names = re.findall(r"^-- (?:name|columns): (\S+)$", path.read_text(), re.MULTILINE)
    assert names == sorted(names)


def test_no_statement_changes_its_session():
    """A statement leaves no setting, lock, listener or temporary table in the session: a pooler gives it to others."""
    leaves = re.compile(r"^(SET|LISTEN|PREPARE|CREATE)\b|pg_(try_)?advisory_lock|WITH HOLD|set_config")
    texts = {name: re.sub("^--.*\n", "", text, flags=re.MULTILINE) for name, text in QUERIES.items()}
    assert [name for name, text in texts.items() if leaves.search(text)] == []


def test_no_statement_reads_all_columns_of_a_table():
    """A statement names the columns that it reads, so that a newer version may add others."""
    every = re.compile(r"(?:SELECT|RETURNING|,)\s+\*(?! FROM (?:\(|unnest\(|redemptions_at\())|\b(?!gone\b)\w+\.\*")
    texts = {name: re.sub("^--.*\n", "", text, flags=re.MULTILINE) for name, text in QUERIES.items()}
    assert [name for name, text in texts.items() if every.search(text)] == []


def test_every_statement_is_used():
    """Some module of the service runs each statement."""
    source = "".join(path.read_text() for path in (SQL_DIR.parent / "service").rglob("*.py"))
    assert [name for name in QUERIES if f'"{name}"' not in source] == []


def test_an_unknown_name_is_an_error():
    """`query` raises KeyError for an unknown name."""
    with pytest.raises(KeyError):
        query("no_such_statement")


@pytest.mark.parametrize("second", ["one", "Not a name"])
def test_bad_names_are_errors(tmp_path: Path, second: str):
    """A duplicate or malformed name stops the program."""
    (tmp_path / "a.sql").write_text("-- name: one\n-- One.\nSELECT 1;\n")
    (tmp_path / "b.sql").write_text(f"-- name: {second}\n-- Two.\nSELECT 2;\n")
    with pytest.raises(ValueError, match="bad or there twice"):
        read_queries(tmp_path)
