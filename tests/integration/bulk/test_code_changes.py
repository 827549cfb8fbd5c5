"""Jobs that change many codes: each code once, also if something dies, is paused or is cancelled."""

import asyncio
import contextlib
import csv
import io
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from service.engine.domain.configuration import BookRow, CodeRow, WorkspaceRow
from service.engine.domain.decoding import convert
from service.engine.domain.errors import Refusal
from service.engine.domain.outcomes import OK
from service.engine.hot.projection import RedisProjector
from service.engine.operations.base import Command, Reply
from service.server.in_postgres import code_rows, job_rows
from service.server.in_postgres.workspace_rows import create_workspace
from service.server.requests.code_change_requests import ChangeCodes
from service.server.requests.code_requests import CodeLine
from service.server.tasks import code_assigner, code_changer, job_runner
from service.server.tasks.code_changer import CodeChanger
from tests.harness.service_fixture import Service, new_code, new_id, ok, refused
from tests.harness.waiting import until, wait_until
from tests.integration.recording.record_fixtures import FENCE, make_book, take_job, take_partition


class Redis(RedisProjector):
    """Stores the projected codes, and releases assigned ones; `interrupt` runs before each piece of work."""

    def __init__(self) -> None:
        self.codes_: dict[str, CodeRow] = {}
        self.assigned: set[str] = set()
        self.owners: dict[str, str] = {}
        self.kept: dict[str, str] = {}
        """By the key of an answer, the code that was assigned."""
        self.interrupt: Callable[[int], Awaitable[None]] | None = None
        self.works = 0

    def fail_at(self, work: int) -> None:
        """Fail before this piece of work."""

        async def fail(begun: int) -> None:
            if begun == work:
                raise ConnectionResetError

        self.interrupt = fail

    async def _begin(self) -> None:
        self.works += 1
        if self.interrupt:
            await self.interrupt(self.works)

    async def codes(
        self, workspace: int, partition: int, version: int, rows: Sequence[CodeRow], *, whole: bool = False
    ) -> None:
        await self._begin()
        assert {row.version for row in rows} <= {version}
        self.codes_ |= {row.code: row for row in rows}

    async def confirm_version(self, partition: int, version: int) -> None: ...

    async def decide(self, commands: Sequence[Command]) -> list[Reply | Refusal]:
        replies = [self._decide(command) for command in commands]
        await self._begin()
        return replies

    def _decide(self, command: Command) -> Reply | Refusal:
        _, code, _, user, *_ = command.args
        if command.script == "assign_code":
            return self._assign(command.keys[2], code, user)
        if code not in self.assigned:
            return Refusal("coupon_not_assigned")
        self.assigned.remove(code)
        return [OK]

    def _assign(self, key: str, code: str, user: str) -> Reply | Refusal:
        if key not in self.kept:
            if user == "full":
                return Refusal("user_coupon_limit")
            if code in self.owners:
                return Refusal("coupon_assigned_to_other")
            self.owners[code], self.kept[key] = user, code
        return [OK, f"{UUID(int=1)} {self.kept[key]} assigned 0 1 {user} 1 - - - - - - - -", "", 0]


