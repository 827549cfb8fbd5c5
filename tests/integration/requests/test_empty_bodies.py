"""Requests without a body: `{}` where no field is required, refused elsewhere."""

import httpx
import pytest

from tests.harness.cases import NOBODYS, WorkspaceSetup, filled
from tests.harness.described import Route
from tests.harness.routes.setup import make_paused_change, make_setup, send
from tests.harness.routes.table import REQUESTS
from tests.harness.service_fixture import Service, new_code, new_id, ok, refused
from tests.harness.serving import own_workspace

_ASKED = list({asked.name: asked for asked in REQUESTS}.values())


service = own_workspace("test")
"""A test workspace of this file's own, since some requests change its settings."""


@pytest.fixture(scope="module")
def setup(service: Service) -> WorkspaceSetup:
    return make_setup(service) | {"key": NOBODYS}  # a key is rotated once


def _send_nothing(service: Service, asked: Route, setup: WorkspaceSetup, **options: object) -> httpx.Response:
    client: httpx.Client = getattr(service, asked.scope)
    return client.request(asked.method, filled(asked.named, setup), **options)  # type: ignore[arg-type]


def _is_optional(service: Service, asked: Route) -> bool:
    """Whether the document says that the request may have no body."""
    method, path = asked.name.split(" ")
    operation = service.anonymous.get("/schema/openapi.json").json()["paths"][path][method.lower()]
    return not operation["requestBody"].get("required", False)


@pytest.mark.parametrize("asked", _ASKED, ids=lambda asked: asked.name)
def test_no_body_is_an_empty_object(service: Service, setup: WorkspaceSetup, asked: Route) -> None:
    """Without a body and a media type a request answers as with `{}`, if the document says so, else it is refused."""
    is_optional = "is required" not in send(service, asked, setup, b"{}").text
    assert is_optional == _is_optional(service, asked)
    for options in ({}, {"content": iter([])}):
        answer = _send_nothing(service, asked, setup, **options)
        if is_optional:
            assert answer.status_code in (200, 201, 202, 404, 409, 422), answer.text
        else:
            refused(answer, 415, "unsupported_media_type")


def test_jobs_are_controlled_without_a_body(service: Service, setup: WorkspaceSetup) -> None:
    """A job is paused and cancelled by requests without a body."""
    job = make_paused_change(service, setup["book"])
    for verb, status in (("pause", "paused"), ("cancel", "cancelled")):
        assert ok(service.manage.post(f"/v1/jobs/{job}/{verb}"))["status"] == status


def test_no_body_under_an_idempotency_key(service: Service) -> None:
    """No body and `{}` are the same request under one Idempotency-Key."""
    code = new_code()
    service.book(code)
    made = ok(service.checkout.post(f"/v1/coupons/redeem/{code}", json={"userId": "ann"}), 201)["redemptionId"]
    for path in (f"/v1/redemptions/{made}/rollback", "/v1/coupons/generate"):
        headers = {"Idempotency-Key": new_id()}
        first = service.manage.post(path, headers=headers)
        repeat = service.manage.post(path, headers=headers, json={})
        assert (first.is_success, repeat.status_code, repeat.text) == (True, first.status_code, first.text)
        assert repeat.headers["Idempotency-Replayed"] == "true"
