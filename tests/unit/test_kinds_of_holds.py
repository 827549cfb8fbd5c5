"""What a lock holds and a redemption spends has kinds, and only their includes know them (HOLD_VERBS of scripts.py)."""

import re

import pytest

from service.engine.hot.scripts import HOLD_VERBS, kinds_of_holds
from tests.harness.lua_syntax import files, source_of

KINDS = {kind: f"includes/{stem}.lua" for kind, stem, _, _ in kinds_of_holds()}
OWN = {"card": "includes/crediting.lua adjust_card.lua read_values.lua", "budget": "count_before.lua count_storage.lua"}
"""Scripts that are about one kind alone, or read Redis for a comparison."""
_CONDITIONS = {"card": "'balance'", "budget": "book.bounds"}


def _text(file: str) -> str:
    return re.sub(r"--\[\[.*?\]\]|--(?! @)[^\n]*", "", source_of(file).decode(), flags=re.DOTALL)


def _calls() -> dict[str, list[str]]:
    """By verb the arguments of each call."""
    calls: dict[str, list[str]] = {}
    for file in files():
        for verb, arguments in re.findall(r"-- @holds (\w+) (.+?)(?: -> \w+)?$", _text(file), re.MULTILINE):
            calls.setdefault(verb, []).append(arguments)
    return calls


def test_each_verb_is_called_and_answered() -> None:
    """Callers use every verb, and no other; for each some kind has a function."""
    assert set(_calls()) == set(HOLD_VERBS)
    defined = {verb for kind, file in KINDS.items() for verb in re.findall(rf"function {kind}_(\w+)\(", _text(file))}
    assert defined == set(HOLD_VERBS)


@pytest.mark.parametrize("kind", KINDS)
def test_a_kinds_functions_take_what_callers_give(kind: str) -> None:
    """No function of a kind has more parameters than a caller passes."""
    for verb, names in re.findall(rf"function {kind}_(\w+)\((.*?)\)", _text(KINDS[kind])):
        for arguments in _calls()[verb]:
            given = len(re.sub(r"\{[^}]*\}", "x", arguments).split(","))
            assert len([name for name in names.split(",") if name]) <= given, verb


@pytest.mark.parametrize("kind", KINDS)
def test_callers_do_not_know_a_kind(kind: str) -> None:
    """The setting that gives a book a kind stands in its include, in its own scripts, and where settings are read."""
    known = {file for file in files() if _CONDITIONS[kind] in _text(file)}
    assert known <= {KINDS[kind], "includes/book.lua", *OWN[kind].split()}
