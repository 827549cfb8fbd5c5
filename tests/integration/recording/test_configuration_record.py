"""Configuration in Postgres: versions without gaps, all changes since a version, jobs that are done once."""

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from unittest.mock import AsyncMock
from uuid import UUID, uuid4

import asyncpg
import pytest

from service.engine.domain.configuration import BookRow, CodeRow, WorkspaceRow
from service.engine.domain.decoding import convert
from service.engine.domain.errors import Refusal
from service.engine.domain.limits import KeyLimits
from service.engine.hot.projection import RedisProjector
from service.engine.record import changes
from service.engine.record import pool as postgres
from service.engine.record.queries import query
from service.server.access.keyring import Keyring, digest_session_secret
from service.server.in_postgres import (
    book_rows,
    code_rows,
    console_sessions,
    job_rows,
    key_rows,
    report_rows,
    user_rows,
    workspace_rows,
)
from service.server.in_postgres.console_sessions import begin_session
from service.server.in_postgres.workspace_rows import create_workspace, patch_workspace, read_workspace
from service.server.requests.book_requests import CreateBook, PatchBook
from service.server.requests.code_requests import CodeLine
from service.server.tasks import code_generator, job_runner
from service.server.tasks.code_generator import Generator
from tests.harness.waiting import PATIENCE_S, running, wait_until
from tests.integration.recording.record_fixtures import FENCE, make_book, take_job, take_partition


class Memory(RedisProjector):
    """A projector of jobs, which stores the codes it gets."""

    def __init__(self) -> None:
        self.codes_: dict[str, CodeRow] = {}
        self.fail_after = -1

    async def codes(
        self, workspace: int, partition: int, version: int, rows: Sequence[CodeRow], *, whole: bool = False
    ) -> None:
        if self.fail_after == 0:
            raise ConnectionResetError
        self.fail_after -= 1
        assert {(row.workspace, row.partition, row.version) for row in rows} <= {(workspace, partition, version)}
        self.codes_ |= {row.code: row for row in rows}

    async def confirm_version(self, partition: int, version: int) -> None: ...


async def version_of(pool: asyncpg.Pool) -> int:
    return await pool.fetchval("SELECT version FROM config_versions WHERE partition = 0")


async def everything(pool: asyncpg.Pool, since: int = 0) -> tuple[int, list[changes.Row]]:
    """Return the last version, and all rows that changed since another."""
    rows: list[changes.Row] = []
    version = since
    async for change in changes.changes_since(pool, 0, since):
        assert change.version >= version
        version = change.version
        rows += change.rows
    return version, rows


async def order_codes(pool: asyncpg.Pool, owner: WorkspaceRow, count: int) -> UUID:
    """Make a book, and order codes for it; return the job's id."""
    book = convert({"name": "Sale", "totalCodes": count}, CreateBook)
    _, job_id = await book_rows.create_book(pool, owner.workspace, owner.partition, book)
    assert job_id is not None
    return job_id


async def test_a_book_is_read_as_it_was_written(pool: asyncpg.Pool, workspace: WorkspaceRow) -> None:
    """Every field of a book comes back from Postgres as it was returned when it was written."""
    row = await make_book(
        pool,
        workspace,
        description="10 % für alle",
        validFrom="2026-01-01T00:00:00.123Z",
        validUntil="9999-12-31T23:59:59.999Z",
        maxRedemptionsPerCode=None,
        maxRedemptions=2**31 - 1,
        requireLock=True,
        publicReasons=True,
        discount={"type": "fixed", "value": "12.34", "minOrderValue": 20, "currency": "USD"},
        lowStockThreshold=5,
        tags=["a", "b"],
        metadata={"big": 1e300, "number": 123456789012345678901234567890, "text": '\u2028 \\ "', "b": 1, "a": [None]},
        createdBy="me",
    )
    assert await book_rows.read_book(pool, workspace.workspace, row.book_id) == row
    assert [row] == await book_rows.page_books(pool, workspace.workspace, 10, None, "active", "b", "FÜR")
    for filters in (("archived", None, None), (None, "c", None), (None, None, "%")):
        expected = [row] if filters[2] == "%" else []
        assert await book_rows.page_books(pool, workspace.workspace, 10, None, *filters) == expected


