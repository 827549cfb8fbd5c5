"""A change of keys or limits applies in every API process after its answer, without waiting for their next reading."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from service.engine.hot import discovery
from service.engine.hot.decider import Decider
from service.engine.hot.link import Link
from service.server.api import configuration_writes
from service.server.in_redis import key_messages
from service.server.in_redis.key_messages import CHANNEL, KeyMessages
from service.serving import wiring
from tests.harness.service_fixture import Service, new_id, ok, refused
from tests.harness.serving import Served
from tests.harness.waiting import PATIENCE_S, running, until, wait_until
from tests.integration.opening.test_connection import serving

_NEVER_S = 3600.0
_SOON_S = 2.0


@pytest.fixture
def other(patient: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a second API process, which reads the keys only at messages, once it has subscribed."""
    monkeypatch.setattr(wiring, "POLL_S", _NEVER_S)
    with Served(patient, tmp_path) as served:
        wait_for_message(patient, served.url)
        yield served.url


def create(client: httpx.Client, url: str = "") -> tuple[str, dict[str, str]]:
    """Create a key; return its id and the header with its secret."""
    made = ok(client.post(f"{url}/v1/keys", json={"name": new_id("key"), "scopes": ["checkout"]}), 201)
    return made["keyId"], {"Authorization": f"Bearer {made['secret']}"}


def read_user(url: str, header: dict[str, str]) -> httpx.Response:
    """Send a request with this key to the process at this address."""
    return httpx.get(f"{url}/v1/users/{new_id()}", headers=header, timeout=PATIENCE_S)


def wait_for_message(patient: Service, url: str) -> None:
    """Create keys until the process at this address has read one at a message: it has subscribed."""
    until(lambda: read_user(url, create(patient.operate)[1]).is_success)


def test_another_process_changed_keys(patient: Service, other: str) -> None:
    """A key that one process creates works in another, and no longer once it is revoked."""
    key, header = create(patient.operate)
    until(lambda: read_user(other, header).is_success)
    assert patient.operate.delete(f"/v1/keys/{key}").status_code == 204
    refused(until(lambda: (got := read_user(other, header)).status_code == 401 and got), 401, "unauthenticated")


def test_the_answer_waits_for_other_processes(patient: Service, other: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer comes as soon as every process has reported that it has read the key, and not before."""
    monkeypatch.setattr(configuration_writes, "SETTLE_S", _NEVER_S)
    for _ in range(5):
        _, header = create(patient.operate, other)
        assert read_user(patient.run.url, header).is_success
    name = {"name": "k", "scopes": ["checkout"]}
    with patient.run.asleep("api"), pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{other}/v1/keys", json=name, headers=patient.operate.headers, timeout=_SOON_S)


def test_a_process_that_is_asleep(patient: Service, other: str) -> None:
    """A process that reports nothing delays the answer, and does not prevent it."""
    with patient.run.asleep("api"):
        _, header = create(patient.operate, other)
        assert read_user(other, header).is_success


def test_a_lost_subscription(patient: Service, other: str) -> None:
    """A process whose subscription breaks subscribes again."""
    with patient.redis() as redis:
        until(lambda: redis.client_kill_filter(_type="pubsub") >= 2)
    wait_for_message(patient, other)


async def test_a_server_that_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process whose subscription breaks gives up a server that accepts the next connection and sends nothing."""
    monkeypatch.setattr(discovery, "CONNECT_S", 2 * key_messages.POLL_S)

    def answer(command: list[str]) -> bytes:
        if command[0] == "SUBSCRIBE":
            return b"*3\r\n$9\r\nsubscribe\r\n$10\r\nscrip:keys\r\n:1\r\n"
        return b"" if len(server.writers) == 2 else b"+OK\r\n"

    async with serving(answer) as server:
        url = server.url.replace("//", "//:password@")
        async with running(KeyMessages(url, Decider(Link(url, "tests"))).run()):
            await wait_until(lambda: ["SUBSCRIBE", CHANNEL] in server.commands)
            server.writers[-1].close()
            await wait_until(lambda: server.commands.count(["SUBSCRIBE", CHANNEL]) == 2)
        assert len(server.writers) > 2
