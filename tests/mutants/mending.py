"""What recovery applies again, and what it leaves out."""

from tests.mutants.mutant import Mutant

_REDO, _BLOCK, _COUPON, _PUT = "lua/redo.lua", "lua/block_codes.lua", "lua/includes/coupon.lua", "lua/put_codes.lua"
_MENDING, _BLOCKING = "tests/lua/test_mending.py", "tests/lua/test_blocking.py"

MUTANTS = (
    Mutant(
        "what happened to a code that isn't there is left out, and the rest is done",
        _REDO,
        "  if not c then return 'code_missing' end\n",
        "  if not c then return end\n",
        f"{_MENDING} -k isnt_there",
    ),
    Mutant(
        "an event of another book than the code's is left out",
        _REDO,
        "  if string.match(c.entry, '^%d+') ~= number then return 'other_book' end\n",
        "",
        _MENDING,
    ),
    Mutant(
        "a coupon is taken back from nobody but its user",
        _REDO,
        "    if not c.user then return 'not_assigned' end\n",
        "    if not c.user then return 'unreadable' end\n",
        _MENDING,
    ),
    Mutant(
        "a coupon that is somebody's is not assigned again",
        _REDO,
        "    if c.user then return 'assigned' end\n",
        "",
        _MENDING,
    ),
    Mutant(
        "a rollback without its redemption is left out",
        _REDO,
        "  if not e.event then return 'redemption_missing' end\n",
        "",
        _MENDING,
    ),
    Mutant(
        "a redemption that doesn't stand is not rolled back again",
        _REDO,
        "  if not stands(c, e.event) then return 'not_standing' end\n",
        "",
        _MENDING,
    ),
    Mutant("no count goes below zero", _REDO, "if tonumber(taken) < back or", "if tonumber(taken) < 0 and", _MENDING),
    Mutant(
        "the mark names what was left out",
        _REDO,
        "    set_aside[#set_aside + 1] = ARGV[i + 1] .. ':' .. why\n",
        "",
        _MENDING,
    ),
    Mutant(
        "the mark keeps what runs before left out",
        _REDO,
        "(string.match(was, ' .*$') or '')",
        "''",
        _MENDING,
    ),
    Mutant("a mark that says whole stays", _REDO, "(was == 'whole' or ", "(", _MENDING),
    Mutant("the mark stays small", _REDO, " or #names > MAX_LEFT_OUT)", ")", _MENDING),
    Mutant(
        "a code is blocked once",
        _BLOCK,
        "c.off = off_word(not c.off, true)",
        "c.off = off_word(false, true)",
        _BLOCKING,
    ),
    Mutant(
        "a code that is blocked leaves the pool",
        _BLOCK,
        "    settle(c, book, counted, set, score)\n",
        "    save_coupon(c, number, set == 'pool')\n",
        _BLOCKING,
    ),
    Mutant(
        "the merchant's switch leaves a block",
        _PUT,
        "off_word(active == '1', is_blocked(c))",
        "off_word(active == '1', false)",
        _BLOCKING,
    ),
    Mutant(
        "a block is either of two words",
        _COUPON,
        "return c.off == '2' or c.off == '3' end",
        "return c.off == '2' end",
        _BLOCKING,
    ),
)
