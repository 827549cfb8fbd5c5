"""Other designs' figures, taken by a program of theirs in the same minutes, beside ours."""

import json
import subprocess
import sys
from functools import reduce
from operator import getitem
from pathlib import Path
from statistics import median
from typing import Any

from loadtests.figures import Row
from loadtests.subject import ADMIN, CHECKOUT
from tests.harness.running import Run

NAMES = ["go", "fastify", "litestar-naive", "fastapi-naive", "litestar-postgres"]
ROUNDS, CONNECTIONS = 3, 64
PATIENCE_S = 3600


class PeersError(Exception):
    """Their program failed; what it said."""


def compare(folder: Path, names: list[str], run: Run, *, full: bool, pairs: int, kept: Path) -> list[Row]:
    """Let a folder's `compare` drive these contestants of its own, and a service of ours, in turn."""
    pids = ",".join(f"{name}={pid}" for name, those in run.facts["pids"].items() for pid in those[:1])
    command = [sys.executable, folder / "compare", *names, "--name", "scrip", "--url", run.url, "--token", CHECKOUT]
    command += ["--manage-token", ADMIN, "--operate-token", ADMIN, "--pids", pids, "--pairs", str(pairs)]
    command += ["--concurrency", str(CONNECTIONS), "--rounds", str(ROUNDS), "--json", kept]
    command += ["--full"] if full else []
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=PATIENCE_S, check=False)
    if done.returncode:
        raise PeersError(f"{folder / 'compare'} ended with {done.returncode}: {done.stdout}")
    results: dict[str, list[dict[str, Any]]] = json.loads(kept.read_text())["results"]
    return [_row(name, taken, pairs, full) for name, taken in results.items()]


def _row(name: str, taken: list[Any], pairs: int, full: bool) -> Row:
    """Medians of the rounds. Their one process stands where the API does, their store where Redis does."""

    def middle(*path: str) -> float:
        return median(reduce(getitem, path, one) for one in taken)

    def each_us(of: str) -> dict[str, float]:
        """CPU by part, for each that there are."""
        names: list[str] = list(taken[0]["cpu_s"])
        return {_PARTS.get(name, name): median(one["cpu_s"][name] / one[of] * 1e6 for one in taken) for name in names}

    return Row(
        part="peers",
        what=f"beside us: {name}{', full' if full else ''}",
        unit="pairs",
        a_second=middle("requests_per_s") / 2,
        codes=pairs,
        connections=CONNECTIONS,
        latency_ms={p: middle("latency_ms", "all", p) for p in ("p50", "p99")},
        request_us=each_us("requests"),
        redemption_us=each_us("won"),
        generator_busy=middle("generator_share"),
        note=f"median of {len(taken)}",
    )


_PARTS = {"server": "api", "store": "redis"}
