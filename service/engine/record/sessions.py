"""The bounds of sessions. They are settings of the roles, as a pooler accepts no such settings when a session starts.
migrations.py sets them, pool.py and checks.py check each connection."""

import asyncpg

LOGINS = ("scrip_api", "scrip_worker")
"""The roles of deploy/postgres-roles.sql."""
BOUNDS_S = {
    # A frozen process in a transaction holds locks: for example on the row of a partition that another worker takes.
    "idle_in_transaction_session_timeout": 8,
    "statement_timeout": 30,
}
POOLER = "A pooler answers at DATABASE_URL: add pgbouncer=true to the URL's parameters, after a ? or an &."
_UNSET = """
SELECT format('ALTER ROLE %I IN DATABASE %I SET %I = %L', rolname, current_database(), name, seconds || 's')
FROM pg_roles, unnest($1::text[], $2::int[]) AS bounds (name, seconds)
WHERE (rolname = current_user OR rolname = ANY($3)) AND NOT EXISTS (
  SELECT FROM pg_db_role_setting, unnest(setconfig) AS item
  WHERE setrole = pg_roles.oid AND setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND item LIKE name || '=%'
)
ORDER BY 1"""
_SESSION = """
SELECT pg_backend_pid(), current_user, current_database(), to_regclass('migrations') IS NOT NULL,
  ARRAY(SELECT extract(epoch FROM current_setting(name)::interval)::float8 FROM unnest($1::text[]) AS name)"""


async def bound_roles(connection: asyncpg.Connection) -> list[str]:
    """Set the missing bounds of this role and of LOGINS in this database. Returns the statements it has no right to."""
    rows = await connection.fetch(_UNSET, list(BOUNDS_S), list(BOUNDS_S.values()), LOGINS)
    refused: list[str] = []
    for (statement,) in rows:
        try:
            async with connection.transaction():
                await connection.execute(statement)
        except asyncpg.InsufficientPrivilegeError:
            refused.append(f"{statement};")
    return refused


async def unbound_reason(connection: asyncpg.Connection, pooled: bool) -> str | None:
    """Why this session can't be used, and what to run; None if it can. Without tables there is nothing to bound yet."""
    async with connection.transaction():  # in a pooler's hands, the session stays the same only within a transaction
        statement = await connection.prepare(_SESSION, name="")
        pid, role, database, is_migrated, set_to = await statement.fetchrow(list(BOUNDS_S))  # type: ignore[misc]
    if pid != connection.get_server_pid() and not pooled:
        return POOLER
    for (name, most), seconds in zip(BOUNDS_S.items(), set_to, strict=True):
        if is_migrated and not 0 < seconds <= most:
            now = f"{seconds:g} s" if seconds else "off"
            return (
                f"{name} is {now} for the role {role}, and must be {most} s or less. Run `scrip migrate`, or "
                f'ALTER ROLE "{role}" IN DATABASE "{database}" SET {name} = \'{most}s\'; then let a pooler connect '
                "again (PgBouncer: RECONNECT)."
            )
    return None
