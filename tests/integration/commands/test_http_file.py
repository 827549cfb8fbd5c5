"""The samples of scrip.http, sent as an editor sends them, with the values that its comments name."""

import json
import re
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from tests.harness.service_fixture import Service, new_code, new_id, ok
from tests.reference import list_operations, render_http_file

TEXT = render_http_file()
VARIABLES = dict(re.findall(r"^@(\w+) = (.*)$", TEXT, re.MULTILINE))
SAMPLES = dict(re.findall(r"^### (.+)\n((?:(?!###).*\n?)*)", TEXT, re.MULTILINE))
OF_CARDS = {"Credit a card", "Close a card"}


class Editor:
    """Sends samples of the file; `values` are what its user writes at the top."""

    def __init__(self, service: Service) -> None:
        self.service, self.book = service, service.book(code := new_code(), other := new_code())
        self.code, self.other = code, other
        self.values = VARIABLES | {"scrip": service.run.url, "key": f"{service.workspace}_admin", "code": code}
        self.values |= {"bookId": self.book, "orderId": new_id("A"), "userId": new_id()}

    def send(self, summary: str, **values: str) -> httpx.Response:
        known = self.values | values
        text = re.sub(r"{{(\w+)}}", lambda found: known[found[1]], SAMPLES[summary])
        head, _, body = text.partition("\n\n")
        first, *headers = head.strip().splitlines()
        method, url = first.split(" ", 1)
        sent = dict(line.split(": ", 1) for line in headers)
        return self.service.anonymous.request(method, url, content=body.strip() or None, headers=sent)

    def lock(self) -> None:
        self.values["lockToken"] = ok(self.send("Lock a coupon"), 201)["lockToken"]

    def redeemed(self) -> int:
        return ok(self.service.manage.get(f"/v1/books/{self.book}/stats"))["redemptions"]


@pytest.fixture(scope="module")
def workspace(service: Service) -> Service:
    return service.make_workspace(new_id("editor"), "test")


@pytest.fixture
def editor(workspace: Service) -> Editor:
    return Editor(workspace)


def test_each_value_says_where_it_is_from() -> None:
    """Each value of a sample is declared at the top; one that the service makes names the request that answers it."""
    assert set(re.findall(r"{{(\w+)}}", TEXT)) == set(VARIABLES)
    answers = {operation.described["summary"]: operation.described["responses"] for operation in list_operations()}
    named = {name: of for of, name in re.findall(r'^# Of the answer to "(.+)":\n@(\w+)', TEXT, re.MULTILINE)}
    assert set(named) == {name for name, value in VARIABLES.items() if not value.strip()}
    for name, summary in named.items():
        assert f'"{name}"' in json.dumps(answers[summary]) or name == "requestId", summary  # of each refusal


def test_the_samples_of_a_sale(editor: Editor) -> None:
    """The samples of a lock, its extension, its release, a redemption, its repeat and its rollback succeed."""
    assert ok(editor.send("Validate a coupon"))["valid"]
    editor.lock()
    ok(editor.send("Extend a lock"))
    assert editor.send("Release a lock").status_code == 204
    editor.lock()
    sold = ok(editor.send("Redeem a coupon"), 201)
    assert ok(editor.send("Redeem a coupon"))["redemptionId"] == sold["redemptionId"]
    ok(editor.send("Roll an order back"))
    refused = editor.send("Roll an order back")
    assert (refused.status_code, refused.json()["code"]) == (409, "already_rolled_back")
    again = ok(editor.send("Redeem a coupon"), 201)
    assert again["redemptionId"] != sold["redemptionId"]
    ok(editor.send("Roll a redemption back", redemptionId=again["redemptionId"]))
    assert ok(editor.send("Complete a purchase"), 201)["redemption"]
    assert editor.redeemed() == 1


def test_the_samples_with_a_bad_code(editor: Editor) -> None:
    """A code that is unknown, or would be another path, is not found, and no sample changes anything for it."""
    for summary, sample in SAMPLES.items():
        for code in ("NO-SUCH-CODE", f"../redeem/{editor.other}", f"{editor.other}/../{editor.other}", "a?b", "a#b"):
            if "{{code}}" in sample.split("\n\n")[0]:
                answer: Any = editor.send(summary, code=quote(code, safe=""), lockToken="a")
                assert answer.status_code == 404 or answer.json()["valid"] is False, (summary, answer.json())
    assert editor.redeemed() == 0


def test_the_samples_under_an_expired_lock(editor: Editor) -> None:
    """The token of an expired lock is refused, and its sample of a release succeeds."""
    editor.lock()
    clock = "/v1/test/clock"
    ok(editor.service.operate.post(clock, json={"now": "2036-11-27T00:00:00Z"}))
    try:
        assert editor.send("Extend a lock").json()["code"] == "lock_lost"
        assert editor.send("Release a lock").status_code == 204
        ok(editor.send("Redeem a coupon"), 201)
    finally:
        ok(editor.service.operate.post(clock, json={}))


def test_the_samples_of_a_card(editor: Editor) -> None:
    """The samples of a card, with its code, succeed."""
    card = new_code()
    editor.service.book(card, discount={"type": "balance", "value": 50})
    assert ok(editor.send("Credit a card", code=card))["balance"]["available"] == "60.00"
    assert ok(editor.send("Close a card", code=card))["balance"]["available"] == "0.00"
    assert len(ok(editor.send("List the changes of a card's balance", code=card))["items"]) == 3


def test_each_sample_is_well_formed(editor: Editor) -> None:
    """No sample is refused for its form: only for what is not there."""
    made = {name: "00000000-0000-7000-8000-000000000000" for name, value in VARIABLES.items() if not value.strip()}
    wrong: list[Any] = []
    made |= {"eventId": "1-1", "lockToken": "a", "bookId": editor.book}
    editor.service.book(card := new_code(), discount={"type": "balance", "value": 50})
    for summary in SAMPLES:
        more = {"code": card} if summary in OF_CARDS else {}  # which another coupon refuses as `invalid`
        answer = editor.send(summary, **made | more)
        if answer.status_code in (400, 422):
            wrong.append((summary, answer.json()))
    assert wrong == []
