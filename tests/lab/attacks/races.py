"""For each limit, hundreds of requests at once that want more than it allows.

It starts a service of its own, or takes one at `--url`; there it changes the workspace's `couponsPerOrder` for a
moment, so that should be a workspace for tests. It prints a table, and fails where anything isn't as it should be."""

import argparse
import asyncio
from collections import Counter

from rich.console import Console
from rich.progress import track

from loadtests.own import own_service
from loadtests.target import Counts, Target
from loadtests.wire import Barrage
from tests.lab.attacks.race_rounds import RACES


def text(counts: Counts) -> str:
    """`201 × 5, 409 coupon_exhausted × 495; redemptions 5`: answers in order, then the state."""
    answers = [f"{name} × {many}" for name, many in sorted(counts.items()) if name[0].isdecimal()]
    state = [f"{name} {value}" for name, value in sorted(counts.items()) if not name[0].isdecimal()]
    return "; ".join(", ".join(part) for part in (answers, state) if part)


async def run(url: str, key: str, at_once: int, rounds: int) -> bool:
    """All races, so many rounds each, and their table; whether everything was as it should be."""
    barrage, lines, right = Barrage(url, key), list[str](), True
    on = Target(barrage, at_once)
    for each in track(RACES, f"{at_once} at once, {rounds} rounds", console=Console(stderr=True)):
        checks = [await each.round(on) for _ in range(rounds)]
        right = right and all(check.seen == check.expected for check in checks)
        seen = Counter(text(check.seen) for check in checks)
        summary = "<br>".join(f"{many} of {rounds}: {what}" for what, many in seen.most_common())
        lines.append(f"| {each.limit} | {each.asked} | {text(checks[0].expected)} | {summary} |")
    barrage.close()
    print(f"| limit | {at_once} at once | expected each round | seen, rounds |\n|---|---|---|---|", *lines, sep="\n")
    return right


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--url", help="of a running service; without it one is started for this")
    options.add_argument("--key", default="demo_admin", help="an API key with all scopes")
    options.add_argument("--at-once", type=int, default=500)
    options.add_argument("--rounds", type=int, default=20)
    chosen = options.parse_args()
    if chosen.url:
        return not asyncio.run(run(chosen.url, chosen.key, chosen.at_once, chosen.rounds))
    with own_service() as service:
        return not asyncio.run(run(service.url, chosen.key, chosen.at_once, chosen.rounds))
