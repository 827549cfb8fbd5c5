"""Limits as Postgres stores them: a JSON object, or null."""

from typing import TypeVar

import msgspec

T = TypeVar("T", bound=msgspec.Struct)


def encode_limits(limits: msgspec.Struct | None) -> str | None:
    return None if limits is None else msgspec.json.encode(limits).decode()


def limits_from(text: str | None, kind: type[T]) -> T | None:
    return None if text is None else msgspec.json.decode(text, type=kind)
