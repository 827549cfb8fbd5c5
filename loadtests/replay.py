"""Replays a shop's orders against a running service, and judges the outcome:
`python -m loadtests.replay ORDERS.jsonl --url URL --key KEY`. loadtests/orders.py makes orders up."""

import asyncio
import csv
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from decimal import Decimal
from functools import partial
from io import TextIOWrapper
from pathlib import Path
from typing import IO, Any

import click
import httpx2
import msgspec
from rich.console import Console
from rich.progress import Progress

from loadtests.judge import Judge, Judgement
from loadtests.ledger import CREATED, PATIENCE_S, Entry, Ledger, now_ms
from loadtests.plan import TOKEN, Book, Maker, check_key, new_mark
from loadtests.rules import RULES
from loadtests.summary import RESULTS
from loadtests.tables import Tables
from loadtests.target import Target
from loadtests.wire import Answer, Barrage
from scrip_client import AsyncClient, Call, ScripError, models, operations

CURRENCY, MINIMUM = "GBP", Decimal("20.00")
DISCOUNT = {"type": "percentage", "value": 15, "maxAmount": "50.00", "minOrderValue": "20.00", "currency": CURRENCY}
MAX_AMOUNT, PENNY = Decimal(10) ** 11, Decimal("0.01")
SHOP = "Shop"  # the kind of buyer of all entries


class Item(msgspec.Struct, rename="camel", kw_only=True):
    """One line of an order."""

    sku: str
    quantity: int
    unit_price: Decimal


class Order(msgspec.Struct, rename="camel", kw_only=True):
    """One order of the file. Without a user it is a guest's."""

    order_id: str | None
    user_id: str | None
    order_value: Decimal | None
    cancelled: bool = False
    items: list[Item] | None = None

    @property
    def refusal(self) -> str:
        """The refusal of its redemption that the order itself explains; '' if it must succeed."""
        value, items = self.order_value, self.items or []
        if not all(amount.is_finite() for amount in (value or PENNY, *(item.unit_price for item in items))):
            return "malformed"
        if not all(item.quantity > 0 and _is_amount(item.unit_price) for item in items):
            return "invalid"
        if value is None:
            return "order_value_required"
        # Items may be worth more than the order by a penny a unit, because shops round.
        least = sum((item.quantity * (item.unit_price - PENNY) for item in items), Decimal(0))
        small = "order_value_too_low" if value < MINIMUM else ""
        return small if _is_amount(value) and value >= least else "invalid"


def _is_amount(value: Decimal) -> bool:
    return 0 <= value < MAX_AMOUNT and value % PENNY == 0


def read_orders(path: Path) -> list[Order]:
    """Read JSON lines, or CSV where the name ends in .csv. UsageError if something in it is no order."""
    is_table, orders = path.suffix.lower() == ".csv", []
    decode = partial(msgspec.convert, type=Order, strict=False) if is_table else msgspec.json.Decoder(Order).decode
    try:
        with path.open("rb") as file:
            for line in _read_rows(file) if is_table else file:
                orders.append(decode(line))  # type: ignore[arg-type]  # noqa: PERF401, an error names its number
    except (OSError, UnicodeDecodeError, csv.Error, msgspec.DecodeError) as error:
        raise click.UsageError(f"{path}, order {len(orders) + 1}: {error}.") from None
    return orders


def _read_rows(file: IO[bytes]) -> Iterator[dict[str, str | None]]:
    """An empty field is null; `cancelled` may be left out, and other columns are ignored."""
    for row in csv.DictReader(TextIOWrapper(file, "utf-8-sig", newline="")):
        fields = {name: row[name] or None for name in ("orderId", "userId", "orderValue") if name in row}
        yield fields | {"cancelled": row.get("cancelled") or "false"}


