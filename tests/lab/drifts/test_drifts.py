"""Every kind of difference between Redis and Postgres is named, and repaired."""

import asyncio
from collections.abc import Callable
from typing import get_args

import pytest

from service.engine.formats.coupon_state import Class
from service.server.in_postgres import bulk_reads
from tests.harness.comparing import compare, held, unlike
from tests.harness.drifts import make, populated
from tests.harness.service_fixture import Service
from tests.lab.drifts import in_redis
from tests.lab.drifts.program import run
from tests.lab.drifts.rounds import KINDS, drift


async def test_each_is_named(own_service: Callable[[], Service], monkeypatch: pytest.MonkeyPatch) -> None:
    """Under traffic, a comparison by a replica names nothing, and then exactly the made differences of every kind, in
    Redis and in Postgres; after a repair by the primary none is left."""
    monkeypatch.setattr(bulk_reads, "NAMES_A_PAGE", 50)
    assert await run(own_service()) == []


def test_each_is_mended(own_service: Callable[[], Service]) -> None:
    """A repair restores Redis after each kind of damage; no report has a whole code."""
    service = own_service()
    workspace = populated(service)
    subjects = [(kind, make(workspace, kind.state)) for kind in in_redis.KINDS.values()]
    service.recorded()
    asyncio.run(service.projected())
    before = held(service)
    for kind, subject in subjects:
        asyncio.run(drift(kind, subject))
    things = {difference.thing for difference, _ in compare(service)[1]}
    assert [kind for kind, subject in subjects if not kind.expected(subject).keys() <= things] == []
    outcome, differences = compare(service, repair=True)
    assert (outcome.left, {state for _, state in differences}) == ({}, {"mended"}), differences
    assert all(
        code not in difference.thing
        for difference, _ in differences
        for _, subject in subjects
        for code in subject.codes
    )
    assert unlike(before, held(service)) == []


def test_every_class_has_a_kind() -> None:
    """Each class of difference is made in some way."""
    classes = {one for kind in KINDS.values() for classes in kind.named.values() for one in classes.split()}
    assert classes == set(get_args(Class))
