"""What scripts reply of a coupon and of a lock, in words between spaces, '-' for none; idempotency entries have these,
too. lua/includes/view.lua, lua/lock.lua and extend.lua write them."""

COUPON_VIEW = (
    "book_id code status uses max_uses user assigned_at ends_at lock_user lock_order lock_until "
    "last_id last_user last_order last_at"
).split()
"""`last_id` is the last redemption's event, or its id in records of older versions."""
LOCK_VIEW = "book_id code user order token until".split()

_USERS = {len(view): [view.index(name) for name in view if name.endswith("user")] for view in (COUPON_VIEW, LOCK_VIEW)}


def places_of_users(words: int) -> list[int]:
    """Where a view of so many words names users: the owner, who locks it, who used it last. None of what is no view."""
    return _USERS.get(words, [])
