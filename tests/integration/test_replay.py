"""`scrip replay` against a whole service: it agrees with a right expectation, and with no other."""

import json
import os
import random
import signal
import urllib.request
from collections.abc import Callable, Iterator
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from loadtests.harness.running import Run, data_folder
from loadtests.harness.servers import free_port
from service.replay import expectation, http_client
from service.replay.command import replay
from tests.unit.test_replay import ODD_ORDERS

_STORES = ("--redis-url", "redis://127.0.0.1:1", "--database-url", "postgresql://127.0.0.1:1/none")


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    """A service of our own."""
    with data_folder() as folder:
        run = Run(folder / "data", free_port())
        try:
            yield run.until_ready()
        finally:
            if run.process.poll() is None:
                run.end(signal.SIGTERM)


@pytest.fixture
def orders(tmp_path: Path) -> Path:
    """200 orders of 30 users and some guests, some cancelled, one of them a tie."""
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
    path = tmp_path / "orders.jsonl"
    path.write_text("".join(json.dumps(order) + "\n" for order in [*lines, tie]))
    return path


@pytest.fixture
def replayed(run: Run, orders: Path) -> Callable[..., Result]:
    """What the command ends with."""

    def replayed(*options: str) -> Result:
        env = {"SCRIP_DATA_DIR": str(run.data_dir), "REDIS_URL": None, "DATABASE_URL": None}
        return CliRunner().invoke(replay, [str(orders), "--codes", "250", *options], env=env)

    return replayed


def test_all_equal(replayed: Callable[..., Result]) -> None:
    """The service, its statistics, Redis and Postgres say what the file alone does; and so again."""
    first, second = replayed(), replayed("--in-flight", "20")

    assert (first.exit_code, second.exit_code) == (0, 0), first.output + second.output
    for outcome in ("lock 409 order_already_used", "redeem 422 invalid", "rollback 200", "nothing to roll back"):
        assert outcome in first.output
    assert "All equal." in first.output


def test_odd_orders(replayed: Callable[..., Result], orders: Path) -> None:
    """Each odd order is refused as expected."""
    lines = [line | ({"orderId": f"n{n}"} if line["orderId"] == "1" else {}) for n, (*_, line) in enumerate(ODD_ORDERS)]
    orders.write_text("".join(json.dumps(line) + "\n" for line in lines))

    result = replayed()

    assert result.exit_code == 0, result.output


def test_wrong_rounding(replayed: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    """An expectation that rounds a tie up is told apart, in the sums and in the one redemption."""
    monkeypatch.setattr(expectation, "ROUNDING", ROUND_HALF_UP)

    result = replayed()

    assert result.exit_code == 1
    assert "differ: discount of all; discount standing; exactly as expected." in result.output


def test_api_killed(replayed: Callable[..., Result], run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """An API process that is killed in the middle costs time and nothing else: what was unanswered is sent again."""
    send, sent = http_client.Client._send, 0

    async def send_and_kill(self: http_client.Client, request: bytes) -> http_client.Response:
        nonlocal sent
        sent += 1
        if sent == 100:
            os.kill(run.facts["pids"]["api"][0], signal.SIGKILL)
        return await send(self, request)

    monkeypatch.setattr(http_client.Client, "_send", send_and_kill)

    result = replayed("--in-flight", "20")

    assert result.exit_code == 0, result.output
    assert "connection lost" in result.output


def test_a_store_that_holds_other_data(run: Run, replayed: Callable[..., Result]) -> None:
    """Books with locks and with codes that have an end of their own, in this workspace and another, and users and
    idempotency keys that read like names of keys: the replay's book alone is compared, in chunks of codes and keys."""
    for key in ("demo_admin", "rival_manage"):
        for number in range(8):
            book = _post(run, key, "/v1/books", {"name": f"Other {number}", "maxRedemptionsPerUser": 5})["bookId"]
            codes = [f"{key[:5].upper()}-{number}-{place}" for place in range(3)]
            lines = "".join(f"{code},2126-11-27T00:00:00Z\n" for code in codes)
            _post(run, key, f"/v1/books/{book}/codes", f"code,expiresAt\n{lines}", "text/csv")
            shopper = key.replace("manage", "checkout")
            for code, user in zip(codes, (f"u:x{number}:x", f"a:l:{number}:x", f"o:{number}:x"), strict=True):
                _post(run, shopper, f"/v1/coupons/lock/{code}", {"userId": user, "orderId": f"w1:{user}"}, key=user)

    result = replayed("--codes", "2100")

    assert result.exit_code == 0, result.output
    assert "codes free" in result.output


def _post(run: Run, token: str, path: str, body: Any, kind: str = "application/json", key: str = "") -> Any:
    """The answer's JSON."""
    headers = {"Authorization": f"Bearer {token}", "Content-Type": kind}
    data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    request = urllib.request.Request(
        run.url + path, data, headers | ({"Idempotency-Key": key} if key else {}), method="POST"
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((*_STORES, "--url", "http://["), "is not an http or https URL"),
        ((*_STORES, "--url", "http://127.0.0.1:99999"), "is not an http or https URL"),
        (("--redis-url", "nonsense"), "The stores can't be read"),
        (("--redis-url", "redis://127.0.0.1:1"), "The stores can't be read"),
        (("--database-url", "nonsense"), "The stores can't be read"),
        (("--database-url", "postgresql://127.0.0.1:1/none"), "The stores can't be read"),
        (("--database-url", "postgresql://127.0.0.1:99999/none"), "The stores can't be read"),
    ],
)
def test_addresses_that_are_none(
    replayed: Callable[..., Result], run: Run, options: tuple[str, ...], said: str
) -> None:
    """An address that can't be used ends the command in one line, before it makes a book."""
    before = run.get("/v1/books?limit=1", "demo_manage")

    result = replayed(*options)

    assert result.exit_code in (1, 2)
    assert said in result.output
    assert isinstance(result.exception, SystemExit)
    assert run.get("/v1/books?limit=1", "demo_manage") == before


def test_no_service(orders: Path, tmp_path: Path) -> None:
    """Without a service it says what to start."""
    result = CliRunner().invoke(replay, [str(orders)], env={"SCRIP_DATA_DIR": str(tmp_path)})

    assert result.exit_code == 1
    assert f"No `scrip run` uses {tmp_path}" in result.output