class BulkShop:
    """A book with 100 codes, ten to a page."""

    def __init__(self, pool: asyncpg.Pool, workspace: WorkspaceRow, book: BookRow) -> None:
        self.pool, self.workspace, self.book, self.redis = pool, workspace, book, Redis()
        self.names = [f"CODE-{number:02}" for number in range(100)]
        self.fence = FENCE

    async def order(self, action: str, **more: Any) -> UUID:
        request = convert({"action": action} | more, ChangeCodes)
        async with self.pool.acquire() as connection, connection.transaction():
            now_ms = 1_800_000_000_000
            return (await job_rows.create_change(connection, self.book, request, self.workspace, now_ms)).job_id

    async def work(self) -> bool:
        return await self.changer().run_one()

    def changer(self) -> CodeChanger:
        return CodeChanger(self.pool, self.redis, 0, self.fence, self.redis.decide)

    async def job(self, job_id: UUID) -> job_rows.JobRow:
        return await job_rows.read_job(self.pool, self.workspace.workspace, job_id)

    async def outcome(self, job_id: UUID) -> tuple[str, int, int, int, int, int]:
        """The job's status, how many codes it has, has done, and has changed, left and refused."""
        job = await self.job(job_id)
        assert job.change is not None
        change = job.change
        return job.status, job.requested, job.done, change.changed, change.unchanged, change.refused

    async def results(self, job_id: UUID) -> list[tuple[str, ...]]:
        return [tuple(one) async for page in job_rows.read_results(self.pool, job_id) for one in page]

    async def assigned(self, job_id: UUID) -> list[job_rows.AssignedCode]:
        return [one async for page in job_rows.read_assigned(self.pool, job_id) for one in page]

    async def set_status(self, job_id: UUID, status: Any) -> job_rows.JobRow:
        return await job_rows.set_status(self.pool, self.workspace.workspace, job_id, status)


@pytest.fixture
async def shop(pool: asyncpg.Pool, workspace: WorkspaceRow, monkeypatch: pytest.MonkeyPatch) -> BulkShop:
    for name, size in (("CONFIGURED", 10), ("DECIDED", 10), ("DECIDED_A_CALL", 4)):
        monkeypatch.setattr(code_changer, name, size)
    monkeypatch.setattr(job_rows, "USERS_AT_ONCE", 7)
    shop = BulkShop(pool, workspace, await make_book(pool, workspace))
    lines = [CodeLine(name, "ann") for name in shop.names]
    await code_rows.add_codes(pool, workspace.workspace, 0, shop.book.book, lines)
    shop.redis.assigned = set(shop.names)
    return shop


async def test_a_change_goes_on_after_each_interruption(shop: BulkShop) -> None:
    """A worker that fails in the middle is followed by another: each code is changed and in the results once."""
    shop.redis.fail_at(4)
    job_id = await shop.order("switchOff")
    with pytest.raises(ConnectionResetError):
        await shop.work()
    assert await shop.outcome(job_id) == ("running", 100, 50, 50, 0, 0)
    assert await shop.work()
    assert await shop.outcome(job_id) == ("done", 100, 100, 100, 0, 0)
    results = await shop.results(job_id)
    assert results == [(name, "changed", "active", "inactive", "") for name in reversed(shop.names)]
    assert await shop.pool.fetchval("SELECT count(*) FROM codes WHERE NOT active") == 100
    assert len(shop.redis.codes_) == 80  # two pages, one written while the other failed, are left to the catch-up
    assert not await shop.work()


async def test_a_page_is_repeated_if_a_deletion_changes_a_code_meanwhile(shop: BulkShop) -> None:
    """A row that another transaction changes at this moment is not counted as changed without being so."""
    job_id = await shop.order("switchOff")
    async with shop.pool.acquire() as deleting:
        async with deleting.transaction():
            await deleting.execute("UPDATE codes SET owner_id = 'erased' WHERE code = 'CODE-95'")
            working = asyncio.create_task(shop.work())
            waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
            await wait_until(lambda: deleting.fetchval(waiting), "a connection that waits for a lock")
        with contextlib.suppress(Refusal):  # whether Postgres follows the row to its new place depends on its version
            await working
    assert (await shop.job(job_id)).status == "done" or await shop.work()
    assert [result for _, result, *_ in await shop.results(job_id)] == ["changed"] * 100
    assert await shop.pool.fetchval("SELECT count(*) FROM codes WHERE NOT active") == 100


