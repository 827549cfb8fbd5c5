"""Redemptions as tests write them: with the fields that a test is about, and any others."""

from typing import Any

from msgspec.structs import replace

from service.engine.formats.events import Assigned, Redeemed, encode_event, parse_record, record_text

_GIFT = Assigned(epoch=1, seq=1, workspace=1, book=3, code="GIFT-1", user="ann", at_ms=1_800_000_000_000)
_REDEEMED = Redeemed(
    epoch=1, seq=7, workspace=1, book=1, code="CODE-1", user="ann", at_ms=1_800_000_000_000, order="A-1",
    value_e4=None, currency="USD", digits=2, discount_e4=0, slot=1, max_uses=1,
)  # fmt: skip


def redeemed_text(*, gift: str = "", **fields: Any) -> str:
    """The event of a redemption; `gift` is the code of a checkout's gift, of book 3."""
    given = replace(_GIFT, code=gift) if gift else None
    return encode_event(replace(_REDEEMED, gift=given, **fields))


def redemption_record(**texts: str) -> str:
    """The record of a redemption, with these fields as its text has them."""
    return str(replace(parse_record(record_text(_REDEEMED)), **texts))
