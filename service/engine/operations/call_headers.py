"""Check a request's Idempotency-Key and User-Agent, and compute its fingerprint: run.py, hot_path.py,
idempotency.py, auth.py and routes.py call this. Redis keeps fingerprints with answers: another one would refuse
repeats, so it must not change."""

import hashlib
import re

from service.engine.domain.errors import malformed
from service.engine.domain.field_types import find_fault

USER_AGENT_CHARACTERS = 512
MAX_BODY_BYTES = 64 << 10
"""Largest body of an operation's request."""

_is_key = re.compile(r"[ -~]{1,255}\Z").match
_unprintable = re.compile(r"[^ -~]")


def check_key(key: str) -> str:
    """The Idempotency-Key. Refusal `malformed` if it is invalid."""
    if not _is_key(key):
        fault = find_fault(key, _is_key)
        raise malformed("Idempotency-Key", f"must have 1 to 255 printable ASCII characters, but has {fault}")
    return key


def fingerprint(method: bytes, path: bytes, query: bytes, body: bytes, user: str | None = None) -> str:
    """A digest that distinguishes requests under the same key; `user` is the one of a user's token."""
    if user is not None:  # the body may omit the user
        method += b" " + user.encode()
    parts = (len(method), method, len(path), path, len(query), query, len(body), body)
    return hashlib.blake2b(b"%d %b%d %b%d %b%d %b" % parts, digest_size=16).hexdigest()


def clean_user_agent(agent: str) -> str:
    """The User-Agent as redemptions store it."""
    return _unprintable.sub("?", agent[:USER_AGENT_CHARACTERS])
