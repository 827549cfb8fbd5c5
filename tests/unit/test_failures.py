"""What a command says if its servers or settings are the cause."""

import asyncpg

from service.cli.failures import explain


def test_a_role_without_the_right_is_told_which_url_to_use():
    denied = asyncpg.InsufficientPrivilegeError("permission denied for table moves")
    assert (explain(denied) or "").endswith("Use the DATABASE_URL of `scrip migrate`.")
    assert (explain(asyncpg.InvalidPasswordError("no")) or "").endswith("Check DATABASE_URL.")


def test_a_pooler_is_named():
    """It refuses a wrong password by an error of its own; without pgbouncer=true processes share named statements."""
    assert (explain(asyncpg.ProtocolViolationError("SASL")) or "").endswith("Check DATABASE_URL.")
    for error in (asyncpg.DuplicatePreparedStatementError, asyncpg.InvalidSQLStatementNameError):
        assert "add pgbouncer=true" in (explain(error("statement")) or "")
