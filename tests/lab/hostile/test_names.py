"""Ids and keys that look like names of Redis's keys stop nothing: no rebuild, sweep, comparison, deletion or export."""

import os
import re
import signal
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from typing import Any
from urllib.parse import quote

import pytest

from loadtests.own import own_service
from service.engine.formats import key_names
from tests.harness.commands import scrip, succeeded
from tests.harness.comparing import compare
from tests.harness.service_fixture import Service, new_code, ok, shared_service
from tests.harness.waiting import until
from tests.lab.hostile.poison import Plant, poisoned

HARD = (
    "a:d:b", "a:d:5", "x:l:1:u", "{p0}:gate", "{p0}:w1:d:7", "w1:l:1:p", ":", "::", "*", "[a-z]*", "-", "l:1:x:u",
    "i:a", "u:b", "c:CODE", "s:", "lu:1:", "{p0}:w1:u:a:d:5", "{p0}:outbox",
)  # fmt: skip
"""What a userId and an orderId may be."""
HARD_KEYS = (*HARD, "a:l:1:u", "x l:1:u", "{p0}:w1:l:1:u b", "d 5 ", "/%?#\\")
"""What an Idempotency-Key may be."""


class Poison:
    """A service in which every id and key of a client is named like a Redis key."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.codes = [new_code() for _ in range(3 * len(HARD))]
        words = {"tags": [name[:30] for name in HARD], "metadata": dict.fromkeys(HARD, "{p0}:w1:d:5")}
        self.book = service.book(*self.codes, name="{p0}:w1:d:5", maxRedemptionsPerUser=9, **words)
        self.failed: list[Any] = []
        self._plant()

    def _plant(self) -> None:
        buy, manage = self.service.checkout, self.service.manage
        for place, name in enumerate(HARD):
            one, other, third = self.codes[3 * place : 3 * place + 3]
            body = {"userId": name, "orderId": name, "metadata": {name: name}}
            ok(manage.post("/v1/users", json={"userId": name, "metadata": {name: name}}), 201)
            ok(buy.post(f"/v1/coupons/redeem/{one}", json=body, headers={"Idempotency-Key": name}), 201)
            ok(buy.post(f"/v1/coupons/assign/{other}", json={"userId": name}), 201)
            ok(buy.post(f"/v1/coupons/lock/{third}", json={"userId": name, "orderId": f"{name}:l:1:u"}), 201)
        for key in HARD_KEYS:
            headers = {"Idempotency-Key": f"{key}:l:1:u"}
            assert manage.post("/v1/users", json={"userId": HARD[0]}, headers=headers).is_success

    def log(self) -> str:
        """The service's output."""
        return self.service.run.output.read_text()

    def strays(self) -> list[str]:
        """Names of keys that no part of the service writes."""
        with self.service.redis() as redis:
            return [name for name in redis.scan_iter(count=5000) if key_names.parse_key(name) is None]


@pytest.fixture(scope="module")
def poison() -> Iterator[Poison]:
    """A service of this file's own."""
    with shared_service() as service:
        yield Poison(service)


def rebuilt(service: Service) -> None:
    """Order a rebuild, as an operator does, and wait for it."""
    succeeded(scrip("rebuild", DATABASE_URL=service.run.facts["databaseUrl"]))
    until(lambda: service.checkout.get("/v1/users/nobody").is_success)


def test_planted_names_are_in_their_keys(poison: Poison) -> None:
    """Every Redis key parses as one of the kinds, and has each planted name in its place."""
    with poison.service.redis() as redis:
        held = [key for name in redis.scan_iter(count=5000) if (key := key_names.parse_key(name))]
    assert poison.strays() == []
    users = {key.parts[0] for key in held if key.kind == "u"}
    assert set(HARD) - {"-"} | {"%-"} <= users
    assert set(HARD) | {f"{key}:l:1:u" for key in HARD_KEYS} <= {key.parts[0] for key in held if key.kind == "i"}


def test_a_sweep_forgets_ended_locks_beside_such_names(poison: Poison) -> None:
    """A worker that starts deletes an ended lock from its set beside such names."""
    service = poison.service
    with service.redis() as redis:
        names = [key for name in redis.scan_iter(count=5000) if (key := key_names.parse_key(name)) and key.kind == "l"]
        (due,) = [key for key in names if key.parts[1] == "u" and redis.zcard(key.name) >= len(HARD)]
        members = redis.zrange(due.name, 0, 0)
        # The deadline of one has passed; the code's entry says so, too.
        bucket, code = members[0].split(" ")
        directory = key_names.directory(key_names.prefix(due.partition, due.workspace), bucket)
        words = redis.hget(directory, code).split(" ")
        words[4] = "1"  # after its token, user, order and bucket
        redis.hset(directory, code, " ".join(words))
        redis.zadd(due.name, {members[0]: 1})
    (worker,) = service.run.facts["pids"]["worker"]
    os.kill(worker, signal.SIGTERM)
    service.run.until_replaced("worker", worker)
    with service.redis() as redis:
        until(lambda: redis.zscore(due.name, members[0]) is None)
    assert re.findall(r'"event": "(?:task_failed|redis_unverified|redis_error|script_failed)".*', poison.log()) == []


def test_names_that_look_like_keys_stop_nothing(poison: Poison) -> None:
    """A rebuild opens once, no task fails, the stores do not differ, users are deleted and exports complete."""
    service, before = poison.service, len(poison.log())
    service.recorded()
    stats = service.stats(poison.book)
    rebuilt(service)
    again = service.stats(poison.book)
    assert again == stats | {"locked": 0, "available": stats["available"] + stats["locked"]}
    for name in HARD[: len(HARD) // 2]:
        answer = service.manage.delete(f"/v1/users/{quote(name, safe='')}")
        assert (answer.status_code, answer.text) == (204, ""), name
    service.recorded()
    outcome, report = compare(service, repair=True)
    assert (outcome.differing, outcome.unsettled) == ({}, 0), report
    for path in ("codes.csv", "redemptions.csv"):
        lines = service.manage.get(f"/v1/books/{poison.book}/{path}").text.splitlines()
        assert len(lines) == 1 + (len(poison.codes) if path == "codes.csv" else len(HARD))
    assert poison.strays() == []
    assert re.findall(r'"event": "(?:task_failed|partition_stopped|script_failed|redis_error)".*', poison.log()) == []
    assert poison.log()[before:].count('"event": "redis_unverified"') == service.partitions, (
        "the worker began again more often than it was ordered to"
    )


def test_four_hundred_such_names_stop_nothing() -> None:
    """With names of all separators and kinds of keys in every field, the stores do not differ, no answer is a 5xx, and
    no key is a stray. `make lab PART=hostile` plants 100,000."""
    with own_service() as run, closing(Service(run)) as service:
        row = Plant(service, list(islice(poisoned(7), 400))).run()
    assert row.is_clean, row
    assert (row.swept, row.exported) == (20, 420 + 360), row
