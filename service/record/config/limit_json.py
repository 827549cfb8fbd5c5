"""Limits as Postgres has them: an object of JSON, or null."""

from typing import TypeVar

import msgspec

T = TypeVar("T", bound=msgspec.Struct)


def encode_limits(limits: msgspec.Struct | None) -> str | None:
    """For a column."""
    return None if limits is None else msgspec.json.encode(limits).decode()


def limits_from(kept: str | None, kind: type[T]) -> T | None:
    """The inverse."""
    return None if kept is None else msgspec.json.decode(kept, type=kind)