async def test_versions_have_no_gaps(pool: asyncpg.Pool, workspace: WorkspaceRow) -> None:
    """40 simultaneous changes, of which 10 are refused, get 30 versions without a gap."""
    before = await version_of(pool)

    async def change(number: int) -> int:
        if number % 4 == 0:
            with pytest.raises(Refusal):
                await book_rows.patch_book(pool, workspace.workspace, 0, uuid4(), convert({"name": "x"}, PatchBook))
            return 0
        if number % 4 == 1:
            return (await make_book(pool, workspace)).version
        return (await user_rows.create_user(pool, workspace.workspace, 0, f"user-{number}", number, {}))[0].version

    versions = await asyncio.gather(*(change(number) for number in range(40)))
    assert sorted(filter(None, versions)) == list(range(before + 1, before + 31))
    assert await version_of(pool) == before + 30
    assert {
        row.book for row in await book_rows.page_books(pool, workspace.workspace, 99, None, None, None, None)
    } == set(range(1, 11))


@pytest.mark.parametrize("code", ["ABC", "A" * 65, "abcd", "AB CD", "ABCD\n", "ÄBCD"])
async def test_the_table_takes_codes_alone(pool: asyncpg.Pool, workspace: WorkspaceRow, code: str) -> None:
    """The table's own constraint refuses texts that can't be codes."""
    book = await make_book(pool, workspace)
    with pytest.raises(asyncpg.CheckViolationError):
        await code_rows.add_codes(pool, workspace.workspace, 0, book.book, [CodeLine("ABCD"), CodeLine(code)])
    assert await pool.fetchval("SELECT count(*) FROM codes") == 0


async def test_changes_since(pool: asyncpg.Pool, workspace: WorkspaceRow, monkeypatch: pytest.MonkeyPatch) -> None:
    """changes_since returns all rows after a version as they are now, and resumes after each of its versions."""
    monkeypatch.setattr(changes, "_PAGE", 7)
    book = await make_book(pool, workspace)
    where = (pool, workspace.workspace, 0)
    for start in range(0, 50, 5):
        await code_rows.add_codes(*where, book.book, [CodeLine(f"CODE-{number}") for number in range(start, start + 5)])
    await code_rows.patch_coupon(*where, "CODE-3", {"active": False})
    book = await book_rows.patch_book(*where, book.book_id, convert({"status": "inactive"}, PatchBook))
    user, _ = await user_rows.create_user(*where, "user", 5, {"a": 1})

    version, rows = await everything(pool)
    assert version == await version_of(pool)
    assert [row for row in rows if not isinstance(row, CodeRow)] == [workspace, book, user]
    codes = {row.code: row for row in rows if isinstance(row, CodeRow)}
    assert (len(rows), len(codes)) == (53, 50)
    assert [row.code for row in codes.values() if not row.active] == ["CODE-3"]
    assert await everything(pool, version) == (version, [])

    resumed: set[str] = set()
    since = 0
    while since < version:
        async for change in changes.changes_since(pool, 0, since):
            resumed |= {row.code for row in change.rows if isinstance(row, CodeRow)}
            if change.version > since:
                since = change.version
                break
    assert resumed == set(codes)


async def test_rows_that_change_while_they_are_read(pool: asyncpg.Pool, workspace: WorkspaceRow) -> None:
    """A book and a code that change between two reads are among the rows of changes_since as they were, and later as
    they are. Without its book a code would be left out of Redis, and without its code an event would be."""
    book = await make_book(pool, workspace)
    where = (pool, workspace.workspace, 0)
    await code_rows.add_codes(*where, book.book, [CodeLine("CODE-1")])
    rows, version = list[changes.Row](), 0
    async with aclosing(changes.changes_since(pool, 0, 0)) as reading:
        async for change in reading:
            if not rows:
                await book_rows.patch_book(*where, book.book_id, convert({"status": "inactive"}, PatchBook))
                await code_rows.patch_coupon(*where, "CODE-1", {"active": False})
            rows += change.rows
            version = change.version
    assert rows[:2] == [workspace, book]
    assert [(row.code, row.active) for row in rows[2:] if isinstance(row, CodeRow)] == [("CODE-1", True)]
    _, later = await everything(pool, version)
    assert [getattr(row, "status", None) or getattr(row, "active", None) for row in later] == ["inactive", False]


