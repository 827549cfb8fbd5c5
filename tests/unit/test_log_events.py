"""Log events: their names, and what to do about them."""

import json
import re

import pytest
import structlog

from service.common.logs import configure, workspace_names
from service.common.remedies import REMEDIES
from tests.harness.commands import kept_logging
from tests.log_events import read_events


def test_names_have_one_form() -> None:
    """An event's name is words in lower case, joined by underscores."""
    assert [name for name in read_events() if not re.fullmatch(r"[a-z]+(_[a-z0-9]+)*", name)] == []


def test_what_to_do_is_said_of_every_warning_and_error() -> None:
    """Each warning and error has a remedy, and each remedy an event."""
    assert sorted(REMEDIES) == [name for name, event in read_events().items() if event.is_alarming]


def test_a_warning_says_what_to_do(capfd: pytest.CaptureFixture[str]) -> None:
    """The line of a warning has its remedy; that of the same event as information has none."""
    with kept_logging():
        configure("info", "test")
        logger = structlog.get_logger()
        logger.warning("rebuilding")
        logger.info("rebuilding")
    warned, informed = capfd.readouterr().err.splitlines()
    assert REMEDIES["rebuilding"] in warned
    assert "remedy" not in informed


def test_a_line_names_its_workspace(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A line has the name and the id of a workspace, not its inner number."""
    monkeypatch.setitem(workspace_names, 7, ("shop", "018f"))
    with kept_logging():
        configure("info", "test")
        structlog.get_logger().info("workspace_seen", workspace=7)
    line = json.loads(capfd.readouterr().err)
    assert (line["workspace"], line["workspace_id"]) == ("shop", "018f")
