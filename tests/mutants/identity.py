"""Who asks, and what users' tokens may."""

from tests.mutants.mutant import Mutant

_TOKENS = "service/domain/tokens.py"
_TOKEN_TESTS = "tests/unit/test_tokens.py"
_USERS = "tests/integration/test_user_tokens.py"

MUTANTS = (
    Mutant(
        "a known token is refused at its end",
        _TOKENS,
        "found.expires_ms <= now_s * 1000:",
        "found.expires_ms <= 0:",
        _TOKEN_TESTS,
    ),
    Mutant(
        "a token is one issuer's and audience's",
        _TOKENS,
        "if one.issuer == claims.iss and one.audience in audiences]",
        "if one.issuer == claims.iss][:1]",
        _TOKEN_TESTS,
    ),
    Mutant(
        "a key is for one algorithm",
        _TOKENS,
        "if told.alg not in (None, algorithm) or",
        "if",
        _TOKEN_TESTS,
    ),
    Mutant(
        "a token never manages",
        "service/domain/access.py",
        'SCOPES_OF_USERS = {"checkout": "user",',
        'SCOPES_OF_USERS = {"manage": "manage", "checkout": "user",',
        _TOKEN_TESTS,
    ),
    Mutant(
        "a token's user is a user's id",
        _TOKENS,
        "if issuer.bearer is None or not is_caller_id(claims.sub):",
        "if issuer.bearer is None:",
        _TOKEN_TESTS,
    ),
    Mutant(
        "a token that says how it is meant is no access token",
        _TOKENS,
        "if said.typ.lower() not in _TYPES or said.crit is not msgspec.UNSET:",
        "if False:",
        _TOKEN_TESTS,
    ),
    Mutant(
        "another's user id is forbidden",
        "service/domain/identity.py",
        "    if asked is not None:\n        raise",
        "    if asked == '':\n        raise",
        f"{_USERS} -k nothing_of_another",
    ),
    Mutant(
        "a token's user moves his own locks alone",
        "service/operations/lock.py",
        "_ms(request.lock_seconds), word(call.caller.user))",
        '_ms(request.lock_seconds), "-")',
        f"{_USERS} -k nothing_of_another",
    ),
    Mutant(
        "a token shows no other user's lock",
        "service/operations/coupon.py",
        "            coupon.lock = None\n",
        "            pass\n",
        f"{_USERS} -k nothing_of_another",
    ),
    Mutant(
        "an Idempotency-Key is its user's",
        "service/operations/calling.py",
        "    if user is not None:",
        "    if False:",
        f"{_USERS} -k keys_are_each",
    ),
    Mutant(
        "no more than two keys are good while clients change over",
        "service/record/keys.py",
        '        if old["replaces"] is not None:\n',
        "        if False:\n",
        "tests/integration/test_keys.py -k two_keys",
    ),
    Mutant(
        "nothing starts with fixed keys for others",
        "service/embedded/exposure.py",
        "    if known:\n",
        "    if False:\n",
        "tests/integration/test_keys.py -k fixed_keys",
    ),
    Mutant(
        "the audit is append-only",
        "sql/migrations/0005_audit.sql",
        "  RAISE EXCEPTION 'the audit is append-only';",
        "  RETURN NEW;",
        "tests/integration/test_audit.py -k takes_it_back",
    ),
    Mutant(
        "a change of a book is in the audit",
        "service/record/books.py",
        '        await note(connection, workspace, "book.changed", book_id, told(old), told(row))\n',
        "",
        "tests/integration/test_audit.py -k what_is_told",
    ),
    Mutant(
        "the audit has no full code",
        "service/domain/acting.py",
        'return "…" + code[len(code) - min(SHOWN_OF_CODES, len(code) // 4) :]',
        "return code",
        "tests/integration/test_audit.py -k what_is",
    ),
)
