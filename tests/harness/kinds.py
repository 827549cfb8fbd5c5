"""What each kind of field refuses: values that are malformed, and values out of its bounds."""

from dataclasses import dataclass
from typing import Any

from service.engine.domain.sent_fields import SentField
from tests.harness.ends import IDS

NOBODYS = "019aa0b2-6f0c-7b52-8a0e-5d1f3d1f9c11"
"""An id without an object."""

_TYPES: tuple[Any, ...] = (1, 1.5, True, "x", [], {})


@dataclass(frozen=True)
class Kind:
    """Values that a field refuses as malformed (400) and as invalid (422); bytes are put into the body as they are."""

    malformed: tuple[Any, ...] = ()
    invalid: tuple[Any, ...] = ()
    not_found: tuple[Any, ...] = ()
    """Values that no id of the service has."""


def _but(*fitting: type, also: tuple[Any, ...] = ()) -> tuple[Any, ...]:
    """A value of each JSON type except these, and others."""
    return tuple(value for value in _TYPES if type(value) not in fitting) + also


def text(shortest: int, longest: int) -> Kind:
    controls = ("a\nb", "a\0", "a\x7f", "a\x85", "a\u2028b", "a\u200bb")
    return Kind(_but(str), (*([""] if shortest else []), "x" * (longest + 1), *controls))


def number(largest: int, least: int = 1) -> Kind:
    return Kind(_but(int, also=(b"1.0", b"1e3")), (least - 1, -1, largest + 1, 2**31, 10**30, -(10**30), 10**400))


def sent(field: SentField) -> Kind:
    """A field that clients send with a redemption."""
    return metadata(field.sent.most) if field.is_object else text(1, field.sent.most)


def metadata(most_bytes: int) -> Kind:
    invalid = ({"a": "x" * most_bytes}, {"a": "\0"}, {"\x1f": 1}, {"a": {"b": ["\n"]}})
    return Kind(_but(dict), invalid)


ID = Kind(_but(str), ("", "x" * 101, "a b", "a/b", "a?b", "a%b", "..", "é", "a\n", "a\0", "\u212a"))
OWN_ID = Kind(_but(str), (), ("", "x", "0" * 36, NOBODYS, NOBODYS.replace("-", ""), *IDS))
COUNT = number(2**31 - 1)
MANY = number(10_000_000)
SWITCH = Kind(_but(bool))
TOKEN = Kind(_but(str), ("", "x" * 65, "a b", "é", "a\n"))
CURRENCY = Kind(_but(str), ("", "usd", "US", "USDX", "XXX", "€"))
ZONE = Kind(_but(str), ("", "x" * 65, "Europe/Nowhere", "Europe/Berlin\n", "a\0"))
_NO_AMOUNTS = ("", "NaN", "-Infinity", "1_000", "1e3")
"""tests/unit/test_decoding.py has more of them."""
MONEY = Kind(
    _but(int, float, also=_NO_AMOUNTS),
    (-1, "-0.01", 10**11, "100000000000.00", b"1e999", b"0.00001", "1.00001", "1" * 400, "1." + "1" * 400, "0" * 101),
)
POSITIVE = Kind(MONEY.malformed, (*MONEY.invalid, 0, "0.00"))
TIME = Kind(
    _but(str, also=("x", "", "2027-01-01", "2027-01-01T00:00:00", "2027-13-01T00:00:00Z", "2027-02-30T00:00:00Z")),
    ("1969-12-31T23:59:59Z", "1969-12-31T23:59:59.999Z", "0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59-01:00"),
)
CLOCK = Kind(TIME.malformed, (*TIME.invalid, "9900-01-01T00:00:00Z", "9999-12-31T23:59:59.999Z"))
BOOK_STATUS = Kind(_but(str), ("", "ACTIVE", "purple"))
COUPON_STATUS = Kind(_but(str), ("", "ACTIVE", "archived"))
DISCOUNT_TYPE = Kind(_but(str), ("", "Percentage", "free"))
PERCENTAGE = Kind(_but(int, float, also=_NO_AMOUNTS), (0, -1, "100.0001", 101, "0.00001", b"1e999", "33.33333"))
PATTERN = Kind(_but(str), ("", "###", "#" * 65, "#### ####", "é###", "LOCK", "####\n"))
CHARSET = Kind(_but(str), ("", "A", "AA", "aA", "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-", "A B", "AÉ", "AB#"))
TAGS = Kind(_but(list, also=([1], [None])), ([""], ["x" * 101], ["a\n"], ["x"] * 21))
CODES = Kind(_but(list, also=([1], ["GOOD-1", None], [["GOOD-1"]])))
NAMED_CODES = Kind(CODES.malformed, ([], ["a b"], ["LOCK"], ["GOOD-1"] * 1001))
NAMED_USERS = Kind(CODES.malformed, ([], ["a b"], ["é"], [""], ["u"] * 1001))
STATUSES = Kind(_but(list, also=([1], [None])), ([], ["locked"], [""]))
CHANGE = Kind(_but(str), ("", "delete"))
ITEMS = Kind(_but(list, also=([1], [None])), ([{"sku": "a", "quantity": 1, "unitPrice": 1}] * 1001,))
EVENTS = Kind(_but(list, also=([1], [None])), ([], ["coupon.sold"], ["coupon.redeemed"] * 2, [""]))
CHOICE = Kind(_but(str), ("", "drop"))
HOOK_STATUS = Kind(_but(str), ("", "ACTIVE", "deleted"))
HOOK_URL = Kind(
    _but(str),
    ("", "x", "http://shop.example/", "https://user@shop.example/", "https://10.0.0.1/", "https://shop/",
     "https://shop.example/" + "x" * 2048),
)  # fmt: skip
SCOPES = Kind(_but(list, also=([1], [None])), ([], ["root"], ["manage", "manage"], [""]))
OPERATIONS = Kind(_but(list), ([], [{}] * 1001))
"""A problem within one operation is in that operation's own result."""
ANY_CODE = Kind(_but(str))
GIFT_BOOK = Kind(_but(str), IDS)
OBJECT = Kind(_but(dict))
BUDGETS = Kind(_but(list, also=([1], [None])), ([{"amount": 1, "per": "book", "period": "day"}] * 5,))
LIMITS = Kind(_but(list, also=([1], [None])), ([{"uses": 1, "per": "user", "period": "day"}] * 5,))

TIERS = Kind(_but(list, also=([1], [None])), ([], [{"from": n, "type": "fixed", "value": 1} for n in range(21)]))
NEW_CODE = Kind(_but(str), ("", "ABC", "x" * 65, "a bc", "é123", "A.BC", "ABCD\n", "LOCK", "Generate", "time-specific"))
