"""How a replay reads a shop's orders, and what it expects of each."""

import json
from pathlib import Path
from typing import Any

import click
import pytest

from loadtests.replay import Order, read_orders

ITEM = {"sku": "85123A", "quantity": 6, "unitPrice": "2.55"}


def read(path: Path, text: str) -> list[Order]:
    path.write_bytes(text.encode(errors="surrogateescape"))
    return read_orders(path)


def line(**fields: Any) -> str:
    return json.dumps({"orderId": "1", "userId": "ann", "orderValue": "40.00"} | fields) + "\n"


def test_csv(tmp_path: Path) -> None:
    """A table has the same orders as JSON lines: an empty field is null, and other columns are ignored."""
    table = "\ufefforderId,userId,country,cancelled,orderValue\n1,ann,UK,false,40.00\nC1,,UK,true,-5\n2,bob,UK,,\n"
    lines = line() + line(orderId="C1", userId=None, cancelled=True, orderValue=-5, country="UK")
    lines += line(orderId="2", userId="bob", orderValue=None)
    assert read(tmp_path / "a.CSV", table) == read(tmp_path / "a.jsonl", lines)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.jsonl", line() + "{", "order 2: Input data was truncated"),
        ("a.jsonl", line() + "\udcff", "order 2: JSON is malformed"),
        ("a.jsonl", line(userId=1), r"order 1: Expected `str \| null`, got `int` - at `\$.userId`"),
        ("a.jsonl", '{"orderId": "1", "userId": "ann"}', "order 1: Object missing required field `orderValue`"),
        ("a.csv", "orderId,orderValue\n1,2\n", "order 1: Object missing required field `userId`"),
        ("a.csv", "orderId,userId,orderValue\n1,ann,2\n2,ann,two\n", "order 2: Invalid decimal string"),
        ("a.csv", "orderId,userId,orderValue\n\udcff,ann,2\n", "order 1: 'utf-8' codec"),
    ],
)
def test_unusable_files(tmp_path: Path, name: str, text: str, message: str) -> None:
    """A file that has no orders, or a line that is none, is refused with the place and the reason."""
    with pytest.raises(click.UsageError, match=message):
        read(tmp_path / name, text)


@pytest.mark.parametrize(
    ("refusal", "fields"),
    [
        ("", {"orderValue": "20.0100"}), ("", {"orderValue": 25}), ("", {"items": [ITEM]}),
        ("", {"orderValue": "15240.00", "items": [ITEM] * 1000}), ("invalid", {"orderValue": "20.001"}),
        ("invalid", {"orderValue": "15239.99", "items": [ITEM] * 1000}), ("invalid", {"orderValue": "-20"}),
        ("invalid", {"orderValue": "100000000000"}), ("invalid", {"items": [ITEM | {"quantity": -1}]}),
        ("invalid", {"items": [ITEM | {"unitPrice": "-0.01"}]}), ("order_value_too_low", {"orderValue": "19.99"}),
        ("order_value_required", {"orderValue": None}), ("malformed", {"orderValue": "NaN"}),
        ("malformed", {"items": [ITEM | {"unitPrice": "-Infinity"}]}),
    ],
)  # fmt: skip
def test_expected_refusals(tmp_path: Path, refusal: str, fields: dict[str, Any]) -> None:
    """The order itself explains why the coupon can't be redeemed for it."""
    assert read(tmp_path / "a.jsonl", line(**fields))[0].refusal == refusal
