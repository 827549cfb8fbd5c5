"""Checks that the servers' own logs record nothing of requests: a leaked code can be redeemed. checks.py calls this."""

from collections.abc import Mapping

import asyncpg
import hiredis

from service.engine.hot.connection import Connection
from service.server.doctor.report import Check

_REDIS = (
    "slowlog-log-slower-than", "commandlog-*-than", "crash-log-enabled", "hide-user-data-from-log", "acllog-max-len",
)  # fmt: skip
_POSTGRES = (
    "log_error_verbosity", "log_parameter_max_length", "log_parameter_max_length_on_error", "log_statement",
    "log_min_duration_statement", "log_min_duration_sample", "log_transaction_sample_rate",
)  # fmt: skip


async def check_redis_logs(connection: Connection) -> Check:
    """Check Redis's log settings. Raises Broken."""
    reply = await connection.call("CONFIG", "GET", *_REDIS)
    if isinstance(reply, hiredis.ReplyError):
        says = "Redis refuses CONFIG GET, so its log settings are unknown"
        advice = "Allow CONFIG GET to the user of REDIS_URL, or set Redis's logs as docs/deploy.md describes."
        return Check("redis logs", "warning", says, advice)
    changes = judge_redis_logs(dict(zip(reply[::2], reply[1::2], strict=True)))
    return _make_check("redis logs", changes, "Redis logs the arguments of scripts, which hold codes")


async def check_postgres_logs(connection: asyncpg.Connection) -> Check:
    """Check Postgres's log settings. Raises asyncpg's errors."""
    rows = await connection.fetch("SELECT name, setting FROM pg_settings WHERE name = ANY($1)", list(_POSTGRES))
    changes = judge_postgres_logs({row["name"]: row["setting"] for row in rows})
    return _make_check("postgres logs", changes, "Postgres logs rows and parameters, which hold codes")


def judge_redis_logs(settings: Mapping[str, str]) -> list[str]:
    """Return the settings to change, as `name value`; empty if Redis logs nothing of requests."""
    changes = [f"{name} -1" for name, value in sorted(settings.items()) if name.endswith("-than") and value != "-1"]
    if "commandlog-execution-slower-than -1" in changes and "slowlog-log-slower-than -1" in changes:
        changes.remove("slowlog-log-slower-than -1")  # its old name
    if settings.get("crash-log-enabled") == "yes" and settings.get("hide-user-data-from-log") != "yes":
        changes.append("crash-log-enabled no")
    if settings.get("acllog-max-len", "0") != "0":
        changes.append("acllog-max-len 0")
    return changes


def judge_postgres_logs(settings: Mapping[str, str]) -> list[str]:
    """Return the settings to change, as `name value`; empty if Postgres logs nothing of requests."""
    changes: list[str] = []
    if settings["log_error_verbosity"] != "terse":
        changes.append("log_error_verbosity terse")
    if settings["log_parameter_max_length_on_error"] != "0":
        changes.append("log_parameter_max_length_on_error 0")
    defaults = {
        "log_statement": "none",
        "log_min_duration_statement": "-1",
        "log_min_duration_sample": "-1",
        "log_transaction_sample_rate": "0",
    }
    if settings["log_parameter_max_length"] != "0" and any(settings[name] != value for name, value in defaults.items()):
        changes.append("log_parameter_max_length 0")
    return changes


def _make_check(name: str, changes: list[str], fault: str) -> Check:
    if not changes:
        return Check(name, "ok", "no request data is logged")
    return Check(name, "warning", fault, f"Set {', '.join(changes)}.")
