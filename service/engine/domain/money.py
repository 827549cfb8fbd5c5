"""Money: decimals in requests, integers of 10⁻⁴ units ("e4") inside, strings with the currency's digits in responses.

Requests, discounts and views call this. Currency codes and digits are those of ISO 4217; Redis and Postgres keep a
currency's digits, so none may change. CLDR's (as in babel) differ: IQD or LBP have no digits there.
"""

import re
from decimal import Context, Decimal
from functools import lru_cache
from typing import Annotated, Any

import msgspec

from service.engine.domain.errors import BadField

E4 = 10_000
LIMIT = Decimal(10) ** 11
"""Every amount is below this, in units."""
MAX_DIGITS = 100
"""Of an amount as a string, including leading and trailing zeros."""
MAX_UNITS = 11
"""Digits before the point."""
_WIDE = Context(prec=200)  # the default of 28 digits would round a longer amount instead of rejecting it

_AMOUNT = r"0*[0-9]{1,11}(?:\.[0-9]{1,4}0*)?$"
_PERCENTAGE = r"0*(?:100(?:\.0+)?|[0-9]{1,2}(?:\.[0-9]{1,4}0*)?)$"
_ABOVE_ZERO = r"(?!0*(?:\.0*)?$)"


def _schema(example: str, allowed: str, pattern: str, **bounds: float) -> msgspec.Meta:
    """The OpenAPI schema of an amount."""
    text = {"type": "string", "pattern": f"^{pattern}", "maxLength": MAX_DIGITS}
    return msgspec.Meta(
        description=f"A JSON number or a string, {allowed}.",
        examples=[example],
        extra_json_schema={"anyOf": [{"type": "number", **bounds}, text]},
    )


_BELOW = {"exclusiveMaximum": 10**11}
_AT_LEAST_ZERO = f"(?:{_AMOUNT}|-0+(?:\\.0+)?$)"

Money = Annotated[Decimal, _schema("25.00", "at least 0 and below 10¹¹", _AT_LEAST_ZERO, minimum=0, **_BELOW)]
_POSITIVE = _schema("25.00", "above 0 and below 10¹¹", _ABOVE_ZERO + _AMOUNT, exclusiveMinimum=0, **_BELOW)
PositiveMoney = Annotated[Decimal, _POSITIVE]
RawPositiveMoney = Annotated[msgspec.Raw, _POSITIVE]
"""As PositiveMoney, to decode later."""
Percentage = Annotated[
    Decimal,
    _schema(
        "20",
        "above 0 and at most 100, with at most 4 digits after the point",
        _ABOVE_ZERO + _PERCENTAGE,
        exclusiveMinimum=0,
        maximum=100,
    ),
]

Amount = Annotated[str, msgspec.Meta(extra_json_schema={"format": "decimal"})]
"""An amount of a response: a decimal, with the currency's digits."""

_DIGITS = {
    0: "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF",
    3: "BHD IQD JOD KWD LYD OMR TND",
    4: "CLF UYW",
    2: """AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BOV BRL BSD BTN BWP BYN BZD CAD CDF CHE
    CHF CHW CNY COP COU CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG
    HUF IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK
    MXN MXV MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE
    SOS SRD SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD USN UYU UZS VED VES WST XCD XCG YER ZAR ZMW
    ZWG""",
}
CURRENCY_DIGITS = {code: digits for digits, codes in _DIGITS.items() for code in codes.split()}
"""Digits after the point, by currency code."""
CURRENCIES: dict[str, Any] = {"enum": sorted(CURRENCY_DIGITS)}
"""The OpenAPI schema of a currency."""


is_plain = re.compile(r"-?[0-9]+(?:\.[0-9]+)?").fullmatch
"""Whether the text is an amount in plain notation: no exponent (which a JSON number may have), `+` or `_`."""

_is_usual = re.compile(rb'("?)([0-9]{1,11})(?:\.([0-9]{1,4}))?\1').fullmatch


def check_currency(field: str, currency: str | None) -> None:
    """Raise BadField unless the currency is None or an ISO 4217 code."""
    if currency is not None and currency not in CURRENCY_DIGITS:
        meant = currency.upper() if currency.upper() in CURRENCY_DIGITS else "USD"
        raise BadField(field, f"must be an ISO 4217 currency code in upper case such as {meant}")


def to_e4(field: str, amount: Decimal, digits: int = 4) -> int:
    """The amount in 10⁻⁴ units. Raises BadField if it is no number, out of range, or has more than `digits` digits."""
    units, _, rest = str(amount).partition(".")
    if len(units) <= MAX_UNITS and len(rest) <= digits and units.isdigit() and (rest.isdigit() or not rest):
        return int(units + rest.ljust(4, "0"))  # nearly all amounts take this path: 0.4 µs instead of 1
    if not amount.is_finite():
        raise BadField(field, "must be a number", malformed=True)
    if amount.is_signed() and amount != 0:
        raise BadField(field, "must be 0 or more")
    if amount >= LIMIT:
        raise BadField(field, "must be below 100000000000")
    if amount == 0:
        return 0
    if amount.adjusted() < -4 or len(amount.as_tuple().digits) > MAX_DIGITS:
        raise BadField(field, f"must have at most {digits} digits after the point")
    scaled = amount.scaleb(digits, _WIDE)
    whole = int(scaled)
    if scaled != whole:
        raise BadField(field, f"must have at most {digits} digits after the point")
    return whole * 10 ** (4 - digits)


def usual_e4(amount: bytes) -> int | None:
    """As to_e4, of a JSON number or string; None if it may be invalid, or is not in plain notation."""
    match = _is_usual(amount)
    return int(match[2] + (match[3] or b"").ljust(4, b"0")) if match else None


def count_digits(amount_e4: int) -> int:
    """The number of digits after the point, without trailing zeros."""
    for digits, unit in enumerate((10_000, 1_000, 100, 10)):
        if amount_e4 % unit == 0:
            return digits
    return 4


@lru_cache(maxsize=4096)
def from_e4(amount_e4: int, digits: int) -> str:
    """The amount as a string with `digits` digits after the point; further digits must be 0."""
    if digits == 0:
        return str(amount_e4 // E4)
    units, rest = divmod(amount_e4, E4)
    return f"{units}.{rest:04d}"[: digits - 4 or None]
