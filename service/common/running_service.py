"""Find the servers: for processes those of the settings, for commands also those of the `scrip run` that uses
SCRIP_DATA_DIR. The names in run.json are those that local_service.py writes."""

import contextlib
import json
from typing import Any, NamedTuple

import click

from service.common.config import Settings


class Unusable(click.ClickException):
    """The servers or the settings can't be used. The message begins with a stable code."""

    exit_code = 2


class RunningService(NamedTuple):
    """The URLs of a service and of its servers; '' where unknown."""

    url: str
    redis_url: str
    database_url: str
    is_from_file: bool
    """Whether DATABASE_URL is that of run.json."""


def find_servers(settings: Settings) -> tuple[str, str]:
    """The URLs of Redis and Postgres for a process of the service: the settings must have both. Raises Unusable."""
    urls = {"REDIS_URL": settings.redis_url, "DATABASE_URL": settings.database_url}
    if missing := [name for name, url in urls.items() if url is None]:
        verb, them = ("is", "it") if len(missing) == 1 else ("are", "them")
        remedy = f"Set {them}, or use `scrip run`, which starts servers of its own."
        raise Unusable(f"unset: {' and '.join(missing)} {verb} not set. {remedy}")
    return settings.redis_url or "", settings.database_url or ""


def find_service(settings: Settings, *needed: str) -> RunningService:
    """Find the servers: the settings take precedence, and run.json has the others.

    `needed` are names of variables. Raises Unusable if a needed server is unknown.
    """
    run: dict[str, Any] = {}
    with contextlib.suppress(OSError, ValueError):
        run = json.loads((settings.data_dir / "run.json").read_text())
    servers = {
        "REDIS_URL": settings.redis_url or run.get("redisUrl", ""),
        "DATABASE_URL": settings.database_url or run.get("databaseUrl", ""),
    }
    if missing := [name for name in needed if not servers[name]]:
        names, verb = " and ".join(missing), "is" if len(missing) == 1 else "are"
        reason, remedy = f"no `scrip run` uses {settings.data_dir}", "Start `scrip run`, set its SCRIP_DATA_DIR, or set"
        raise Unusable(f"unset: {reason}, and {names} {verb} not set. {remedy} {names}.")
    is_same = (servers["REDIS_URL"], servers["DATABASE_URL"]) == (run.get("redisUrl"), run.get("databaseUrl"))
    is_from_file = settings.database_url is None
    return RunningService(run["url"] if is_same else "", servers["REDIS_URL"], servers["DATABASE_URL"], is_from_file)
