"""Amounts as spreadsheets write them (`1.234,50`, `1 234.50`), for code_requests.py. Nothing is guessed: what can be
read in two ways is refused. The console's typed.js reads what people type in the same way."""

import re
from decimal import Decimal

from service.engine.domain.errors import BadField

_is_whole = re.compile(r"[0-9]+|[0-9]{1,3}([.,' ])[0-9]{3}(?:\1[0-9]{3})*").fullmatch
"""A whole number, its thousands apart or not."""
_is_fraction = re.compile(r"[0-9]+").fullmatch
_may_be_thousands = re.compile(r"[1-9][0-9]{0,2}").fullmatch
_space = re.compile(r"\s")


def parse_amount(text: str) -> Decimal:
    """The amount of a cell. Raises BadField, also if a separator may be of decimals or of thousands: `1.000`."""
    cell = _space.sub(" ", text.strip()).replace("’", "'")
    at = max(cell.rfind("."), cell.rfind(","))
    is_decimal = at >= 0 and cell.count(cell[at]) == 1
    whole, fraction = (cell[:at], cell[at + 1 :]) if is_decimal else (cell, "")
    if not _is_whole(whole) or (is_decimal and not _is_fraction(fraction)):
        raise BadField("amount", "must be an amount such as 25.00, without a currency")
    units = re.sub(r"[^0-9]", "", whole)
    if len(fraction) == 3 and _may_be_thousands(whole):
        decimal = fraction[:-1] if fraction.endswith("0") else f"{fraction}0"
        raise BadField("amount", f"can be read in two ways: write {units}{fraction}, or {units}.{decimal}")
    return Decimal(f"{units}.{fraction or 0}")
