"""Every refusal over HTTP: it answers a whole problem, and changes neither Redis nor Postgres."""

import json
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from service.engine.domain.outcomes import BY_CODE
from service.engine.formats import key_names
from service.server.api.hot_path import fingerprint
from tests.harness.cases import Case, filled
from tests.harness.routes.refusals import CASES, HOT
from tests.harness.routes.setup import make_setup
from tests.harness.routes.table import REQUESTS
from tests.harness.service_fixture import Service, new_id, ok, refused
from tests.harness.waiting import until
from tests.integration.schema import check_answer

ELSEWHERE = {
    "recovering": "tests/lab/faults/test_opening.py",
    "behind": "tests/lab/faults/test_workers.py",
    "keys_outdated": "tests/integration/access/test_keys.py",
    "unavailable": "tests/lab/faults/test_opening.py",
    "outcome_unknown": "tests/integration/coupons/test_batch.py",
    "request_timeout": "tests/integration/requests/test_http_bounds.py",
    "headers_too_large": "tests/integration/requests/test_http_bounds.py",
    "reconcile_running": "tests/integration/comparing/test_reconcile.py",
    "workspace_suspended": "tests/integration/access/test_operators.py",
    "choice_not_possible": "tests/integration/comparing/test_quarantine_command.py",
    "rate_limited": "tests/integration/access/test_limited.py",
    "too_many_misses": "tests/integration/access/test_limited.py",
    "lock_quota": "tests/integration/access/test_limited.py",
    "key_quota": "tests/integration/access/test_key_budget.py",
    "storage_full": "tests/integration/bulk/test_storage_bound.py",
    "book_archived": "tests/integration/histories/test_archived_books.py",
    "job_ended": "tests/integration/bulk/test_code_changes.py",
    "too_many_jobs": "tests/integration/bulk/test_code_changes.py",
}
"""Refusals that need faults or limits, and the test that has them."""

UNREACHED = {
    "internal": "it is a fault of ours",
}

_EVERYWHERE = {*ELSEWHERE, *UNREACHED, "malformed", "unauthenticated", "forbidden", "too_large",
               "unsupported_media_type", "invalid", "idempotency_key_reused", "request_in_progress"}  # fmt: skip
"""What nearly every route may answer: other tests, and those of keys below, request them all."""
_OF_REPEATS = {
    (f"POST /v1/{path}", "already_rolled_back")
    for path in ("coupons/redeem/{code}", "checkout", "users/{userId}/gifts")
}
"""Only under the Idempotency-Key of what was rolled back: tests/integration/coupons/test_repeats.py."""


class Environment:
    """A workspace with a situation for each refusal, and all that it holds."""

    def __init__(self, service: Service, rival: Service) -> None:
        self.service = service
        self.setup = make_setup(service, rival)
        self.document = service.anonymous.get("/schema/openapi.json").json()
        self._operations = [(method.upper(), path) for path, item in self.document["paths"].items() for method in item]
        self.settle()

    def settle(self) -> None:
        """Store what both stores hold."""
        self._before = self.service.held()

    def unchanged(self) -> None:
        """Assert that nothing changed since the last call."""
        before, self._before = self._before, self.service.held()
        names = before.keys() | self._before.keys()
        assert [name for name in names if before.get(name) != self._before.get(name)] == []

    def entry(self, key: str) -> str:
        """The name under which Redis keeps an Idempotency-Key."""
        return key_names.answer(self.service.prefix, key)

    def send(self, case: Case, key: str = "") -> httpx.Response:
        """The case's request, with this Idempotency-Key; the answer is one that the OpenAPI document describes."""
        headers = {"Content-Type": case.kind} | case.headers | ({"Idempotency-Key": key} if key else {})
        body = case.body if isinstance(case.body, bytes) else json.dumps(filled(case.body, self.setup)).encode()
        content = None if case.body is None or case.method == "GET" else body
        client = self.service.client(filled(case.key, self.setup)) if case.key else self.service.anonymous
        answer = client.request(case.method, filled(case.path, self.setup), content=content, headers=headers)
        if operation := self.operation(case):
            check_answer(answer, operation, self.document)
        return answer

    def operation(self, case: Case) -> str:
        """Return the operation of a case; empty where there is none."""
        asked = case.path.partition("?")[0]
        matches = [
            path
            for method, path in self._operations
            if method == case.method and re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", path), asked)
        ]
        return f"{case.method} {min(matches, key=lambda path: path.count('{'))}" if matches else ""


@pytest.fixture(scope="module")
def env(service: Service) -> Iterator[Environment]:
    """Two workspaces of this file's own, which do nothing but refuse. None of the requests changes the second."""
    own, rival = (service.make_workspace(new_id("refuses"), "live") for _ in range(2))
    env, before = Environment(own, rival), rival.held()
    yield env
    assert rival.held() == before


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_a_refusal_leaves_no_trace(env: Environment, case: Case) -> None:
    """A refusal has its status, code, field and words, also under an Idempotency-Key, and changes neither store."""
    status = BY_CODE[case.code].status
    problem = refused(env.send(case), status, case.code, case.field)
    errors = [f"{error['field']}: {error['reason']}" for error in problem.get("errors", ())]
    assert case.says in " ".join([problem["title"], problem["detail"], *errors]), problem
    if case.method == "POST":
        for _ in range(2):
            refused(env.send(case, "of-a-refusal"), status, case.code, case.field)
    env.unchanged()


