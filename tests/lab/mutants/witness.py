"""A plugin of pytest: reports how the first test failed, so that a broken mutant is not taken for a killed one.

A test has killed the mutant where an assertion fails, or where the service refuses what it must not. An error on the
way there, a script that Redis can't run, or a file that can't be imported prove nothing.
"""

import json
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

KILLED, SURVIVED, BROKEN = "killed", "survived", "broken"
_ASSERTIONS = (AssertionError, pytest.fail.Exception)
_witness_path = pytest.StashKey[Path]()
_script_errors: list[str] = []


def pytest_addoption(parser: pytest.Parser) -> None:
    """The path of the report, and where the mutated tree is."""
    parser.addoption("--witness", required=True)
    parser.addoption("--tree", required=True)


def pytest_configure(config: pytest.Config) -> None:
    """Make sure that it is the mutated tree that runs; keep Redis's errors of scripts that fail."""
    from service.common import resources
    from service.engine.hot import decider

    config.stash[_witness_path] = Path(str(config.getoption("--witness")))
    tree = Path(str(config.getoption("--tree")))
    for where in (Path(resources.__file__), resources.LUA_DIR, resources.SQL_DIR, Path(__file__)):
        if not where.resolve().is_relative_to(tree):
            raise pytest.UsageError(f"{where} is not in {tree}")
    refusal_from_reply = decider.refusal_from_reply

    def spy(error: Any) -> Any:
        if not str(error).startswith("NOSCRIPT"):
            _script_errors.append(str(error))
        return refusal_from_reply(error)

    decider.refusal_from_reply = spy


def pytest_runtest_setup() -> None:
    """Errors of scripts are those of the test that failed."""
    _script_errors.clear()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    """The first failure decides; a fixture's check at the end of a test counts as the test's."""
    report = yield
    if report.failed and call.excinfo is not None:
        # Where a test plants keys of the wrong type, scripts that can't read them are what it is about.
        planted = "test_wrong_type.py" in item.nodeid
        errors = [error for error in _script_errors if not (planted and error.startswith("WRONGTYPE"))]
        caught = call.when != "setup" and is_answer(call.excinfo.value) and not errors
        why = call.excinfo.exconly() if not errors else errors[0]
        _report(item.config, KILLED if caught else BROKEN, item.nodeid, why)
    return report


def is_answer(error: BaseException) -> bool:
    """Whether the service answered otherwise than the test expects; answers that ask for a retry don't count."""
    from service.engine.domain.errors import Refusal

    return isinstance(error, _ASSERTIONS) or (isinstance(error, Refusal) and error.outcome.status < 500)


def _report(config: pytest.Config, verdict: str, test: str, why: str) -> None:
    path = config.stash[_witness_path]
    if not path.exists():
        path.write_text(json.dumps({"verdict": verdict, "test": test, "why": why.strip()[:300]}))
