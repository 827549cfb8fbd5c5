"""Values as Postgres stores them, JSON or null, for record/. Renaming a field of a stored struct takes a migration."""

from typing import Any, TypeVar

import msgspec

T = TypeVar("T", bound=msgspec.Struct)


def encode_json(value: Any) -> str | None:
    return None if value is None else msgspec.json.encode(value).decode()


def limits_from(text: str | None, kind: type[T]) -> T | None:
    return None if text is None else msgspec.json.decode(text, type=kind)
