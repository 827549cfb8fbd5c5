"""For each script the worst that it can be asked for, as far as something bounds it."""

from collections.abc import Awaitable, Callable
from typing import NamedTuple

from loadtests.worst import requests, work
from loadtests.worst.ground import Ground, Run


class Case(NamedTuple):
    """How it is set up; `size` is of what nothing bounds, or 5,000 books: live locks, codes of a bucket."""

    script: str
    bound: str
    prepare: Callable[[Ground, int], Awaitable[Run]]
    replies: tuple[int, ...] = (0,)
    """Outcomes that it may answer."""


CASES = (
    Case("lock", "{size} live locks and 20 that ended, every limit, an order with 99 places", requests.lock_),
    Case("extend", "{size} live locks", requests.extend),
    Case("unlock", "{size} live locks and 20 that ended", requests.unlock),
    Case("redeem", "the same, 1,000 items, an order with 99 places of this code", requests.redeem_),
    Case("validate", "{size} live locks, 1,000 items", requests.validate),
    Case("coupon", "{size} live locks", requests.coupon_),
    Case(
        "assign_any",
        "5,000 coupons of as many books, 200 coupons whose locks ended and none free",
        requests.assign_any,
        (92,),
    ),
    Case("assign_any", "{size} codes in a bucket, one of them free", requests.assign_any_of_many, (0, 92)),
    Case("assign_code", "5,000 coupons of as many books, 100 live locks and 20 that ended", requests.assign_code),
    Case("unassign", "{size} locks that ended", requests.unassign_),
    Case("gift", "as assign_any", requests.gift_, (92,)),
    Case("checkout", "as redeem and assign_any together", requests.checkout_, (92,)),
    Case("rollback", "{size} standing redemptions, an order at 100", requests.rollback_),
    Case(
        "rollback_order",
        "100 coupons of as many books, each with 20 locks that ended; a gift with {size} live locks",
        requests.rollback_order,
    ),
    Case("book_stats", "{size} locked coupons", requests.book_stats),
    Case("user_coupons", "5,000 coupons of as many books", requests.user_coupons),
    Case("claim", "answers that end in as many hours as a year has", requests.claim),
    Case("answered", "an answer of 0.9 MB, a year's hours that are over", requests.answered),
    Case("records", "50 redemptions in the outbox", requests.records),
    Case("records", "50 redemptions that are handed in", requests.records_handed_in),
    Case("count", "one, under limits", work.count),
    Case("erase_user", "10 gifts with 100 live locks each", work.erase_user),
    Case("sweep_locks", "20 coupons, one with {size} locks that ended", work.sweep_locks),
    Case("put_workspace", "one", work.put_workspace),
    Case("put_book", "one", work.put_book),
    Case("put_user", "one", work.put_user),
    Case("put_codes", "200 owned coupons with locks, one with {size}", work.put_codes),
    Case("seen", "one", work.seen),
    Case("clear", "500 hashes, one of {size} fields", work.clear),
    Case("fill_pool", "499 buckets of 4 codes, one of {size} in as many books", work.fill_pool),
    Case("block_codes", "200 owned coupons with locks, one with {size}", work.block_codes),
    Case("pools", "buckets of 999 and 1,999 codes in as many books, one of {size}", work.pools),
    Case("mark", "one", work.mark),
    Case("mended", "one", work.mended),
    Case("redo", "251 redemptions for orders with 99 places", work.redo),
    Case("redo", "251 rollbacks for orders with 100 places", work.redo_rollbacks),
    Case("restore_keys", "500 entries that end in as many hours", work.restore_keys),
    Case("look", "coupons with 1,000 standing redemptions each", work.look),
    Case("look", "a user with 5,000 coupons of as many books", work.look_at_users),
    Case("repair", "1,000 fields, a key of the wrong type with {size}", work.repair),
    Case("heads", "200 strings, one of 0.9 MB", work.heads),
    Case("drop_wrong", "10 keys, one with {size} fields", work.drop_wrong),
    Case("fence", "one", work.fence),
    Case("set_gate", "one", work.set_gate),
)
