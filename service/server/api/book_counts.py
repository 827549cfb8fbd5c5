"""A book's counts: from Redis, or from Postgres once the book is archived. Controllers and the console call this."""

from uuid import UUID

from service.engine.domain.errors import Refusal
from service.engine.operations.caller import Caller
from service.engine.record.archived_books import read_last_counts
from service.engine.record.pool import ERRORS
from service.server.api.context import Context
from service.server.in_redis.workspace_state import BookCounts, counts_of


async def count_book(context: Context, caller: Caller, book_id: UUID) -> BookCounts:
    """Count a book's coupons. Raises Refusal `book_not_found`, and as Workspace.book_counts."""
    counts = await context.hot.book_counts(caller, str(book_id))
    if counts.codes == 0 and (last := await read_last_counts(context.pool, book_id)):
        return counts_of(["", *last])
    return counts


async def count_or_none(context: Context, caller: Caller, book_id: UUID) -> BookCounts | None:
    """As count_book; None if the book can't be counted now."""
    try:
        return await count_book(context, caller, book_id)
    except (Refusal, *ERRORS):
        return None
