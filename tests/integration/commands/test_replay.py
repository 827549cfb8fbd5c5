"""`scrip replay` against a whole service: it agrees with a correct expectation, and with no other."""

import json
import os
import random
import signal
from collections.abc import Callable
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from service.replay import expectation, retrying_client
from service.replay.command import replay
from tests.commands import succeeded
from tests.harness.running import Run
from tests.service_fixture import Service, new_code, ok
from tests.unit.test_replay import ODD_ORDERS

_STORES = ("--redis-url", "redis://127.0.0.1:1", "--database-url", "postgresql://127.0.0.1:1/none")


@pytest.fixture
def run(patient: Service) -> Run:
    """A service on whose data other tests work too."""
    return patient.run


@pytest.fixture
def orders(tmp_path: Path) -> Path:
    """200 orders of 30 users and some guests, some cancelled, one of them a tie; and odd orders."""
    chance = random.Random(1)
    lines = [
        {
            "orderId": str(1000 + number) if number % 50 else "1000",
            "userId": chance.choice([None, *(f"u{user}" for user in range(30))]),
            "cancelled": chance.random() < 0.2,
            "orderValue": str(Decimal(chance.randrange(-500, 50_000)) / 100),
            "items": [{"sku": "85123A", "quantity": chance.choice([-1, 1, 2, 3]), "unitPrice": "2.55"}],
        }
        for number in range(199)
    ]
    tie = {"orderId": "tie", "userId": "tied", "cancelled": False, "orderValue": "20.30", "items": []}
    odd = [line | ({"orderId": f"n{n}"} if line["orderId"] == "1" else {}) for n, (*_, line) in enumerate(ODD_ORDERS)]
    path = tmp_path / "orders.jsonl"
    path.write_text("".join(json.dumps(order) + "\n" for order in [*lines, tie, *odd]))
    return path


@pytest.fixture
def replayed(run: Run, orders: Path) -> Callable[..., Result]:
    """Run the command on the orders."""

    def replayed(*options: str) -> Result:
        env = {"SCRIP_DATA_DIR": str(run.data_dir), "REDIS_URL": None, "DATABASE_URL": None}
        return CliRunner().invoke(replay, [str(orders), "--codes", "300", *options], env=env)

    return replayed


def test_all_equal(replayed: Callable[..., Result]) -> None:
    """The statistics, Redis and Postgres equal what the file alone says, also at the second replay."""
    first, second = replayed(), replayed("--in-flight", "20")

    assert (first.exit_code, second.exit_code) == (0, 0), first.output + second.output
    for outcome in ("lock 409 order_already_used", "redeem 422 invalid", "rollback 200", "nothing to roll back"):
        assert outcome in first.output
    assert "All equal." in first.output


def test_wrong_rounding(replayed: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    """An expectation that rounds a tie up differs, in the sums and in the one redemption."""
    monkeypatch.setattr(expectation, "ROUNDING", ROUND_HALF_UP)

    result = replayed()

    assert result.exit_code == 1
    assert "differ: discount of all; discount standing; exactly as expected." in result.output


def test_api_killed(replayed: Callable[..., Result], run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a kill of the API process in the middle the command sends unanswered requests again, and all is equal."""
    send, sent = retrying_client.Client._send, 0

    async def send_and_kill(*request: Any) -> retrying_client.Response:
        nonlocal sent
        sent += 1
        if sent == 100:
            os.kill(run.facts["pids"]["api"][0], signal.SIGKILL)
        return await send(*request)

    monkeypatch.setattr(retrying_client.Client, "_send", send_and_kill)

    result = succeeded(replayed("--in-flight", "20"))
    assert "connection lost" in result.output


def test_a_store_that_holds_other_data(patient: Service, replayed: Callable[..., Result]) -> None:
    """The command compares the replay's book alone, whatever locks, ends and users other books have."""
    for client, shopper in (
        (patient.admin, patient.client("demo_admin")),
        (patient.rival_manage, patient.rival_checkout),
    ):
        for number in range(8):
            book = patient.book(client=client, maxRedemptionsPerUser=5)
            codes = [new_code() for _ in range(3)]
            lines = "".join(f"{code},2126-11-27T00:00:00Z\n" for code in codes)
            upload = {"content": f"code,expiresAt\n{lines}", "headers": {"Content-Type": "text/csv"}}
            ok(client.post(f"/v1/books/{book}/codes", **upload))
            for code, user in zip(codes, (f"u:x{number}:x", f"a:l:{number}:x", f"o:{number}:x"), strict=True):
                lock = {"userId": user, "orderId": f"w1:{user}"}
                ok(shopper.post(f"/v1/coupons/lock/{code}", json=lock, headers={"Idempotency-Key": code}), 201)

    result = succeeded(replayed("--codes", "2100"))
    assert "codes free" in result.output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((*_STORES, "--url", "http://127.0.0.1:99999"), "is not an http or https URL"),
        ((*_STORES, "--url", "http://ann:secret@127.0.0.1:1"), "URL without a user"),
        (("--url", "http://127.0.0.1:1"), "Correct the URL, or set REDIS_URL and DATABASE_URL"),
        (("--checkout-token", "wrong"), "does not accept the key of --checkout-token. Pass one with that scope"),
        (("--manage-token", "demo_public"), "gives no scope `manage` to the key of --manage-token"),
        (("--redis-url", "nonsense"), "must start with redis://"),
        (("--database-url", "postgresql://127.0.0.1:1/none"), "The stores can't be read"),
    ],
)
def test_wrong_urls_and_keys(replayed: Callable[..., Result], run: Run, options: tuple[str, ...], message: str) -> None:
    """An unusable URL or key ends the command in one line with a remedy, before it makes a book."""
    before = run.get("/v1/books?limit=1", "demo_manage")

    result = replayed(*options)

    assert result.exit_code == 2
    assert message in result.output
    assert isinstance(result.exception, SystemExit)
    assert run.get("/v1/books?limit=1", "demo_manage") == before


def test_no_service(orders: Path, tmp_path: Path) -> None:
    """Without a service the command names what to start."""
    result = CliRunner().invoke(replay, [str(orders)], env={"SCRIP_DATA_DIR": str(tmp_path)})

    assert result.exit_code == 2
    assert f"no `scrip run` uses {tmp_path}" in result.output
