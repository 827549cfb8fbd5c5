"""Rule 1, the order of refusal of lock, redeem and validate; limits, windows, and whom a lock is in the way of."""

from tests.mutants.mutant import SWAPPED, Mutant

_JUDGE = "lua/includes/judge.lua"
_ORDER = "tests/lua/test_refusal_order.py"
_LIMITS = "tests/lua/test_limits.py"

_COUPON_INACTIVE = "  if c.off and fail(OUT.coupon_inactive) then return end\n"
_BOOK_INACTIVE = "  if not book.active and fail(OUT.book_inactive) then return end\n"
_NOT_STARTED = "  if book.from and now < book.from and fail(OUT.not_started) then return end\n"
_END = "  local till = end_of(c, book)\n"
_EXPIRED = "  if till and now >= till and fail(OUT.expired) then return end\n"
_NOT_ASSIGNED = "  if book.require_assignment and not c.user and fail(OUT.coupon_not_assigned) then return end\n"
_TO_OTHER = "  if c.user and r.user and c.user ~= r.user and fail(OUT.coupon_assigned_to_other) then return end\n"
_LOST = "  if r.token and not own and fail(OUT.lock_lost) then return end\n"
_LOCKED = (
    "  if max and not own and c.uses < max and c.uses + live_locks(c, max, now) >= max"
    " and fail(OUT.coupon_locked) then return end\n"
)
_REQUIRED = (
    "  if book.require_lock and r.kind ~= 'lock' and not own and not r.token"
    " and fail(OUT.lock_required) then return end\n"
)
_USED_UP = (
    "  if max and c.uses >= max and fail(max == 1 and OUT.coupon_redeemed or OUT.coupon_exhausted) then return end\n"
)
_USER_LIMIT = "    if taken >= book.per_user and fail(OUT.user_redemption_limit) then return end\n"
_BOOK_TOTAL = "    if taken >= book.total and fail(OUT.out_of_stock) then return end\n"
_ORDER_USED = (
    "  if r.order and #r.places >= tonumber(r.workspace.per_order) and fail(OUT.order_already_used) then return end\n"
)
_USER_BLOCK = f"""\
  if book.per_user and r.user and not renewal then
    local taken = tonumber(string.match(redis.call('HGET', r.users, book.number .. '/' .. r.user) or '0', '^%S+'))
    if not (own and string.find(own.counted, 'u', 1, true)) then
      taken = taken + redis.call('ZCOUNT', W .. 'lu:' .. book.number .. ':' .. r.user, '(' .. whole(now), '+inf')
    end
{_USER_LIMIT}  end
"""
_BOOK_BLOCK = f"""\
  if book.total and not renewal then
    local taken = tonumber(redis.call('HGET', W .. 'n:' .. book.number, 'taken') or '0')
    if not (own and string.find(own.counted, 'b', 1, true)) then
      taken = taken + redis.call('ZCOUNT', W .. 'lb:' .. book.number, '(' .. whole(now), '+inf')
    end
{_BOOK_TOTAL}  end
"""
_VALUE = "  if book.kind and not r.value and fail(OUT.order_value_required) then return end\n"


def _left_out(refusal: str, line: str) -> Mutant:
    return Mutant(f"redeem, lock and validate refuse `{refusal}`", _JUDGE, line, "", _ORDER)


def _swapped(first: str, then: str, one: str, two: str) -> Mutant:
    return Mutant(f"`{first}` is named before `{then}`", _JUDGE, one + two, two + one, _ORDER, SWAPPED)


