"""The views of a coupon and of a lock in scripts' replies and stored answers: fields between spaces, '-' for none.

batch_answers.py and idempotency_entry.py tell them apart by LENGTH alone: the views must differ in length.
lua/steps/view.lua, lua/lock.lua and lua/extend.lua write them, coupon_view.py and lock.py read them by position.
"""

COUPON_VIEW = (
    "book_id code status uses max_uses user assigned_at ends_at lock_user lock_order lock_until "
    "last_event last_user last_order last_at"
).split()
LOCK_VIEW = "book_id code user order token until".split()

_USERS = {len(view): [view.index(name) for name in view if name.endswith("user")] for view in (COUPON_VIEW, LOCK_VIEW)}


def user_indexes(size: int) -> list[int]:
    """The indexes of the users in a view of this size; [] for a text that is no view."""
    return _USERS.get(size, [])
