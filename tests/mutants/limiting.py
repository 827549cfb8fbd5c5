"""Limits on requests, misses and locks."""

from tests.mutants.mutant import Mutant

_LIMITS = "lua/includes/limits.lua"
_LOCK = "lua/lock.lua"
_LOCKS = "lua/includes/locks.lua"
_RATES_TESTS = "tests/lua/test_rates.py"
_QUOTA_TESTS = "tests/lua/test_quotas.py"

MUTANTS = (
    Mutant(
        "a key asks as often as its limit says, and not once more",
        _LIMITS,
        "    if limits[i] and used[i] >= limits[i] then\n      if got",
        "    if limits[i] and used[i] > limits[i] then\n      if got",
        _RATES_TESTS + " -k hundreds_at_once",
    ),
    Mutant(
        "an unknown code is a miss",
        _LIMITS,
        "local missed = outcome == OUT.coupon_not_found or outcome",
        "local missed = outcome",
        _RATES_TESTS + " -k misses_are_counted",
    ),
    Mutant(
        "another's code is a miss",
        _LIMITS,
        "outcome == OUT.coupon_not_found or outcome == OUT.coupon_assigned_to_other or",
        "outcome == OUT.coupon_not_found or",
        _RATES_TESTS + " -k learns_nothing_more",
    ),
    Mutant(
        "a validate that says that a code is another's is a miss",
        "lua/validate.lua",
        "  if found == OUT.coupon_assigned_to_other then MISSED = true end\n",
        "",
        _RATES_TESTS + " -k names_another",
    ),
    Mutant(
        "for who learns no reason every no is a miss",
        _LIMITS,
        "if not told then missed = missed or not string.match(reply[2] or '', '^%S+ %S+$') end\n",
        "",
        _RATES_TESTS + " -k every_no",
    ),
    Mutant(
        "misses count for the address, too",
        _LIMITS,
        "  spend(2)\n  spend(3)\n",
        "  spend(2)\n",
        _RATES_TESTS + " -k learns_nothing_more",
    ),
    Mutant(
        "a counter ends with its minute",
        _LIMITS,
        "  if count == 1 then redis.call('PEXPIRE', key, string.format('%d', MINUTE_MS)) end\n",
        "",
        _RATES_TESTS + " -k minute_later",
    ),
    Mutant(
        "what is run again with facts is counted once",
        _LIMITS,
        "if outcome == OUT.RECALL or outcome",
        "if outcome",
        _RATES_TESTS + " -k count_once",
    ),
    Mutant(
        "behind a closed gate nothing is counted",
        _LIMITS,
        "or outcome == OUT.recovering or outcome == OUT.behind then return reply end",
        "or outcome == OUT.behind then return reply end",
        _RATES_TESTS + " -k nobody_decides",
    ),
    Mutant(
        "behind a closed gate no limit is judged",
        _LIMITS,
        "      if got[1] ~= OPEN and got[1] ~= EPOCH .. ' full' and got[1] ~= EPOCH .. ' behind' "
        "then return { OUT.recovering } end\n",
        "",
        _RATES_TESTS + " -k nobody_decides",
    ),
    Mutant(
        "a book's misses are limited",
        _LIMITS,
        "  if retry_ms then reply = { OUT.too_many_misses, retry_ms } end\n",
        "",
        _RATES_TESTS + " -k a_books_misses",
    ),
    Mutant(
        "a book that says nothing of misses has the workspace's limit",
        _LIMITS,
        "\n    or string.match(redis.call('GET', KEYS[2]), ' (%d+)/[^/ ]+/[^/ ]+$')",
        "",
        _RATES_TESTS + " -k the_workspaces_limit",
    ),
    Mutant(
        "a code that isn't there is answered to who learns nothing as one that is used up",
        "lua/validate.lua",
        "  if told or not workspace then return reply end\n",
        "  if true then return reply end\n",
        _RATES_TESTS + " -k every_no",
    ),
    Mutant(
        "digits that are too many tell nobody that there is a code",
        "lua/validate.lua",
        "tonumber(told and digits or r.workspace.digits)",
        "tonumber(digits)",
        "tests/lua/test_validate.py -k learns_nothing",
    ),
    Mutant(
        "a user has as many locks as the book says",
        _LOCK,
        "of_user and live(users) >= of_user and users",
        "of_user and live(users) > of_user and users",
        _QUOTA_TESTS + " -k users_locks",
    ),
    Mutant(
        "a user's locks are counted where they are limited",
        _LOCK,
        "((book.per_user or of_user) and 'u' or '')",
        "(book.per_user and 'u' or '')",
        _QUOTA_TESTS + " -k users_locks",
    ),
    Mutant(
        "a key has as many locks as its limit says",
        _LOCK,
        "HOLDS and live(keys) >= HOLDS and keys",
        "HOLDS and live(keys) > HOLDS and keys",
        _QUOTA_TESTS + " -k keys_locks",
    ),
    Mutant(
        "a released lock counts no more for its key",
        _LOCKS,
        "  if holder then redis.call('ZREM', W .. 'lk:' .. holder, l.token) end\n",
        "",
        _QUOTA_TESTS + " -k counts_no_more",
    ),
    Mutant(
        "a quota counts live locks alone",
        _LOCK,
        "local function live(key) return redis.call('ZCOUNT', key, '(' .. whole(now), '+inf') end",
        "local function live(key) return redis.call('ZCOUNT', key, whole(now), '+inf') end",
        _QUOTA_TESTS + " -k counts_no_more",
    ),
    Mutant(
        "no more than its share of a book is locked",
        _LOCK,
        "taken >= math.max(1, math.floor(left * percent / 100))",
        "taken > math.max(1, math.floor(left * percent / 100))",
        _QUOTA_TESTS + " -k share",
    ),
    Mutant(
        "a share is rounded down",
        _LOCK,
        "math.floor(left * percent / 100)",
        "math.ceil(left * percent / 100)",
        _QUOTA_TESTS + " -k share_is_of_what_is_left",
    ),
    Mutant(
        "one lock is always allowed",
        _LOCK,
        "math.max(1, math.floor(left",
        "math.max(0, math.floor(left",
        _QUOTA_TESTS + " -k one_lock_is_always",
    ),
    Mutant(
        "a share is of what is left",
        _LOCK,
        " - (n[3] or 0) - (n[4] or 0) - (n[5] or 0) - (n[6] or 0)) then",
        ") then",
        _QUOTA_TESTS + " -k share_is_of_what_is_left",
    ),
    Mutant(
        "a share is of a total's uses",
        _LOCK,
        "    if book.total and is_full(live(key), book.total - (n[1] or 0)) then return key end\n",
        "",
        _QUOTA_TESTS + " -k share_of_uses",
    ),
    Mutant(
        "a share is of a code's uses",
        _LOCK,
        "    if max > 1 and is_full(taken, max - c.uses) then return W .. 'kd:' .. c.code end\n",
        "",
        _QUOTA_TESTS + " -k share_of_uses",
    ),
    Mutant(
        "whose coupon it is locks it, however much of the book is locked",
        _LOCK,
        "if c.user or not max then return nil end",
        "if not max then return nil end",
        _QUOTA_TESTS + " -k share_is_of_what_is_left",
    ),
    Mutant(
        "who holds a lock renews it",
        _LOCK,
        "if not r.own and (HOLDER or",
        "if (HOLDER or",
        _QUOTA_TESTS + " -k renews_it",
    ),
    Mutant(
        "a book that says nothing of locks has the workspace's limit",
        _LOCK,
        "tonumber(locks or '') or tonumber(usual_locks or '')",
        "tonumber(locks or '')",
        _QUOTA_TESTS + " -k before_the_workspace",
    ),
)