MUTANTS = (
    Mutant(
        "an unknown code is `coupon_not_found`",
        "lua/includes/start.lua",
        "return nil, { OUT.coupon_not_found }",
        "return nil, { OUT.book_not_found }",
        "tests/lua/test_lock.py tests/lua/test_assign.py",
    ),
    _left_out("coupon_inactive", _COUPON_INACTIVE),
    _left_out("book_inactive", _BOOK_INACTIVE),
    _left_out("not_started", _NOT_STARTED),
    _left_out("expired", _EXPIRED),
    _left_out("coupon_not_assigned", _NOT_ASSIGNED),
    _left_out("coupon_assigned_to_other", _TO_OTHER),
    _left_out("coupon_locked", _LOCKED),
    _left_out("lock_lost", _LOST),
    _left_out("lock_required", _REQUIRED),
    _left_out("coupon_redeemed, coupon_exhausted", _USED_UP),
    _left_out("user_redemption_limit", _USER_LIMIT),
    _left_out("out_of_stock", _BOOK_TOTAL),
    _left_out("order_already_used", _ORDER_USED),
    _left_out("order_value_required", _VALUE),
    Mutant(
        "redeem and validate refuse `currency_mismatch`",
        _JUDGE,
        "    fail(OUT.currency_mismatch)\n  elseif",
        "  elseif",
        _ORDER,
    ),
    Mutant(
        "redeem and validate refuse `order_value_too_low`",
        _JUDGE,
        "    fail(OUT.order_value_too_low)\n",
        "",
        _ORDER,
    ),
    _swapped("coupon_inactive", "book_inactive", _COUPON_INACTIVE, _BOOK_INACTIVE),
    _swapped("book_inactive", "not_started", _BOOK_INACTIVE, _NOT_STARTED),
    _swapped("not_started", "expired", _NOT_STARTED, _END + _EXPIRED),
    _swapped("expired", "coupon_not_assigned", _EXPIRED, _NOT_ASSIGNED),
    _swapped("coupon_assigned_to_other", "lock_lost", _TO_OTHER + "\n", _LOST),
    _swapped("lock_lost", "coupon_locked", _LOST, _LOCKED),
    _swapped("coupon_locked", "lock_required", _LOCKED, _REQUIRED),
    _swapped("lock_required", "coupon_redeemed", _REQUIRED, _USED_UP),
    _swapped("user_redemption_limit", "out_of_stock", _USER_BLOCK, _BOOK_BLOCK),
    _swapped("out_of_stock", "order_already_used", _BOOK_BLOCK, _ORDER_USED),
    Mutant(
        "`order_already_used` is named before what the order's value lacks",
        _JUDGE,
        _ORDER_USED + "  if r.kind == 'lock' then return end\n\n" + _VALUE,
        _VALUE.replace("if book.kind", "if r.kind ~= 'lock' and book.kind")
        + _ORDER_USED
        + "  if r.kind == 'lock' then return end\n",
        _ORDER,
        SWAPPED,
    ),
    Mutant(
        "a value in another currency isn't judged for size",
        _JUDGE,
        "    fail(OUT.currency_mismatch)\n  elseif",
        "    if fail(OUT.currency_mismatch) then return end\n  end\n  if",
        "tests/lua/test_validate.py",
    ),
    Mutant(
        "a code that is used up is not called locked",
        _JUDGE,
        "not own and c.uses < max and c.uses",
        "not own and c.uses",
        _ORDER,
    ),
    Mutant(
        "uses and live locks of a code are at most its limit",
        _JUDGE,
        "c.uses + live_locks(c, max, now) >= max",
        "c.uses + live_locks(c, max, now) > max",
        _ORDER,
    ),
    Mutant(
        "a code is used as often as its limit says",
        _JUDGE,
        "if max and c.uses >= max",
        "if max and c.uses > max",
        _ORDER,
    ),
    Mutant(
        "a user's redemptions of a book are at most its limit",
        _JUDGE,
        "taken >= book.per_user",
        "taken > book.per_user",
        _LIMITS,
    ),
    Mutant("a book's redemptions are at most its total", _JUDGE, "taken >= book.total", "taken > book.total", _LIMITS),
    Mutant(
        "an order takes as many coupons as couponsPerOrder says",
        _JUDGE,
        "#r.places >= tonumber(r.workspace.per_order)",
        "#r.places > tonumber(r.workspace.per_order)",
        "tests/lua/test_redeem.py",
    ),
    Mutant(
        "live locks count against a user's limit",
        _JUDGE,
        "if not (own and string.find(own.counted, 'u', 1, true)) then",
        "if false then",
        _LIMITS,
    ),
    Mutant(
        "live locks count against a book's total",
        _JUDGE,
        "if not (own and string.find(own.counted, 'b', 1, true)) then",
        "if false then",
        _LIMITS,
    ),
    Mutant(
        "the holder's own lock is not in its way: user's limit",
        _JUDGE,
        "if not (own and string.find(own.counted, 'u', 1, true)) then",
        "if true then",
        _LIMITS,
    ),
    Mutant(
        "the holder's own lock is not in its way: book's total",
        _JUDGE,
        "if not (own and string.find(own.counted, 'b', 1, true)) then",
        "if true then",
        _LIMITS,
    ),
    Mutant(
        "a live lock is renewed though a limit was lowered meanwhile",
        _JUDGE,
        "local renewal = own and r.kind == 'lock'",
        "local renewal = false",
        _LIMITS,
    ),
    Mutant(
        "a lock of a user's is worth nothing from its deadline on",
        _JUDGE,
        "'lu:' .. book.number .. ':' .. r.user, '(' .. whole(now)",
        "'lu:' .. book.number .. ':' .. r.user, whole(now)",
        _LIMITS,
    ),
    Mutant(
        "a lock of a book's total is worth nothing from its deadline on",
        _JUDGE,
        "'lb:' .. book.number, '(' .. whole(now)",
        "'lb:' .. book.number, whole(now)",
        _LIMITS,
    ),
    Mutant(
        "a window begins with its first millisecond",
        _JUDGE,
        "now < book.from",
        "now <= book.from",
        "tests/lua/test_redeem.py",
    ),
    Mutant("a window ends before its last", _JUDGE, "now >= till", "now > till", "tests/lua/test_redeem.py"),
    Mutant(
        "a coupon's end is the earlier of its own and the book's",
        "lua/includes/coupon.lua",
        "math.min(c.expires_at, book.till)",
        "math.max(c.expires_at, book.till)",
        "tests/lua/test_redeem.py tests/lua/test_projection.py tests/lua/test_lock.py",
    ),
    Mutant(
        "what is read of a coupon ends when the window does",
        "lua/includes/view.lua",
        "elseif till and now >= till then",
        "elseif till and now > till then",
        "tests/lua/test_redeem.py tests/lua/test_projection.py tests/lua/test_clock.py",
    ),
    Mutant(
        "validate lists every refusal that would apply",
        "lua/validate.lua",
        "  return false\nend)",
        "  return true\nend)",
        _ORDER,
    ),
    Mutant(
        "validate's discount is null while it isn't valid",
        "service/operations/redeem.py",
        "        if not reasons:\n            amount = from_e4",
        "        if True:\n            amount = from_e4",
        "tests/lua/test_validate.py",
    ),
    Mutant(
        "an order in another currency than the discount's is `currency_mismatch`, discount or not",
        _JUDGE,
        "if r.currency and r.currency ~= ",
        "if book.kind and r.currency and r.currency ~= ",
        "tests/lua/test_redeem.py tests/lua/test_validate.py tests/lua/test_discounts.py",
    ),
    Mutant(
        "an order's value may be the least that the discount asks for",
        _JUDGE,
        "r.value < book.min",
        "r.value <= book.min",
        "tests/lua/test_discounts.py",
    ),
)
