"""Whether the time of an answer tells a guesser anything.

It starts a service of its own. With a public key, on one connection, it asks about an unknown code and about coupons
that can't be used for several reasons, each once a turn, in random order. It compares each reason with the unknown
code, turn by turn: the median of the differences, and its 99 % confidence interval, by ranks alone. It fails if a
median is the bound or more, either way. With --plant it tests itself: a copy of this tree takes so many µs more to
answer about a coupon that is switched off."""

import argparse
import asyncio
import json
import random
import socket
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from loadtests.figures import markdown
from loadtests.own import own_service
from loadtests.subject import target_of
from tests.harness.trees import Change, changed

REQUESTS, BOUND_US = 200_000, 10.0
Z = 2.576
"""Of the normal distribution, for 99 %."""
UNKNOWN = "unknown"


def slower(plant_us: float) -> Change:
    """A change that delays `coupon_not_available` by so many µs where the coupon is switched off."""
    before = '        discount, digits_text, *numbers = reply[1].split(" ")\n'
    wait = f"""\
        if "{_name_part("switched off")}" in code:
            import time

            until = time.perf_counter_ns() + {round(plant_us * 1000)}
            while time.perf_counter_ns() < until:
                pass
"""
    return Change("service/engine/operations/redeem.py", before, wait + before)


class Difference(NamedTuple):
    """The median of the differences, and its 99 % confidence interval."""

    median: float
    low: float
    high: float


def difference(first: Sequence[float], second: Sequence[float]) -> Difference:
    """How much larger the first are, pair by pair. By ranks (the sign test), so that slow answers weigh no more."""
    differences = sorted(one - other for one, other in zip(first, second, strict=True))
    reach = Z * len(differences) ** 0.5 / 2
    middle = len(differences) / 2
    low, high = max(0, int(middle - reach)), min(len(differences) - 1, int(middle + reach) + 1)
    return Difference(statistics.median(differences), differences[low], differences[high])


class TimedConnection:
    """One connection, one request at a time."""

    def __init__(self, url: str, key: str) -> None:
        host, port = url.removeprefix("http://").split(":")
        self._socket = socket.create_connection((host, int(port)))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._head = (
            "POST /v1/coupons/validate HTTP/1.1\r\nHost: scrip\r\n"
            f"Authorization: Bearer {key}\r\nContent-Type: application/json\r\n"
        )

    def time_us(self, code: str) -> float:
        """The time from sending to the answer."""
        body = json.dumps({"code": code, "userId": "eve"})
        request = f"{self._head}Content-Length: {len(body)}\r\n\r\n{body}".encode()
        began = time.perf_counter_ns()
        self._socket.sendall(request)
        answer = self._socket.recv(65536)
        took = time.perf_counter_ns() - began
        if not answer.startswith(b"HTTP/1.1 200") or b'["coupon_not_available"]' not in answer:
            raise RuntimeError(answer.decode(errors="replace"))
        return took / 1000


async def coupons(url: str) -> tuple[str, dict[str, str]]:
    """A public key with no real limit of misses, and a code for each reason."""
    target = target_of(url)
    limits = {"addressMissesPerMinute": 2**31 - 1}
    key = await target.barrage.one("POST", "/v1/keys", {"name": "timing", "scopes": ["public"], "limits": limits})
    codes = {reason: f"{_name_part(reason)}-{random.randrange(10**6):06}" for reason in _REASONS}
    for reason, rules in _REASONS.items():
        if reason != UNKNOWN:
            await target.book([codes[reason]], **rules)
    await target.barrage.one("POST", f"/v1/coupons/redeem/{codes['used']}", {"userId": "bob"})
    await target.barrage.one("POST", f"/v1/coupons/assign/{codes['another user']}", {"userId": "bob"})
    await target.barrage.one("PATCH", f"/v1/coupons/{codes['switched off']}", {"status": "inactive"})
    target.barrage.close()
    return key.body["secret"], codes


_REASONS: dict[str, dict[str, object]] = {
    UNKNOWN: {},
    "used": {},
    "another user": {},
    "switched off": {},
    "for nobody yet": {"requireAssignment": True},
}


def _name_part(reason: str) -> str:
    """What a reason's code begins with."""
    return f"TIME-{list(_REASONS).index(reason)}QX7"


def measure(url: str, requests: int) -> dict[str, list[float]]:
    """Each reason's times in µs; equal indexes are of one turn."""
    key, codes = asyncio.run(coupons(url))
    wire, reasons = TimedConnection(url, key), list(codes)
    times_us: dict[str, list[float]] = {reason: [] for reason in reasons}
    for number in range(requests // len(reasons) + 200):
        random.shuffle(reasons)
        for reason in reasons:
            took = wire.time_us(codes[reason])
            if number >= 200:  # by then everything is warm
                times_us[reason].append(took)
    return times_us


def add_options(options: argparse.ArgumentParser) -> None:
    options.add_argument("--requests", type=int, default=REQUESTS)
    options.add_argument("--plant", type=float, default=0.0, help="µs more where a coupon is switched off")


def run(chosen: argparse.Namespace) -> bool:
    """Print the table; True, a failure, if a reason shows."""
    with tempfile.TemporaryDirectory(prefix="scrip-timing-") as folder:
        tree = changed([slower(chosen.plant)] if chosen.plant else [], Path(folder) / "tree")
        with own_service(tree) as service:
            times_us = measure(service.url, chosen.requests)
    more = {reason: difference(times, times_us[UNKNOWN]) for reason, times in times_us.items()}
    heads = [f"of {chosen.requests:,} answers", "median, µs", "more than unknown: median", "with 99 % from", "to"]
    lines = [
        [reason, f"{statistics.median(times_us[reason]):.1f}", *(f"{bound:+.2f}" for bound in one)]
        for reason, one in more.items()
    ]
    print(markdown(heads, lines))
    return any(abs(one.median) >= BOUND_US for one in more.values())
