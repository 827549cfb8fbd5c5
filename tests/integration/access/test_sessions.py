"""Sessions of the console: rights, cookie, origin checks, ends and audit."""

import asyncio
import hashlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.harness.service_fixture import Service, new_code, new_id, ok, refused
from tests.harness.waiting import PATIENCE_S, until

ADDRESS = "/console/session"


class Browser(httpx.Client):
    """A browser: it keeps the cookie, and sends its pages' origin."""

    def __init__(self, service: Service) -> None:
        super().__init__(
            base_url=service.run.url, timeout=PATIENCE_S, headers={"Origin": service.run.url}, verify=False
        )

    def sign_in(self, key: str) -> dict[str, Any]:
        """Sign in, and send the CSRF token from now on; return the session."""
        session = ok(self.post(ADDRESS, json={"key": key}), 201)
        self.headers["X-CSRF-Token"] = session["csrfToken"]
        return session


def test_a_session_is_worth_its_key(service: Service) -> None:
    """A session has its key's scopes, also on the hot path, until sign-out."""
    with Browser(service) as browser:
        refused(browser.get("/v1/books"), 401, "unauthenticated")
        session = browser.sign_in("demo_manage")
        assert (session["workspace"], session["scopes"]) == ("demo", ["manage"])
        assert ok(browser.get(ADDRESS)) == session
        book = ok(browser.post("/v1/books", json={"name": "By a session"}), 201)
        assert ok(browser.get(f"/v1/books/{book['bookId']}")) == book
        refused(browser.get("/v1/keys"), 403, "forbidden")
        refused(browser.post("/v1/coupons/validate", json={"code": "SUMMER-B"}), 403, "forbidden")
        kept = browser.cookies["scrip_session"]
        assert browser.delete(ADDRESS).status_code == 204
        assert not browser.cookies
        assert browser.get(ADDRESS).status_code == 204
        refused(browser.get("/v1/books", headers={"Cookie": f"scrip_session={kept}"}), 401, "unauthenticated")
    with Browser(service) as browser:
        browser.sign_in("demo_admin")
        assert ok(browser.post("/v1/coupons/validate", json={"code": "SUMMER-B"}))["coupon"]["code"] == "SUMMER-B"


def test_a_ledger_names_who_rolled_back_in_the_console(service: Service) -> None:
    """A card's ledger has the key or person of a session that rolled a redemption or an order back, but not the key of
    an API request."""
    code, orders = new_code(), [new_id("order") for _ in range(3)]
    service.book(code, discount={"type": "balance", "value": 50})
    paid = [{"userId": "ann", "orderId": order, "orderValue": 5} for order in orders]
    made = [ok(service.checkout.post(f"/v1/coupons/redeem/{code}", json=body), 201) for body in paid]
    with Browser(service) as browser:
        browser.sign_in("demo_manage")
        ok(browser.post(f"/v1/redemptions/{made[0]['redemptionId']}/rollback", json={}))
        ok(browser.post(f"/v1/orders/{orders[1]}/rollback", json={"reason": "returned"}))
    ok(service.manage.post(f"/v1/orders/{orders[2]}/rollback", json={}))
    entries = ok(service.manage.get(f"/v1/coupons/{code}/ledger"))["items"]
    assert [(one["orderId"], one["actor"]) for one in entries if one["kind"] == "returned"] == [
        (orders[2], None), (orders[1], "manage"), (orders[0], "manage"),
    ]  # fmt: skip


def test_refused_actions_of_a_session_count(service: Service) -> None:
    """What a session may not do, and what is malformed, counts for the limits of its key."""
    limited = {"name": "limited", "scopes": ["checkout", "manage"], "limits": {"requestsPerMinute": 3}}
    key = ok(service.admin.post("/v1/keys", json=limited), 201)["secret"]
    with Browser(service) as browser:
        browser.sign_in(key)
        refused(browser.post("/v1/coupons/redeem/SUMMER-B", json={"userId": "ann"}), 403, "forbidden")
        refused(browser.post("/v1/coupons/lock/SUMMER-B", json={}), 400, "malformed")
        answer = browser.post("/v1/batch", json={"operations": []})
        refused(answer, 403, "forbidden")
        assert answer.headers["RateLimit"].startswith('"requests";r=0;')
        refused(browser.post("/v1/coupons/lock/SUMMER-B", json={}), 429, "rate_limited")


def test_what_the_cookie_is(service: Service) -> None:
    """The cookie is HttpOnly, SameSite=Strict, and Secure on other hosts; it is no key, and Postgres has a digest."""
    with Browser(service) as browser:
        for host, secure in ((None, False), ("localhost:9", False), ("console.example", True)):
            at = {} if host is None else {"Host": host, "Origin": f"https://{host}"}
            answer = browser.post(ADDRESS, json={"key": "demo_operate"}, headers=at)
            assert answer.status_code == 201
            cookie = answer.headers["Set-Cookie"]
            attributes = {part.strip().split("=")[0].lower(): part.strip() for part in cookie.split(";")}
            assert {"httponly", "max-age", "path"} < set(attributes)
            assert ("secure" in attributes) is secure
            assert (attributes["samesite"].lower(), attributes["path"]) == ("samesite=strict", "Path=/")
            assert "demo_operate" not in cookie
            assert answer.headers["Cache-Control"] == "no-store"
        secret = attributes["scrip_session"].partition("=")[2]
        bearer = {"Authorization": f"Bearer {secret}"}
        refused(service.anonymous.get("/v1/keys", headers=bearer), 401, "unauthenticated")
    kept = asyncio.run(service.fetch("SELECT session_hash FROM sessions"))
    assert hashlib.sha256(b"session " + secret.encode()).digest() in {row[0] for row in kept}


