"""The folders of the Lua and SQL files: beside the package in a checkout, inside it in a wheel."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]


def _find_folder(name: str) -> Path:
    packed = _PACKAGE / "_data" / name
    return packed if packed.is_dir() else _PACKAGE.parent / name


LUA_DIR = _find_folder("lua")
SQL_DIR = _find_folder("sql")
