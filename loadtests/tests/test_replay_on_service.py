"""Replays of a shop's orders against a service, and their verdict."""

import json
import os
import signal
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import httpx2
import pytest
from click.testing import CliRunner, Result

from loadtests import replay
from loadtests.orders import made_up
from loadtests.plan import TOKEN
from tests.harness.service_fixture import Service


@pytest.fixture
def replayed(patient: Service, tmp_path: Path) -> Callable[..., Result]:
    """Replay 200 orders, some of which share an orderId, with these options."""
    path = tmp_path / "orders.jsonl"
    path.write_text("".join(json.dumps(order) + "\n" for order in made_up(200, 30, 1)))
    service = ("--url", patient.run.url, "--key", "demo_admin")
    return lambda *options: CliRunner().invoke(replay.main, [str(path), *service, *options], env={TOKEN: None})


def test_lost_connections(replayed: Callable[..., Result], patient: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """The API is killed in the middle: the client repeats what was not answered, and every rule holds."""
    send, sent = httpx2.AsyncHTTPTransport.handle_async_request, 0

    async def kill(transport: httpx2.AsyncHTTPTransport, request: httpx2.Request) -> httpx2.Response:
        nonlocal sent
        sent += 1
        if sent == 100:
            os.kill(patient.run.facts["pids"]["api"][0], signal.SIGKILL)
        return await send(transport, request)

    monkeypatch.setattr(httpx2.AsyncHTTPTransport, "handle_async_request", kill)
    result = replayed("--in-flight", "20")
    assert result.exit_code == 0, result.output
    assert "redeem 422 order_value_too_low" in result.output
    assert " unanswered " in result.output


def test_an_unexpected_refusal(replayed: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that refuses what the order doesn't explain breaks a rule."""
    monkeypatch.setattr(replay, "MINIMUM", Decimal(10))
    result = replayed()
    assert result.exit_code == 1
    assert "Wrong: unexpected response: 1 × Shop redeem 422 order_value_too_low" in result.output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--url", "127.0.0.1:8000"), "must begin with http://"),
        (("--url", "http://127.0.0.1:1"), "No answer from the service"),
        (("--key", "wrong"), "does not accept the key"),
        (("--key", "demo_manage"), "lacks the scope checkout and the scope operate"),
    ],
)
def test_wrong_urls_and_keys(replayed: Callable[..., Result], options: tuple[str, ...], message: str) -> None:
    """An unusable URL or key ends the replay with what to do, before it makes a book."""
    result = replayed(*options)
    assert (result.exit_code, message in result.output) == (2, True), result.output
