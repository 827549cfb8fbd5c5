"""Parse and change the entry of an Idempotency-Key in Redis, and in the line `i` of its event.

workspace_state.py reads answers off the hot path with it; restorer.py restores entries; user_eraser.py takes users out
of them. lua/includes/idempotency.lua writes and compares these bytes.

It is `<fingerprint> <outcome> <payload>`, or `<fingerprint> c <until>` while a request off the hot path runs. A payload
is a script's reply, with `/` for the user that the request names; or `@<event>,<event>` and the rest of the answer; or,
off the hot path, status, location ('-' for none) and body.
"""

import base64
import zlib
from collections.abc import Mapping
from typing import NamedTuple

import msgspec
import structlog

from service.engine.domain.field_types import encode_field
from service.engine.formats.batch_answers import PLAIN, batch_without_users, is_kept_batch
from service.engine.formats.event_id import EventId
from service.engine.formats.script_replies import user_indexes

EVENTS = "@"
"""Precedes the events of a payload. An event's own entry has `.` for that event."""
PACKED_BYTES = 4 << 10
"""A longer body is compressed: 'z' and base64. Uncompressed bodies are JSON or hexadecimal digits, so none begins with
'z'. service/engine/formats/batch_answers.py compresses a batch's."""

log = structlog.get_logger()


class IdempotencyEntry(NamedTuple):
    """An entry's parts; '' for parts that the text lacks."""

    fingerprint: str
    outcome: str
    payload: str


def parse_entry(text: str) -> IdempotencyEntry:
    """The inverse of joining its parts by spaces."""
    words = text.split(" ", 2)
    return IdempotencyEntry(*words, *[""] * (3 - len(words)))


def with_event(entry: str, event: EventId) -> str:
    """The entry that Redis stores for the line `i` of an event in the outbox."""
    head, named, more = entry.partition(f" {EVENTS}.")
    return f"{head} {EVENTS}{event}{more}" if named and head.count(" ") == 1 else entry


def answer_payload(status: int, body: bytes, location: str) -> str:
    """The payload of an answer off the hot path."""
    return f"{status} {location or '-'} {compress_body(body)}"


def parse_answer(payload: str) -> tuple[int, bytes, str]:
    """The inverse of answer_payload: status, body and location."""
    status, location, body = payload.split(" ", 2)
    return int(status), decompress_body(body), "" if location == "-" else location


def compress_body(body: bytes) -> str:
    """A response body as entries store it: compressed if it is long."""
    text = body.decode()
    if len(body) <= PACKED_BYTES or is_kept_batch(text):
        return text
    return "z" + base64.b64encode(zlib.compress(body, 1)).decode()


def decompress_body(kept: str) -> bytes:
    return zlib.decompress(base64.b64decode(kept[1:])) if kept.startswith("z") else kept.encode()


def may_name_a_user(beginning: str) -> bool:
    """Whether an entry may name a user other than its request's. Its beginning must reach into the answer's body."""
    payload = parse_entry(beginning).payload
    if payload.startswith(EVENTS):
        return " " in payload  # a checkout's gift
    status, _, rest = payload.partition(" ")
    if len(status) == 3 and status.isdecimal():
        return not rest.partition(" ")[2].startswith(PLAIN)
    return " " in payload


def without_users(entry: str, pseudonyms: Mapping[str, str]) -> str:
    """Replace these users by pseudonyms in an entry. One that can't be read stays as it is."""
    try:
        return _replace(entry, pseudonyms) if may_name_a_user(entry) else entry
    except (ValueError, LookupError, zlib.error, msgspec.DecodeError) as error:  # no repeat can get this answer, either
        log.error("kept_answer_unreadable", error=type(error).__name__)
        return entry


def _replace(entry: str, pseudonyms: Mapping[str, str]) -> str:
    fingerprint, outcome, payload = parse_entry(entry)
    head = f"{fingerprint} {outcome}"
    if payload.startswith(EVENTS):  # redemptions by their events, and of a checkout the gift's view
        events, _, more = payload.partition(" ")
        digits, _, gift = more.partition(" ")
        return f"{head} {events} {digits} {_replace_in_view(gift, pseudonyms)}" if gift else entry
    first, _, rest = payload.partition(" ")
    if len(first) == 3 and first.isdecimal():
        return f"{head} {first} {_replace_in_answer(rest, pseudonyms)}"
    return f"{head} {_replace_in_view(payload, pseudonyms)}"


def _replace_in_view(view: str, pseudonyms: Mapping[str, str]) -> str:
    fields = view.split(" ")
    by_field = {encode_field(user): pseudonym for user, pseudonym in pseudonyms.items()}
    for index in user_indexes(len(fields)):
        fields[index] = by_field.get(fields[index], fields[index])
    return " ".join(fields)


def _replace_in_answer(payload: str, pseudonyms: Mapping[str, str]) -> str:
    """Replace users in an answer off the hot path: in a batch, or in a body of JSON."""
    location, _, body = payload.partition(" ")
    if is_kept_batch(body):
        return f"{location} {batch_without_users(body, pseudonyms)}"
    text = decompress_body(body)
    if text.startswith(b"{") and any(b'"userId":' + msgspec.json.encode(user) in text for user in pseudonyms):
        body = compress_body(_replace_in_body(text, pseudonyms))
    return f"{location} {body}"


def _replace_in_body(body: bytes, pseudonyms: Mapping[str, str]) -> bytes:
    """Replace the user that the body itself names, also in the `text` of a quarantined event. What is nested in it,
    such as metadata, is a merchant's, and stays as written."""
    fields = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    user = msgspec.json.decode(fields.get("userId", b"null"))
    pseudonym = pseudonyms.get(user) if isinstance(user, str) else None
    if pseudonym is None:
        return body
    fields["userId"] = msgspec.Raw(msgspec.json.encode(pseudonym))
    if "eventId" in fields:
        text = msgspec.json.decode(fields["text"], type=str).replace(f" by user {user}", f" by user {pseudonym}", 1)
        fields["text"] = msgspec.Raw(msgspec.json.encode(text))
    return msgspec.json.encode(fields)
