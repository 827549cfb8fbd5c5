"""How the record comes to differ: by hand, or restored in part. The repair makes Redis equal to it, right or wrong."""

from tests.harness.drifts import Expected, Kind

_USE = "workspace = :workspace AND code = :code0"
_USER = "workspace = :workspace AND user_id = :user0"
_FACT = "partition, epoch, seq, workspace, book"
_REDEMPTION = """order_id, order_value, currency, digits, discount_amount, redeemed_at, slot, max_redemptions, ip,
  user_agent, metadata"""
_ANOTHER_ID = "overlay(redemption_id::text PLACING 'ffff' FROM 25)::uuid"
_CODE = "version, workspace, book, partition, active, owner_id, max_redemptions, expires_at"


def _use(code: str) -> Expected:
    """All that a use is counted in."""
    return {"code0": code, "order0": "orders", "use0": "user_counts", "book": "book_counts"}


def _set(table: str, change: str, where: str = _USE) -> str:
    return f"UPDATE {table} SET {change} WHERE {where}"


def _copied(code: str = "code", more: str = "") -> str:
    """The redemption a second time, under another id."""
    return f"""INSERT INTO redemptions ({_FACT}, code, user_id, redemption_id, {_REDEMPTION})
      SELECT {_FACT}, {code}, user_id, {_ANOTHER_ID}, {_REDEMPTION} FROM redemptions WHERE {_USE}{more}"""


