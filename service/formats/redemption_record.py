"""A redemption's record, for scripts and responses: its event, the `R` of the outbox without a gift, and the request's
part. lua/includes/events.lua reads it."""

import msgspec

from service.formats.events import Redeemed, encode_event, encode_request


class RedemptionRecord(msgspec.Struct, gc=False):
    """A record's fields, '-' for none; `request` is JSON. A NamedTuple would take 0.5 µs more."""

    event: str
    kind: str
    workspace: str
    book: str
    code: str
    user: str
    order: str
    value_e4: str
    currency: str
    digits: str
    discount_e4: str
    at_ms: str
    slot: str
    code_bucket: str
    order_bucket: str
    max_uses: str
    user_bucket: str
    request: str

    def __str__(self) -> str:
        return " ".join(msgspec.structs.astuple(self))


def parse_record(text: str) -> RedemptionRecord:
    """The inverse of str."""
    return RedemptionRecord(*text.split(" ", 17))


def record_text(redeemed: Redeemed) -> str:
    alone = msgspec.structs.replace(redeemed, gift=None)
    return f"{redeemed.id} {encode_event(alone)} {encode_request(redeemed.request).decode()}"
