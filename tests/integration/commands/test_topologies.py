"""docs/redis-with-replicas.md: from one Redis to sentinels, then to a cluster, with the files of deploy/redis."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from service.server.embedded.postgres import Postgres
from tests.harness.cluster import CLUSTERED_PARTITIONS, start_cluster
from tests.harness.commands import scrip, succeeded
from tests.harness.restricted import PASSWORDS, acl_lines
from tests.harness.running import data_folder
from tests.harness.sentinels import start_sentinels
from tests.harness.servers import VALKEY, free_port, started_postgres
from tests.harness.service_fixture import ok
from tests.harness.shipped import SERVER, write_shipped
from tests.harness.trees import ROOT
from tests.harness.waiting import PATIENCE_S, until


class Server:
    """A Redis with the settings and users of deploy/, which can be killed and started again."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.port = free_port()
        place = folder / str(self.port)
        place.mkdir()
        changes = {"port": str(self.port), "dir": str(place), "aclfile": str(_write_users(place))}
        self._command = [VALKEY, write_shipped(place / "redis.conf", SERVER, changes), "--logfile", "log", *options]
        self.client = redis.Redis(
            port=self.port, username="tests", password=PASSWORDS["tests"], retry=Retry(NoBackoff(), 0)
        )
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(self._command)
        until(self.client.ping, "a Redis", away=(redis.RedisError,))

    def end(self) -> None:
        self.process.kill()
        self.process.wait(PATIENCE_S)
        self.client.close()

    @property
    def leads(self) -> bool:
        return self.client.info("replication")["role"] == "master"

    @property
    def follows(self) -> bool:
        info: dict[str, Any] = self.client.info("replication")
        return info.get("master_link_status") == "up"


class Place:
    """A Postgres, an API and a worker, which can be moved to another Redis."""

    def __init__(self, folder: Path, database_url: str) -> None:
        self._folder, self._database_url, self._port = folder, database_url, free_port()
        self._processes: list[subprocess.Popen[bytes]] = []
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self._port}", timeout=PATIENCE_S)

    def start(self, form: str, hosts: str) -> None:
        for name in ("worker", "api"):
            url = f"{form}://scrip-{name}:{PASSWORDS[name]}@{hosts}"
            env = os.environ | {"REDIS_URL": url, "DATABASE_URL": self._database_url, "SCRIP_PORT": str(self._port)}
            with (self._folder / "output").open("ab") as output:
                command = [sys.executable, "-m", "service", name]
                self._processes.append(subprocess.Popen(command, cwd=ROOT, env=env, stdout=output, stderr=output))
        until(self._is_ready, "a service that is ready")

    def end(self) -> None:
        for process in self._processes:
            process.terminate()
        while self._processes:
            self._processes.pop().wait(PATIENCE_S)

    def _is_ready(self) -> bool:
        with contextlib.suppress(httpx.HTTPError):
            answer = self.client.get("/health/ready")
            return answer.is_success and answer.json()["failing"] == []
        return False

    def redeem(self, code: str) -> None:
        """Redeem a code, after a failover perhaps later; the answer is recorded."""

        def redeemed() -> bool:
            headers = {"Prefer": "durability=recorded, wait=10"}
            answer = self.client.post(f"/v1/coupons/redeem/{code}", json={"userId": "ann"}, headers=headers)
            return answer.status_code == 201 and answer.json()["durability"] == "recorded"

        until(redeemed, "a redemption")


def _write_users(folder: Path) -> Path:
    users = folder / "users.acl"
    users.write_text("\n".join(acl_lines()) + "\n")
    return users


@pytest.fixture
def place() -> Iterator[Place]:
    with data_folder() as folder, contextlib.ExitStack() as stack:
        postgres = Postgres(folder)
        stack.enter_context(started_postgres(postgres))
        owner = {"DATABASE_URL": postgres.url}
        succeeded(scrip("migrate", "--partitions", str(CLUSTERED_PARTITIONS), **owner))
        succeeded(scrip("workspaces", "create", "shop", **owner))
        made = Place(folder, postgres.url)
        stack.callback(made.end)
        key = scrip("keys", "create", "shop", "all", "--scope", "manage", "--scope", "checkout", **owner).output.strip()
        made.client.headers["Authorization"] = f"Bearer {key}"
        yield made


def test_moves(place: Place, tmp_path: Path) -> None:
    """From one Redis to sentinels, through a failover, and to a cluster: what was sold is sold everywhere."""
    with contextlib.ExitStack() as stack:
        first = Server(tmp_path)
        stack.callback(first.end)
        place.start("redis", f"127.0.0.1:{first.port}/0")
        book = ok(place.client.post("/v1/books", json={"name": "Sale"}), 201)["bookId"]
        codes = ["SOLD-1", "SOLD-2", "SOLD-3", "SOLD-4"]
        ok(place.client.post(f"/v1/books/{book}/codes", json={"codes": codes}))
        place.redeem("SOLD-1")

        replica = Server(tmp_path, "--replicaof", "127.0.0.1", str(first.port))
        stack.callback(replica.end)
        until(lambda: replica.follows, "a replica")
        password = PASSWORDS["sentinel"]
        sentinels = start_sentinels(VALKEY, tmp_path, first.port, 3, password, replicas=1, have_users=True)
        hosts = stack.enter_context(sentinels)
        place.end()
        place.start("redis+sentinel", f"{hosts}?sentinel_password={password}")
        place.redeem("SOLD-2")

        first.end()
        until(lambda: replica.leads, "a failover", away=(redis.RedisError,))  # a sentinel ends its connections
        place.redeem("SOLD-3")
        first.start()
        # Where the machine stands still for a second, the sentinels choose the old primary once more.
        one_follows = "one that follows the other"
        until(lambda: first.follows or replica.follows, one_follows, away=(redis.RedisError,))

        place.end()
        users = ("--aclfile", str(_write_users(tmp_path)), "--appendonly", "yes", "--appendfsync", "always")
        users += ("--masteruser", "scrip-replica", "--masterauth", PASSWORDS["replica"])
        cluster = stack.enter_context(
            start_cluster(VALKEY, tmp_path, *users, user="tests", password=PASSWORDS["tests"])
        )
        place.start("redis+cluster", ",".join(f"127.0.0.1:{node.port}" for node in cluster.nodes))
        place.redeem("SOLD-4")
        assert {ok(place.client.get(f"/v1/coupons/{code}"))["status"] for code in codes} == {"redeemed"}
        place.end()
