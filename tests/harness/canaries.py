"""Canaries: codes, keys and tokens that go through every path of a service, crashes included, and are then looked for
in all that it and its servers wrote. `make lab PART=canaries` sends 100,000."""

import asyncio
import contextlib
import os
import re
import secrets
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import httpx
import redis

from service.engine.formats.key_names import bucket
from tests.harness.service_fixture import Service, ok
from tests.harness.waiting import PATIENCE_S, until

MARK = "CNRY"
_CANARY = re.compile(rb"(?i)CNRY[-A-Z0-9]{3,}")
"""More than a masked code may show: the mark and any of what follows it."""
_LETTERS = "23456789ABCDEFGHJKLMNPQRSTUVWXYZ"
_A_BATCH = 1000
_SQL = "INSERT INTO single_uses SELECT workspace, unnest($1::text[]), $2 FROM workspaces WHERE name = 'demo'"


def canary() -> str:
    """A new code, key or token."""
    return MARK + "".join(secrets.choice(_LETTERS) for _ in range(12))


class Canaries:
    """Canaries in a service of our own, and what it wrote."""

    def __init__(self, service: Service, codes: int) -> None:
        self.service = service
        self.codes = [canary() for _ in range(max(codes, 200))]
        self.sent = len(self.codes)
        self.bodies: list[bytes] = []
        """Of answers of 5xx."""

    def send(self) -> None:
        """Through every path there is."""
        self._upload()
        self._every_route()
        self._live(self.codes[100:])
        broken, poisoned = self.codes[:20], self.codes[20:40]
        self._break_scripts(broken)
        self._poison(poisoned)
        for part, number in (
            ("redis", signal.SIGSEGV), ("worker", signal.SIGKILL), ("api", signal.SIGKILL),
            ("postgres", signal.SIGQUIT), ("redis", signal.SIGKILL), ("postgres", signal.SIGKILL),
        ):  # fmt: skip
            self._crash(part, number)

    def find_canaries(self) -> Iterator[tuple[str, bytes]]:
        """Where one is written, and what is."""
        for place, text in self.written():
            for canary in _CANARY.findall(text):
                yield place, canary

    def _upload(self) -> None:
        service, half = self.service, len(self.codes) // 2
        self.book = service.book()
        path = f"/v1/books/{self.book}/codes"
        for start in range(0, half, 100_000):
            ok(service.manage.post(path, json={"codes": self.codes[start : min(start + 100_000, half)]}, timeout=600))
        text = "code\n" + "\n".join(self.codes[half:]) + "\n"
        ok(service.manage.post(path, content=text, headers={"Content-Type": "text/csv"}, timeout=600))
        for body, kind in (
            (f"colour,{canary()}\n{canary()}\n", "text/csv"), (f"{canary()}!\n{self.codes[0]}\n" * 3, "text/plain"),
            (f'"{canary()}\n', "text/csv"), (f'{{"codes": ["{canary()}"', "application/json"),
            (f'{{"codes": [{{"{canary()}": 1}}]}}', "application/json"),
        ):  # fmt: skip
            self._record(service.manage.post(path, content=body, headers={"Content-Type": kind}))

    def _every_route(self) -> None:
        """Each address with canaries in all its values: once with valid ones, once with invalid ones."""
        service = self.service
        document = service.anonymous.get("/schema/openapi.json").json()
        for path, operations in document["paths"].items():
            for method in operations:
                if method not in {"get", "post", "patch", "delete", "put"} or path.startswith("/v1/test"):
                    continue
                for filled in (re.sub(r"\{\w+\}", lambda _: canary(), path), re.sub(r"\{\w+\}", self.codes[50], path)):
                    self._ask(method, filled)
        for key in (canary(), f"scrip_live_{canary()}", f"demo_{canary()}", f"{canary()}.{canary()}.{canary()}"):
            client = service.client(key)
            self._record(client.get("/v1/books"))
            self._record(client.post(f"/v1/coupons/redeem/{self.codes[51]}", json={"userId": "u"}))

    def _ask(self, method: str, path: str) -> None:
        """Bodies that can't be read, or name what there isn't."""
        client = self.service.admin
        self._record(client.request(method, f"{path}?{canary()}={canary()}"))
        if method in {"post", "patch", "put"}:
            headers = {"Idempotency-Key": canary(), "Prefer": f"durability=recorded, wait=1, {canary()}"}
            for body in (
                {canary(): canary()},
                {"code": canary(), "userId": "u", "lockToken": canary(), "orderId": canary()},
                {"code": self.codes[52], "userId": "u"},
                {"userId": "u", "lockToken": canary()},
                {"userId": "u", "orderValue": canary(), "metadata": {"a": canary()}},
            ):
                self._record(client.request(method, path, json=body, headers=headers))
            self._record(client.request(method, path, content=f'{{"code": "{canary()}'))
        else:
            self._record(client.request(method, path))

    def _live(self, codes: Sequence[str]) -> None:
        """What a coupon can live through, one by one for some, in batches for all."""
        checkout, manage = self.service.checkout, self.service.manage
        for code in codes[:50]:
            body = {"userId": f"u{code[-6:]}", "orderId": f"o{code[-6:]}"}
            self._record(checkout.get(f"/v1/coupons/{code}"))
            self._record(checkout.post("/v1/coupons/validate", json={"code": code}))
            self._record(checkout.get(f"/v1/coupons/{code}/validate"))
            token = ok(checkout.post(f"/v1/coupons/lock/{code}", json=body), 201)["lockToken"]
            self._record(checkout.post(f"/v1/coupons/redeem/{code}", json={"userId": "another"}))
            self._record(checkout.post(f"/v1/coupons/extend/{code}", json={"lockToken": token}))
            self._record(checkout.post(f"/v1/coupons/redeem/{code}", json=body | {"lockToken": canary()}))
            redeemed = ok(checkout.post(f"/v1/coupons/redeem/{code}", json=body | {"lockToken": token}), 201)
            self._record(manage.post(f"/v1/redemptions/{redeemed['redemptionId']}/rollback", json={"reason": code}))
            self._record(checkout.post(f"/v1/coupons/assign/{code}", json={"userId": body["userId"]}))
            self._record(manage.post(f"/v1/coupons/unassign/{code}", json={}))
            self._record(manage.patch(f"/v1/coupons/{code}", json={"status": "inactive"}))
        for start in range(50, len(codes), _A_BATCH):
            some = codes[start : start + _A_BATCH]
            for op in ("lock", "redeem"):
                asked = [{"op": op, "code": code, "userId": f"u{code[-6:]}"} for code in some]
                ok(checkout.post("/v1/batch", json={"operations": asked}, timeout=120))
        for name in ("codes", "redemptions"):
            assert codes[0] in manage.get(f"/v1/books/{self.book}/{name}.csv", timeout=600).text

    def _break_scripts(self, codes: Sequence[str]) -> None:
        """Records that no script can read, of codes whose entries say that they have one."""
        with self.service.redis() as server:
            one = self.codes[100]
            buckets = server.scan_iter(match=f"*:d:{bucket(one)}", count=10_000)
            (place,) = [name.rpartition("d:")[0] for name in buckets if server.hexists(name, one)]
            entries = {code: server.hget(f"{place}d:{bucket(code)}", code) for code in codes}
            for number, code in enumerate(codes):
                name = f"{place}c:{code}"
                server.hset(f"{place}d:{bucket(code)}", code, f"{entries[code]}!")
                server.hset(name, code, code) if number % 2 else server.set(name, f"{code} {code} {code}")
        for code in codes:
            for operation in ("lock", "redeem", "assign"):
                self._record(self.service.checkout.post(f"/v1/coupons/{operation}/{code}", json={"userId": "u"}))
            self._record(self.service.checkout.get(f"/v1/coupons/{code}"))
        with self.service.redis() as server:
            server.delete(*[f"{place}c:{code}" for code in codes])
            for code, entry in entries.items():
                server.hset(f"{place}d:{bucket(code)}", code, entry)

    def _poison(self, codes: Sequence[str]) -> None:
        """Redemptions that Postgres can't take: each says why, and quotes the row, if it may."""
        asyncio.run(self.service.fetch(_SQL, list(codes), "019aa0b2-6f0c-7b52-8a0e-5d1f3d1f9c11"))
        for code in codes:
            self._record(self.service.checkout.post(f"/v1/coupons/redeem/{code}", json={"userId": "u"}))
        count = "SELECT count(*) AS n FROM quarantine"
        until(lambda: asyncio.run(self.service.fetch(count))[0]["n"] >= len(codes))

    def _crash(self, part: str, number: signal.Signals) -> None:
        """Kill it while canaries are on their way."""
        stop, codes = threading.Event(), self.codes[60:90]

        def ask() -> None:
            headers = {"Authorization": "Bearer demo_admin"}
            with httpx.Client(
                base_url=self.service.run.url, headers=headers, verify=False, timeout=PATIENCE_S
            ) as client:
                while not stop.is_set():
                    for code in codes:
                        with contextlib.suppress(httpx.HTTPError):
                            for path in (f"/v1/coupons/lock/{code}", f"/v1/coupons/redeem/{code}?"):
                                self._record(client.post(path, json={"userId": "u"}))
                            self._record(client.get(f"/v1/coupons/{code}/redemptions"))
                        stop.wait(0.01)

        asking = [threading.Thread(target=ask) for _ in range(4)]
        for thread in asking:
            thread.start()
        enough = self.sent + len(codes)
        until(lambda: self.sent >= enough)
        self.service.run.kill(part, number)
        until(lambda: self.service.checkout.get("/v1/users/nobody").is_success)
        stop.set()
        for thread in asking:
            thread.join()

    def _record(self, answer: httpx.Response) -> None:
        self.sent += 1
        if answer.status_code >= 500:
            self.bodies.append(answer.content)

    def written(self) -> Iterator[tuple[str, bytes]]:
        """What the service and its servers wrote, by place."""
        run = self.service.run
        logs = sorted(run.data_dir.rglob("*.log"))
        assert {log.name for log in logs} >= {"valkey.log", "postgres.log"}
        for path in [*logs, run.output]:
            yield path.name, path.read_bytes()
        yield "answers of 5xx", b"".join(self.bodies)
        yield "/metrics", self.service.anonymous.get("/metrics").content
        with redis.Redis.from_url(run.facts["redisUrl"]) as server:
            for command in (
                "SLOWLOG GET -1", "COMMANDLOG GET -1 slow", "COMMANDLOG GET -1 large-request",
                "COMMANDLOG GET -1 large-reply", "ACL LOG", "INFO everything", "LATENCY LATEST",
            ):  # fmt: skip
                yield command, repr(server.execute_command(*command.split())).encode()
        rows = asyncio.run(self.service.fetch("SELECT query, application_name FROM pg_stat_activity"))
        yield "pg_stat_activity", repr([tuple(row.values()) for row in rows]).encode()
        urls: dict[str, Any] = {"REDIS_URL": run.facts["redisUrl"], "DATABASE_URL": run.facts["databaseUrl"]}
        doctor = [sys.executable, "-m", "service", "doctor"]
        yield "scrip doctor", subprocess.run(doctor, env=os.environ | urls, capture_output=True, check=False).stdout
