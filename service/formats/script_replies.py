"""The views of a coupon and of a lock in scripts' replies and stored answers: fields between spaces, '-' for none.

batch_answers.py, idempotency_entry.py and lock_notes.py tell them apart by LENGTH alone: they must differ in length,
also from a release's note (3 fields). Stored answers keep their length for as long as their Idempotency-Key: a view
with a new field needs its old length in _USERS, too. lua/steps/view.lua and usual_lock.lua, lua/lock.lua and
extend.lua write them, coupon_view.py and lock.py read them by position.
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