def test_a_batch_of_refusals_leaves_no_trace(env: Environment) -> None:
    """Each refusal of the hot path is the same in a batch, and hundreds of them change nothing."""
    ops = re.compile(r"/v1/coupons/(assign|lock|extend|unlock|redeem)(?:/(.*))?").fullmatch
    matching = [(case, match) for case in HOT if (match := ops(case.path))]
    operations: list[Any] = []
    for case, match in matching:
        named = {"code": match[2]} if match[2] else {}
        operations.append({"op": match[1]} | filled({**named, **dict(case.body or {})}, env.setup))  # type: ignore[arg-type]
    results = ok(env.service.checkout.post("/v1/batch", json={"operations": operations}))["results"]
    refusals = [(result["status"], result["body"]["code"]) for result in results]
    assert refusals == [(BY_CODE[case.code].status, case.code) for case, _ in matching]
    assert len(refusals) > 50
    env.unchanged()


def test_a_key_that_was_used_for_another_request(env: Environment) -> None:
    """Every route that takes an Idempotency-Key refuses the key of another request."""
    cases = list(_keyed(env))
    for case in cases:
        problem = refused(env.send(case, env.setup["used_key"]), 422, "idempotency_key_reused")
        assert "new Idempotency-Key" in problem["detail"]
    assert len(cases) > 20
    env.unchanged()


def test_a_key_whose_request_is_running(env: Environment) -> None:
    """While an upload runs, the same request under its key is `request_in_progress`; after it, a replay."""
    key, (address, _, port) = new_id("key"), env.service.run.url.removeprefix("http://").partition(":")
    path, text = f"/v1/books/{env.setup['empty_book']}/codes", b"no code\nnor this\n"
    head = (
        f"POST {path} HTTP/1.1\r\nHost: scrip\r\nAuthorization: Bearer {env.setup['own']}_admin\r\n"
        f"Content-Type: text/plain\r\nIdempotency-Key: {key}\r\nConnection: close\r\n"
        f"Content-Length: {len(text)}\r\n\r\n"
    )
    again = Case("request_in_progress", "POST", path, text, kind="text/plain")
    with env.service.redis() as redis, socket.create_connection((address, int(port)), timeout=10) as connection:
        connection.sendall(head.encode() + text[:9])
        until(lambda: redis.exists(env.entry(key)))
        during = env.service.held()
        refused(env.send(again, key), 409, "request_in_progress")
        assert env.service.held() == during
        connection.sendall(text[9:])
        assert connection.makefile("rb").readline().startswith(b"HTTP/1.1 200 ")
    answer = env.send(again, key)
    assert (ok(answer)["invalid"], answer.headers["Idempotency-Replayed"]) == (2, "true")
    env.settle()


def test_a_key_that_is_claimed(env: Environment) -> None:
    """Every route that takes an Idempotency-Key refuses one whose same request is running."""
    key = new_id("key")
    with env.service.redis() as redis:
        for case in _keyed(env):
            path, body = filled(case.path, env.setup), json.dumps(filled(case.body, env.setup)).encode()
            if case.path in ("/v1/books/{book}/codes", "/v1/coupons/codes"):  # the body of an upload is a stream
                body = b""
            asked: Any = SimpleNamespace(scope={"method": "POST", "path": path, "query_string": b""})
            ends_ms = int(time.time() * 1000) + 60_000
            redis.set(env.entry(key), f"{fingerprint(asked, body)} c {ends_ms}")
            during = env.service.held()
            refused(env.send(case, key), 409, "request_in_progress")
            assert env.service.held() == during
        redis.delete(env.entry(key))
    env.unchanged()


def test_where_a_key_is_not_taken(env: Environment) -> None:
    """Validate ignores an Idempotency-Key, also one of another request."""
    case = Case("", "POST", "/v1/coupons/validate", {"code": "{free}"})
    assert ok(env.send(case, env.setup["used_key"]))["valid"]
    env.unchanged()


def _keyed(env: Environment) -> Iterator[Case]:
    """Return a valid request to each route that takes an Idempotency-Key."""
    requests = {asked.name: asked for asked in REQUESTS}
    for path, item in env.document["paths"].items():
        taken = [parameter["name"] for parameter in item.get("post", {}).get("parameters", [])]
        if "Idempotency-Key" in taken and path != "/v1/test/clock":  # forbidden here, before anything else
            asked = requests[f"POST {path}"]
            yield Case("", "POST", asked.named, asked.good.body)


def test_every_refusal_is_reached(env: Environment) -> None:
    """Each code has a request here, another test, or a reason."""
    reached = {case.code for case in CASES} | {"idempotency_key_reused", "request_in_progress"}
    assert reached.isdisjoint({*ELSEWHERE, *UNREACHED})
    assert reached | {*ELSEWHERE, *UNREACHED} == BY_CODE.keys()
    root = Path(__file__).parents[3]
    for code, path in ELSEWHERE.items():
        assert f'"{code}"' in (root / path).read_text()


def test_every_operation_reaches_its_refusals(env: Environment) -> None:
    """Each refusal that the OpenAPI document lists for an operation has a request here, and each of these is listed."""
    documented: set[tuple[str, str]] = set()
    for path, item in env.document["paths"].items():
        for method, operation in item.items():
            for status, answer in operation["responses"].items():
                if not status.startswith("2"):
                    codes = re.findall(r"^`(\w+)`: ", answer["description"], re.MULTILINE)
                    documented |= {(f"{method.upper()} {path}", code) for code in codes}
    reached = {(env.operation(case), case.code) for case in CASES}
    of_ours = {pair for pair in reached if pair[0] and pair[1] not in {"method_not_allowed", "not_found"}}
    assert of_ours - documented == set()
    assert {pair for pair in documented - reached - _OF_REPEATS if pair[1] not in _EVERYWHERE} == set()