async def test_a_release_is_repeated_from_the_stored_codes(shop: BulkShop) -> None:
    """If a worker dies after Redis decided, the next one counts what was released then, once."""
    shop.redis.fail_at(5)
    job_id = await shop.order("release")
    shop.redis.assigned -= {"CODE-99", "CODE-00"}
    with pytest.raises(ConnectionResetError):
        await shop.work()
    assert (await shop.job(job_id)).done == 10
    assert await shop.work()
    assert await shop.outcome(job_id) == ("done", 100, 100, 98, 0, 2)
    results = await shop.results(job_id)
    assert [code for code, *_ in results] == shop.names[::-1]
    assert {code: rest for code, *rest in results if rest[0] == "refused"} == {
        code: ["refused", "", "", "coupon_not_assigned"] for code in ("CODE-99", "CODE-00")
    }
    assert shop.redis.assigned == set()


async def test_the_next_holder_of_a_partition_has_its_jobs(shop: BulkShop) -> None:
    """The next holder of a partition's lease continues its jobs at once; the last one can store no more results."""
    job_id = await shop.order("release")
    taken = await take_job(shop.pool, 0, FENCE, "change")
    assert taken is not None
    shop.fence = await take_partition(shop.pool)
    with pytest.raises(job_rows.JobStopped):
        await job_rows.end_job(shop.pool, taken, FENCE)
    assert await shop.work()
    assert (await shop.job(job_id)).status == "done"


async def test_an_assignment_is_repeated_without_a_second_code(shop: BulkShop, monkeypatch: pytest.MonkeyPatch) -> None:
    """If a worker dies after Redis decided, the next one finds which code each user has got, and gives no second one.
    A code that another request takes is skipped; a user who may have no more is refused."""
    monkeypatch.setattr(code_assigner, "ASSIGNED_A_CALL", 4)
    free = [f"FREE-{number:02}" for number in range(24)]
    await code_rows.add_codes(shop.pool, shop.workspace.workspace, 0, shop.book.book, [CodeLine(one) for one in free])
    users = [f"user-{number}" for number in range(20)]
    shop.redis.owners = {"FREE-23": "shopper", "FREE-20": "shopper"}

    async def fail(work: int) -> None:
        if work in (2, 5):
            shop.redis.owners["FREE-10"] = "shopper"
            raise ConnectionResetError

    shop.redis.interrupt = fail
    job_id = await shop.order("assign", users=[users[0], "full", *users[1:], users[0]])
    for _ in range(2):
        with pytest.raises(ConnectionResetError):
            await shop.work()
    assert await shop.work()
    assert await shop.outcome(job_id) == ("done", 21, 21, 20, 0, 1)
    results = await shop.assigned(job_id)
    assert [one.user_id for one in results] == [users[0], "full", *users[1:]]
    assert {one.code: one.user_id for one in results if one.result == "changed"} == {
        code: user for code, user in shop.redis.owners.items() if user != "shopper"
    }
    assert (results[1].code, results[1].result, results[1].reason) == ("", "refused", "user_coupon_limit")
    assert len(shop.redis.owners) == 23

    last = await shop.order("assign", users=[f"late-{number}" for number in range(22)])
    assert await shop.work()
    assert await shop.outcome(last) == ("done", 22, 22, 1, 0, 21)
    assert Counter(tuple(one)[:5] for one in await shop.assigned(last)) == {
        ("FREE-00", "changed", "available", "assigned", ""): 1,
        ("", "refused", "", "", "out_of_stock"): 21,
    }


