"""What requests may say: codes, ids, lines of an upload, credentials."""

from tests.mutants.mutant import Mutant

_WORDS = "service/domain/field_types.py"
_CODES = "service/domain/code_requests.py"
_WORD_TESTS = "tests/unit/test_words.py"
_CODE_TESTS = "tests/unit/test_codes.py"
_VALIDATE = "tests/lua/test_validate.py"

MUTANTS = (
    Mutant("a code is kept upper-case", _WORDS, "    code = text.upper()\n", "    code = text\n", _WORD_TESTS),
    Mutant(
        "words of paths are no codes",
        _WORDS,
        "return None if code in RESERVED_CODES else code",
        "return code",
        _WORD_TESTS,
    ),
    Mutant(
        "words of paths are no codes in any case",
        _WORDS,
        "return None if code in RESERVED_CODES else code",
        "return None if text in RESERVED_CODES else code",
        _WORD_TESTS,
    ),
    Mutant("a code has at least 4 characters", _WORDS, "[A-Za-z0-9_-]{4,64}", "[A-Za-z0-9_-]{3,64}", _WORD_TESTS),
    Mutant("a code has at most 64", _WORDS, "[A-Za-z0-9_-]{4,64}", "[A-Za-z0-9_-]{4,65}", _WORD_TESTS),
    Mutant("a caller's id has at most 100", _WORDS, "{|}~]{1,100}", "{|}~]{1,101}", _WORD_TESTS),
    Mutant(
        "a caller's id is not `.` or `..`",
        _WORDS,
        'r"^(?!\\.\\.?" + END + r"',
        'r"^(?!\\.\\.\\." + END + r"',
        _WORD_TESTS,
    ),
    Mutant(
        "an id of ours is a UUID in its usual spelling",
        _WORDS,
        "return value if str(value) == text.lower() else None",
        "return value",
        _WORD_TESTS,
    ),
    Mutant(
        "metadata has at most so many bytes",
        _WORDS,
        "if len(packed) > max_bytes:",
        "if len(packed) > max_bytes + 1:",
        _WORD_TESTS,
    ),
    Mutant(
        "the user `-` is not nobody",
        _WORDS,
        'return "%-" if text == "-" else text',
        "return text",
        "tests/lua/test_dash.py",
    ),
    Mutant(
        "an upload's lines are numbered from 1, the header's",
        _CODES,
        "self._number = 0\n",
        "self._number = -1\n",
        _CODE_TESTS,
    ),
    Mutant("codes of a JSON body are numbered from 1", _CODES, "enumerate(codes, 1)", "enumerate(codes)", _CODE_TESTS),
    Mutant(
        "a line that is not UTF-8 is an invalid line",
        _CODES,
        'text = record.decode("utf-8")\n',
        'text = record.decode("utf-8", "ignore")\n',
        _CODE_TESTS,
    ),
    Mutant(
        "a line's maxRedemptions is at least 1",
        _CODES,
        "1 <= int(text) <= MAX_INT",
        "0 <= int(text) <= MAX_INT",
        _CODE_TESTS,
    ),
    Mutant("a bad header refuses the whole", _CODES, "if not set(columns) <= set(_COLUMNS):", "if False:", _CODE_TESTS),
    Mutant(
        "a code that is there is a duplicate",
        "service/api/controllers/codes.py",
        "        told.duplicates += len(lines) - len(rows)\n",
        "",
        "tests/integration/test_configuration_api.py -k an_upload_is_usable_at_once",
    ),
    Mutant(
        "a `public` key hears no reason",
        "service/operations/redeem.py",
        "        if reasons and not caller.is_told:\n            reasons = NOT_AVAILABLE\n",
        "",
        _VALIDATE,
    ),
    Mutant(
        "a `public` key isn't told that there is no such coupon",
        "service/operations/redeem.py",
        'reasons = ["coupon_not_found"] if caller.is_told else NOT_AVAILABLE',
        'reasons = ["coupon_not_found"]',
        _VALIDATE,
    ),
    Mutant(
        "redeem takes a key with `checkout`, no scope implies another",
        "service/access/roles.py",
        '"createBook createCoupons listBooks',
        '"redeemCoupon createBook createCoupons listBooks',
        "tests/integration/test_isolation.py -k scope",
    ),
    Mutant(
        "a rollback takes a key with `manage`",
        "service/access/roles.py",
        '"checkout giveGift runBatch getCoupon listActive',
        '"rollbackRedemption checkout giveGift runBatch getCoupon listActive',
        "tests/integration/test_isolation.py -k scope",
    ),
    Mutant(
        "a revoked key is refused",
        "sql/queries/keys.sql",
        "WHERE revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now());",
        "WHERE expires_at IS NULL OR expires_at > now();",
        "tests/integration/test_isolation.py -k revoked",
    ),
    Mutant(
        "a key is refused from its end on",
        "service/access/keyring.py",
        "if caller is None or (caller.expires_ms is not None and caller.expires_ms <= now_ms):",
        "if caller is None:",
        "tests/integration/test_isolation.py -k expired",
    ),
    Mutant(
        "`recorded` is said of what Postgres has",
        "service/api/hot_path.py",
        "    return await context.recorded.wait(caller.partition, tail_epoch, seq, wait_s * 1000)\n",
        "    return True\n",
        "tests/integration/test_batch.py -k not_recorded_in_time",
    ),
    Mutant(
        "assign: a repeat is answered 200",
        "service/operations/assign.py",
        "200 if reply[0] == REPEATED else 201",
        "201",
        "tests/lua/test_assign.py",
    ),
    Mutant(
        "assign's answer names its durability",
        "service/operations/assign.py",
        "durability=durability)",
        'durability="recorded")',
        "tests/lua/test_assign.py",
    ),
    Mutant(
        "in a batch each operation that is malformed is refused alone",
        "service/operations/batch.py",
        "    if asked.code is not None and asked.book_id is None:\n",
        "    if asked.code is not None:\n",
        "tests/unit/test_batch.py",
    ),
)