async def test_a_version_larger_than_a_page(
    pool: asyncpg.Pool, workspace: WorkspaceRow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A version that is larger than a page ends no reading."""
    monkeypatch.setattr(changes, "_PAGE", 7)
    book = await make_book(pool, workspace)
    for name in "ABC":
        lines = [CodeLine(f"{name}-{number}") for number in range(1000, 1005)]
        version, _ = await code_rows.add_codes(pool, workspace.workspace, 0, book.book, lines)
        if name == "B":
            await pool.execute("UPDATE codes SET version = $1 WHERE code LIKE 'A-%'", version)
    _, rows = await everything(pool)
    assert len({row.code for row in rows if isinstance(row, CodeRow)}) == 15


async def test_a_time_zone_that_postgres_lacks(pool: asyncpg.Pool, workspace: WorkspaceRow) -> None:
    """A workspace gets only a time zone that Postgres has, whatever the service knows: Postgres makes the reports."""
    with pytest.raises(Refusal, match="invalid"):
        await patch_workspace(pool, workspace.workspace, 0, {"time_zone": "Europe/Nowhere"})
    assert (await read_workspace(pool, workspace.workspace)).time_zone == "UTC"


async def test_a_book_keeps_its_currency(pool: asyncpg.Pool, workspace: WorkspaceRow) -> None:
    """A discount has the workspace's currency of the moment when it was set; a later currency is of later books."""

    async def make_discounted() -> BookRow:
        request = convert({"name": "b", "discount": {"type": "fixed", "value": "5.50"}}, CreateBook)
        return (await book_rows.create_book(pool, workspace.workspace, 0, request))[0]

    first = await make_discounted()
    await patch_workspace(pool, workspace.workspace, 0, {"currency": "EUR"})
    change = convert({"discount": {"type": "fixed", "value": "2.50"}}, PatchBook)
    first = await book_rows.patch_book(pool, workspace.workspace, 0, first.book_id, change)
    second = await make_discounted()
    assert first.discount is not None
    assert second.discount is not None
    assert (first.discount.currency, second.discount.currency) == ("USD", "EUR")
    await patch_workspace(pool, workspace.workspace, 0, {"currency": "JPY"})
    with pytest.raises(Refusal, match="invalid"):
        await make_discounted()  # 5.50 yen


async def test_users_are_created_once(pool: asyncpg.Pool, workspace: WorkspaceRow) -> None:
    """Of eight simultaneous creations of a user one creates it; a PATCH creates an unknown user."""
    where = (pool, workspace.workspace, 0)
    made = await asyncio.gather(*(user_rows.create_user(*where, "user", number, {}) for number in range(1, 9)))
    assert [new for _, new in made].count(True) == 1
    assert len({row.max_coupons for row, _ in made}) == 1
    row = await user_rows.patch_user(*where, "new", {"metadata": {"a": 1}})
    assert (row.max_coupons, row.metadata) == (None, {"a": 1})
    row = await user_rows.patch_user(*where, "new", {"max_coupons": 4})
    assert (row.max_coupons, row.metadata) == (4, {"a": 1})
    page = await user_rows.page_users(pool, workspace.workspace, 10, None)
    assert [row.user_id for row, _ in page] == ["new", "user"]
    assert [row.user_id for row, _ in await user_rows.page_users(pool, workspace.workspace, 10, page[0][1])] == ["user"]


async def test_keys(pool: asyncpg.Pool, workspace: WorkspaceRow) -> None:
    """A key is looked up by its secret's digest until it is revoked; each change of keys has a new version."""
    secret = key_rows.generate_secret("live")
    async with pool.acquire() as connection:
        row = await key_rows.create_key(connection, workspace.workspace, "shop", ["manage", "public"], secret)
        with pytest.raises(key_rows.SecretTaken):
            await key_rows.create_key(connection, workspace.workspace, "again", ["manage"], secret)
    version, callers = await key_rows.read_version(pool), await key_rows.read_callers(pool)
    assert callers[key_rows.digest(secret)].scopes == {"manage", "public"}
    assert callers[key_rows.digest(secret)].workspace_id == workspace.workspace_id
    stored = await pool.fetchrow("SELECT * FROM keys")
    assert secret not in str(stored)
    async with pool.acquire() as connection:
        assert not await key_rows.revoke_key(connection, workspace.workspace + 1, row.key_id)
        assert await key_rows.read_version(pool) == version
        assert await key_rows.revoke_key(connection, workspace.workspace, row.key_id)
        assert not await key_rows.revoke_key(connection, workspace.workspace, row.key_id)
    assert await key_rows.read_version(pool) == version + 1
    assert (await key_rows.read_callers(pool)) == {}


async def test_processes_read_the_keys_of_changed_workspaces(pool: asyncpg.Pool, workspace: WorkspaceRow) -> None:
    """After a change the keys and sessions of its workspace are read, and no others; all without a known version, and
    from a Postgres that has become an older one."""
    async with pool.acquire() as connection:
        other = await create_workspace(connection, "other")
        keys = [
            await key_rows.create_key(connection, row.workspace, "k", ["manage"], key_rows.generate_secret("live"))
            for row in (workspace, other)
        ]
    await begin_session(pool, other.workspace, keys[1].key_id)
    known, changed = await key_rows.read_changes(pool)
    assert changed is None
    keyring = Keyring()
    keyring.replace(await key_rows.read_callers(pool, changed), changed)
    assert len(keyring._callers) == 3
    assert await key_rows.read_changes(pool, known) == (known, [])
    async with pool.acquire() as connection:
        assert await key_rows.revoke_key(connection, other.workspace, keys[1].key_id)
    version, changed = await key_rows.read_changes(pool, known)
    assert (version, changed) == (known + 1, [other.workspace])
    callers = await key_rows.read_callers(pool, changed)
    assert callers == {}
    keyring.replace(callers, changed)
    assert [caller.key_id for caller in keyring._callers.values()] == [keys[0].key_id]
    await pool.execute("UPDATE keys_version SET version = version - 1")
    assert await key_rows.read_changes(pool, version) == (version - 1, None)


async def test_a_bound_of_storage_is_not_of_the_keys(pool: asyncpg.Pool, workspace: WorkspaceRow) -> None:
    """A new bound lets no process read a workspace's keys again; what a suspension and limits of its keys change,
    processes read."""
    known, _ = await key_rows.read_changes(pool)
    async with pool.acquire() as connection:
        await workspace_rows.change_storage_bound(connection, workspace.workspace, 64)
        assert await key_rows.read_changes(pool, known) == (known, [])
        await workspace_rows.suspend_workspace(connection, workspace.workspace, True)
        assert await key_rows.read_changes(pool, known) == (known + 1, [workspace.workspace])
        await workspace_rows.set_operator_limits(connection, workspace.workspace, KeyLimits(live_locks=5))
        assert await key_rows.read_changes(pool, known + 1) == (known + 2, [workspace.workspace])


async def test_sessions_of_a_workspace(
    pool: asyncpg.Pool, workspace: WorkspaceRow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The oldest sessions of a workspace end, whichever key or person has them: processes read all after each change of
    a key. Others' stay."""
    monkeypatch.setattr(console_sessions, "SESSIONS_OF_WORKSPACE", 3)
    async with pool.acquire() as connection:
        other = await create_workspace(connection, "other")
        await begin_session(pool, other.workspace, "ann", ["manage"])
    owners = ("ann", "bob", "cid", "ann", "dan")
    secrets = [await begin_session(pool, workspace.workspace, owner, ["manage"]) for owner in owners]
    of_all, of_one = await key_rows.read_callers(pool), await key_rows.read_callers(pool, [workspace.workspace])
    assert of_one.keys() == {digest_session_secret(secret) for secret in secrets[2:]}
    assert len(of_all) == 4


async def test_requests_between_the_keys(pool: asyncpg.Pool, workspace: WorkspaceRow) -> None:
    """A process that reads all keys and sessions of a workspace answers requests meanwhile."""
    keys, sessions = key_rows.MAX_KEYS, console_sessions.SESSIONS_OF_WORKSPACE
    async with pool.acquire() as connection:
        row = await key_rows.create_key(connection, workspace.workspace, "k", ["manage"], "secret")
        await begin_session(pool, workspace.workspace, row.key_id)
    records = {
        query("read_callers"): await pool.fetch(query("read_callers"), None) * keys,
        query("read_sessions"): await pool.fetch(query("read_sessions"), None) * sessions,
    }
    database = AsyncMock()
    database.fetch.side_effect = lambda text, _: records[text]
    turns = 0

    async def request() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with running(request()):
        await key_rows.read_callers(database)
    assert turns >= (keys + sessions) // console_sessions.PIECE


async def test_a_pattern_must_be_large_enough(pool: asyncpg.Pool, workspace: WorkspaceRow) -> None:
    """A book's codes, with those that jobs will make, are at most a ten-thousandth of what the pattern can make."""
    book = await make_book(pool, workspace, codePattern="####", charset="0123456789")

    async def generate_codes(count: int) -> None:
        async with pool.acquire() as connection, connection.transaction():
            await job_rows.create_generation(connection, book, count, "######", book.charset)

    await code_rows.add_codes(pool, workspace.workspace, 0, book.book, [CodeLine(f"OWN-{n}") for n in range(40)])
    await generate_codes(60)
    with pytest.raises(Refusal, match="pattern_too_small"):
        await generate_codes(1)


async def test_workers_generate_exactly_so_many(
    pool: asyncpg.Pool, workspace: WorkspaceRow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers that fail in the middle and resume, side by side, make exactly the requested number of codes."""
    monkeypatch.setattr(code_generator, "GENERATED", 50)
    job_id = await order_codes(pool, workspace, 1234)
    memory = Memory()
    memory.fail_after = 3
    with pytest.raises(ConnectionResetError):
        await Generator(pool, memory, 0, FENCE).run_one()
    job = await job_rows.read_job(pool, workspace.workspace, job_id)
    assert (job.status, job.done) == ("running", 250)  # the fifth was written while the fourth failed
    memory.fail_after = -1
    workers = list[asyncio.Task[bool]]()
    for _ in range(4):  # each takes the lease while the one before still works
        workers.append(asyncio.create_task(Generator(pool, memory, 0, await take_partition(pool)).run_one()))
        done = await pool.fetchval("SELECT done FROM jobs")
        await wait_until(lambda done=done: pool.fetchval("SELECT done > $1 OR status = 'done' FROM jobs", done))
    await asyncio.gather(*workers)
    job = await job_rows.read_job(pool, workspace.workspace, job_id)
    assert (job.status, job.done, job.errors) == ("done", 1234, [])
    assert await pool.fetchval("SELECT count(*) FROM codes") == 1234
    assert len(memory.codes_) == 1234 - 2 * 50
    assert not await Generator(pool, memory, 0, FENCE).run_one()


async def test_workspaces_take_turns(
    pool: asyncpg.Pool, workspace: WorkspaceRow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A workspace's codes don't wait for the end of another's jobs, nor a small job for a large one of its own. A
    pattern that is used up ends its job, however short the turns are."""
    monkeypatch.setattr(code_generator, "GENERATED", 50)
    monkeypatch.setattr(job_runner, "TURN_S", 0.0)
    async with pool.acquire() as connection:
        other = await create_workspace(connection, "other")
    jobs = [await order_codes(pool, workspace, count) for count in (1_000, 50, 50, 50)]
    jobs.append(await order_codes(pool, other, 100))
    await pool.execute("UPDATE jobs SET started_at = now()")  # a tenth of a second counts as 1,000 codes
    generator = Generator(pool, Memory(), 0, FENCE)
    for _ in range(4):
        await generator.run_one()
    ended = await pool.fetch("SELECT job_id FROM jobs WHERE status = 'done' ORDER BY finished_at")
    assert [record["job_id"] for record in ended] == [jobs[1], jobs[2], jobs[4]]
    while await generator.run_one():
        pass
    assert await pool.fetchval("SELECT count(*) FROM codes") == 1_250

    monkeypatch.setattr(code_generator, "generate_codes", lambda *_: ["SAME-CODE"])
    used_up = await order_codes(pool, other, 10)
    while await generator.run_one():
        pass
    assert (await job_rows.read_job(pool, other.workspace, used_up)).status == "failed"
    monkeypatch.setattr(job_rows, "MAX_GENERATIONS", 1)
    await order_codes(pool, other, 1)
    with pytest.raises(Refusal, match="too_many_jobs"):
        await order_codes(pool, other, 1)
    await order_codes(pool, workspace, 1)


@pytest.mark.parametrize("partitions", [2])
async def test_a_worker_that_lost_its_lease_writes_nothing(pool: asyncpg.Pool, workspace: WorkspaceRow) -> None:
    """The next holder of a partition's lease takes its jobs at once; a commit of the last one is refused, with its
    codes. A job of another partition stays with its worker."""
    home = workspace.partition
    await order_codes(pool, workspace, 10)
    stale = await take_partition(pool, home)
    job = await take_job(pool, home, stale, "generate")
    assert job is not None
    assert await take_job(pool, 1 - home, await take_partition(pool, 1 - home), "generate") is None
    fence = await take_partition(pool, home)
    assert await take_job(pool, home, stale, "generate") is None
    for refused in (
        Generator(pool, Memory(), home, stale)._write(job, 10),
        job_rows.size_job(pool, job, stale, 1, 10),
        job_rows.end_job(pool, job, stale),
    ):
        with pytest.raises(job_rows.JobStopped):
            await refused
    assert await pool.fetchval("SELECT count(*) FROM codes") == 0
    again = await take_job(pool, home, fence, "generate")
    assert again == job


async def test_a_locked_job_delays_nothing(pool: asyncpg.Pool, workspace: WorkspaceRow) -> None:
    """Neither a partition's lease nor its other jobs wait for a transaction that has locked a job."""
    locked = await order_codes(pool, workspace, 10)
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("UPDATE jobs SET done = 1")
        fence = await take_partition(pool)
        assert await take_job(pool, 0, fence, "generate") is None
        await order_codes(pool, workspace, 10)
        other = await take_job(pool, 0, fence, "generate")
        assert other is not None
        assert other.job_id != locked


async def test_a_job_without_new_codes_fails(pool: asyncpg.Pool, workspace: WorkspaceRow) -> None:
    """A job fails with a reason if other books have all codes that its pattern can make."""
    book = await make_book(pool, workspace)
    other = await make_book(pool, workspace)
    await code_rows.add_codes(pool, workspace.workspace, 0, other.book, [CodeLine(f"X{n:05}") for n in range(100_000)])
    async with pool.acquire() as connection, connection.transaction():
        job = await job_rows.create_generation(connection, book, 10, "X#####", "0123456789")
    assert await Generator(pool, Memory(), 0, FENCE).run_one()
    job = await job_rows.read_job(pool, workspace.workspace, job.job_id)
    assert (job.status, job.done) == ("failed", 0)
    assert job.errors == ["No more new codes can be found for the pattern X#####."]


async def test_a_search_ends(pool: asyncpg.Pool, workspace: WorkspaceRow, monkeypatch: pytest.MonkeyPatch) -> None:
    """A search and a report for which Postgres needs too long are refused, and say what to ask for instead. Their
    connection works afterwards without that bound."""
    monkeypatch.setattr(postgres, "READING_S", 0.1)
    now = datetime.now(UTC)
    span = report_rows.Span(workspace.workspace, "day", now, now, "UTC")
    all_books = report_rows.Groups("book", None, None)
    async with pool.acquire() as blocking, blocking.transaction():
        await blocking.execute("LOCK TABLE books, report_sums")
        for read, field in (
            (book_rows.page_books(pool, workspace.workspace, 10, q="x"), "q"),
            (report_rows.read_sales(pool, span, all_books, 10), "groupBy"),
            (report_rows.read_recorded(pool, span, all_books, 10), "groupBy"),
            (report_rows.read_liability(pool, span, all_books, 10), "to"),
        ):
            with pytest.raises(Refusal) as refusal:
                await asyncio.wait_for(read, PATIENCE_S)
            assert (refusal.value.code, [error.field for error in refusal.value.errors]) == ("invalid", [field])
    assert await book_rows.page_books(pool, workspace.workspace, 10, q="x") == []
    assert await pool.fetchval("SHOW statement_timeout") != "100ms"
