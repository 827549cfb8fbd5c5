"""Ids of ours at the ends of their types, at every address and in every body that takes one: not found, never 500."""

import json
import re

import pytest

from tests.cases import Place, filled
from tests.ends import EVENTS, IDS, NO_TIMES, NUMBERS, TIMES, TOO_EARLY, TOO_LATE
from tests.routes.place import make_place, send
from tests.routes.table import REQUESTS
from tests.service_fixture import Service, new_id

_OURS = re.compile(r"\{(book|job|redemption|key|webhook|delivery)\}")
_OUR_PARAMETERS = re.compile(r"\{(?:book|job|redemption|key|webhook|delivery)Id\}")


@pytest.fixture(scope="module")
def service(service: Service) -> Service:
    """A workspace of this file's own."""
    return service.make_workspace(new_id("ends"), "live")


@pytest.fixture(scope="module")
def place(service: Service) -> Place:
    return make_place(service)


def test_ids_in_addresses(service: Service, place: Place) -> None:
    """A request that works answers 404 if its path names an id of ours at the end of its type."""
    seen, failures = 0, list[str]()
    for asked in REQUESTS:
        ours = _OURS.findall(asked.path)
        for text in EVENTS if "{event}" in asked.path else IDS if ours else ():
            body = filled(asked.good, place)
            answer = send(service, asked, place | dict.fromkeys([*ours, "event"], text), json.dumps(body).encode())
            seen += 1
            if answer.status_code != 404:
                failures.append(f"{asked.id} {text}: {answer.status_code} {answer.text[:200]}")
    assert failures == []
    assert seen > 15 * len(IDS)


def test_ids_in_addresses_that_are_read(service: Service) -> None:
    """Each GET and DELETE of the document answers 404 for such an id."""
    paths = service.anonymous.get("/schema/openapi.json").json()["paths"]
    failures = list[str]()
    for path, methods in paths.items():
        for method in {"get", "delete"} & methods.keys() if _OUR_PARAMETERS.search(path) else ():
            for text in IDS:
                answer = service.admin.request(method, _OUR_PARAMETERS.sub(text, path))
                if answer.status_code != 404:
                    failures.append(f"{method} {path} {text}: {answer.status_code} {answer.text[:200]}")
    assert failures == []


def test_ids_in_bodies(service: Service, place: Place) -> None:
    """An id of a book in a body that no book has is not found, or invalid where it is a setting."""
    seen, failures = 0, list[str]()
    for asked in REQUESTS:
        for name in {"bookId", "giftBookId"} & {*asked.fields, *asked.good}:
            for text in IDS:
                answer = send(service, asked, place, json.dumps(filled(asked.good, place) | {name: text}).encode())
                seen += 1
                code = answer.json().get("code")
                if (answer.status_code, code) not in ((404, "book_not_found"), (422, "invalid")):
                    failures.append(f"{asked.id} {name} {text}: {answer.status_code} {answer.text[:200]}")
    assert failures == []
    assert seen >= 4 * len(IDS)


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