KINDS: dict[str, Kind] = {
    # Redemptions
    "a redemption deleted": Kind("used", _use("uses redemptions"), f"DELETE FROM redemptions WHERE {_USE}"),
    "a redemption of several deleted": Kind(
        "several", _use("uses redemptions"), f"DELETE FROM redemptions WHERE {_USE} AND user_id = :user0"
    ),
    "a redemption doubled": Kind("used", _use("uses"), _copied()),
    "a redemption of several doubled": Kind(
        "several", _use("uses free_surplus"), _copied(more=" AND user_id = :user0")
    ),
    "a redemption copied to another coupon": Kind(
        "used",
        {"code1": "uses redemptions free_surplus", "order0": "orders", "use0": "user_counts", "book": "book_counts"},
        _copied(":code1"),
    ),
    "a redemption of another coupon": Kind(
        "used",
        {"code0": "uses redemptions", "code1": "uses redemptions free_surplus"},
        _set("redemptions", "code = :code1"),
    ),
    "a redemption of another user": Kind(
        "used", {"use0": "user_counts", "use1": "user_counts"}, _set("redemptions", "user_id = :user1")
    ),
    "a redemption of another order": Kind(
        "used", {"order0": "orders", "order1": "orders"}, _set("redemptions", "order_id = :order1")
    ),
    "a redemption of no order": Kind("used", {"order0": "orders"}, _set("redemptions", "order_id = NULL")),
    "a redemption in another place": Kind("used", {"order0": "orders"}, _set("redemptions", "slot = 2")),
    "a redemption under another limit": Kind(
        "used", {"code0": "uses redemptions", "book": "book_counts"}, _set("redemptions", "max_redemptions = 5")
    ),
    "another discount": Kind("used", {"book": "book_counts"}, _set("redemptions", "discount_amount = 1.5")),
    # Rollbacks
    "a rollback deleted": Kind(
        "returned", _use("uses redemptions free_surplus"), f"DELETE FROM rollbacks WHERE {_USE}"
    ),
    "a rollback for nothing deleted": Kind("withdrawn", _use("redemptions"), f"DELETE FROM rollbacks WHERE {_USE}"),
    "a rollback that gives back": Kind("withdrawn", _use("uses free_missing"), _set("rollbacks", "restore = true")),
    "a rollback that gives nothing back": Kind(
        "returned", _use("uses free_surplus"), _set("rollbacks", "restore = false")
    ),
    "a rollback too much": Kind(
        "used",
        _use("uses redemptions"),
        f"""INSERT INTO rollbacks ({_FACT}, code, user_id, order_id, redemption_id, rolled_back_at, restore)
          SELECT {_FACT}, code, user_id, order_id, redemption_id, redeemed_at, true FROM redemptions WHERE {_USE}""",
    ),
    # Assignments and gifts
    "an assignment taken back by hand": Kind(
        "owned",
        {"code0": "assignee free_missing", "user0": "user_counts", "book": "book_counts"},
        f"DELETE FROM open_assignments WHERE {_USE}",
    ),
    "an assignment doubled": Kind(
        "owned",
        {"code1": "assignee free_surplus", "user0": "user_counts", "book": "book_counts"},
        f"""INSERT INTO open_assignments (epoch, seq, workspace, book, code, user_id, assigned_at)
          SELECT epoch, -1 - seq, workspace, book, :code1, user_id, assigned_at
          FROM open_assignments WHERE {_USE}""",
    ),
    "an assignment of another coupon": Kind(
        "owned",
        {"code0": "assignee free_missing", "code1": "assignee free_surplus"},
        _set("open_assignments", "code = :code1"),
    ),
    "an assignment to another user": Kind(
        "owned",
        {"code0": "assignee", "user0": "user_counts", "user1": "user_counts"},
        _set("open_assignments", "user_id = :user1"),
    ),
    "an assignment at another time": Kind(
        "owned", {"code0": "assignee"}, _set("open_assignments", "assigned_at = assigned_at - interval '1 s'")
    ),
    "a gift for another order": Kind(
        "given", {"order0": "gifts", "order1": "gifts"}, _set("open_assignments", "order_id = :order1")
    ),
    # Cards
    "a card of another amount": Kind(
        "card", {"code0": "balance", "book": "book_counts"}, _set("codes", "amount = amount + 1")
    ),
    "a credit deleted": Kind(
        "card", {"code0": "balance", "book": "book_counts"}, f"DELETE FROM balance_changes WHERE {_USE}"
    ),
    "a credit of another amount": Kind(
        "card", {"code0": "balance", "book": "book_counts"}, _set("balance_changes", "amount = 6")
    ),
    "another amount taken of a card": Kind(
        "card", {"code0": "balance", "book": "book_counts"}, _set("redemptions", "discount_amount = 1.5")
    ),
    # Budgets
    "another discount under a budget": Kind(
        "bounded", {"book": "book_counts", "use0": "user_counts"}, _set("redemptions", "discount_amount = 1.5")
    ),
    "a redemption under a budget of another user": Kind(
        "bounded", {"use0": "user_counts", "use1": "user_counts"}, _set("redemptions", "user_id = :user1")
    ),
    # What the merchant said
    "a code deleted": Kind("idle", {"code0": "code_surplus", "book": "book_counts"}, f"DELETE FROM codes WHERE {_USE}"),
    "a used code deleted": Kind(
        "used", {"code0": "code_surplus", "book": "book_counts"}, f"DELETE FROM codes WHERE {_USE}"
    ),
    "a code doubled under another name": Kind(
        "idle",
        {"code3": "code_missing", "book": "book_counts"},
        f"INSERT INTO codes ({_CODE}, code) SELECT {_CODE}, :code3 FROM codes WHERE {_USE}",
    ),
    "a code moved to another book": Kind(
        "idle", {"code0": "book", "book": "book_counts", "refuge": "book_counts"}, _set("codes", "book = :refuge")
    ),
    "a code switched off by hand": Kind(
        "idle", {"code0": "state configuration free_surplus", "book": "book_counts"}, _set("codes", "active = false")
    ),
    "a code ends at another time": Kind(
        "ending", {"code0": "state free_missing"}, _set("codes", "expires_at = expires_at + interval '1 day'")
    ),
    "a code given by hand": Kind(
        "idle",
        {"code0": "assignee configuration free_surplus", "user0": "user_counts", "book": "book_counts"},
        _set("codes", "owner_id = :user0"),
    ),
    "a code for more uses": Kind("idle", {"code0": "uses configuration"}, _set("codes", "max_redemptions = 5")),
    "a user deleted": Kind("capped", {"user0": "user_cap"}, f"DELETE FROM users WHERE {_USER}"),
    "a user may have more": Kind("capped", {"user0": "user_cap"}, _set("users", "max_coupons = 9", _USER)),
    "a user doubled under another name": Kind(
        "capped",
        {"user1": "user_cap"},
        f"""INSERT INTO users (workspace, user_id, partition, max_coupons, metadata, version)
          SELECT workspace, :user1, partition, max_coupons, metadata, version FROM users WHERE {_USER}""",
    ),
    "another lock time": Kind(
        "idle",
        {"book": "configuration"},
        _set("books", "lock_seconds = 299", "workspace = :workspace AND book = :book"),
    ),
    "a key kept otherwise": Kind(
        "used",
        {"key0": "idempotency_keys"},
        _set("idempotency_keys", "entry = 'x' || entry", "workspace = :workspace AND key = :key0"),
    ),
    "a key doubled under another name": Kind(
        "used",
        {"key1": "idempotency_keys"},
        """INSERT INTO idempotency_keys (workspace, key, op, epoch, seq, at, entry)
          SELECT workspace, :key1, op, epoch, seq, at, entry FROM idempotency_keys
          WHERE workspace = :workspace AND key = :key0""",
    ),
}
"""By name."""
