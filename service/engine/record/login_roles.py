"""The login roles of the API and the worker, and their privileges: `scrip migrate` (script_versions.py) makes them, and
a process checks its own at its start. Postgres defines the form of the verifier."""

import base64
import contextlib
import hashlib
import hmac
import re
import secrets
from typing import Literal, NamedTuple

import asyncpg

from service.common.resources import ROLES_FILE
from service.engine.record.pool import Database
from service.engine.record.program_versions import UnusableRecord
from service.engine.record.queries import query

_ITERATIONS = 4096
"""Postgres's default."""
_find_grants = re.compile(
    r"^GRANT ([A-Z, ]+?)(?: \(([a-z_, ]+)\))? ON\s+([a-z_,\s]+?)\s+TO ([a-z_, ]+);$", re.MULTILINE
).findall
"""The rights on tables in deploy/postgres-roles.sql: names, columns, tables, roles."""


class Right(NamedTuple):
    """A right on a table, or on one of its columns."""

    name: str
    table: str
    column: str | None


class WrongRole(UnusableRecord):
    """The role in DATABASE_URL is that of the other process, or lacks a right."""

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


def list_rights(role: str) -> list[Right]:
    """The rights on tables that deploy/postgres-roles.sql grants to this role."""
    return [
        Right(name, table, column or None)
        for names, columns, tables, roles in _find_grants(ROLES_FILE.read_text())
        if role in roles.split(", ")
        for name in names.split(", ")
        for table in re.findall(r"\w+", tables)
        for column in columns.split(", ")
    ]


async def find_missing_rights(database: Database, needed: str, role: str | None = None) -> list[str]:
    """What `role`, by default that of the session, lacks of the rights of the role `needed`, as `INSERT on books`."""
    rights = list_rights(needed)
    rows = await database.fetch(query("missing_rights"), role, *map(list, zip(*rights, strict=True)))
    return [f"{right} on {table}" for right, table in rows]


async def check_role(database: Database, process: Literal["api", "worker"]) -> None:
    """Raises WrongRole if the role lacks what the process needs."""
    if missing := await find_missing_rights(database, f"scrip_{process}"):
        role = await database.fetchval("SELECT current_user")
        more = f" and {len(missing) - 1} more" if missing[1:] else ""
        raise WrongRole(
            f"the role {role} lacks {missing[0]}{more}, which `scrip {process}` needs. Log in as scrip_{process} in "
            "DATABASE_URL. If that is so already, grant it its rights: `scrip migrate --roles`."
        )


async def grant_privileges(connection: asyncpg.Connection) -> None:
    """Run deploy/postgres-roles.sql: one transaction, which may be repeated."""
    await connection.execute(ROLES_FILE.read_text())
