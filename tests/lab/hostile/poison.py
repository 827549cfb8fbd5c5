"""Ids and keys that look like names of Redis's keys, in every field that a client controls.

1. Plant plain names in one service, and as many poisoned ones in another, in the same way.
2. In each: rebuild everything, sweep ended locks, compare and repair, delete users, export.
3. Print both beside each other. With poison a rebuild may take 5 s more; nothing may differ, no answer may be a 5xx, no
   key may be there that no part of the service writes, and the worker may not begin again.
"""

import argparse
import contextlib
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote

import httpx
import msgspec

from loadtests.figures import markdown
from loadtests.own import own_service
from service.engine.domain.field_types import canonicalize_code, is_caller_id
from service.engine.formats import key_names
from tests.harness.comparing import compare
from tests.harness.service_fixture import Service, ok
from tests.harness.waiting import until

A_BATCH, AT_ONCE = 1000, 16
LOCKED, DELETED, KEYS = 0.005, 20, 50
MORE_S = 5.0
_SEPARATORS = ": :: :*: {p0}: {p0}:w1: w1: { } * [a-z]* | , = @. ! - ~ ^".split()
_NUMBERS = ["0", "1", "5", "131071", "131072", "01"]
_FAULTS = re.compile(r'"event": "(?:task_failed|partition_stopped|script_failed|redis_error|event_quarantined)"[^\n]*')


class PoisonRow(msgspec.Struct):
    """What came of one service."""

    names: int = 0
    planted_s: float = 0
    open_s: float = 0
    swept: int = 0
    drift: dict[str, int] = {}
    deleted_s: float = 0
    exported: int = 0
    failed: int = 0
    strays: int = 0
    restarts: int = 0

    @property
    def is_clean(self) -> bool:
        return not (self.drift or self.failed or self.strays or self.restarts)


def poisoned(seed: int) -> Iterator[str]:
    """Ids of all kinds of keys and separators: each kind between each two, then any of them in any order."""
    rng, pieces = random.Random(seed), [*key_names.TYPES, *key_names.OWN, *_SEPARATORS, *_NUMBERS]
    seen = set[str]()
    for kind in [*key_names.TYPES, *key_names.OWN]:
        for before in ["a", *_SEPARATORS]:
            for after in ["b", "5", "1:u", *_SEPARATORS]:
                name = f"{before}:{kind}:{after}"
                if is_caller_id(name) and name not in seen:
                    seen.add(name)
                    yield name
    while True:
        name = "".join(rng.choice(pieces) for _ in range(rng.randint(2, 12)))[:100]
        if is_caller_id(name) and name not in seen:
            seen.add(name)
            yield name


def plain(seed: int) -> Iterator[str]:
    """Ids that look like nothing else, about as long."""
    number = seed * 10_000_000
    while True:
        number += 1
        yield f"customer-{number:012d}"


def codes_like(names: Sequence[str]) -> list[str]:
    """As many codes, of the names' letters."""
    codes: dict[str, None] = {}
    for place, name in enumerate(names):
        code = re.sub(r"[^A-Z0-9]+", "-", name.upper())[:48] + f"-{place:X}"
        codes[code if canonicalize_code(code) else f"CODE-{place:X}"] = None
    return list(codes)


