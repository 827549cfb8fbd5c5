"""What the worker makes of an error that a script's run ends with."""

import re
from typing import Any

import hiredis
import pytest
from structlog.testing import capture_logs

from service.engine.hot.decider import refusal_from_reply
from service.engine.hot.redis_server import Fenced, ScriptFailed, Server
from service.engine.hot.scripts import Scripts

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


@pytest.mark.parametrize(
    ("error", "command"),
    [
        ("NOPERM User scrip-worker has no permissions to run the 'evalsha' command", "evalsha"),
        ("NOPERM this user has no permissions to run the 'script|load' command", "script|load"),
        (
            "ERR ACL failure in script: User w has no permissions to run the 'time' command script: on @s:1.",
            "time",
        ),
        (
            "ERR The user executing the script can't run this command or subcommand script: 1a8c, on @user_script:1.",
            "a command of a script",
        ),
    ],
)
async def test_a_right_that_redis_s_user_lacks_is_named(error: str, command: str) -> None:
    """Redis 7.0 and later ones: neither is the script's mistake, nor another worker's turn."""
    server = Server(_FailingConnection(error), 0)  # type: ignore[arg-type]
    with capture_logs() as logs, pytest.raises(ScriptFailed, match=f"put_book NOPERM {re.escape(command)}") as failed:
        await server.run(_SCRIPTS, "put_book", [], [])
    assert not failed.value.is_own
    refused = refusal_from_reply(hiredis.ReplyError(error))
    assert refused.code == ("unavailable" if error.startswith("NOPERM") else "outcome_unknown")
    assert [(entry["event"], entry["command"]) for entry in logs] == [("redis_right_missing", command)]


async def test_a_server_that_is_not_ours_fences() -> None:
    """A replica's error ends the work of this worker instead."""
    with pytest.raises(Fenced, match="READONLY"):
        await Server(_FailingConnection("READONLY replica"), 0).run(_SCRIPTS, "put_book", [], [])  # type: ignore[arg-type]
