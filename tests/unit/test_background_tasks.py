"""Background tasks that must not end."""

import asyncio

import pytest
from structlog.testing import capture_logs

from service.common import background_tasks
from tests.harness.waiting import PATIENCE_S, running


async def test_a_task_that_fails_is_logged_and_starts_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that a task does not expect is logged without its text, and the task runs again."""
    monkeypatch.setattr(background_tasks, "RESTART_S", 0.0)
    errors, runs_again = [TypeError("SUMMER-7F3K")], asyncio.Event()

    async def fail_once() -> None:
        if errors:
            raise errors.pop()
        runs_again.set()
        await asyncio.Event().wait()

    with capture_logs() as logs:
        async with running(background_tasks.run_forever("traffic", fail_once)):
            await asyncio.wait_for(runs_again.wait(), PATIENCE_S)
    (line,) = logs
    assert (line["event"], line["task"], line["reason"]) == ("task_failed", "traffic", "TypeError")
