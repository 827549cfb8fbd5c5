"""Requests, failures and latencies of a load, second by second, out of its ledger: what plots are drawn of."""

import csv
from collections import defaultdict
from pathlib import Path

from loadtests.plan import Plan
from loadtests.tables import Tables

WINDOW_S = 10
"""Of which latencies are told."""
_HEAD = ("Timestamp", "User Count", "Name", "Requests/s", "Failures/s", "50%", "95%", "99%")
_ANSWERS = """SELECT CAST(answered_ms / 1000 AS INTEGER) AS second, answered_ms - sent_ms,
  NOT wanted OR status IN (0, 503)
FROM answers WHERE who <> '' ORDER BY second"""


def write_history(folder: Path, tables: Tables, plan: Plan) -> None:
    """Write load_stats_history.csv."""
    seconds: dict[int, list[tuple[float, bool]]] = defaultdict(list)
    for second, took_ms, failed in tables.query(_ANSWERS):
        seconds[second].append((took_ms, failed))
    with (folder / "load_stats_history.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(_HEAD)
        for second in range(min(seconds, default=0), max(seconds, default=-1) + 1):
            users = min(plan.users, round((second - min(seconds) + 1) * plan.rate))
            window = sorted(took for at in range(second - WINDOW_S + 1, second + 1) for took, _ in seconds.get(at, ()))
            latencies = [
                round(window[int(share * (len(window) - 1))]) if window else "N/A" for share in (0.5, 0.95, 0.99)
            ]
            failures = sum(failed for _, failed in seconds.get(second, ()))
            rows.writerow((second, users, "Aggregated", len(seconds.get(second, ())), failures, *latencies))
