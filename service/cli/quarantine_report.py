"""What Redis has of a quarantined event's code, in words: quarantine_commands.py shows it."""

from contextlib import closing

import hiredis

from service.engine.formats import key_names
from service.engine.formats.directory_entry import parse_directory_entry
from service.engine.formats.quarantined_event import Named
from service.engine.hot.connection import Broken, connect

_OFF = {"1": "switched off", "2": "blocked", "3": "switched off and blocked"}


async def describe_held(redis_url: str | None, partition: int, one: Named) -> str:
    """The code's state in Redis."""
    if redis_url is None:
        return "REDIS_URL is not set"
    w = key_names.prefix(partition, one.workspace)
    try:
        with closing(await connect(redis_url, "scrip-command", partition=partition)) as connection:
            entry = await connection.call("HGET", key_names.directory(w, key_names.bucket(one.code)), one.code)
            text = await connection.call("GET", key_names.coupon(w, one.code))
    except (OSError, Broken):
        return "it can't be reached"
    if isinstance(entry, hiredis.ReplyError) or isinstance(text, hiredis.ReplyError):
        return "this user may not read it"
    return _describe_entry(entry, text)


def _describe_entry(entry: str | None, text: str | None) -> str:
    listed = parse_directory_entry(entry) if entry else None
    if listed is None:
        return "no such code"
    if (record := listed.record(text)) is None:
        return "its record can't be read"
    owner, last = (None if word == "-" else word for word in (record.user, record.last))
    uses = "used up" if record.uses == record.max_uses else f"{record.uses} uses"
    return _join(_OFF.get(record.off, "active"), uses, owner, last)


def _join(state: str, uses: str, owner: str | None, last: str | None) -> str:
    parts = [state, uses, owner and f"assigned to {owner}", last and f"last redeemed by event {last}"]
    return ", ".join(part for part in parts if part)
