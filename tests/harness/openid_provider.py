"""An OpenID provider that is not ours, with people who have groups; and an API at which they sign in."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import oidc_provider_mock

from tests.harness.service_fixture import Service
from tests.harness.serving import Served

PEOPLE = {"ada@shop.example": ["marketing"], "bob@shop.example": ["support"], "eve@shop.example": ["visitors"]}
ROLES = {"marketing": ("manage",), "support": ("manage", "checkout", "operate")}


@contextmanager
def served_with_people(service: Service, folder: Path, *more: str) -> Iterator[Served]:
    """A server beside the shared one, on the same stores, at which people sign in to the service's workspace; for these
    other workspaces, the provider is away."""
    users = [
        oidc_provider_mock.User(sub=name, claims={"email": name, "email_verified": True, "groups": groups})
        for name, groups in PEOPLE.items()
    ]
    with oidc_provider_mock.run_server_in_thread(require_nonce=True, user_claims=users) as server:
        issuer = f"http://localhost:{server.server_port}"
        provider = {"client_id": "scrip", "client_secret": "secret", "roles": ROLES}
        sign_in = [{**provider, "issuer": issuer, "workspace": service.workspace}]
        sign_in += [{**provider, "issuer": "http://127.0.0.1:1", "workspace": name} for name in more]
        with Served(service, folder, sign_in=sign_in) as served:
            yield served
