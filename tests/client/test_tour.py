"""The clients on a running service: the same tour with Client, AsyncClient, and one made of the OpenAPI document."""

import importlib
import io
import re
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from scrip_client import AsyncClient, Client, models, refusals
from tests.harness.service_fixture import Service, new_code, new_id, ok

ROOT = Path(__file__).parents[2]
TWENTY_PERCENT = {"type": "percentage", "value": 20}


@pytest.fixture
def codes(service: Service) -> list[str]:
    return [new_code(), new_code()]


def test_the_tour(service: Service, codes: list[str]) -> None:
    """A book is made, uploaded to, listed, sold from, rolled back and exported, with typed answers and refusals."""
    ann, order = new_id(), new_id("order")
    with Client(service.run.url, f"{service.workspace}_admin") as client:
        book = client.create_book(name="Tour", discount=models.PercentageDiscount(value=20), tags=["tour"])
        assert client.upload_codes(book.book_id, codes=io.BytesIO("\n".join(["code", *codes]).encode())).added == 2
        assert {one.code for one in client.list_codes(book.book_id, limit=1)} == set(codes)
        with client.hold_coupon(codes[0], user_id=ann, order_id=order) as held:
            with pytest.raises(refusals.CouponLocked) as refused:
                client.redeem_coupon(codes[0], user_id=new_id(), order_value="25.00")
            assert refused.value.retry_after_s
            sold = held.redeem(order_value=Decimal("25.00"), recorded_within_s=5, idempotency_key=order)
        assert (sold.discount_amount, sold.final_amount, sold.durability) == (Decimal(5), Decimal(20), "recorded")
        again = client.send(
            Client.redeem_coupon(
                codes[0], user_id=ann, order_id=order, lock_token=held.lock.lock_token, order_value="25.00",
                idempotency_key=order,
            )
        )  # fmt: skip
        assert (again.value.redemption_id, again.status, again.replayed) == (sold.redemption_id, 201, True)
        with client.hold_coupon(codes[1], user_id=ann):
            assert client.get_coupon(codes[1]).status == "locked"
        assert client.get_coupon(codes[1]).status == "available"
        assert [one.redemption_id for one in client.list_user_redemptions(ann)] == [sold.redemption_id]
        results = client.run_batch(operations=[models.BatchValidate(code=codes[1], order_value=10)]).results
        assert (results[0].status, results[0].body["discountAmount"]) == (200, "2.00")  # type: ignore[index]
        assert client.rollback_order(order, reason="tour").items[0].rolled_back_at
        with client.export_redemptions(book.book_id) as chunks:
            assert ann in b"".join(chunks).decode()
        assert client.patch_book(book.book_id, description=None, max_redemptions=7).max_redemptions == 7
        client.delete_user(ann)
        with pytest.raises(refusals.Malformed) as malformed:
            client.patch_book(book.book_id, name=7)  # type: ignore[arg-type]
        assert malformed.value.errors[0].field == "name"


async def test_the_tour_awaited(service: Service, codes: list[str]) -> None:
    """The same with AsyncClient."""
    ann, order = new_id(), new_id("order")
    async with AsyncClient(service.run.url, f"{service.workspace}_admin") as client:
        book = await client.create_book(name="Tour", discount=models.PercentageDiscount(value=20))
        file = io.BytesIO("\n".join(["code", *codes]).encode())
        assert (await client.upload_codes(book.book_id, codes=file)).added == 2
        assert {one.code async for one in client.list_codes(book.book_id, limit=1)} == set(codes)
        async with client.hold_coupon(codes[0], user_id=ann, order_id=order) as held:
            with pytest.raises(refusals.CouponLocked):
                await client.redeem_coupon(codes[0], user_id=new_id(), order_value="25.00")
            sold = await held.redeem(order_value="25.00")
        assert (sold.discount_amount, sold.final_amount) == (Decimal(5), Decimal(20))
        assert (await client.rollback_redemption(sold.redemption_id)).rolled_back_at
        async with client.export_codes(book.book_id) as chunks:
            assert codes[1] in b"".join([part async for part in chunks]).decode()


def test_the_readme(service: Service, codes: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """README's checkout runs, and tells a refusal from a sale."""
    book = service.book(*codes, discount=TWENTY_PERCENT)
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / "client/README.md").read_text(), re.DOTALL)
    example = example.replace("http://127.0.0.1:8000", service.run.url).replace("SUMMER-2026", codes[0])
    example = example.replace("A-1001", new_id("order"))
    stubs: dict[str, Any] = {"charge": lambda _: None, "customer": None, "retry_later": lambda _: None}
    exec(example, dict(stubs))
    assert capsys.readouterr().out == "24.00 96.00\n"
    assert service.stats(book)["redemptions"] == 1
    ok(service.checkout.post(f"/v1/coupons/lock/{codes[1]}", json={"userId": new_id()}), 201)
    exec(example.replace(codes[0], codes[1]), dict(stubs))
    assert capsys.readouterr().out.startswith("try again in ")


@pytest.fixture(scope="module")
def made(service: Service, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """A client that openapi-python-client made of the document."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "openapi.json").write_text(service.anonymous.get("/schema/openapi.json").text)
    command = [sys.executable, "-m", "openapi_python_client", "generate", "--meta", "none"]
    paths = ["--path", str(folder / "openapi.json"), "--output-path", str(folder / "made_client")]
    subprocess.run([*command, *paths], check=True, capture_output=True)
    sys.path.insert(0, str(folder))
    try:
        yield importlib.import_module("made_client")
    finally:
        sys.path.remove(str(folder))


def test_a_client_made_of_the_document(service: Service, made: Any, codes: list[str]) -> None:
    """The document is enough for a generator: its client runs the tour, with typed answers and problems."""
    client = made.AuthenticatedClient(base_url=service.run.url, token=f"{service.workspace}_admin", verify_ssl=False)

    def run(name: str, *args: Any, **fields: Any) -> Any:
        return importlib.import_module(f"made_client.api.{name}").sync(*args, client=client, **fields)

    of = importlib.import_module("made_client.models")
    ann, order = new_id(), new_id("order")
    discount = of.PercentageDiscount.from_dict(TWENTY_PERCENT)
    book = run("books.create_book", body=of.CreateBook(name="Tour", discount=discount), idempotency_key=order)
    assert run("books.create_book", body=of.CreateBook(name="Tour", discount=discount), idempotency_key=order) == book
    assert run("codes.upload_codes", book.book_id, body=of.UploadCodes(codes=codes)).added == 2
    page = run("codes.list_codes", book.book_id, limit=1)
    assert run("codes.list_codes", book.book_id, limit=1, cursor=page.next_cursor).items[0].code in codes
    lock = run("coupons.lock_coupon", codes[0], body=of.LockRequest(user_id=ann, order_id=order))
    refused = run("coupons.redeem_coupon", codes[0], body=of.RedeemRequest(user_id=new_id(), order_value="25.00"))
    assert (type(refused), refused.code, refused.status) == (of.Problem, "coupon_locked", 409)
    redeem = of.RedeemRequest(user_id=ann, order_id=order, lock_token=lock.lock_token, order_value="25.00")
    sold = run("coupons.redeem_coupon", codes[0], body=redeem, prefer="durability=recorded, wait=5")
    assert (sold.discount_amount, sold.final_amount, sold.durability) == ("5.00", "20.00", "recorded")
    rolled_back = run("redemptions.rollback_order", order, body=of.RollbackRequest(reason="tour"))
    assert rolled_back.items[0].rolled_back_at
    assert codes[1] in run("codes.export_codes", book.book_id)
