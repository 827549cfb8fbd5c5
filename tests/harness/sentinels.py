"""Sentinels of Redis or Valkey for tests, by deploy/redis/sentinel.conf, each with an end."""

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import redis

from tests.harness.servers import free_port
from tests.harness.shipped import SENTINEL, write_shipped
from tests.harness.waiting import PATIENCE_S, until

SERVICE = "shop"
DOWN_AFTER_MS = 1000
"""A primary that is silent for so long is replaced."""


@contextlib.contextmanager
def start_sentinels(
    binary: Path,
    folder: Path,
    primary: int,
    count: int = 1,
    password: str = "",
    replicas: int = 0,
    *,
    have_users: bool = False,
) -> Iterator[str]:
    """Start sentinels that watch the primary on a port and its replicas, which may have the users of deploy/redis-acl.
    Yields a URL's part: `host:port,…/service`."""
    ports = [free_port() for _ in range(count)]
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for port in ports:
            changes: dict[str, str | None] = {
                "port": str(port),
                "dir": str(folder),
                "requirepass": password or None,
                "sentinel sentinel-pass": password or None,
                "sentinel monitor": f"{SERVICE} 127.0.0.1 {primary} {count // 2 + 1}",
                "sentinel down-after-milliseconds": f"{SERVICE} {DOWN_AFTER_MS}",
                "sentinel failover-timeout": f"{SERVICE} 2000",
            }
            changes |= {} if have_users else {"sentinel auth-user": None, "sentinel auth-pass": None}
            config = write_shipped(folder / f"sentinel-{port}.conf", SENTINEL, changes)
            log = folder / f"sentinel-{port}.log"
            processes.append(subprocess.Popen([binary, config, "--sentinel", "--logfile", log]))
        until(
            lambda: all(_is_ready(port, password, count - 1, replicas) for port in ports),
            "sentinels that find each other, and the replicas",
        )
        yield f"{','.join(f'127.0.0.1:{port}' for port in ports)}/{SERVICE}"
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(PATIENCE_S)


def _is_ready(port: int, password: str, others: int, replicas: int) -> bool:
    """Whether a sentinel has found all others, and the replicas."""
    with redis.Redis(port=port, password=password or None, decode_responses=True) as client:
        try:
            state: Any = client.sentinel_master(SERVICE)
            return (int(state["num-other-sentinels"]), int(state["num-slaves"])) == (others, replicas)
        except redis.RedisError:
            return False
