"""One running `scrip run` for all tests of the API, clients for its keys, and what a workspace of it holds."""

import json
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from functools import cached_property
from typing import Any, Literal
from uuid import uuid4

import asyncpg
import httpx
import psutil
import pytest
import redis

from service.engine.domain.figures import Figures
from service.engine.domain.outcomes import BY_CODE
from service.engine.formats import key_names
from service.engine.operations.caller import SCOPES
from service.server.in_redis.key_messages import CHANNEL
from tests.harness.commands import scrip
from tests.harness.restricted import restricted
from tests.harness.running import PARTITIONS, Run, data_folder, run_aside
from tests.harness.servers import free_port
from tests.harness.waiting import PATIENCE_S, until, wait_until
from tests.harness.workspaces import make_workspace

_FIGURES = {*Figures.__struct_encode_fields__}
_PROBLEM = {"type", "title", "status", "detail", "instance", "code", "for", "requestId"}
_DUMPED = "local dumped = {} for i, key in ipairs(KEYS) do dumped[i] = redis.call('DUMP', key) end return dumped"
_WAITING_HELPS = {"coupon_locked", "rate_limited", "too_many_misses", "lock_quota", "key_quota"}


@asynccontextmanager
async def database(url: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection to Postgres, which ends with the block. It may hold a transaction as long as a test waits: Postgres
    ends those of other connections to a service's database after 8 s without a statement."""
    connection = await asyncpg.connect(url, server_settings={"idle_in_transaction_session_timeout": "0"})
    try:
        yield connection
    finally:
        await connection.close()


_OBSERVED = ["reconciled", "traffic_samples"]
"""Tables of what processes observe. They are written a while after requests, also refused ones, and by comparisons of a
whole partition: no test compares them."""
_OF_WORKSPACES = """
SELECT relname FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid
WHERE attname = 'workspace' AND relkind IN ('r', 'p') AND NOT relispartition
  AND relnamespace = 'public'::regnamespace AND relname <> ALL ($1)
"""
_OF_PARTS = {
    "job_results": "JOIN jobs USING (job_id)",
    "webhook_deliveries": "JOIN webhooks USING (webhook)",
}
"""Tables whose rows name their workspace in another table."""
_ROWS = """
SELECT '{0}', md5(string_agg({1}, ',' ORDER BY {1})) FROM {0} AS t {2}
WHERE workspace = $1 AND to_jsonb(t) ->> 'action' IS DISTINCT FROM 'attempts.refused'
"""
"""A background task counts refused attempts in the audit."""
_WRITTEN = "t.xmin::text"
"""The transaction that wrote a row, another one after any change."""
_WITHOUT = {"keys": "(to_jsonb(t) - 'last_used_at')::text", "workspaces": "(to_jsonb(t) - 'storage_used_mib')::text"}
"""In place of it, rows without what background tasks write."""


class Service:
    """A `scrip run`, ready, and the clients of one of its workspaces: `service.manage` sends the key `demo_manage`.

    Other tests and background tasks change `demo` and both stores. A test that compares or lists all of a workspace, or
    changes its settings, makes a workspace of its own, or its file does.
    """

    def __init__(self, run: Run, workspace: str = "demo", clients: dict[str, httpx.Client] | None = None) -> None:
        self.run, self.workspace = run, workspace
        self._clients = {} if clients is None else clients
        self.anonymous = self.client("")
        self.public, self.checkout, self.manage, self.operate, self.admin = (
            self.client(f"{workspace}_{key}") for key in (*SCOPES, "admin")
        )
        self.rival_checkout, self.rival_manage = self.client("rival_checkout"), self.client("rival_manage")
        self.trial = self.client("trial_admin")
        """Its key is of a test workspace, which shared_service makes."""

    def client(self, key: str) -> httpx.Client:
        """Return a client that sends this key. Without `verify=False` it would read all certificates: 50 ms of CPU."""
        if key not in self._clients:
            headers = {"Authorization": f"Bearer {key}"} if key else {}
            self._clients[key] = httpx.Client(base_url=self.run.url, headers=headers, timeout=PATIENCE_S, verify=False)
        return self._clients[key]

    @cached_property
    def partitions(self) -> int:
        """How many partitions its database has."""
        return run_aside(self.fetch("SELECT count(*) FROM partitions"))[0][0]

    @cached_property
    def _place(self) -> tuple[int, int]:
        place = "SELECT partition, workspace FROM workspaces WHERE name = $1"
        return tuple(run_aside(self.fetch(place, self.workspace))[0])

    @property
    def partition(self) -> int:
        return self._place[0]

    @property
    def number(self) -> int:
        return self._place[1]

    @property
    def prefix(self) -> str:
        """The prefix of its workspace's keys in Redis."""
        return key_names.prefix(*self._place)

    @property
    def urls(self) -> dict[str, str]:
        """The settings with which a command uses its servers."""
        return {"REDIS_URL": self.run.facts["redisUrl"], "DATABASE_URL": self.run.facts["databaseUrl"]}

    def close(self) -> None:
        for client in self._clients.values():
            client.close()

    def redis(self) -> Any:
        """Return a client of its Redis, whose replies are text."""
        return redis.Redis.from_url(self.run.facts["redisUrl"], decode_responses=True)

    async def fetch(self, sql: str, *args: Any) -> list[asyncpg.Record]:
        async with database(self.run.facts["databaseUrl"]) as connection:
            return await connection.fetch(sql, *args)

    def make_workspace(self, name: str, mode: Literal["live", "test"], partition: int | None = None) -> "Service":
        """Make a workspace with keys as `demo`'s. Return the service with its clients once the API knows the keys."""

        async def make() -> None:
            async with database(self.run.facts["databaseUrl"]) as connection:
                await make_workspace(connection, name, mode, partition)

        run_aside(make())
        with self.redis() as client:
            client.publish(CHANNEL, "")
        made = Service(self.run, name, self._clients)
        until(lambda: made.admin.get("/v1/users/nobody").is_success)
        return made

    def book(self, *codes: str, client: httpx.Client | None = None, **fields: Any) -> str:
        """Make a book with these codes, as this client; return its id."""
        client = client or self.manage
        book_id = ok(client.post("/v1/books", json={"name": "Sale"} | fields), 201)["bookId"]
        if codes:
            counts = client.post(f"/v1/books/{book_id}/codes", json={"codes": codes}).json()
            assert counts["added"] == len(codes), counts
        return book_id

    def coupon(self, **fields: Any) -> str:
        """Make a coupon in a book of its own; return its code."""
        code = new_code()
        self.book(code, **fields)
        return code

    def recorded(self) -> None:
        """Wait until everything that was answered is recorded."""
        until(lambda: ok(self.operate.get("/v1/ops/consistency"))["lagEvents"] == 0)

    async def projected(self) -> None:
        """Wait until Redis counts every change of configuration in Postgres. A change that a later one has overtaken
        takes effect at once, but a worker counts it only within seconds."""
        versions = await self.fetch("SELECT partition, version FROM config_versions")
        with self.redis() as client:
            await wait_until(
                lambda: all(int(client.get(key_names.config(p)) or 0) >= version for p, version in versions)
            )

    def stats(self, book_id: str) -> dict[str, Any]:
        return ok(self.manage.get(f"/v1/books/{book_id}/stats"))

    def held(self) -> dict[str, Any]:
        """Read what Redis and Postgres hold of its workspace, once everything is recorded: its keys, except limits'
        counters, which expire, and a digest of its rows of each table."""
        self.recorded()
        with redis.Redis.from_url(self.run.facts["redisUrl"]) as client:
            counters = key_names.rate(self.prefix, "", "")[:-1].encode()
            names = [name for name in client.scan_iter(f"{self.prefix}*", count=5000) if not name.startswith(counters)]
            dumped: Any = client.eval(_DUMPED, len(names), *names)
        held = dict(zip([name.decode() for name in names], dumped, strict=True)) | run_aside(self._read_rows())
        assert all(held[one] for one in (key_names.book(self.prefix, 1), f"books of {self.workspace}"))
        return held

    async def _read_rows(self) -> dict[str, Any]:
        async with database(self.run.facts["databaseUrl"]) as connection:
            tables = {name: "" for (name,) in await connection.fetch(_OF_WORKSPACES, _OBSERVED)} | _OF_PARTS
            sql = " UNION ALL ".join(
                _ROWS.format(name, _WITHOUT.get(name, _WRITTEN), joined) for name, joined in tables.items()
            )
            return {f"{name} of {self.workspace}": digest for name, digest in await connection.fetch(sql, self.number)}


@pytest.fixture(scope="session")
def service() -> Iterator[Service]:
    """The service that all tests share that don't break it. In the end both its stores must agree."""
    with shared_service() as shared:
        yield shared
        assert_no_drift(shared)


def assert_no_drift(service: Service) -> None:
    """Assert that Redis and Postgres agree, once no other comparison is running."""
    result = until(lambda: (ended := scrip("reconcile", **service.urls)).exit_code != 2 and ended)
    assert result.exit_code == 0, f"a test has left differences:\n{result.output}"


@contextmanager
def shared_service() -> Iterator[Service]:
    """Start a service with the test workspace `trial`. Of four partitions, the workspaces are in the last three. With
    SCRIP_TEST_RESTRICTED its processes have no right that they don't need, and with `pooled` there they reach Postgres
    through PgBouncer."""
    rights = os.environ.get("SCRIP_TEST_RESTRICTED")
    with restricted(pooled=rights == "pooled") if rights else _unrestricted() as run:
        shared = Service(run)
        try:
            run.until_ready()
            shared.make_workspace("trial", "test", 2 % shared.partitions)
            yield shared
        finally:
            shared.close()
            if run.process.poll() is None:
                run.end()


@contextmanager
def _unrestricted() -> Iterator[Run]:
    with data_folder() as folder:
        yield Run(folder / "data", free_port(), partitions=PARTITIONS)


class Ward(ExitStack):
    """At most one service for tests that inject faults, since its start takes most of such a test's time."""

    service: Service | None = None

    def admitted(self) -> Service:
        """Return the service; a new one if the last test didn't leave it well."""
        self.service = self.service or self.enter_context(shared_service())
        return self.service

    def discharge(self) -> None:
        """End the service."""
        self.service = None
        self.close()


@pytest.fixture(scope="session")
def ward() -> Iterator[Ward]:
    """The service for faults, started by the first test."""
    with Ward() as ward:
        yield ward


@pytest.fixture
def patient(ward: Ward) -> Iterator[Service]:
    """A service whose processes, servers and data a test may break, as long as it recovers. Earlier tests did so, too:
    its epoch, its log and its data are not a new one's."""
    service = ward.admitted()
    run_aside(service.fetch("DELETE FROM failing_tasks"))  # the worker keeps earlier ones for a minute
    yield service
    try:
        until(lambda: is_well(service))
    except BaseException:
        ward.discharge()
        raise


@asynccontextmanager
async def without_postgres(service: Service) -> AsyncIterator[None]:
    """Inside the block Postgres accepts no connection, and has closed the service's, also those that were starting."""
    own = "SELECT pid FROM pg_stat_activity WHERE backend_type <> 'client backend' OR pid = pg_backend_pid()"
    async with database(service.run.facts["databaseUrl"]) as connection:
        with service.run.asleep("postgres"):
            kept = {pid for (pid,) in await connection.fetch(own)}
            (postgres,) = map(psutil.Process, service.run.facts["pids"]["postgres"])
            await wait_until(lambda: _have_ended(postgres, kept), "the ends of the service's connections")
            yield


def _have_ended(postgres: psutil.Process, kept: set[int]) -> bool:
    """Whether Postgres has no processes but those to be kept; ask others to end. A connection that is still starting
    has a process, but no name yet in pg_stat_activity."""
    others = [one for one in postgres.children() if one.pid not in kept and one.status() != psutil.STATUS_ZOMBIE]
    for process in others:
        process.terminate()
    return not others


def is_well(service: Service) -> bool:
    """Whether the service decides, has recorded everything, and takes changes in all partitions."""
    if not service.run.ready():
        return False
    response = service.operate.get("/v1/ops/consistency")
    if not response.is_success or (response.json()["state"], response.json()["lagEvents"]) != ("open", 0):
        return False
    unconfirmed = "SELECT FROM partitions WHERE incarnation <> incarnation()"
    return not run_aside(service.fetch(unconfirmed))  # a Postgres that was compared takes changes


@pytest.fixture
def own_service() -> Iterator[Callable[[], Service]]:
    """Start a service of the test's own; a second call starts another on the first's data, once that has ended."""
    with data_folder() as folder:
        started: list[Service] = []

        def start() -> Service:
            started.append(Service(Run(folder / "data", free_port())))
            started[-1].run.until_ready()
            return started[-1]

        yield start
        for service in started:
            service.close()
            if service.run.process.poll() is None:
                service.run.end()


def new_code() -> str:
    """Make a code that no other test has."""
    return f"T-{uuid4().hex[:16].upper()}"


def new_id(kind: str = "user") -> str:
    """Make a user's or an order's id that no other test has."""
    return f"{kind}-{uuid4().hex[:16]}"


def ok(response: httpx.Response, status: int = 200) -> Any:
    """Assert a JSON answer of this status; return its body."""
    assert response.status_code == status, (response.status_code, response.text)
    assert response.headers["Content-Type"] == "application/json"
    return response.json()


def refused(response: httpx.Response, status: int, code: str, field: str | None = None) -> dict[str, Any]:
    """Assert a complete problem of this status and code, about this field; return its body."""
    answer = (response.status_code, response.text[:600])
    assert response.headers["Content-Type"] == "application/problem+json", answer
    problem = response.json()
    assert (response.status_code, problem["code"], problem["status"]) == (status, code, status), answer
    assert problem["for"] == BY_CODE[code].for_, answer
    assert (response.headers.get("WWW-Authenticate") == "Bearer") == (status == 401), answer
    with_errors = status in {400, 422}
    more = {"errors"} if with_errors else set[str]()
    assert set(problem) - _FIGURES == _PROBLEM | more | ({"param"} if problem.get("errors") else set[str]()), answer
    assert all(isinstance(problem[name], str) and problem[name] for name in _PROBLEM - {"status"}), answer
    assert problem["requestId"] == response.headers["X-Request-Id"]
    assert ("Retry-After" in response.headers) == (code in _WAITING_HELPS or status == 503), answer
    for error in problem.get("errors", []):
        assert set(error) == {"field", "reason"}, answer
        assert error["reason"], answer
    if field is not None:
        assert (problem["param"], problem["errors"][0]["field"]) == (field, field), answer
    return problem


def pages(client: httpx.Client, path: str, **query: Any) -> Iterator[list[dict[str, Any]]]:
    """Read a list's pages, to the last."""
    while True:
        page = ok(client.get(path, params=query))
        assert list(page) == ["items", "nextCursor"]
        assert len(page["items"]) <= query.get("limit", 50)
        yield page["items"]
        if page["nextCursor"] is None:
            return
        query["cursor"] = page["nextCursor"]


def dumps(value: Any) -> bytes:
    """Encode as JSON; bytes stay as they are, so that a value may be invalid JSON."""
    return value if isinstance(value, bytes) else json.dumps(value).encode()
