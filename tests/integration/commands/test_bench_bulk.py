"""What `bench bulk --kill` judges: codes that a job has changed or assigned, in its results and in both stores."""

import pytest

from loadtests import changed
from loadtests.ground import Ground
from loadtests.subject import ground_of
from tests.integration.bulk.test_code_changes import change
from tests.service_fixture import Service, new_code, new_id, ok


async def test_what_jobs_lose_is_found(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """`bench bulk --kill` accepts what a job has changed, and finds codes that it did not, in each place."""
    monkeypatch.setattr(changed, "RECORDED_S", 0.0)
    first, second, other = (new_code() for _ in range(3))
    book = service.book(first, second)
    job, _ = change(service, book, action="switchOff")
    with ground_of(service.run.url).barrage as barrage:
        about = (service.run, Ground(barrage, 1), book)
        assert await changed.find_faults(*about, {first, second}, job["jobId"], False) == []
        faults = await changed.find_faults(*about, {first, second, other}, job["jobId"], True)
    assert [fault.partition(", such as")[0] for fault in faults] == [
        "1 codes in the results are missing",
        "1 codes in Postgres are missing or unknown",
        "2 codes in Postgres are not changed",
        "2 codes in Redis are not changed",
        "Redis counts 0 of 3 codes.",
    ]
    assert await changed.find_lost_redemptions(service.run, book, {first}) == [
        f"1 codes redeemed are not recorded, such as {first}."
    ]


async def test_users_with_other_codes_are_found(service: Service) -> None:
    """`bench bulk --kill` accepts what jobs have assigned, and finds users without a code, or with more than one, and
    codes that a job's results lack."""
    codes, users = {new_code() for _ in range(4)}, [new_id() for _ in range(2)]
    book = service.book(*codes)
    job, results = change(service, book, action="assign", users=users)
    with ground_of(service.run.url).barrage as barrage:
        about = (service.run, Ground(barrage, 1), book)
        assert await changed.find_assignment_faults(*about, codes, set(users), [job["jobId"]]) == []
        left = next(iter(codes - {row["code"] for row in results}))
        ok(service.checkout.post(f"/v1/coupons/assign/{left}", json={"userId": users[0]}), 201)
        known = codes - {results[1]["code"]}
        faults = await changed.find_assignment_faults(*about, known, {*users, new_id()}, [job["jobId"]])
    assert [fault.partition(", such as")[0] for fault in faults] == [
        "1 users in the results are without a code, or unknown",
        "1 codes in the results are not of the book",
        "1 users in Postgres are without a code, or unknown",
        "1 users in Postgres are there more than once",
        "1 codes in Postgres are not of the book",
        "1 codes in Postgres are not the user's of the results",
        "2 users in Redis are without a code, or unknown",
        "1 users in Redis are there more than once",
        "2 codes in Redis are not the user's of the results",
    ]
