"""What Redis stores under an Idempotency-Key: `<fingerprint> <outcome> <payload>`, or `<fingerprint> c <until>` while a
request off the hot path runs (lua/includes/idempotency.lua). A payload is what a script replied; or `@<event>,<event>`
with what else the answer says; or, off the hot path, status, location ('-' for none) and body."""

import base64
import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec
import structlog

from service.domain.field_types import encode_field
from service.formats.batch_answers import PLAIN, batch_without_users, is_kept_batch
from service.formats.event_id import EventId
from service.formats.script_replies import places_of_users

EVENTS = "@"
"""Before the events of a payload; in an event's own entry, `.` stands for that event."""
PACKED_BYTES = 4 << 10
"""A longer answer is kept packed, as 'z' and base64 of zlib's. None begins so: they are JSON, or a digest's digits; a
batch's is kept as service/formats/batch_answers.py writes it."""

log = structlog.get_logger()


class IdempotencyEntry(NamedTuple):
    """An entry's parts; '' for what it lacks."""

    fingerprint: str
    outcome: str
    payload: str

    @property
    def names_events(self) -> bool:
        """Whether it is answered by what events say."""
        return self.payload.startswith(EVENTS)


def parse_entry(text: str) -> IdempotencyEntry:
    """The inverse of joining its parts by spaces."""
    words = text.split(" ", 2)
    return IdempotencyEntry(*words, *[""] * (3 - len(words)))


def with_event(entry: str, event: EventId) -> str:
    """What Redis stores of the entry that an event carries."""
    head, named, more = entry.partition(f" {EVENTS}.")
    return f"{head} {EVENTS}{event}{more}" if named and head.count(" ") == 1 else entry


def answer_payload(status: int, body: bytes, location: str) -> str:
    """The payload of an answer off the hot path."""
    return f"{status} {location or '-'} {packed_answer(body)}"


def parse_answer(payload: str) -> tuple[int, bytes, str]:
    """The inverse: status, body and location."""
    status, location, body = payload.split(" ", 2)
    return int(status), unpacked_answer(body), "" if location == "-" else location


def packed_answer(body: bytes) -> str:
    """An answer as it is kept."""
    text = body.decode()
    if len(body) <= PACKED_BYTES or is_kept_batch(text):
        return text
    return "z" + base64.b64encode(zlib.compress(body, 1)).decode()


def unpacked_answer(kept: str) -> bytes:
    """The inverse."""
    return zlib.decompress(base64.b64decode(kept[1:])) if kept.startswith("z") else kept.encode()


def may_name_a_user(head: str) -> bool:
    """Whether an idempotency key's entry that begins so may name one, but for the user whom its request names."""
    payload = parse_entry(head).payload
    if payload.startswith(EVENTS):
        return " " in payload  # a checkout's gift
    status, _, rest = payload.partition(" ")
    if len(status) == 3 and status.isdecimal():
        return not rest.partition(" ")[2].startswith(PLAIN)
    return " " in payload


def without_users(entry: str, pseudonyms: Mapping[str, str]) -> str:
    """An idempotency key's entry with pseudonyms for these users, and no address or agent of theirs."""
    if not may_name_a_user(entry):
        return entry
    fingerprint, outcome, payload = parse_entry(entry)
    head = f"{fingerprint} {outcome}"
    if payload.startswith(EVENTS):  # redemptions by their events, and of a checkout the gift's view
        events, _, more = payload.partition(" ")
        digits, _, gift = more.partition(" ")
        return f"{head} {events} {digits} {_in_words(gift, pseudonyms)}" if gift else entry
    first, _, rest = payload.partition(" ")
    if len(first) == 3 and first.isdecimal():
        try:
            return f"{head} {first} {_in_answer(rest, pseudonyms)}"
        except (ValueError, zlib.error, msgspec.DecodeError) as error:  # nobody can be answered this either
            log.error("kept_answer_unreadable", error=type(error).__name__)
            return entry
    return f"{head} {_in_words(payload, pseudonyms)}"


def _in_words(payload: str, pseudonyms: Mapping[str, str]) -> str:
    words = payload.split(" ")
    by_word = {encode_field(user): pseudonym for user, pseudonym in pseudonyms.items()}
    for place in places_of_users(len(words)):
        words[place] = by_word.get(words[place], words[place])
    return " ".join(words)


def _in_answer(payload: str, pseudonyms: Mapping[str, str]) -> str:
    """Of an answer outside the hot path: where it points to, and JSON, packed where it was."""
    location, _, body = payload.partition(" ")
    user = location.removeprefix("/v1/users/")
    location = f"/v1/users/{pseudonyms[user]}" if user in pseudonyms else location
    if is_kept_batch(body):
        return f"{location} {batch_without_users(body, pseudonyms)}"
    text = unpacked_answer(body)
    if text.startswith((b"{", b"[")) and any(_quoted(user) in text for user in pseudonyms):
        body = packed_answer(msgspec.json.encode(_told(msgspec.json.decode(text), pseudonyms)))
    return f"{location} {body}"


def _quoted(user: str) -> bytes:
    return b'"userId":' + msgspec.json.encode(user)


def _told(told: Any, pseudonyms: Mapping[str, str]) -> Any:
    if isinstance(told, list):
        return [_told(one, pseudonyms) for one in told]
    if not isinstance(told, dict):
        return told
    found = {name: _told(value, pseudonyms) for name, value in told.items()}
    user = told.get("userId")
    if isinstance(user, str) and user in pseudonyms:
        found["userId"] = pseudonyms[user]
        found |= {name: None for name in ("ipAddress", "userAgent") if name in found}
    return found
