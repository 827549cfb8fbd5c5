"""People sign in to the console at an OpenID provider that is not ours, and what they do has their name."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from service.server.in_postgres.console_sessions import end_sessions_of
from tests.harness.openid_provider import served_with_people
from tests.harness.service_fixture import Service, database, new_code, new_id, ok, refused
from tests.harness.serving import Served, own_workspace
from tests.harness.waiting import PATIENCE_S, until

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:authlib")  # the provider's use of it
service = own_workspace("live")


@pytest.fixture(scope="module")
def served(service: Service, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served_with_people(service, tmp_path_factory.mktemp("people"), "away") as server:
        yield server


class Browser(httpx.Client):
    """A browser: it keeps cookies, also of the provider, and follows no redirect by itself."""

    def __init__(self, served: Served) -> None:
        super().__init__(base_url=served.url, timeout=PATIENCE_S, headers={"Origin": served.url}, verify=False)

    def visit_provider(self, workspace: str, name: str) -> str:
        """Begin to sign in, and do so at the provider; return the address to which it leads."""
        answer = self.get("/console/sign-in", params={"workspace": workspace})
        assert answer.status_code == 303
        with httpx.Client(timeout=PATIENCE_S) as elsewhere:  # which sends it no cookie of ours
            answer = elsewhere.post(answer.headers["Location"], data={"sub": name})
        assert answer.status_code == 302
        return answer.headers["Location"]

    def sign_in(self, workspace: str, name: str) -> dict[str, Any]:
        """Sign in; return the session."""
        answer = self.get(self.visit_provider(workspace, name))
        assert (answer.status_code, answer.headers["Location"]) == (303, "/console")
        session = ok(self.get("/console/session"))
        self.headers["X-CSRF-Token"] = session["csrfToken"]
        return session


def refusal_of(answer: httpx.Response) -> str:
    """Why the sign-in was refused, as the page reads it."""
    assert answer.status_code == 303
    assert "scrip_session" not in answer.cookies
    return answer.headers["Location"].partition("/console?refused=")[2]


def entries_of(service: Service, person: str) -> list[dict[str, Any]]:
    return ok(service.operate.get("/v1/audit", params={"person": person}))["items"]


def test_a_person_has_the_rights_of_the_roles(service: Service, served: Served) -> None:
    """A session has the scopes of the person's roles until its end; the audit names the person."""
    with Browser(served) as browser:
        session = browser.sign_in(service.workspace, "ada@shop.example")
        assert (session["person"], session["scopes"]) == ("ada@shop.example", ["manage"])
        assert [*browser.cookies] == ["scrip_session"]
        book = ok(browser.post("/v1/books", json={"name": "Ada's"}), 201)
        assert refused(browser.get("/v1/keys"), 403, "forbidden")["detail"].endswith("your role has manage.")
        assert browser.delete("/console/session").status_code == 204
        refused(browser.get("/v1/books"), 401, "unauthenticated")
    ended, created, began = entries_of(service, "ada@shop.example")[:3]
    assert [one["action"] for one in (ended, created, began)] == ["session.ended", "book.created", "session.began"]
    assert {one["actor"] for one in (ended, created, began)} == {"person"}
    assert (created["subject"], created["keyId"], created["ipAddress"]) == (book["bookId"], None, "127.0.0.1")
    assert began["after"]["scopes"] == ["manage"]


def test_who_acts_in_the_console(service: Service, served: Served) -> None:
    """What a person does with codes and redemptions is in the audit once, and in their timelines; what only keys may
    do is refused."""
    used, order, free = new_code(), new_id("order"), new_code()
    service.book(used, free)
    redeemed = {"userId": new_id(), "orderId": order, "orderValue": 5}
    redemption = ok(service.checkout.post(f"/v1/coupons/redeem/{used}", json=redeemed), 201)["redemptionId"]
    held = {"userId": new_id(), "orderId": new_id("order")}
    ok(service.checkout.post(f"/v1/coupons/lock/{free}", json=held), 201)
    with Browser(served) as browser:
        browser.sign_in(service.workspace, "bob@shop.example")
        token = ok(browser.post(f"/v1/coupons/lock/{free}", json=held))["lockToken"]
        assert browser.post(f"/v1/coupons/unlock/{free}", json={"lockToken": token}).status_code == 204
        ok(browser.post(f"/v1/coupons/assign/{free}", json={"userId": "carla"}), 201)
        ok(browser.post(f"/v1/coupons/assign/{free}", json={"userId": "carla"}))
        ok(browser.post(f"/v1/coupons/unassign/{free}", json={}))
        rollback = f"/v1/redemptions/{redemption}/rollback"
        ok(browser.post(rollback, json={}))
        refused(browser.post(rollback, json={}), 409, "already_rolled_back")
        refused(browser.post(f"/v1/coupons/redeem/{free}", json=redeemed), 403, "forbidden")
        refused(browser.post("/v1/batch", json={"operations": []}), 403, "forbidden")
        done = [one for one in entries_of(service, "bob@shop.example") if not one["action"].startswith("session")]
        actions = "redemption.rolledBack coupon.unassigned coupon.assigned coupon.unlocked".split()
        assert [one["action"] for one in done] == actions
        assert done[0]["subject"] == redemption
        assert free not in json.dumps(done)
        timeline = {"kind": "code", "name": used}
        (event, _) = ok(browser.get("/console/data/timeline", params=timeline))["events"]
        assert (event["what"], event["actor"], event["person"]) == ("rolledBack", "person", "bob@shop.example")
        changes = ok(browser.get("/console/data/changes", params={"code": free}))["items"]
        assert [(one["action"], one["person"]) for one in changes] == [(one, "bob@shop.example") for one in actions[1:]]


def test_sign_ins_that_are_refused(service: Service, served: Served) -> None:
    """A person without a role, a refusal at the provider, another browser's sign-in, a provider that is away."""
    with Browser(served) as browser, Browser(served) as other:
        assert refusal_of(browser.get(browser.visit_provider(service.workspace, "eve@shop.example"))) == "no_role"
        back = browser.visit_provider(service.workspace, "ada@shop.example")
        assert refusal_of(browser.get(back.replace("code=", "error=access_denied&_="))) == "no_role"
        stolen = browser.visit_provider(service.workspace, "bob@shop.example")
        assert refusal_of(other.get(stolen)) == "ended"
        assert browser.get(stolen).headers["Location"] == "/console"
        assert refusal_of(browser.get(stolen)) == "ended"
        assert refusal_of(browser.get("/console/sign-in", params={"workspace": "away"})) == "failed"
        assert refusal_of(browser.get("/console/sign-in", params={"workspace": "nobody's"})) == "unknown"
        assert refusal_of(browser.get("/console/sign-in")) == "unknown"  # of two workspaces, none is named
        wrong = browser.visit_provider(service.workspace, "bob@shop.example").replace("code=", "code=x")
        assert refusal_of(browser.get(wrong)) == "failed"


async def test_a_person_can_be_signed_out(service: Service, served: Served) -> None:
    """All sessions of a person end at once, also elsewhere, and nobody else's."""
    with Browser(served) as ada, Browser(served) as bob:
        ada.sign_in(service.workspace, "ada@shop.example")
        bob.sign_in(service.workspace, "bob@shop.example")
        with Browser(served) as again:
            again.sign_in(service.workspace, "ada@shop.example")
            async with database(service.run.facts["databaseUrl"]) as connection:
                assert await end_sessions_of(connection, service.number, "ada@shop.example") >= 2
            until(lambda: ada.get("/v1/books").status_code == 401 and again.get("/v1/books").status_code == 401)
            assert bob.get("/v1/books").is_success
