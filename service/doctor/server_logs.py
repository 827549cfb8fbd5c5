"""What the servers' own logs would tell of requests: codes are money to whoever reads them."""

from collections.abc import Mapping

import asyncpg
import hiredis

from service.doctor.report import Check
from service.hot.connection import Connection

_REDIS = (
    "slowlog-log-slower-than", "commandlog-*-than", "crash-log-enabled", "hide-user-data-from-log", "acllog-max-len",
)  # fmt: skip
_POSTGRES = (
    "log_error_verbosity", "log_parameter_max_length", "log_parameter_max_length_on_error", "log_statement",
    "log_min_duration_statement", "log_min_duration_sample", "log_transaction_sample_rate",
)  # fmt: skip


async def redis_logs(connection: Connection) -> Check:
    """Of Redis's settings. Raises Broken."""
    reply = await connection.call("CONFIG", "GET", *_REDIS)
    if isinstance(reply, hiredis.ReplyError):
        says = "it doesn't say what it logs"
        return Check("redis logs", "warning", says, "Allow CONFIG GET to our user, or see to it as in docs/deploy.md.")
    told = judge_redis_logs(dict(zip(reply[::2], reply[1::2], strict=True)))
    return _check("redis logs", told, "keep what scripts are asked, codes among it")


async def postgres_logs(connection: asyncpg.Connection) -> Check:
    """Of Postgres's settings. Raises asyncpg's errors."""
    rows = await connection.fetch("SELECT name, setting FROM pg_settings WHERE name = ANY($1)", list(_POSTGRES))
    told = judge_postgres_logs({row["name"]: row["setting"] for row in rows})
    return _check("postgres logs", told, "quote rows and parameters, codes among them")


def judge_redis_logs(settings: Mapping[str, str]) -> list[str]:
    """What to set, word for word; nothing where no request is kept."""
    wanted = [f"{name} -1" for name, value in sorted(settings.items()) if name.endswith("-than") and value != "-1"]
    if "commandlog-execution-slower-than -1" in wanted and "slowlog-log-slower-than -1" in wanted:
        wanted.remove("slowlog-log-slower-than -1")  # its old name
    if settings.get("crash-log-enabled") == "yes" and settings.get("hide-user-data-from-log") != "yes":
        wanted.append("crash-log-enabled no")
    if settings.get("acllog-max-len", "0") != "0":
        wanted.append("acllog-max-len 0")
    return wanted


def judge_postgres_logs(settings: Mapping[str, str]) -> list[str]:
    """As judge_redis_logs."""
    wanted: list[str] = []
    if settings["log_error_verbosity"] != "terse":
        wanted.append("log_error_verbosity terse")
    if settings["log_parameter_max_length_on_error"] != "0":
        wanted.append("log_parameter_max_length_on_error 0")
    usual = {
        "log_statement": "none",
        "log_min_duration_statement": "-1",
        "log_min_duration_sample": "-1",
        "log_transaction_sample_rate": "0",
    }
    if settings["log_parameter_max_length"] != "0" and any(settings[name] != value for name, value in usual.items()):
        wanted.append("log_parameter_max_length 0")
    return wanted


def _check(name: str, wanted: list[str], leak: str) -> Check:
    if not wanted:
        return Check(name, "ok", "nothing of a request is in them")
    return Check(name, "warning", f"they {leak}", f"Set {', '.join(wanted)}.")