@pytest.mark.parametrize("action", ["switchOff", "release"])
async def test_a_change_is_paused_resumed_and_cancelled(shop: BulkShop, action: str) -> None:
    """A paused job keeps what it has changed and goes on when it is resumed; a cancelled one has ended, and the results
    have all that was changed."""
    job_id = await shop.order(action)
    orders = {2: "paused", 12: "cancelled"}

    async def order(work: int) -> None:
        if status := orders.get(work):
            assert (await shop.set_status(job_id, status)).status == status

    shop.redis.interrupt = order
    assert await shop.work()
    paused = await shop.job(job_id)
    assert (paused.status, 0 < paused.done < 100, paused.finished_at) == ("paused", True, None)
    assert not await shop.work()
    assert (await shop.set_status(job_id, "running")).status == "running"
    if action == "switchOff":
        orders[shop.redis.works + 1] = "cancelled"
    assert await shop.work()
    ended = await shop.job(job_id)
    assert ended.change is not None
    assert (ended.status, paused.done < ended.done < 100, ended.finished_at is None) == ("cancelled", True, False)
    changed = {code for code, result, *_ in await shop.results(job_id) if result == "changed"}
    assert len(changed) == ended.change.changed
    if action == "release":
        assert changed == set(shop.names) - shop.redis.assigned
    assert not await shop.work()
    assert (await shop.set_status(job_id, "cancelled")).finished_at == ended.finished_at
    with pytest.raises(Refusal, match="job_ended"):
        await shop.set_status(job_id, "running")


