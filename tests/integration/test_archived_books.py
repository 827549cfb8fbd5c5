"""What is asked about archived months: refused, or answered from what is kept; deleted users stay deleted."""

from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest

from service.domain.book_requests import PatchBook
from service.domain.code_requests import CodeLine
from service.domain.decoding import convert
from service.domain.errors import Refusal
from service.domain.times import from_ms
from service.operations import rollback, unassign
from service.record.config.archived_books import read_archived_to
from service.record.config.book_rows import patch_book
from service.record.config.code_pages import FIRST, page_codes
from service.record.config.code_rows import add_codes, patch_coupon
from service.record.config.job_rows import create_generation
from service.record.facts import history_pages
from service.record.facts.month_archiver import Kept
from service.record.facts.timeline_queries import events_of
from service.record.facts.user_deletion import begin_erasure, erase_facts, finish_erasure, pending_erasures
from service.record.partitions.partition_rows import read_partition
from tests.integration.archiving_fixtures import archive, read_tables, restore
from tests.integration.opening_fixtures import Place
from tests.integration.retiring_fixtures import answers, read_book_row
from tests.service_fixture import Service, new_code, new_id, ok, refused


async def test_requests_that_need_the_facts_are_refused(
    place: Place, retired_month: str, database_url: str, tmp_path: Path
) -> None:
    """What needs archived facts is refused with `book_archived`, whose detail names the months and the command; before,
    it is not."""
    redemption = await place.pool.fetchval("SELECT redemption_id FROM redemptions WHERE code = 'CODE-5'")
    w = place.caller.workspace
    book = await read_book_row(place)
    end = convert({"validUntil": from_ms(book.created_ms + 86_400_000)}, PatchBook)

    async def generate() -> None:
        async with place.pool.acquire() as connection, connection.transaction():
            await create_generation(connection, book, 1, "LATE-######", "ABCDEFGH")

    requests = {
        "list": partial(history_pages.redemptions_of_book, place.pool, w, 1, 10, None),
        "list of a code": partial(history_pages.redemptions_of_code, place.pool, w, "CODE-5", 10, None),
        "notices": partial(history_pages.notices_of_book, place.pool, w, 1, 10, None),
        "codes": partial(page_codes, place.pool, w, 1, 10, FIRST, None),
        "timeline": partial(events_of, place.pool, w, "code", "CODE-5"),
        "rollback": partial(place.do, rollback.ROLLBACK, str(redemption)),
        "unassign": partial(place.do, unassign.UNASSIGN, "CODE-1"),
        "switch": partial(patch_coupon, place.pool, w, 0, "CODE-50", {"active": False}),
        "upload": partial(add_codes, place.pool, w, 0, 1, [CodeLine("LATE-1")]),
        "generate": generate,
        "open": partial(patch_book, place.pool, w, 0, book.book_id, end),
    }
    assert await read_archived_to(place.pool, w) is None
    assert (await history_pages.redemptions_of_book(place.pool, w, 1, 10, None)).items
    await archive(database_url, tmp_path)
    before = await read_tables(place.pool)
    for what, request in requests.items():
        with pytest.raises(Refusal) as caught:
            await request()
        assert (what, caught.value.code) == (what, "book_archived")
        assert retired_month in caught.value.detail
        assert "scrip archive --restore DIR" in caught.value.detail
    assert await read_tables(place.pool) == before
    assert await read_archived_to(place.pool, w) == retired_month
    assert (await history_pages.redemptions_of_user(place.pool, w, "ann", 10, None)).items == []
    with pytest.raises(Refusal, match="redemption_not_found"):
        await place.do(rollback.ROLLBACK, "019aa0b2-6f0c-4b52-8a0e-5d1f3d1f9c11")
    await restore(database_url, tmp_path)
    with pytest.raises(Refusal, match="unavailable"):
        await requests["rollback"]()


async def test_a_deleted_user_stays_deleted(
    place: Place, retired_month: str, database_url: str, tmp_path: Path
) -> None:
    """A deletion covers what is kept of archived months; a restore replaces the user in what the files have, and not a
    later user of the same name. Then Postgres has no digest of the id."""
    await archive(database_url, tmp_path)
    row = await read_partition(place.pool, 0)
    pseudonym = await begin_erasure(place.pool, place.caller.workspace, 0, "ann", row.cursor)
    (erasure,) = await pending_erasures(place.pool, 0, 10)
    with pytest.raises(Kept, match="are being deleted"):
        await restore(database_url, tmp_path)
    await erase_facts(place.pool, erasure, row.cursor)
    assert await finish_erasure(place.pool, erasure, row.cursor)
    users = "SELECT DISTINCT user_id FROM {} ORDER BY 1"
    kept = [user for (user,) in await place.pool.fetch(users.format("archived_codes"))]
    assert pseudonym in kept
    assert "ann" not in kept
    assert (await answers(place, "CODE-5"))["read CODE-5"].find(b"ann") < 0
    await restore(database_url, tmp_path)
    for table in ("assignments", "unassignments", "redemptions", "rollbacks"):
        seen = {user for (user,) in await place.pool.fetch(users.format(table))}
        assert pseudonym in seen
        assert "ann" not in seen
    assert await place.pool.fetchval("SELECT count(*) FROM erasures WHERE user_digest IS NOT NULL") == 0
    assert (
        await place.pool.fetchval("SELECT count(*) FROM redemptions WHERE user_id = $1 AND ip IS NOT NULL", pseudonym)
        == 0
    )


async def test_refusals_over_http(service: Service) -> None:
    """A refusal names the months and the command. A list over all books names the newest month that it leaves out."""
    code, user = new_code(), new_id()
    book = service.book(code)
    body = {"userId": user}
    redeemed = ok(service.checkout.post(f"/v1/coupons/redeem/{code}", json=body), 201)["redemptionId"]
    service.recorded()
    mark = "UPDATE books SET retirement = {}, retired_counts = '{{}}', archived_months = {} WHERE book_id = '{}'"
    await service.fetch(mark.format("'retired'", "'{2020-02-01,2020-01-01}'", book))
    try:
        for path in ("redemptions", "codes", "notices", "redemptions.csv", "codes.csv"):
            problem = refused(service.manage.get(f"/v1/books/{book}/{path}"), 409, "book_archived")
            assert "files, of 2020-01, 2020-02. An operator restores them with" in problem["detail"]
        refused(service.manage.get(f"/v1/coupons/{code}/redemptions"), 409, "book_archived")
        listed = service.manage.get(f"/v1/users/{user}/redemptions")
        assert listed.headers["Scrip-Archived-To"] == "2020-02"
        old = f"0170{redeemed[4:]}"
        (month,) = (datetime.fromtimestamp(int(old[:13].replace("-", ""), 16) / 1000, UTC),)
        await service.fetch(mark.format("'retired'", f"'{{{month:%Y-%m}-01}}'", book))
        rolled = refused(service.manage.post(f"/v1/redemptions/{old}/rollback", json={}), 409, "book_archived")
        assert f"{month:%Y-%m}" in rolled["detail"]
        lists = service.manage.get("/console/data/redemptions")
        assert lists.headers["Scrip-Archived-To"] == f"{month:%Y-%m}"
    finally:
        await service.fetch(mark.format("NULL", "NULL", book))
    assert "Scrip-Archived-To" not in service.manage.get(f"/v1/users/{user}/redemptions").headers
