"""What a command says if its servers or settings are the cause."""

import asyncpg

from service.cli.failures import explain


def test_a_role_without_the_right_is_told_which_url_to_use():
    denied = asyncpg.InsufficientPrivilegeError("permission denied for table moves")
    assert (explain(denied) or "").endswith("Use the DATABASE_URL of `scrip migrate`.")
    assert (explain(asyncpg.InvalidPasswordError("no")) or "").endswith("Check DATABASE_URL.")
