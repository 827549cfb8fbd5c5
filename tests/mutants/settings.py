"""What a merchant may say of a book, of single coupons and of patterns."""

from tests.mutants.mutant import Mutant

_BOOK = "service/domain/book_requests.py"
_BOOKS = "tests/unit/test_books.py"
_PATTERNS = "service/domain/code_patterns.py"

MUTANTS = (
    Mutant(
        "validUntil is after validFrom",
        _BOOK,
        "row.valid_until_ms <= row.valid_from_ms",
        "row.valid_until_ms < row.valid_from_ms",
        _BOOKS,
    ),
    Mutant(
        "lockSeconds is at most maxLockSeconds",
        _BOOK,
        "if row.lock_seconds > row.max_lock_seconds:",
        "if row.lock_seconds > row.max_lock_seconds + 1:",
        _BOOKS,
    ),
    Mutant(
        "lockSeconds may be as many as maxLockSeconds",
        _BOOK,
        "if row.lock_seconds > row.max_lock_seconds:",
        "if row.lock_seconds >= row.max_lock_seconds:",
        _BOOKS,
    ),
    Mutant("a book's gift book is another one", _BOOK, "if row.gift_book_id == row.book_id:", "if False:", _BOOKS),
    Mutant(
        "a pattern has room for what is kept free",
        _BOOK,
        "< SPARSITY * row.keep_free:",
        "< SPARSITY * row.keep_free // 10:",
        _BOOKS,
    ),
    Mutant(
        "a pattern may have just enough room for what is kept free",
        _BOOK,
        "row.charset) < SPARSITY * row.keep_free:",
        "row.charset) <= SPARSITY * row.keep_free:",
        _BOOKS,
    ),
    Mutant("lockSeconds is 300 where it is left out", _BOOK, '"lock_seconds": 300,', '"lock_seconds": 301,', _BOOKS),
    Mutant(
        "maxRedemptionsPerCode is 1 where it is left out",
        _BOOK,
        "max_redemptions_per_code=1,",
        "max_redemptions_per_code=None,",
        _BOOKS,
    ),
    Mutant("in a PATCH null clears", _BOOK, "            value = _NULL.get(name)\n", "            continue\n", _BOOKS),
    Mutant(
        "in a PATCH what is left out stays",
        _BOOK,
        'if value is UNSET or name == "total_codes":\n            continue',
        'if value is UNSET or name == "total_codes":\n            value = None',
        _BOOKS,
    ),
    Mutant("a book has at most 20 tags", _BOOK, "if len(tags) > _MAX_TAGS:", "if len(tags) > _MAX_TAGS + 1:", _BOOKS),
    Mutant(
        "maxRedemptionsPerCode is fixed once a code of the book was locked or redeemed",
        "service/api/controllers/books.py",
        "if row.max_redemptions_per_code != wanted and (await",
        "if row.max_redemptions_per_code == wanted and (await",
        "tests/integration/test_configuration_api.py -k uses_are_fixed",
    ),
    Mutant(
        "a book remembers that a code of it was redeemed",
        "lua/includes/redeeming.lua",
        "  if r.c.uses == 0 and not r.own then redis.call('HSET', W .. 'n:' .. r.book.number, 'touched', 1) end\n",
        "",
        "tests/lua/test_projection.py",
    ),
    Mutant(
        "a book remembers that a code of it was locked",
        "lua/lock.lua",
        "if c.uses == 0 and not r.own then redis.call('HSET', W .. 'n:' .. book.number, 'touched', 1) end\n",
        "",
        "tests/lua/test_projection.py",
    ),
    Mutant(
        "a gift book is one of this workspace",
        "service/record/config/workspace_rows.py",
        "workspace, book_id) is None:\n        raise invalid(",
        "workspace, book_id) is False:\n        raise invalid(",
        "tests/integration/test_book_settings.py -k gift_book",
    ),
    Mutant(
        "a pattern that is a reserved word is refused",
        _PATTERNS,
        "    if pattern.upper() in RESERVED_CODES:\n",
        "    if pattern in RESERVED_CODES:\n",
        "tests/unit/test_patterns.py",
    ),
    Mutant(
        "a charset has each character once",
        _PATTERNS,
        "if len(set(upper)) != len(upper):",
        "if len(set(charset)) != len(upper):",
        "tests/unit/test_patterns.py",
    ),
    Mutant(
        "codes that are generated are no reserved words",
        _PATTERNS,
        "codes += [code for code in made if code not in RESERVED_CODES]",
        "codes += made",
        "tests/unit/test_patterns.py",
    ),
    Mutant(
        "every possibility is as likely",
        _PATTERNS,
        "fair = 256 - 256 % len(charset)",
        "fair = 256",
        "tests/unit/test_patterns.py",
    ),
    Mutant(
        "`maxTotalUses` is 1 where it isn't given, but for a time's coupon",
        "service/domain/single_coupon_requests.py",
        "    default_uses = None\n",
        "    default_uses = 1\n",
        "tests/unit/test_single.py",
    ),
    Mutant(
        "discountType and discountValue go together",
        "service/domain/single_coupon_requests.py",
        "        if len(missing) == 1:\n",
        "        if len(missing) == 3:\n",
        "tests/unit/test_single.py",
    ),
    Mutant(
        "an amount of a discount goes with a discount only",
        "service/domain/single_coupon_requests.py",
        "            if missing and said is not None:\n",
        "            if not missing and said is None:\n",
        "tests/unit/test_single.py",
    ),
    Mutant(
        "a time is cut to the millisecond, never rounded up",
        "service/domain/times.py",
        "return (time - _START) // _MS",
        "return round((time - _START) / _MS)",
        "tests/unit/test_times.py",
    ),
)
