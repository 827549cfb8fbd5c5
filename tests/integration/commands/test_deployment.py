"""What compose.yaml, deploy/kubernetes and deploy/haproxy.cfg name, started as they name it."""

import contextlib
import re
import signal
import ssl
import time
from collections.abc import Iterator

import httpx
import pytest

from tests.harness.commands import scrip, succeeded
from tests.harness.deployed import Deployed, container, deployed, manifests
from tests.harness.servers import free_port
from tests.harness.service_fixture import ok, refused
from tests.harness.waiting import PATIENCE_S, until


@pytest.fixture(scope="module")
def place() -> Iterator[Deployed]:
    with deployed() as place:
        yield place


def test_redeem(place: Deployed) -> None:
    """The migration, an API and two workers use their own users by TLS, and a buyer redeems through the proxy."""
    objects = manifests()
    api, worker, job = (
        objects["Deployment", "scrip-api"], objects["Deployment", "scrip-worker"], objects["Job", "scrip-migrate"]
    )  # fmt: skip
    command, owner = place.of_compose("migrate")
    for words, env in ((command, owner), place.of_kubernetes(job)):  # the second finds everything done
        succeeded(scrip(*words, **env))

    api_port, *metrics_ports = (free_port() for _ in range(4))
    of_api, of_worker, of_other = ({"SCRIP_METRICS_PORT": str(port)} for port in metrics_ports)
    here = {"SCRIP_HOST": "127.0.0.1", "SCRIP_PORT": str(api_port), "SCRIP_TRUSTED_PROXIES": "127.0.0.1"}
    processes = [
        place.start(*place.of_kubernetes(api, **here, **of_api)),
        place.start(*place.of_kubernetes(worker, **of_worker)),
        place.start(*place.of_compose("worker", **of_other)),
    ]
    proxy_port = place.start_proxy(api_port)
    trusted = ssl.create_default_context(cafile=place.authority)
    with httpx.Client(base_url=f"https://localhost:{proxy_port}", verify=trusted, timeout=PATIENCE_S) as client:

        def is_ready() -> bool:
            assert all(process.poll() is None for process in place.processes), place.output()
            with contextlib.suppress(httpx.HTTPError):
                answer = client.get("/health/ready")
                return answer.is_success and answer.json()["failing"] == []
            return False

        until(is_ready)
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            path = container(api)[probe]["httpGet"]["path"]
            assert httpx.get(f"http://127.0.0.1:{api_port}{path}", timeout=PATIENCE_S).status_code == 200
        path = container(worker)["readinessProbe"]["httpGet"]["path"]
        until(
            lambda: all(
                httpx.get(f"http://127.0.0.1:{port}{path}", timeout=PATIENCE_S).is_success for port in metrics_ports
            )
        )
        assert client.get("/metrics").status_code == 403
        refused(httpx.get(f"http://127.0.0.1:{api_port}/metrics", timeout=PATIENCE_S), 404, "not_found")
        shown = httpx.get(f"http://127.0.0.1:{metrics_ports[0]}/metrics", timeout=PATIENCE_S).text
        for server in ("redis", "postgres"):
            (ends,) = re.findall(
                rf'^scrip_certificate_expires_timestamp_seconds{{server="{server}"}} (.+)$', shown, re.MULTILINE
            )
            assert float(ends) > time.time()

        scrip("workspaces", "create", "shop", **owner)
        key = scrip("keys", "create", "shop", "all", "--scope", "manage", "--scope", "checkout", **owner).output.strip()
        client.headers["Authorization"] = f"Bearer {key}"
        until(lambda: client.get("/v1/users/nobody").is_success)
        book = ok(client.post("/v1/books", json={"name": "Sale"}), 201)["bookId"]
        ok(client.post(f"/v1/books/{book}/codes", json={"codes": ["DEPLOYED-1"]}))
        redeemed = client.post(
            "/v1/coupons/redeem/DEPLOYED-1",
            json={"userId": "buyer", "orderId": "first"},
            headers={"Prefer": "durability=recorded, wait=10", "X-Forwarded-For": "203.0.113.9"},
        )
        redemption = ok(redeemed, 201)
        assert redemption["durability"] == "recorded"
        assert redemption["ipAddress"] == "127.0.0.1", "the proxy must replace what the client claims"

    pod = api["spec"]["template"]["spec"]
    grace_s = pod["terminationGracePeriodSeconds"] - container(api)["lifecycle"]["preStop"]["sleep"]["seconds"]
    for process in processes:
        process.terminate()
    # uvicorn sends itself the signal again once it has shut down.
    assert {process.wait(grace_s) for process in processes} <= {0, -signal.SIGTERM}, place.output()


def test_wrong_password(place: Deployed) -> None:
    """Postgres refuses the owner with another password."""
    command, env = place.of_compose("migrate")
    wrong = env["DATABASE_URL"].replace(":owner@", ":guess@")
    refused = scrip(*command, **env | {"DATABASE_URL": wrong})
    assert refused.exit_code == 2
    assert "password authentication failed" in refused.output