class Recorder(httpx2.AsyncHTTPTransport):
    """The client's connections. Each attempt of a call becomes an entry, by its Idempotency-Key."""

    def __init__(self, in_flight: int) -> None:
        super().__init__(limits=httpx2.Limits(max_connections=in_flight, max_keepalive_connections=in_flight))
        self.attempts: defaultdict[str, list[Entry]] = defaultdict(list)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        key, path = request.headers["Idempotency-Key"], request.url.raw_path.decode()
        entry = Entry(SHOP, "", path, msgspec.json.decode(request.content), key, sent_ms=now_ms())
        self.attempts[key].append(entry)
        try:
            response = await super().handle_async_request(request)
            content = await response.aread()
        except BaseException as error:
            entry.refusal = type(error).__name__
            raise
        finally:
            entry.answered_ms = now_ms()
        entry.enter_response(Answer(response.status_code, dict(response.headers), content))
        return response


class Shop:
    """Sends orders through the Python client, each with one Idempotency-Key to which the step's name is added.

    1. An order locks a code of its own, and redeems it; a code that it doesn't redeem is unlocked.
    2. A cancelled order rolls back the latest redemption of its user, if one is left.
    3. A user's orders are sent in sequence, those of several users side by side.
    """

    def __init__(self, orders: Sequence[Order], book: Book, ledger: Ledger, mark: str) -> None:
        self._orders, self._book, self._ledger, self._mark = orders, book, ledger, mark
        self._uses = Counter(order.order_id for order in orders if not order.cancelled)
        self.skipped = 0
        """Cancelled orders with nothing to roll back."""

    async def send(self, url: str, key: str, in_flight: int, on_order: Callable[[], object]) -> None:
        """Send all orders. UsageError if the service doesn't answer one."""
        users: defaultdict[str, list[int]] = defaultdict(list)
        for number, order in enumerate(self._orders):
            users[order.user_id or f"guest-{self._mark}-{number}"].append(number)
        waiting = iter(users.items())
        self._recorder = Recorder(in_flight)
        http = httpx2.AsyncClient(transport=self._recorder)
        async with AsyncClient(url, key, deadline_s=PATIENCE_S, http=http) as self._client:
            try:
                async with asyncio.TaskGroup() as group:
                    for _ in range(min(in_flight, len(users))):
                        group.create_task(self._serve(waiting, on_order))
            except BaseExceptionGroup as stopped:
                raise stopped.exceptions[0] from None

    async def _serve(self, waiting: Iterable[tuple[str, list[int]]], on_order: Callable[[], object]) -> None:
        for user, numbers in waiting:
            standing: list[str] = []
            for number in numbers:
                if not self._orders[number].cancelled:
                    standing += await self._buy(number, user)
                elif standing:
                    await self._send(number, "rollback", operations.rollback_redemption, standing.pop(), wanted={200})
                else:
                    self.skipped += 1
                on_order()

    async def _buy(self, number: int, user: str) -> list[str]:
        """Lock and redeem; return the redemption, if it succeeded."""
        order, code = self._orders[number], self._book.code(number)
        about = {"user_id": user, "order_id": order.order_id and f"{self._mark}-{order.order_id}"}
        used = ["order_already_used"] if order.order_id and self._uses[order.order_id] > 1 else []
        lock = await self._send(number, "lock", operations.lock_coupon, code, *used, **about)
        if not lock.succeeded:
            return []
        items = [models.Item(**msgspec.structs.asdict(item)) for item in order.items or ()]
        token, wanted = lock.response["lockToken"], () if order.refusal else CREATED
        about |= {"order_value": order.order_value, "currency": CURRENCY, "items": items, "lock_token": token}
        call = operations.redeem_coupon
        redeem = await self._send(number, "redeem", call, code, order.refusal, *used, wanted=wanted, **about)
        if redeem.succeeded:
            return [redeem.response["redemptionId"]]
        await self._send(number, "unlock", operations.unlock_coupon, code, wanted={204}, lock_token=token)
        return []

    async def _send(
        self,
        number: int,
        op: str,
        make: Callable[..., Call[Any]],
        name: str,
        *refusals: str,
        wanted: Collection[int] = CREATED,
        **fields: Any,
    ) -> Entry:
        """Send an order's call, and write its attempts; return the last. The body is as wire.py writes it: the judge
        repeats requests, and a repeat has the same bytes."""
        call = make(name, **fields, idempotency_key=f"{self._mark}-{number}-{op}")
        call = replace(call, body=json.dumps(msgspec.json.decode(call.body)).encode())  # type: ignore[arg-type]
        with suppress(ScripError):  # the entries say what happened
            await self._client.send(call)
        attempts = self._recorder.attempts.pop(call.idempotency_key)
        last = attempts[-1]
        for entry in attempts:
            entry.op = op
            if op != "rollback":
                entry.code, entry.book_id = name, self._book.book_id
            entry.asked_ms, entry.final = attempts[0].sent_ms, entry is last
            entry.wanted = not entry.final or entry.status in wanted or (entry.refusal or None) in refusals
            self._ledger.write(entry)
        if last.is_unknown:
            raise click.UsageError(
                f"The service does not answer: {op}: {last.status or ''} {last.refusal}. Is it running?"
            )
        return last


