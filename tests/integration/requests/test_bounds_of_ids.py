"""Ids of ours at the ends of their types, at every address that takes one: not found, never 500.

tests/harness/kinds.py has them for the fields of bodies.
"""

import re

import pytest

from tests.harness.cases import WorkspaceSetup, filled
from tests.harness.described import Route
from tests.harness.ends import EVENTS, IDS, NO_TIMES, NUMBERS, TIMES, TOO_EARLY, TOO_LATE
from tests.harness.routes.setup import make_setup
from tests.harness.routes.table import ROUTES
from tests.harness.service_fixture import Service
from tests.harness.serving import own_workspace

_OURS = re.compile(r"\{(book|job|redemption|key|webhook|delivery|event)\}")


service = own_workspace("live")


@pytest.fixture(scope="module")
def setup(service: Service) -> WorkspaceSetup:
    return make_setup(service)


@pytest.mark.parametrize("route", [route for route in ROUTES if _OURS.search(route.named)], ids=lambda one: one.name)
def test_ids_in_addresses(service: Service, setup: WorkspaceSetup, route: Route) -> None:
    """A request that works answers 404 if its path names an id of ours at the end of its type."""
    failures, names = list[str](), _OURS.findall(route.named)
    for text in EVENTS if "event" in names else IDS:
        path, body = filled((route.named, route.working[1]), setup | dict.fromkeys(names, text))
        answer = service.admin.request(route.method, path, json=body)
        if answer.status_code != 404:
            failures.append(f"{text}: {answer.status_code} {answer.text[:200]}")
    assert failures == []


@pytest.mark.parametrize("text", IDS)
def test_ids_in_the_console(service: Service, text: str) -> None:
    """A search finds nothing or a request, and a timeline of a request is empty or not found."""
    found = service.manage.get("/console/data/search", params={"q": text})
    timeline = service.manage.get("/console/data/timeline", params={"kind": "request", "name": text})
    assert (found.status_code, timeline.status_code) in ((200, 200), (404, 404), (200, 404))
    for parameters in ({"bookId": text}, {"cursor": "x", "bookId": text}):
        answer = service.manage.get("/console/data/redemptions", params=parameters)
        assert answer.status_code in (200, 400, 404)
    assert service.admin.get("/v1/audit", params={"keyId": text}).json()["items"] == []


def test_times_and_numbers_in_the_console(service: Service) -> None:
    """A query of the console, which the OpenAPI document lacks, answers a time or number at the end of its type."""
    failures = list[str]()
    for path, name in (
        ("redemptions", "since"), ("redemptions", "until"), ("redemptions", "limit"), ("redemptions", "cursor"),
        ("jobs", "limit"), ("jobs", "cursor"), ("charts", "span"), ("changes", "code"),
    ):  # fmt: skip
        for text in (*TIMES, *TOO_EARLY, *TOO_LATE, *NO_TIMES, *NUMBERS):
            answer = service.admin.get(f"/console/data/{path}", params={name: text})
            if answer.status_code not in (200, 400, 404, 422):
                failures.append(f"{path} {name}={text}: {answer.status_code} {answer.text[:200]}")
    assert failures == []
