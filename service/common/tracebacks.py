"""Tracebacks that tell where, and nothing of what a request said.

What a library writes into an error often quotes the value that it stumbled over: a code, a key, a row. So of foreign
errors only the kind is told, and what their libraries say about the place.
"""

import traceback
from types import TracebackType

import asyncpg
import hiredis

_DEPTH = 5
"""Errors behind an error, and within a group, that are told."""

Found = BaseException | tuple[type[BaseException], BaseException, TracebackType | None] | bool | None


def told(error: BaseException, depth: int = _DEPTH) -> str:
    """An error with its traceback, and those behind it."""
    lines: list[str] = []
    behind = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if behind is not None and depth:
        lines += [told(behind, depth - 1), "\nWhile that was dealt with:\n"]
    lines += ["Traceback (most recent call last):", *traceback.format_tb(error.__traceback__)]
    lines.append(kind(error))
    if isinstance(error, BaseExceptionGroup) and depth:
        lines += [told(one, depth - 1) for one in error.exceptions[:_DEPTH]]
    return "\n".join(line.rstrip("\n") for line in lines)


def kind(error: BaseException) -> str:
    """An error in one line: its text where it is our own, else its type and what can hold nothing of a request."""
    name = f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins.")
    more = _harmless(error)
    return f"{name}: {more}" if more else name


def _harmless(error: BaseException) -> str:
    if type(error).__module__.partition(".")[0] == "service":
        return str(error)
    if isinstance(error, asyncpg.PostgresError):
        parts = (
            getattr(error, "sqlstate", None),
            getattr(error, "table_name", None),
            getattr(error, "constraint_name", None),
        )
        return " ".join(part for part in parts if part)
    if isinstance(error, hiredis.ReplyError):
        word = str(error).partition(" ")[0]
        return word if word.isupper() and word.isalpha() else ""
    if isinstance(error, OSError):
        return error.strerror or ""
    return ""
