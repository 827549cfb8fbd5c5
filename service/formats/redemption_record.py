"""A redemption as scripts read it where Redis stores no more of it than its event: that, what it says (`R …`, as in the
outbox without a gift), and the request's part. lua/includes/events.lua reads it."""

import msgspec

from service.formats.events import Redeemed, decided, packed


class RedemptionRecord(msgspec.Struct, gc=False):
    """A record in its words, '-' for none; `request` is JSON. A struct: a named tuple takes 0.5 µs more."""

    event: str
    kind: str
    workspace: str
    book: str
    code: str
    user: str
    order: str
    redemption_id: str
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

    @property
    def name(self) -> str:
        """The redemption's own id in records of older versions, else its event."""
        return self.event if self.redemption_id == "-" else self.redemption_id


def parse_record(text: str) -> RedemptionRecord:
    """The inverse of str."""
    return RedemptionRecord(*text.split(" ", 18))


def record_text(redeemed: Redeemed) -> str:
    """The record of a redemption."""
    alone = msgspec.structs.replace(redeemed, gift=None)
    return f"{redeemed.id} {decided(alone)} {packed(redeemed.request).decode()}"