async def test_changes_take_turns(shop: BulkShop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long change does not keep a later one waiting until its end."""
    monkeypatch.setattr(job_runner, "TURN_S", 0.0)
    long, short = await shop.order("switchOff"), await shop.order("expire", filter={"codes": ["CODE-07"]})
    monkeypatch.setattr(job_rows, "MAX_CHANGES", 2)
    with pytest.raises(Refusal, match="too_many_jobs"):
        await shop.order("switchOn")
    ended = []
    for _ in range(12):  # ten pages and the end, and the other one
        assert await shop.work()
        ended += [one for one in (long, short) if one not in ended and (await shop.job(one)).status == "done"]
    assert ended == [short, long]


async def test_workspaces_take_turns(shop: BulkShop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A workspace's change does not wait for another's many, which were ordered before."""
    monkeypatch.setattr(job_runner, "TURN_S", 0.0)
    async with shop.pool.acquire() as connection:
        other = await create_workspace(connection, "other")
    rival = BulkShop(shop.pool, other, await make_book(shop.pool, other))
    await code_rows.add_codes(shop.pool, other.workspace, 0, rival.book.book, [CodeLine("CODE-01")])
    for _ in range(5):
        await shop.order("switchOff")
    job_id = await rival.order("switchOff")
    changer = shop.changer()
    for _ in range(4):  # a page of each, and the rival's end
        assert await changer.run_one()
    assert (await rival.job(job_id)).status == "done"


async def test_a_filter_names_the_codes(shop: BulkShop) -> None:
    """Status, prefix, time and codes choose what is changed; codes that are added after the order are not."""
    job_id = await shop.order("setExpiry", expiresAt="2030-01-01T00:00:00Z", filter={"prefix": "code-1"})
    await code_rows.add_codes(shop.pool, shop.workspace.workspace, 0, shop.book.book, [CodeLine("CODE-1NEW")])
    assert await shop.work()
    assert [code for code, *_ in await shop.results(job_id)] == shop.names[19:9:-1]
    assert (await shop.results(job_id))[0][2:4] == ("", "2030-01-01T00:00:00.000Z")
    named = await shop.order("setExpiry", expiresAt=None, filter={"codes": ["code-11", "NO-SUCH", "code-20"]})
    assert await shop.work()
    assert sorted(await shop.results(named)) == [
        ("CODE-11", "changed", "2030-01-01T00:00:00.000Z", "", ""),
        ("CODE-20", "unchanged", "", "", ""),
        ("NO-SUCH", "refused", "", "", "coupon_not_found"),
    ]
    free = await shop.order("switchOff", filter={"status": ["available"], "createdFrom": "2020-01-01T00:00:00Z"})
    assert await shop.work()
    assert [code for code, *_ in await shop.results(free)] == ["CODE-1NEW"]
    old = await shop.order("switchOff", filter={"createdUntil": "2020-01-01T00:00:00Z"})
    assert await shop.work()
    assert await shop.results(old) == []


def change(service: Service, book: str, **body: Any) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """Order a change, wait for its end, and return the job and its results."""
    ordered = ok(service.manage.post(f"/v1/books/{book}/codes/change", json=body), 202)
    path = f"/v1/jobs/{ordered['jobId']}"
    job = until(lambda: (job := ok(service.manage.get(path)))["status"] != "running" and job)
    text = service.manage.get(f"{path}/results.csv").text
    return job, list(csv.DictReader(io.StringIO(text)))


def test_a_book_is_switched_off_and_released_as_code_by_code(service: Service) -> None:
    """Over HTTP: a dry run counts, a job does what the single requests would do, with the same refusals."""
    codes = sorted((new_code() for _ in range(5)), reverse=True)
    free, assigned, held, used, other = codes
    book, user = service.book(*codes), new_id()
    for code in (assigned, held, used):
        ok(service.checkout.post(f"/v1/coupons/assign/{code}", json={"userId": user}), 201)
    ok(service.checkout.post(f"/v1/coupons/lock/{held}", json={"userId": user}), 201)
    ok(service.checkout.post(f"/v1/coupons/redeem/{used}", json={"userId": user}), 201)

    path = f"/v1/books/{book}/codes/change"
    body = {"action": "switchOff", "filter": {"status": ["available", "assigned"]}}
    counted = ok(service.manage.post(f"{path}?dryRun=true", json=body))
    assert (counted["matching"], counted["isComplete"]) == (4, True)
    assert set(counted["examples"]) == set(codes) - {used}

    job, results = change(service, book, action="release")
    assert (job["kind"], job["status"], job["requested"], job["done"]) == ("change", "done", 5, 5)
    assert {row["code"]: (row["result"], row["reason"]) for row in results} == {
        assigned: ("changed", ""),
        held: ("refused", "coupon_locked"),
    }
    assert ok(service.checkout.get(f"/v1/coupons/{assigned}"))["status"] == "available"
    job, results = change(service, book, **body)
    assert {row["code"] for row in results if row["result"] == "changed"} == {free, assigned, held, other}
    assert job["change"]["changed"] == 4
    answer = service.checkout.post(f"/v1/coupons/assign/{free}", json={"userId": user})
    refused(answer, 409, "coupon_inactive")
    job, _ = change(service, book, action="switchOn")
    assert (job["change"]["changed"], job["change"]["unchanged"]) == (4, 1)
    job, _ = change(service, book, action="expire", filter={"codes": [free]})
    assert ok(service.checkout.get(f"/v1/coupons/{free}"))["status"] == "expired"
    refused(service.manage.post(f"/v1/jobs/{job['jobId']}/pause", json={}), 409, "job_ended")
    for text, rule in (("lock", "is a reserved word"), ("", "must have 4 to 64 of")):
        named = {"action": "release", "filter": {"codes": [free, text]}}
        answer = service.manage.post(f"/v1/books/{book}/codes/change", json=named)
        assert rule in refused(answer, 422, "invalid", "filter.codes[1]")["errors"][0]["reason"]
    stats = service.stats(book)
    assert (stats["codes"], stats["available"], stats["inactive"], stats["locked"]) == (5, 3, 0, 0)
    entries = ok(service.operate.get("/v1/audit", params={"limit": 100}))["items"]
    actions = [row["action"] for row in entries if row["subject"] == book]
    assert (actions.count("codes.changeOrdered"), actions.count("codes.changed")) == (4, 4)


def test_users_get_a_code_each(service: Service) -> None:
    """Over HTTP: a job gives each user an available code; a deleted user is no longer in its results."""
    codes, used = [new_code(), new_code()], new_code()
    book, first, second, late = service.book(*codes, used, maxCodesPerUser=1), new_id(), new_id(), new_id()
    ok(service.checkout.post(f"/v1/coupons/assign/{used}", json={"userId": first}), 201)
    job, results = change(service, book, action="assign", users=[first, second, late, new_id()])
    assert (job["status"], job["requested"], job["done"]) == ("done", 4, 4)
    assert (job["change"]["changed"], job["change"]["refused"]) == (2, 2)
    assert [(row["result"], row["reason"], row["user_id"]) for row in results[:3]] == [
        ("refused", "user_code_limit", first),
        ("changed", "", second),
        ("changed", "", late),
    ]
    assert results[3]["reason"] == "out_of_stock"
    assert {row["code"] for row in results} == {*codes, ""}
    assert ok(service.checkout.get(f"/v1/coupons/{results[1]['code']}"))["userId"] == second
    assert service.manage.delete(f"/v1/users/{second}").status_code == 204
    text = service.manage.get(f"/v1/jobs/{job['jobId']}/results.csv").text
    assert second not in text
    assert "deleted-" in text
    for body in ({"users": []}, {}, {"users": ["a"] * 1001}, {"users": ["a"], "filter": {"status": ["assigned"]}}):
        answer = service.manage.post(f"/v1/books/{book}/codes/change", json={"action": "assign"} | body)
        refused(answer, 422, "invalid")


def test_users_of_a_file_get_a_code_each(service: Service) -> None:
    """Over HTTP: a CSV file with a column of users, in any usual layout, or a text with one a line, names more users
    than a request in JSON; they get codes of the query. A file that can't be read whole is refused, and changes
    nothing."""
    tag, users = new_code()[:12], [new_id() for _ in range(1_003)]
    codes = [f"{tag}-{number:04}" for number in range(len(users) - 1)]
    book = service.book(*codes, new_code())
    path, many = f"/v1/books/{book}/codes/change", {"prefix": tag}

    def send(text: str, kind: str = "text/csv", **query: Any) -> Any:
        return service.manage.post(path, params=query, content=text.encode(), headers={"Content-Type": kind})

    table = "\ufeffName;Customer ID\r\n" + "".join(f'"A; B";{user}\r\n' for user in [*users, users[0]])
    counted = ok(send(table, **many, dryRun=True))
    assert (counted["users"], counted["matching"], counted["isComplete"]) == (len(users), len(codes), True)
    key = {"Idempotency-Key": new_id(), "Content-Type": "text/csv"}
    jobs = [ok(service.manage.post(path, params=many, content=table.encode(), headers=key), 202) for _ in range(2)]
    assert jobs[0]["jobId"] == jobs[1]["jobId"]
    job = until(lambda: (one := ok(service.manage.get(f"/v1/jobs/{jobs[0]['jobId']}")))["status"] == "done" and one)
    assert (job["change"]["changed"], job["change"]["refused"]) == (len(codes), 1)
    rows = list(csv.DictReader(io.StringIO(service.manage.get(f"/v1/jobs/{job['jobId']}/results.csv").text)))
    assert [row["user_id"] for row in rows] == users
    assert {row["code"] for row in rows} == {*codes, ""}
    assert ok(send("\n".join(users[:3]), "text/plain", dryRun=True))["users"] == 3
    other = {"text": "Kunde;userId\nann;\nbob;\n", "userColumn": "Kunde"}
    assert ok(send(**other, dryRun=True))["users"] == 2
    for text, kind, rule in (
        ("userId\nann\nno user\n", "text/csv", "line 3: userId: must have 1 to 100 printable ASCII"),
        ("ann\nbob\n", "text/csv", "has no column `userId`"),
        ("user,customer\na,b\n", "text/csv", "has two columns for userId"),
        ("\n", "text/plain", "must have a user"),
        ("\n".join(map(str, range(100_001))), "text/plain", "must have at most 100,000 users"),
    ):
        answer = send(text, kind)
        assert rule in answer.json()["errors"][0]["reason"], answer.text
    refused(send("ann", "text/plain", createdFrom="2030-01-01T00:00:00Z", createdUntil="2020-01-01T00:00:00Z"), 422,
            "invalid", "createdUntil")  # fmt: skip
    refused(send("ann", "application/xml"), 415, "unsupported_media_type")
    for query in (many, {"userColumn": "Kunde"}):
        refused(service.manage.post(path, params=query, json={"action": "release"}), 422, "invalid", "query")
