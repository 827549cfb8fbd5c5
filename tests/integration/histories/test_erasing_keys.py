"""Answers stored under Idempotency-Keys while their user is deleted: the same in both stores."""

import threading
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest

from service.engine.formats.event_id import EventId
from service.engine.formats.idempotency_entry import compress_body
from service.engine.operations import assign, lock, redeem
from service.engine.record.facts.fact_reader import START
from service.server.in_postgres.user_deletion import entries_with, is_erased, pending_erasures
from service.server.in_redis.workspace_state import Workspace
from service.server.tasks import user_eraser
from tests.harness.service_fixture import Service, new_code, new_id
from tests.integration.comparing.test_reconcile import command
from tests.integration.coupons.test_kept_bytes import insert_entries
from tests.integration.histories.test_erasing import begin, erase, live, project, start_eraser, stock, traces
from tests.integration.opening.opening_fixtures import PartitionSetup

_EXPANDED = r"regexp_replace(entry, '^(\S+ \S+ @)\.', '\1' || epoch || '-' || seq)"


async def kept(setup: PartitionSetup) -> dict[str, tuple[str | None, str]]:
    """The entries in Redis and in Postgres, by key, of all keys in Postgres."""
    rows = await setup.pool.fetch(f"SELECT key, {_EXPANDED} AS entry FROM idempotency_keys")
    entries = {}
    for row in rows:
        text: Any = await setup.redis.get(f"{setup.caller.prefix}i:{row['key']}")
        entries[row["key"]] = (text and text.decode(), row["entry"])
    return entries


async def test_what_is_decided_meanwhile_is_the_same_in_both_stores(
    setup: PartitionSetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request that is recorded after the deletion's last event and before Redis's entries are read keeps its answer
    in both stores; earlier entries name the user in neither."""
    user, read_entries = "zoe0-", user_eraser.page_entries
    await stock(setup, 2)
    await live(setup, user, 0)
    await setup.do(assign.ASSIGN_CODE, "MANY-1", "before", userId="bob")
    await setup.do(redeem.REDEEM, "A1-7", userId=user, orderId="seen")
    asked: list[tuple[Any, str, str, str]] = [
        (assign.ASSIGN_CODE, "A1-1", "k-assign", user),
        (redeem.REDEEM, "A1-2", "k-redeem", user),
        (lock.LOCK, "A1-3", "k-lock", user),
    ]
    first: list[Any] = []

    async def race(*args: Any) -> AsyncIterator[list[tuple[str, str]]]:
        first.extend([await setup.do(operation, code, key, userId=asker) for operation, code, key, asker in asked])
        workspace = Workspace(setup.decider)
        assert await workspace.claim_key(setup.caller, "k-json", "f") is None
        await workspace.store_answer(setup.caller, "k-json", "f", 201, b'{"userId":"%b","text":""}' % user.encode(), "")
        await setup.record()
        async for page in read_entries(*args):
            yield page

    pseudonym = await begin(setup, user)
    await project(setup)
    monkeypatch.setattr(user_eraser, "page_entries", race)
    await erase(setup)
    await setup.record()
    entries = await kept(setup)
    assert {"k-assign", "k-redeem", "k-json"} < set(entries)
    assert {key: both for key, both in entries.items() if both[0] != both[1]} == {}
    assert [await setup.do(operation, code, key, userId=asker) for operation, code, key, asker in asked] == first
    assert pseudonym not in entries["k-json"][1]
    monkeypatch.setattr(user_eraser, "page_entries", read_entries)
    await begin(setup, user)  # the new user goes, too
    await project(setup)
    await erase(setup)
    left = await traces(setup, user)
    assert all(":d:" in name or ":lu:" in name for name in left), left  # the live lock, which stays to its end


async def test_only_what_may_name_the_user_is_read(setup: PartitionSetup) -> None:
    """Only entries that may name the user are fetched, in pages of bounded bytes."""
    plain, naming = "B" + "A" * 300_000, compress_body(b'{"results":[%b]}' % (b'{"userId":"someone"},' * 20_000))
    answers = {"plain": plain, "naming": naming + "A" * 300_000}
    await insert_entries(
        setup, {f"{kind}-{n}": f"f 0 200 - {body}" for kind, body in answers.items() for n in range(12)}
    )
    pages = [page async for page in entries_with(setup.pool, setup.caller.workspace, ["zoe"], START, EventId(1, 0))]
    assert {key.split("-")[0] for page in pages for key, _ in page} == {"naming"}
    assert sum(len(page) for page in pages) == 12
    assert max(sum(len(entry) for _, entry in page) for page in pages) <= 1 << 20


def test_answers_are_the_same_in_both_stores_after_traffic(patient: Service) -> None:
    """After users who act under keys were deleted meanwhile, and then again, the stores do not differ."""
    users = [new_id() for _ in range(6)]
    codes = [[new_code() for _ in range(30)] for _ in users]
    for some in codes:
        patient.book(*some, maxRedemptionsPerCode=2)
    begun, failed = threading.Event(), list[Any]()

    def shop(user: str, some: list[str]) -> None:
        client = patient.client("demo_admin")
        for n, code in enumerate(some):
            for path, body in (
                ("/v1/users", {"userId": user}),
                (f"/v1/coupons/lock/{code}", {"userId": user, "orderId": f"{user}-{n}"}),
                (f"/v1/coupons/redeem/{code}", {"userId": user, "orderId": f"{user}-{n}"}),
                (f"/v1/coupons/assign/{code}", {"userId": user}),
            ):
                answer = client.post(path, json=body, headers={"Idempotency-Key": uuid4().hex})
                if answer.status_code >= 500:
                    failed.append(answer.text)
            begun.set()

    threads = [threading.Thread(target=shop, args=args) for args in zip(users, codes, strict=True)]
    for thread in threads:
        thread.start()
    begun.wait()
    for user in users * 2:
        assert patient.manage.delete(f"/v1/users/{user}").status_code == 204
    for thread in threads:
        thread.join()
    patient.recorded()
    compared = command(patient)
    assert (compared.exit_code, failed) == (0, []), compared.stdout
    for user in users:
        assert patient.manage.delete(f"/v1/users/{user}").status_code == 204
    patient.recorded()
    compared = command(patient)
    assert compared.exit_code == 0, compared.stdout


async def test_a_deletion_that_is_asked_for_again_reads_only_what_is_new(
    setup: PartitionSetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A DELETE that is repeated while it runs still ends: the next pass reads only the entries since the last one."""
    asked, user, between = entries_with, "zoe0-", list[Any]()
    await stock(setup, 1)
    await live(setup, user, 0)
    pseudonym = await begin(setup, user)
    await project(setup)

    def count(*args: Any) -> Any:
        between.append(args[3:])
        return asked(*args)

    monkeypatch.setattr(user_eraser.user_deletion, "entries_with", count)
    async with start_eraser(setup) as eraser:
        for again in (True, False):
            await setup.record()
            users = await pending_erasures(setup.pool, 0, 100)
            if again:
                assert await begin(setup, user) == pseudonym  # meanwhile
                await project(setup)
            await eraser.erase(users)
            assert await is_erased(setup.pool, setup.caller.workspace, pseudonym) != again
    (first_after, first_last), (second_after, second_last) = between
    assert first_after == START < first_last == second_after <= second_last
