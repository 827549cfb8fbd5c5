"""What the worker makes of an error that a script's run ends with."""

from typing import Any

import hiredis
import pytest
from structlog.testing import capture_logs

from service.hot.redis_server import Fenced, ScriptFailed, Server
from service.hot.scripts import Scripts

_SCRIPTS = Scripts(0, 1, "nonce", ["put_book"])


class _FailingConnection:
    def __init__(self, error: str) -> None:
        self._error = error

    async def call(self, *_command: Any) -> hiredis.ReplyError:
        return hiredis.ReplyError(self._error)


@pytest.mark.parametrize(
    ("error", "event"),
    [
        ("ERR user_script:7: Lua error script: abc, on @user_script:7.", "script_failed"),
        ("WRONGTYPE Operation against a key script: abc, on @user_script:7.", "script_failed"),
        ("OOM command not allowed script: abc, on @user_script:7.", "redis_error"),
        ("MISCONF Redis is configured to save snapshots", "redis_error"),
    ],
)
async def test_only_what_fails_again_is_logged_as_a_failed_script(error: str, event: str) -> None:
    """A Redis that is full or can't save rejects the script; the script itself has not failed."""
    server = Server(_FailingConnection(error), 0)  # type: ignore[arg-type]
    with capture_logs() as logs, pytest.raises(ScriptFailed):
        await server.run(_SCRIPTS, "put_book", [], [])
    assert [(entry["event"], entry["script"], entry["kind"]) for entry in logs] == [
        (event, "put_book", error.partition(" ")[0])
    ]


async def test_a_server_that_is_not_ours_fences() -> None:
    """A replica's error ends the work of this worker instead."""
    with pytest.raises(Fenced, match="READONLY"):
        await Server(_FailingConnection("READONLY replica"), 0).run(_SCRIPTS, "put_book", [], [])  # type: ignore[arg-type]
