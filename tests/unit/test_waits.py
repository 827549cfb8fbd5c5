"""Tests wait for states, and see how tasks end."""

import ast
import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
MODULES = [*TESTS.rglob("*.py"), *(TESTS.parent / "loadtests/tests").rglob("*.py")]
LAB = TESTS / "lab"
"""What is no test there may pause."""
_fixed_wait = re.compile(r"\b(?:sleep\((?!0\))|timeout\(\d|wait_for\(.*, (?:timeout=)?\d)")
_fixed_end = re.compile(r"process\.wait(?:\(|, )\d")
_REQUESTS = {f"httpx.{name}" for name in "Client AsyncClient get post put patch delete request stream".split()}


def test_no_test_waits_for_a_time() -> None:
    """Tests, and what starts their servers, wait with `until`, `wait_until` or `elapse` of harness/waiting.py, and
    give up after its PATIENCE_S, also on the end of a process: a busy machine is slower than any number in a test. Only
    `sleep(0)` is left to them."""
    waits = [
        f"{path.name}: {line.strip()}"
        for path in MODULES
        if path.name != "waiting.py"
        for line in path.read_text("utf-8").splitlines()
        if _fixed_end.search(line) or (_fixed_wait.search(line) and not _is_load(path))
    ]
    assert waits == []


def test_requests_are_waited_for_like_states() -> None:
    """Tests wait PATIENCE_S for a response. Without a timeout httpx gives up after five seconds."""
    hasty = [
        f"{path.name}:{call.lineno}: {ast.unparse(call)}"
        for path in MODULES
        if not _is_load(path)
        for call in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(call, ast.Call) and ast.unparse(call.func) in _REQUESTS
        if not any(one.arg == "timeout" and isinstance(one.value, ast.Name) for one in call.keywords)
    ]
    assert hasty == []


def test_no_test_gives_up_with_the_service() -> None:
    """Tests connect to Redis with `reach` of tests/harness/reaching.py, which goes on where a busy machine misses the
    service's bounds. Only tests of these bounds, and of refusals, connect as the service does."""
    opening, access = "integration/opening", "integration/access"
    at_home = {f"{opening}/test_connection.py", f"{opening}/test_reaching.py", f"{access}/test_least_privilege.py"}
    pattern = r"^from service\.engine\.hot\.connection import (?:\([^)]*|.*)\bconnect\b"
    assert _find_modules(pattern) == at_home | {"harness/reaching.py"}


def test_no_test_finds_a_table_by_its_place() -> None:
    """Tests of pages find a table by its name: the first one is another table until the page is drawn. Where an
    assertion about one row then meets several, Playwright fails at once."""
    assert _find_modules(r'get_by_role\("table"\)') == set()


def test_no_test_keeps_an_element_of_a_live_page() -> None:
    """A live page replaces its elements. `Locator.evaluate` first finds one, which may be gone when it is read: tests
    use `expect`, or the page's `evaluate`. Two files use it: for steps of the keyboard, which are repeated, and for
    elements that the checkout page never replaces."""
    pattern = r"(?<!\bpage)\.(?:evaluate|evaluate_handle|bounding_box|element_handle)\("
    assert _find_modules(pattern) == {"browser/test_tasks.py", "browser/test_checkout_page.py"}


def test_no_test_counts_subscribers() -> None:
    """Tests wait for a message, not for a number of subscribers: Redis counts a lost connection a moment longer."""
    assert _find_modules("(?i)numsub") == set()


def test_no_test_waits_for_what_postgres_shows_of_a_flusher() -> None:
    """Tests wait for a flusher's own `cursor`: Postgres shows a commit before the flusher goes on, and logs."""
    assert _find_modules(r"return .*shop\.cursor\(\)") == set()


def test_no_test_stops_its_own_clock() -> None:
    """A test that sets a module's clock replaces the module's `time`: its loop reads `time.monotonic`, and a pause or a
    bound would never end."""
    assert _find_modules(r'\btime, "monotonic"|"time\.monotonic"') == set()


def test_no_task_dies_unseen() -> None:
    """Tests end tasks with `cancel` of harness/waiting.py, which raises the error of a task that had failed before:
    else a test that waits for the task's work would only report that it waited."""
    assert _find_modules("return_exceptions") == {"harness/waiting.py"}


def test_no_test_owns_an_event_loop() -> None:
    """Tests without a loop use `asyncio.run` or `asyncio.Runner`, and in a thread anyio's `start_blocking_portal`.
    These end tasks that are left. A loop that is only stopped keeps them, and a later test has the report."""
    assert _find_modules(r"\bnew_event_loop\b") == set()


def _is_load(path: Path) -> bool:
    return not path.name.startswith("test_") and LAB in path.parents


def _find_modules(pattern: str) -> set[str]:
    """The tests' modules, but for this one, in which a pattern is found."""
    modules = {path for path in MODULES if path != Path(__file__)}
    found = {path for path in modules if re.search(pattern, path.read_text("utf-8"), re.MULTILINE)}
    return {path.relative_to(TESTS.parent).as_posix().removeprefix("tests/") for path in found}