async def replay(orders: Sequence[Order], url: str, key: str, in_flight: int, show: Progress) -> tuple[Judgement, str]:
    """Send the orders; the judgement, and how fast it was."""
    mark = new_mark()
    with Barrage(url, key) as barrage, Ledger([url], key) as ledger:
        book = await Maker(ledger, mark).book("sale", len(orders), discount=DISCOUNT)
        task = show.add_task("Orders", total=len(orders))
        shop = Shop(orders, book, ledger, mark)
        await shop.send(url, key, in_flight, lambda: show.advance(task))
        entries = list(ledger.entries)
        judgement = await Judge(Target(barrage, 1), [book], ledger, entries, Tables()).judge()
    sent = [entry for entry in entries if entry.buyer]
    took_ms = sorted(entry.answered_ms - entry.sent_ms for entry in sent) or [0.0]
    p50_ms, p99_ms = (took_ms[int(len(took_ms) * share)] for share in (0.5, 0.99))
    return judgement, (
        f"{len(orders):,} orders, {shop.skipped:,} of them with nothing to roll back: {len(sent):,} requests in "
        f"{judgement.took_s:.1f} s, {len(sent) / (judgement.took_s or 1):,.0f} a second, {in_flight} in flight; "
        f"half answered within {p50_ms:.0f} ms, 99 % within {p99_ms:.0f} ms."
    )


@click.command(epilog="Example: python -m loadtests.replay orders.jsonl --key demo_admin")
@click.argument("orders", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--url", default="http://127.0.0.1:8000", show_default=True, help="URL of the service.")
@click.option("--key", envvar=TOKEN, default="demo_admin", show_default=True, help=f"An API key; or set {TOKEN}.")
@click.option(
    "--in-flight", default=64, show_default=True, type=click.IntRange(1, 1_000), help="Number of requests at once."
)
def main(orders: Path, url: str, key: str, in_flight: int) -> None:
    """Replay a shop's orders against a running service, and judge the outcome.

    ORDERS has a JSON object a line, or is CSV with a header: orderId, userId, orderValue, and if there are any,
    cancelled and items (sku, quantity, unitPrice; not in CSV). Each order redeems a code of a new book: 15 % off, at
    most 50.00, for orders from 20.00. The key needs the scopes checkout, manage and operate.

    Exits with 0 if every rule of the load's judge holds; with 1 if one is broken; with 2 if the file, the URL or the
    key can't be used.
    """
    if not url.startswith(("http://", "https://")):
        raise click.BadParameter("must begin with http:// or https://", param_hint="--url")
    if not (known := read_orders(orders)):
        raise click.UsageError(f"{orders} has no orders.")
    try:
        asyncio.run(check_key(url, key))
        with Progress(console=Console(stderr=True)) as show:
            judgement, speed = asyncio.run(replay(known, url, key, in_flight, show))
    except (OSError, RuntimeError) as error:
        raise click.UsageError(str(error) or type(error).__name__) from None
    for label, many in judgement.seen.items():
        click.echo(f"{many:>9,}  {label.removeprefix(SHOP).strip()}")
    click.echo(speed)
    click.echo(f"{judgement.answers:,} answers judged by {len(RULES)} rules; {judgement.redemptions:,} redemptions.")
    click.echo("\n".join([f"{RESULTS[0]} {one}" for one in judgement.wrong] or [RESULTS[1]]))
    sys.exit(bool(judgement.wrong))


if __name__ == "__main__":
    main()
