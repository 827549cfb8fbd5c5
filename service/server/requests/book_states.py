"""A book's state in words, the same on all pages of the console: whether it refuses every customer, and why it has
no code for a new one. service/console/stocks.py returns it; dom.js colors the words."""

from typing import Literal

from service.engine.domain.configuration import BookRow
from service.engine.domain.field_types import Answer
from service.server.requests.book_requests import BookStats

State = Literal["active", "low", "sold out", "no codes", "switched off", "not begun", "ended", "paused", "archived"]

_Rule = tuple[bool, State, str | None]
"""Whether it applies, the state, and why."""


class BookState(Answer):
    """A book that refuses everybody is neither `active` nor `low`. `why` is a sentence about its codes, if the word
    does not say all."""

    state: State
    why: str | None = None


def find_book_state(row: BookRow, now_ms: int, counts: BookStats | None, taken: int) -> BookState:
    """The state by the workspace's clock. `taken` redemptions count against the book's limit. Without counts it is the
    state of a book with codes."""
    refusing: list[_Rule] = [
        (row.status == "archived", "archived", None),
        (row.status == "inactive", "paused", None),
        (row.valid_until_ms is not None and now_ms >= row.valid_until_ms, "ended", None),
        (row.valid_from_ms is not None and now_ms < row.valid_from_ms, "not begun", None),
    ]
    if counts:
        end = find_end_of_sale(row.max_redemptions, counts, taken)
        of_codes: list[_Rule] = [
            (end is not None, "sold out", end),
            (counts.codes == 0, "no codes", None),
            (counts.inactive == counts.codes, "switched off", "All its codes are switched off."),
        ]
        refusing += of_codes
    for applies, state, why in refusing:
        if applies:
            return BookState(state=state, why=why)
    return _find_stock(row, counts, taken) if counts else BookState(state="active")


def find_end_of_sale(max_redemptions: int | None, counts: BookStats, taken: int) -> str | None:
    """Why a book is sold out; None if it is not. It may have ended, too."""
    if max_redemptions is not None and taken >= max_redemptions:
        return "Its limit of redemptions is reached."
    if counts.available or counts.locked or counts.assigned or counts.inactive == counts.codes:
        return None
    return f"All its codes are redeemed{', used up or switched off' if counts.inactive else ' or used up'}."


def _find_stock(row: BookRow, counts: BookStats, taken: int) -> BookState:
    """Whether a book that refuses not everybody runs low, by the rules of its notices; and why no code is available."""
    low, why = row.low_stock_threshold, None
    if counts.available == 0:
        left = ((counts.locked, "held"), (counts.assigned, "assigned"))
        why = f"None is available: {' and '.join(f'{count:,} {word}' for count, word in left if count)}."
    elif low is not None and counts.available < low:
        why = f"Fewer than {low:,} codes are available."
    elif low is not None and row.max_redemptions is not None and row.max_redemptions - taken < low:
        why = f"Fewer than {low:,} redemptions are left."
    return BookState(state="active" if low is None or why is None else "low", why=why)
