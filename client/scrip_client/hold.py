"""What a coupon that is held for a block of code has in both clients."""

from typing import TypedDict

from scrip_client.core import Call
from scrip_client.errors import Refused, ScripError
from scrip_client.generated import models, operations
from scrip_client.generated.operations import RedeemFields

SECONDS = 60
"""How long a held coupon stays locked after the last extension: also after the end of its process."""
EXTENSIONS = 3
"""In this time."""
DEADLINE_S = 3.0
"""Of an extension, and of the release: a lock that can't be released ends by itself."""


class PriceFields(TypedDict, total=False):
    """The amounts of an order, whose price the lock holds."""

    order_value: models.Amount | None
    currency: str | None
    items: list[models.Item] | None
    amount: models.Amount | None


class Hold:
    """A coupon that is locked for a block of code."""

    def __init__(self, lock: models.Lock, lock_seconds: int) -> None:
        self.lock = lock
        self.refusal: Refused | None = None
        """Why the lock can't be extended any further, if so."""
        self.is_over = False
        """Whether it needs no release: it was redeemed, or that is unknown."""
        self.pause_s = lock_seconds / EXTENSIONS
        self._lock_seconds = lock_seconds

    def redeem_call(self, fields: RedeemFields) -> Call[models.DurableRedemption]:
        lock = self.lock
        return operations.redeem_coupon(
            lock.code, user_id=lock.user_id, order_id=lock.order_id, lock_token=lock.lock_token, **fields
        )

    def extend_call(self) -> Call[models.Lock]:
        return operations.extend_lock(self.lock.code, lock_token=self.lock.lock_token, lock_seconds=self._lock_seconds)

    def unlock_call(self) -> Call[None]:
        return operations.unlock_coupon(self.lock.code, lock_token=self.lock.lock_token)

    def can_extend_after(self, failure: ScripError) -> bool:
        """Whether a later extension may succeed."""
        if isinstance(failure, Refused) and failure.status not in (429, 503):
            self.refusal = failure
        return self.refusal is None