def test_another_site_can_change_nothing(service: Service) -> None:
    """A change needs the session's CSRF token and this site's origin; a read needs neither."""
    with Browser(service) as browser:
        session = browser.sign_in("demo_manage")
        user = {"userId": new_id()}
        without: tuple[dict[str, Any], ...] = (
            {"X-CSRF-Token": ""},
            {"X-CSRF-Token": "0" * 64},
            {"X-CSRF-Token": b"\xe4" * 64},
            {"Origin": "https://evil.example"},
            {"Origin": "null"},
            {"Origin": ""},
        )
        for headers in without:
            refused(browser.post("/v1/users", json=user, headers=headers), 403, "forbidden")
            refused(browser.delete(ADDRESS, headers=headers), 403, "forbidden")
            ok(browser.get("/v1/books", headers=headers))
        assert browser.post("/v1/users", json=user).status_code == 201
        for origin in ("https://evil.example", ""):
            at = {"Origin": origin}
            refused(browser.post(ADDRESS, json={"key": "demo_manage"}, headers=at), 403, "forbidden")
        assert ok(browser.get(ADDRESS)) == session


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"key": "wrong"}, 401, "unauthenticated"),
        ({"key": "demo_public"}, 403, "forbidden"),
        ({"key": "demo_checkout"}, 403, "forbidden"),
        ({"key": ""}, 422, "invalid"),
        ({"key": 1}, 400, "malformed"),
        ({}, 400, "malformed"),
        ({"key": "demo_admin", "more": 1}, 400, "malformed"),
        ({"key": "x" * 5000}, 413, "too_large"),
    ],
)
def test_refused_sign_ins(service: Service, body: dict[str, Any], status: int, code: str) -> None:
    """Only a live key with the scope `manage` or `operate` begins a session."""
    with Browser(service) as browser:
        refused(browser.post(ADDRESS, json=body), status, code)
        assert not browser.cookies


def _create_key(service: Service, name: str, scope: str) -> dict[str, Any]:
    return ok(service.operate.post("/v1/keys", json={"name": name, "scopes": [scope]}), 201)


def test_a_session_ends_with_its_key(service: Service) -> None:
    """A session ends when its key is revoked."""
    made = _create_key(service, "operator", "manage")
    with Browser(service) as browser:
        browser.sign_in(made["secret"])
        ok(browser.get("/v1/books"))
        assert service.operate.delete(f"/v1/keys/{made['keyId']}").status_code == 204
        refused(browser.get("/v1/books"), 401, "unauthenticated")
        assert browser.get(ADDRESS).status_code == 204


def test_a_session_ends_by_itself(service: Service) -> None:
    """A session expires, and a key's 21st session ends the oldest one."""
    made = _create_key(service, "busy", "manage")
    with Browser(service) as browser, Browser(service) as oldest:
        oldest.sign_in(made["secret"])
        with ThreadPoolExecutor(19) as at_once:  # each takes a second
            list(at_once.map(lambda _: ok(browser.post(ADDRESS, json={"key": made["secret"]}), 201), range(19)))
        browser.sign_in(made["secret"])
        assert oldest.get(ADDRESS).status_code == 204
        ok(browser.get(ADDRESS))
        ended = (
            "WITH ended AS (UPDATE sessions SET expires_at = now() - interval '1 s' WHERE key_id = $1 RETURNING *), "
            "next AS (UPDATE keys_version SET version = version + 1 RETURNING version) UPDATE key_changes "
            "SET version = next.version FROM ended, next WHERE key_changes.workspace = ended.workspace"
        )
        asyncio.run(service.fetch(ended, made["keyId"]))
        until(lambda: browser.get(ADDRESS).status_code == 204)


def test_sessions_are_audited(service: Service) -> None:
    """The audit has sign-in and sign-out with key id and address, without any secret, and counts refused attempts."""
    made, gone = (_create_key(service, "seen", "operate") for _ in range(2))
    assert service.operate.delete(f"/v1/keys/{gone['keyId']}").status_code == 204

    def read_entries(key: dict[str, Any], action: str) -> list[dict[str, Any]]:
        entries = ok(service.operate.get("/v1/audit", params={"action": action, "limit": 1000}))["items"]
        return [entry for entry in entries if entry["subject"] == key["keyId"]]

    with Browser(service) as browser:
        browser.headers["User-Agent"] = "session-test/1"
        for _ in range(3):
            refused(browser.post(ADDRESS, json={"key": gone["secret"]}), 401, "unauthenticated")
        session = browser.sign_in(made["secret"])
        secrets = {browser.cookies["scrip_session"], session["csrfToken"], made["secret"], made["prefix"]}
        ok(browser.get(ADDRESS))
        assert read_entries(made, "session.ended") == []
        assert browser.delete(ADDRESS).status_code == 204
        refused(browser.delete(ADDRESS), 401, "unauthenticated")
    (began,), (ended,) = read_entries(made, "session.began"), read_entries(made, "session.ended")
    for entry in (began, ended):
        assert (entry["actor"], entry["keyId"], entry["keyName"]) == ("key", made["keyId"], "seen")
        assert (entry["ipAddress"], entry["userAgent"]) == ("127.0.0.1", "session-test/1")
        assert not [secret for secret in secrets if secret in str(entry)]
    assert (began["before"], began["after"], ended["after"]) == (None, {"endsAt": session["endsAt"]}, None)
    assert read_entries(gone, "session.began") == []
    until(lambda: sum(entry["after"]["count"] for entry in read_entries(gone, "attempts.refused")) == 3)
