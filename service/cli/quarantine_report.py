"""A quarantined event in words, and what the stores have of its code."""

import asyncpg
import hiredis

from service.domain.times import from_ms
from service.formats import key_names
from service.formats.coupon_record import IDLE, parse_coupon_record
from service.formats.directory_entry import parse_directory_entry
from service.formats.event_id import END
from service.formats.events import Fact, Redeemed, RolledBack, parse_entry
from service.formats.quarantined_event import Named
from service.hot.connection import Broken, connect
from service.record.facts.quarantine_resolutions import Quarantined
from service.record.partitions.comparisons import codes

_OFF = {"1": "switched off", "2": "blocked", "3": "switched off and blocked"}


def kind_of(event: Quarantined) -> str:
    """What happened, in a word or two."""
    kinds = {b"A ": "assigned", b"U ": "unassigned", b"R ": "redeemed", b"B ": "rolled back", b"S ": "stock notice"}
    return kinds.get(event.d[:2], "answered" if event.d[:2] == b"K " else "unreadable")


def describe(event: Quarantined) -> str:
    """The event in a sentence."""
    fields = {"d": event.d.decode("utf-8", "replace"), "r": event.r.decode("utf-8", "replace") or "{}"}
    fact = parse_entry(event.id, fields)
    if not isinstance(fact, Fact):
        return f"{kind_of(event)}."
    text = f"{kind_of(event)}, code {fact.code} by user {fact.user}"
    if isinstance(fact, Redeemed):
        text += f" in order {fact.order}" if fact.order else ""
        if fact.value_e4 is not None:
            text += f", order value {fact.value_e4 / 10_000:.{fact.digits}f} {fact.currency or ''}".rstrip()
            text += f", discount {fact.discount_e4 / 10_000:.{fact.digits}f}"
        text += f", redemption {fact.redemption_id}"
        text += f", with code {fact.gift.code} as a gift" if fact.gift else ""
    elif isinstance(fact, RolledBack):
        text += f", redemption {fact.redemption_id}, {'with' if fact.restore else 'without'} giving the use back"
    return f"{text}, at {from_ms(fact.at_ms)}."


async def describe_recorded(connection: asyncpg.Connection, partition: int, one: Named) -> str:
    """The code's state in Postgres."""
    found = (await codes(connection, partition, one.workspace, END, [one.code])).get(one.code)
    if found is None:
        return "no such code, or its book is retired"
    uses = "unused" if found.max is None else f"{found.uses} of {found.max or 'any number of'} uses"
    return _join("active" if found.active else "switched off", uses, found.owner, found.last)


async def describe_held(redis_url: str | None, partition: int, one: Named) -> str:
    """The code's state in Redis."""
    if redis_url is None:
        return "REDIS_URL is not set"
    w = key_names.prefix(partition, one.workspace)
    try:
        connection = await connect(redis_url, "scrip-command", partition=partition)
        try:
            entry = await connection.call("HGET", key_names.directory(w, key_names.bucket(one.code)), one.code)
            text = await connection.call("GET", key_names.coupon(w, one.code))
        finally:
            connection.close()
    except (OSError, Broken):
        return "it can't be reached"
    if isinstance(entry, hiredis.ReplyError) or isinstance(text, hiredis.ReplyError):
        return "this user may not read it"
    return _describe_entry(entry, text)


def _describe_entry(entry: str | None, text: str | None) -> str:
    listed = parse_directory_entry(entry) if entry else None
    record = parse_coupon_record(text) if text else IDLE
    if listed is None:
        return "no such code"
    if listed.last:
        return _join("active", "used up", None, listed.last)
    if record is None:
        return "its record can't be read"
    owner, last = (None if word == "-" else word for word in (record.user, record.last))
    return _join(_OFF.get(record.off, "active"), f"{record.uses} uses", owner, last)


def _join(state: str, uses: str, owner: str | None, last: str | None) -> str:
    parts = [state, uses, owner and f"assigned to {owner}", last and f"last redeemed by event {last}"]
    return ", ".join(part for part in parts if part)
