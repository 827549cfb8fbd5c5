"""Format tracebacks and errors without values from requests: for logs.py, and for those that log an error's reason.

A library's error message may quote the value that caused it: a code, a key, a row. So only the messages of the
service's own errors are kept. Other errors are reduced to their type and harmless details, for example an SQLSTATE.
"""

import re
import traceback

import asyncpg
import hiredis

_DEPTH = 5
"""Limit of causes of an error, and of errors in a group."""


def format_traceback(error: BaseException, depth: int = _DEPTH) -> str:
    """Format an error with its traceback, after the errors that caused it."""
    lines: list[str] = []
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is not None and depth:
        lines += [format_traceback(cause, depth - 1), "\nDuring handling of the above exception:\n"]
    lines += ["Traceback (most recent call last):", *traceback.format_tb(error.__traceback__)]
    lines.append(describe_error(error))
    if isinstance(error, BaseExceptionGroup) and depth:
        lines += [format_traceback(one, depth - 1) for one in error.exceptions[:_DEPTH]]
    return "\n".join(line.rstrip("\n") for line in lines)


def describe_error(error: BaseException) -> str:
    """Describe an error in one line: its type, then the message of the service's own errors, else harmless details."""
    name = f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins.")
    details = _harmless_details(error)
    return f"{name}: {details}" if details else name


def find_missing_right(error: hiredis.ReplyError) -> str:
    """The command for which Redis's user lacks the right, as Redis names it; '' for other errors. In Redis 7.0 the
    error of a script does not name the command."""
    text = str(error)
    named = re.search(r"no permissions to run the '([a-z|]+)' command", text)
    if named:
        return named[1]
    return "a command of a script" if "executing the script can't run this command" in text else ""


def describe_reply(error: hiredis.ReplyError) -> str:
    """The kind of Redis's error and the command whose right is missing; each '' if the error names none."""
    kind = str(error).partition(" ")[0]
    return " ".join(filter(None, [kind if kind.isupper() and kind.isalpha() else "", find_missing_right(error)]))


def find_reason(error: BaseException) -> str:
    """The text of a server's error; of one without, what it is."""
    if isinstance(error, TimeoutError) and not str(error):
        return "no answer in time"
    return str(error) or type(error).__name__


def _harmless_details(error: BaseException) -> str:
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
        return describe_reply(error)
    if isinstance(error, OSError):
        return error.strerror or ""
    return ""
