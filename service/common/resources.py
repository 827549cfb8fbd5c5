"""Find Lua and SQL files, also those in a wheel, for scripts.py, queries.py, migrations.py and login_roles.py."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]


def _find(name: str) -> Path:
    packed = _PACKAGE / "_data" / name
    return packed if packed.exists() else _PACKAGE.parent / name


LUA_DIR = _find("lua")
SQL_DIR = _find("sql")
ROLES_FILE = _find("deploy/postgres-roles.sql")
