"""Sentinels of Redis or Valkey for tests, each with an end."""

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import redis

from tests.harness.servers import free_port
from tests.harness.waiting import PATIENCE_S, until

SERVICE = "shop"
DOWN_AFTER_MS = 1000
"""A primary that is silent for so long is replaced."""


@contextlib.contextmanager
def start_sentinels(
    binary: Path, folder: Path, primary: int, count: int = 1, password: str = "", replicas: int = 0
) -> Iterator[str]:
    """Start sentinels that watch the primary on a port and its replicas. Yields a URL's part: `host:port,…/service`."""
    ports = [free_port() for _ in range(count)]
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for port in ports:
            config = folder / f"sentinel-{port}.conf"
            config.write_text(f"""port {port}
bind 127.0.0.1
dir {folder}
logfile {folder}/sentinel-{port}.log
{f"requirepass {password}" if password else ""}
sentinel monitor {SERVICE} 127.0.0.1 {primary} {count // 2 + 1}
sentinel down-after-milliseconds {SERVICE} {DOWN_AFTER_MS}
sentinel failover-timeout {SERVICE} 2000
""")
            processes.append(subprocess.Popen([binary, config, "--sentinel"]))
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
