"""What a command says if its servers or settings are the cause."""

import errno
import ssl

import asyncpg

from service.cli.failures import explain
from service.engine.hot.connection import Broken
from service.engine.record.pool import lacks_files


def test_a_role_without_the_right_is_told_which_url_to_use():
    denied = asyncpg.InsufficientPrivilegeError("permission denied for table moves")
    assert (explain(denied) or "").endswith("Use the DATABASE_URL of `scrip migrate`.")
    assert (explain(asyncpg.InvalidPasswordError("no")) or "").endswith("Check DATABASE_URL.")


def test_a_pooler_is_named():
    """It refuses a wrong password by an error of its own; without pgbouncer=true processes share named statements."""
    assert (explain(asyncpg.ProtocolViolationError("SASL")) or "").endswith("Check DATABASE_URL.")
    for error in (asyncpg.DuplicatePreparedStatementError, asyncpg.InvalidSQLStatementNameError):
        assert "add pgbouncer=true" in (explain(error("statement")) or "")


def test_servers_that_are_away():
    """Neither a pipe that is closed nor a file of the user is taken for a server."""
    for error in (TimeoutError(), ConnectionResetError("reset"), Broken(), asyncpg.AdminShutdownError("ends")):
        assert "`scrip doctor` names the server" in (explain(error) or "")
    assert "(no answer in time)" in (explain(TimeoutError()) or "")
    for error in (BrokenPipeError(errno.EPIPE, "pipe"), FileNotFoundError(errno.ENOENT, "none", "orders.jsonl")):
        assert explain(error) is None


def test_files_for_tls():
    """A start does not wait for a Postgres whose certificate is another's; it waits for one that breaks off."""
    unreadable = PermissionError(errno.EACCES, "denied", "postgresql.key")
    for error in (ssl.SSLCertVerificationError("self-signed"), ssl.SSLError("no certificate"), unreadable):
        assert lacks_files(error)
        assert "the files in DATABASE_URL" in (explain(error) or "")
    assert not lacks_files(ssl.SSLEOFError("eof"))
    assert not lacks_files(PermissionError(errno.EACCES, "denied"))
