"""Orders made up for loadtests/replay.py: the same for the same seed. `python -m loadtests.orders > orders.jsonl`

Their proportions are those of a shop's real invoices: a sixth takes goods back, a sixth is a guest's, a fourth is too
small for the discount, a few values are refused, and few users order often. Some orders share an orderId, of one user
or of several, and user ids hold separators and names of keys."""

import json
import random
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import click

CANCELLED, GUESTS, SHARED = 0.16, 0.15, 0.01
"""Shares of all orders."""
SMALL, ODD = 0.25, 0.01
"""Shares of the values: below the discount's minimum, and such as are refused."""
RECENT = 1_000
"""How many orderIds may be used again."""

_USERS = ("u{}", "a:l:{}", "w1:d:{}", "i:{}:x", "{}!", "o:{}", "{}|<{}>", "{p0}:w1:{}")
_VALUES_P = (2_000, 50_000, 300_000)
_MOST_ITEMS, _MOST_UNITS = 6, 24


def made_up(count: int, users: int, seed: int) -> Iterator[dict[str, Any]]:
    """So many orders by at most so many users."""
    chance = random.Random(seed)
    recent: list[str] = []
    for number in range(count):
        shared = recent and chance.random() < SHARED
        order_id = chance.choice(recent) if shared else str(500_000 + number)
        recent = [*recent[-RECENT:], order_id] if number % 100 == 0 else recent
        user = None if chance.random() < GUESTS else _user(int(users * chance.random() ** 2))
        cancelled = chance.random() < CANCELLED
        value = "-5.00" if cancelled else _value(chance)
        yield {
            "orderId": f"C{order_id}" if cancelled else order_id,
            "userId": user,
            "cancelled": cancelled,
            "orderValue": value,
            "items": [_item(chance, value) for _ in range(chance.randint(0, _MOST_ITEMS))],
        }


def _user(number: int) -> str:
    return _USERS[number % len(_USERS)].replace("{}", str(number))


def _value(chance: random.Random) -> str:
    if chance.random() < ODD:
        return chance.choice(["-20.00", "20.001", "100000000000", "0.00"])
    small, usual, large = _VALUES_P
    most = small if chance.random() < SMALL else chance.choice([usual, usual, large])
    return str(Decimal(chance.randrange(most)) / 100)


def _item(chance: random.Random, value: str) -> dict[str, Any]:
    """A line of an order. All of them are worth its value at most."""
    most = max(int(Decimal(value) * 100), 0) // (_MOST_ITEMS * _MOST_UNITS)
    price, quantity = str(Decimal(chance.randint(0, most)) / 100), chance.randint(1, _MOST_UNITS)
    return {"sku": str(20_000 + chance.randrange(4_000)), "quantity": quantity, "unitPrice": price}


@click.command()
@click.option("--orders", default=100_000, show_default=True, type=click.IntRange(1, 999_999))
@click.option("--users", default=20_000, show_default=True, type=click.IntRange(1))
@click.option("--seed", default=1, show_default=True, type=int)
def main(orders: int, users: int, seed: int) -> None:
    """Print orders made up for a replay, one a line."""
    for order in made_up(orders, users, seed):
        click.echo(json.dumps(order, separators=(",", ":")))


if __name__ == "__main__":
    main()
