"""Assigning, taking back, and what is said of a book's stock."""

from tests.mutants.mutant import SWAPPED, Mutant

_ASSIGNING = "lua/includes/assigning.lua"
_CODE = "lua/assign_code.lua"
_ANY = "lua/assign_any.lua"
_UNASSIGN = "lua/unassign.lua"
_STOCK = "lua/includes/stock.lua"
_ORDER = "tests/lua/test_refusal_order.py"
_ASSIGN = "tests/lua/test_assign.py"
_BACK = "tests/lua/test_unassign.py"
_NOTICES = "tests/lua/test_stock.py"

_LOCKED = "if locked_for_another(c, max, user, now) then return { OUT.coupon_locked, retry_after(r) } end\n"
_USED_UP = "if max and c.uses >= max then return { max == 1 and OUT.coupon_redeemed or OUT.coupon_exhausted } end\n"
_TO_OTHER = "if c.user then return { OUT.coupon_assigned_to_other } end\n"
_CODE_LIMIT = "    if given_before >= book.codes_per_user then return OUT.user_code_limit end\n"
_NOT_ASSIGNED = "if not c.user then return { OUT.coupon_not_assigned } end\n"
_BACK_LOCKED = "if live_locks(c, max, now) > 0 then return { OUT.coupon_locked, retry_after(r) } end\n"
_BACK_EXHAUSTED = "if max and max > 1 and c.uses >= max then return { OUT.coupon_exhausted } end\n"

