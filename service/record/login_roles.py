"""The login roles of the API and the worker, and their privileges: `scrip migrate` (script_versions.py) makes them, and
a process checks its own at its start. Postgres defines the form of the verifier."""

import base64
import contextlib
import hashlib
import hmac
import secrets
from typing import Literal

import asyncpg

from service.common.resources import ROLES_FILE
from service.record.pool import Database
from service.record.program_versions import UnusableRecord
from service.record.queries import query

_ITERATIONS = 4096
"""Postgres's default."""
_OWN_RIGHTS = {"api": ("SELECT", "keys"), "worker": ("UPDATE", "partitions")}
"""By process, a right that the other process's role lacks."""


class WrongRole(UnusableRecord):
    """The role in DATABASE_URL is that of the other process."""

    code = "wrong_role"


async def ensure_role(connection: asyncpg.Connection, role: str, password: str) -> None:
    """Create a login role if it does not exist. Give it the password, if that is not empty."""
    if await connection.fetchval("SELECT to_regrole($1) IS NULL", role):
        with contextlib.suppress(asyncpg.DuplicateObjectError):  # another process has just created it
            await connection.execute(f'CREATE ROLE "{role}" LOGIN')
    if password:
        # Postgres may log this statement, so it has no password.
        await connection.execute(
            f"ALTER ROLE \"{role}\" PASSWORD '{derive_verifier(password, secrets.token_bytes(16))}'"
        )


def derive_verifier(password: str, salt: bytes) -> str:
    """Derive what Postgres stores of a password in ASCII (SCRAM-SHA-256)."""
    digest = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, _ITERATIONS)
    stored = hashlib.sha256(hmac.digest(digest, b"Client Key", "sha256")).digest()
    server = hmac.digest(digest, b"Server Key", "sha256")
    salt_text, stored_text, server_text = (base64.b64encode(part).decode() for part in (salt, stored, server))
    return f"SCRAM-SHA-256${_ITERATIONS}:{salt_text}${stored_text}:{server_text}"


async def check_role(database: Database, process: Literal["api", "worker"]) -> None:
    """Raises WrongRole if the role lacks what the process needs."""
    right, table = _OWN_RIGHTS[process]
    role, may_use = await database.fetchrow(query("may_use"), table, right)  # type: ignore[misc]
    if not may_use:
        raise WrongRole(
            f"the role {role} may not {right} {table}, as `scrip {process}` must. Log in as scrip_{process} in "
            "DATABASE_URL. If that is so already, grant it its rights: `scrip migrate --roles`."
        )


async def grant_privileges(connection: asyncpg.Connection) -> None:
    """Run deploy/postgres-roles.sql: one transaction, which may be repeated."""
    await connection.execute(ROLES_FILE.read_text())
