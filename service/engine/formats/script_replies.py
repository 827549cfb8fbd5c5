"""The replies of scripts; and the views of a coupon and of a lock in replies and stored answers: fields between spaces,
'-' for none.

A reply is [outcome, …], of a success [outcome, text, another text, whether it is replayed], of a refusal [outcome,
milliseconds to wait, or figures (figures.py)]. Redis needs 7,000 instructions for such a table. So a
usual lock or redemption replies a text, and a usual refusal its outcome alone.

batch_answers.py and idempotency_entry.py tell them apart by LENGTH alone: they must differ in length,
also from a release's note (3 fields). Stored answers keep their length for as long as their Idempotency-Key: a view
with a new field needs its old length in _USERS, too. lua/includes/view.lua, lua/fast/usual_lock.lua, lua/lock.lua
and extend.lua write them, coupon_view.py and lock.py read them by position.
"""

from typing import Any

from service.engine.domain.outcomes import OK

COUPON_VIEW = (
    "book_id code status uses max_uses user assigned_at ends_at lock_user lock_order lock_until "
    "last_event last_user last_order last_at"
).split()
"""The account of a card follows (lua/includes/cards.lua): `balance`."""
LOCK_VIEW = "book_id code user order token until left_ms".split()
"""What a lock holds of a price follows (lua/includes/pricing.lua), where it does."""

_VIEWS = (COUPON_VIEW, [*COUPON_VIEW, "balance"], LOCK_VIEW, [*LOCK_VIEW, "hold"])
_USERS = {len(view): [at for at, name in enumerate(view) if name.endswith("user")] for view in _VIEWS}


def expand_reply(reply: Any) -> Any:
    """The list that a text or an outcome alone stands for; others as they are. A text's last line is the other text."""
    if isinstance(reply, str):
        text, newline, other = reply.rpartition("\n")
        return [OK, text, other, 0] if newline else [OK, other, "", 0]
    return [reply] if isinstance(reply, int) else reply


def user_indexes(size: int) -> list[int]:
    """The indexes of the users in a view of this size; [] for a text that is no view."""
    return _USERS.get(size, [])