MUTANTS = (
    Mutant("assign refuses `coupon_inactive`", _CODE, "if c.off then return { OUT.coupon_inactive } end\n", "", _ORDER),
    Mutant(
        "assign refuses `book_inactive`",
        _ASSIGNING,
        "  if not book.active then return OUT.book_inactive end\n",
        "",
        _ORDER,
    ),
    Mutant(
        "assign refuses `expired`",
        _ASSIGNING,
        "  if book.till and now >= book.till then return OUT.expired end\n",
        "",
        _ORDER,
    ),
    Mutant(
        "assign: a book's window ends before its last millisecond",
        _ASSIGNING,
        "now >= book.till",
        "now > book.till",
        _ASSIGN,
    ),
    Mutant(
        "a named coupon's own end counts, to the millisecond",
        _CODE,
        "now >= c.expires_at",
        "now > c.expires_at",
        _ORDER,
    ),
    Mutant("assign refuses `coupon_assigned_to_other`", _CODE, _TO_OTHER, "", _ORDER),
    Mutant("assign refuses `coupon_locked`", _CODE, _LOCKED, "", _ORDER),
    Mutant("assign refuses `coupon_redeemed`, `coupon_exhausted`", _CODE, _USED_UP, "", _ORDER),
    Mutant("assign refuses `user_code_limit`", _ASSIGNING, _CODE_LIMIT, "", _ORDER),
    Mutant(
        "assign refuses `user_coupon_limit`",
        _ASSIGNING,
        "  if cap and holds(key, now, cap + freed) then return OUT.user_coupon_limit end\n",
        "",
        _ORDER,
    ),
    Mutant("assign refuses `out_of_stock`", _ANY, "or OUT.out_of_stock }", "or OUT.book_not_found }", _ORDER),
    Mutant(
        "an unknown book is `book_not_found`",
        _ANY,
        "{ OUT.book_not_found }",
        "{ OUT.out_of_stock }",
        _ASSIGN,
    ),
    Mutant(
        "assign: `coupon_inactive` is named before `book_inactive`",
        _CODE,
        "if c.off then return { OUT.coupon_inactive } end\nlocal no = book_refuses(book, now)",
        "local no = book_refuses(book, now) or (c.off and OUT.coupon_inactive)",
        _ORDER,
        SWAPPED,
    ),
    Mutant(
        "assign: `book_inactive` is named before `expired`",
        _ASSIGNING,
        "  if not book.active then return OUT.book_inactive end\n"
        "  if book.till and now >= book.till then return OUT.expired end\n",
        "  if book.till and now >= book.till then return OUT.expired end\n"
        "  if not book.active then return OUT.book_inactive end\n",
        _ORDER,
        SWAPPED,
    ),
    Mutant(
        "assign: `coupon_assigned_to_other` is named before `coupon_locked`",
        _CODE,
        _TO_OTHER + _LOCKED,
        _LOCKED + _TO_OTHER,
        _ORDER,
        SWAPPED,
    ),
    Mutant(
        "assign: used up is named before the user's limits",
        _CODE,
        _USED_UP + "no = user_refuses(user, book, r.workspace, now, 0)\nif no then return { no } end\n",
        "no = user_refuses(user, book, r.workspace, now, 0)\nif no then return { no } end\n" + _USED_UP,
        _ORDER,
        SWAPPED,
    ),
    Mutant(
        "assign: `user_code_limit` is named before `user_coupon_limit`",
        _ASSIGNING,
        _CODE_LIMIT + "  end\n",
        "    if given_before >= book.codes_per_user and not holds(W .. 'u:' .. user, now, 1) "
        "then return OUT.user_code_limit end\n  end\n",
        _ORDER,
        SWAPPED,
    ),
    Mutant(
        "assign: the user's limits are named before `out_of_stock`",
        _ANY,
        "local no = book_refuses(book, now) or user_refuses(user, book, workspace, now, 0)\n",
        "local no = book_refuses(book, now) or (not find_free(book, now) and OUT.out_of_stock)\n"
        "  or user_refuses(user, book, workspace, now, 0)\n",
        _ORDER,
        SWAPPED,
    ),
    Mutant(
        "a user has at most maxCodesPerUser codes of a book",
        _ASSIGNING,
        "given_before >= book.codes_per_user",
        "given_before > book.codes_per_user",
        "tests/lua/test_limits.py",
    ),
    Mutant(
        "a user holds at most maxCoupons coupons",
        _ASSIGNING,
        "now, cap + freed)",
        "now, cap + freed + 1)",
        "tests/lua/test_limits.py",
    ),
    Mutant(
        "a user's own cap goes before the workspace's",
        _ASSIGNING,
        "cap = cap and tonumber(string.match(cap, '%S+$')) or workspace.max_coupons",
        "cap = workspace.max_coupons or cap and tonumber(string.match(cap, '%S+$'))",
        "tests/lua/test_limits.py",
    ),
    Mutant(
        "what is past its window is not held",
        "lua/includes/holding.lua",
        "if till and till <= now then most",
        "if till and till < now then most",
        "tests/lua/test_limits.py",
    ),
    Mutant(
        "what is past an end of its own is not held",
        "lua/includes/holding.lua",
        "at - 1)) <= now then",
        "at - 1)) < now then",
        "tests/lua/test_limits.py",
    ),
    Mutant(
        "a lock of the user's own is not in the way of assigning",
        _ASSIGNING,
        "c.lock.deadline > now and c.lock.user ~= user end",
        "c.lock.deadline > now end",
        _ASSIGN,
    ),
    Mutant(
        "a coupon that is this user's already is answered 200",
        _CODE,
        "  return { OUT.REPEATED, payload, '', 0 }",
        "  return { OUT.OK, payload, '', 0 }",
        _ASSIGN,
    ),
    Mutant(
        "a coupon that is assigned is free no more",
        "lua/includes/place.lua",
        "save_coupon(c, book.number, set == 'pool')",
        "save_coupon(c, book.number, true)",
        _ASSIGN,
    ),
    Mutant(
        "a random coupon is not one whose own end has passed",
        "lua/includes/picking.lua",
        "book.number .. ':x', '(' .. whole(now)",
        "book.number .. ':x', whole(now)",
        _ASSIGN,
    ),
    Mutant(
        "maxCodesPerUser counts codes ever assigned",
        "lua/includes/state.lua",
        "  redis.call('HINCRBY', W .. 'u:' .. user, 'a' .. book.number, 1)\n",
        "",
        "tests/lua/test_limits.py",
    ),
    Mutant(
        "an assignment is an event",
        _ASSIGNING,
        "  if not append(outbox, assigned_event(c, book, user, at, gift), request, entry)"
        " then return { OUT.recovering } end\n",
        "",
        _ASSIGN,
    ),
    Mutant(
        "an assignment's event has its time",
        _ASSIGNING,
        "c.code .. ' ' .. user .. ' ' .. at\n",
        "c.code .. ' ' .. user .. ' ' .. at + 1\n",
        _ASSIGN,
    ),
    Mutant(
        "an assignment that is taken back is an event",
        _UNASSIGN,
        "local event = append(KEYS[6], ",
        "local event = true or append(KEYS[6], ",
        _BACK,
    ),
    Mutant(
        "unassign refuses `coupon_not_assigned`", _UNASSIGN, "OUT.coupon_not_assigned", "OUT.coupon_not_found", _BACK
    ),
    Mutant("unassign refuses `coupon_locked`", _UNASSIGN, _BACK_LOCKED, "", _BACK),
    Mutant("unassign refuses `coupon_exhausted`", _UNASSIGN, _BACK_EXHAUSTED, "", _BACK),
    Mutant(
        "unassign refuses `coupon_redeemed`, of what is used in part too",
        _UNASSIGN,
        "if c.uses > 0 then",
        "if c.uses > 1 then",
        _BACK,
    ),
    Mutant(
        "unassign: `coupon_locked` is named before what is used",
        _UNASSIGN,
        _BACK_LOCKED + _BACK_EXHAUSTED + "if c.uses > 0 then return { OUT.coupon_redeemed } end -- in part, too\n",
        _BACK_EXHAUSTED + "if c.uses > 0 then return { OUT.coupon_redeemed } end\n" + _BACK_LOCKED,
        _BACK,
        SWAPPED,
    ),
    Mutant(
        "an assignment that was taken back counts nowhere",
        "lua/includes/state.lua",
        "if redis.call('HINCRBY', key, field, -1) == 0 then",
        "if redis.call('HINCRBY', key, field, 0) == 0 then",
        _BACK,
    ),
    Mutant(
        "an assignment that was taken back is not held",
        "lua/includes/state.lua",
        "  let_go(c, book)\n  local key, field",
        "  local key, field",
        _BACK,
    ),
    Mutant(
        "`book.low_stock` is raised when fewer are left, not as many",
        _STOCK,
        "left < low and left + took >= low",
        "left <= low and left + took > low",
        _NOTICES,
    ),
    Mutant(
        "`book.low_stock` is raised once for each crossing",
        _STOCK,
        "if low and left < low and left + took >= low then",
        "if low and left < low then",
        _NOTICES,
    ),
    Mutant("that a book is out is said when nothing is left", _STOCK, "if left <= 0 and", "if left < 0 and", _NOTICES),
    Mutant(
        "that a book is out is not said while one is left", _STOCK, "if left <= 0 and", "if left <= 1 and", _NOTICES
    ),
    Mutant(
        "an assign takes a free code",
        _ASSIGNING,
        "  watch_stock(outbox, book, now, apply_assign(c, book, user, at, gift), 0)\n",
        "  apply_assign(c, book, user, at, gift)\n",
        _NOTICES,
    ),
    Mutant(
        "a redeem takes a free code, and a use of the total",
        "lua/redeem.lua",
        "watch_stock(KEYS[7], r.book, r.now, took, 1)\n",
        "",
        _NOTICES,
    ),
    Mutant("uses of the total are watched", _STOCK, "if uses > 0 and book.total then", "if false then", _NOTICES),
)