class Plant:
    """A service in which these names are whatever a client may name."""

    def __init__(self, service: Service, names: Sequence[str]) -> None:
        self.service, self.names = service, names
        self.row, self.statuses = PoisonRow(names=len(names)), Counter[int]()
        for client in (service.checkout, service.manage, service.operate):
            client.timeout = httpx.Timeout(600)
            client.event_hooks["response"].append(lambda answer: self.statuses.update([answer.status_code]))

    def run(self) -> PoisonRow:
        began = time.monotonic()
        self._plant()
        self._recorded()
        self.row.planted_s = time.monotonic() - began
        self._rebuild()
        self._sweep()
        self._reconcile()
        self._delete()
        self._export()
        with self.service.redis() as redis:
            self.row.strays = sum(key_names.parse_key(name) is None for name in redis.scan_iter(count=5000))
        log = self.service.run.output.read_text()
        # One opening when it starts, one for the rebuild, and none for the worker that takes over.
        self.row.restarts = len(_FAULTS.findall(log)) + log.count('"event": "redis_unverified"') - 1
        self.row.failed = sum(count for status, count in self.statuses.items() if status >= 500)
        return self.row

    def _plant(self) -> None:
        buy, manage, names = self.service.checkout, self.service.manage, self.names
        words = {"tags": [name[:30] for name in names[:20]], "metadata": {name: name for name in names[:20]}}
        self.codes = codes_like(names)
        self.book = self.service.book(name=names[0], description=" ".join(names[:15]), **words)
        upload = "code\n" + "\n".join(self.codes) + "\n"
        kind = {"Content-Type": "text/csv"}
        added = ok(manage.post(f"/v1/books/{self.book}/codes", content=upload, headers=kind))
        assert added["added"] == len(self.codes), added
        for start in range(0, len(names), A_BATCH):
            page = list(zip(self.codes, names, strict=True))[start : start + A_BATCH]
            operations = [self._operation(place, code, name) for place, (code, name) in enumerate(page)]
            answer = buy.post("/v1/batch", json={"operations": operations}, headers={"Idempotency-Key": page[0][1]})
            bad = [one for one in ok(answer)["results"] if one["status"] not in (200, 201)]
            assert not bad, bad[:3]

        def create(name: str) -> None:
            headers = {"Idempotency-Key": f"{name}:l:1:u {name}"[:255]}
            self._made(manage.post("/v1/users", json={"userId": name, "metadata": {name: name}}, headers=headers))

        with ThreadPoolExecutor(AT_ONCE) as threads:
            deque(threads.map(create, names), maxlen=0)  # raises what any raised
        for name in names[-KEYS:]:
            self._made(manage.post("/v1/keys", json={"name": name, "scopes": ["public"]}))

    def _operation(self, place: int, code: str, name: str) -> dict[str, Any]:
        """Nearly all redeem, with the name as user, order and metadata; each tenth is assigned."""
        if place % 10 == 9:
            return {"op": "assign", "code": code, "userId": name}
        return {"op": "redeem", "code": code, "userId": name, "orderId": name, "metadata": {name[:50]: name}}

    def _made(self, answer: httpx.Response) -> None:
        assert answer.status_code in (200, 201, 403), answer.text

    def _recorded(self) -> None:
        until(lambda: ok(self.service.operate.get("/v1/ops/consistency"))["lagEvents"] == 0, patience_s=600)

    def _rebuild(self) -> None:
        began = time.monotonic()
        env = os.environ | {"DATABASE_URL": self.service.run.facts["databaseUrl"]}
        command = [sys.executable, "-m", "service", "rebuild"]
        subprocess.run(command, env=env, check=True, capture_output=True, timeout=600)
        until(self.service.run.ready)
        self.row.open_s = time.monotonic() - began

    def _sweep(self) -> None:
        """Locks that end are swept by a worker that begins."""
        buy, few = self.service.checkout, max(20, int(len(self.names) * LOCKED))
        codes = [f"HELD-{place:X}" for place in range(few)]
        ok(self.service.manage.post(f"/v1/books/{self.book}/codes", json={"codes": codes}))
        for start in range(0, few, A_BATCH):
            page = list(zip(codes, self.names, strict=False))[start : start + A_BATCH]
            operations = [
                {"op": "lock", "code": code, "userId": name, "orderId": f"{name}:l:1:u"[:100], "lockSeconds": 1}
                for code, name in page
            ]
            results = ok(buy.post("/v1/batch", json={"operations": operations}))["results"]
            assert {one["status"] for one in results} == {201}
        time.sleep(1.5)
        self.service.run.kill("worker", signal.SIGTERM)
        swept = re.compile(r'"coupons": (\d+).*?"event": "locks_swept"|"event": "locks_swept".*?"coupons": (\d+)')
        match = until(lambda: swept.search(self.service.run.output.read_text()))
        self.row.swept = int(match[1] or match[2])

    def _reconcile(self) -> None:
        self._recorded()
        outcome, _ = compare(self.service, repair=True)
        self.row.drift = {str(class_): count for class_, count in outcome.differing.items()}
        if outcome.unsettled:
            self.row.drift["unsettled"] = outcome.unsettled

    def _delete(self) -> None:
        began = time.monotonic()
        for name in self.names[:DELETED]:
            answer = self.service.manage.delete(f"/v1/users/{quote(name, safe='')}")
            assert answer.status_code == 204, (name, answer.text)
        self.row.deleted_s = time.monotonic() - began
        self._recorded()
        classes = compare(self.service)[0].differing
        self.row.drift |= {f"{class_} after deleting": count for class_, count in classes.items()}

    def _export(self) -> None:
        for path in ("codes.csv", "redemptions.csv"):
            answer = self.service.manage.get(f"/v1/books/{self.book}/{path}")
            self.row.exported += answer.text.count("\r\n") - 1


def format_rows(rows: dict[str, PoisonRow]) -> str:
    names = list(PoisonRow.__struct_fields__)
    lines = []
    for what, row in rows.items():
        values = [getattr(row, name) for name in names]
        lines.append([what, *(f"{value:.1f}" if isinstance(value, float) else str(value or 0) for value in values)])
    return markdown(["", *names], lines)


def main() -> int:
    """0 where poison makes no difference."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--names", type=int, default=100_000)
    options.add_argument("--seed", type=int, default=1)
    asked = options.parse_args()
    rows: dict[str, PoisonRow] = {}
    for what, names in (("plain", plain(asked.seed)), ("poisoned", poisoned(asked.seed))):
        with own_service() as run, contextlib.closing(Service(run)) as service:
            rows[what] = Plant(service, [next(names) for _ in range(asked.names)]).run()
    print(format_rows(rows))
    later_s = rows["poisoned"].open_s - rows["plain"].open_s
    print(f"Seed {asked.seed}. With poison a rebuild takes {later_s:.1f} s more.")
    return int(later_s > MORE_S or not rows["poisoned"].is_clean)
