"""What is kept of a batch's answer under its Idempotency-Key: not the answer, but what can't be known otherwise.

The repeat has the same operations, so these are prepared again and rendered with the kept replies. The text has a head
line (`<durability> <request id>`) and a line for each operation: `!<code>`, with a tab and JSON where the refusal says
more than its sentence; or the outcome and what the script replied, between tabs. In a reply

- a redemption is `#` and its event: the facts are in the outbox, or in Postgres;
- `/c`, `/u` and `/o` are the operation's own code, user and order (no id has a `/` or a `#`);
- an event is `+<n>` where it is so many after the one before it in the text.

Compressed and in base64 after one letter: `B`, or `U` where it names a user whom its operation does not name.
"""

import base64
import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from service.domain.errors import FieldError, Refusal
from service.domain.field_types import encode_field
from service.domain.outcomes import BY_CODE
from service.formats.event_id import EventId, parse_event_id
from service.formats.redemption_record import parse_record
from service.formats.script_replies import COUPON_VIEW, places_of_users

PLAIN, NAMING = "B", "U"
_LAST = COUPON_VIEW.index("last_id")
"""Where a view's last redemption begins, of which its event alone is kept."""
_LEVEL = 6

_is_redemption = re.compile(r"(\d+-\d+) R ").match
_encode, _decode = msgspec.json.encode, msgspec.json.decode


class Said(NamedTuple):
    """An operation's code, user and order, as words; '-' for none."""

    code: str = "-"
    user: str = "-"
    order: str = "-"


class KeptReply(NamedTuple):
    """A script's outcome and what it replied after that; a redemption is '#' and its event, or its id."""

    outcome: int
    parts: list[str]

    @property
    def names(self) -> list[str]:
        """The redemptions whose facts it takes to answer."""
        return [words[-1][1:] for part in self.parts if (words := part.split(" "))[-1].startswith("#")]


class KeptBatch(NamedTuple):
    """A batch's answer: how safe it was, of which request, and what became of each operation."""

    durability: str
    request_id: str
    answers: list[KeptReply | Refusal]


def keep_batch(durability: str, request_id: str, answers: Iterable[tuple[Said, Sequence[object] | Refusal]]) -> str:
    """The kept form, of each operation's words and reply."""
    events, lines, naming = _Events(), [f"{durability} {request_id}"], False
    for said, reply in answers:
        if isinstance(reply, Refusal):
            lines.append(_refused(reply))
            continue
        own = {text: mark for text, mark in zip(said, ("/c", "/u", "/o"), strict=True) if text != "-"}
        if redeemed := _is_redemption(str(reply[1])):  # its book is known with its facts
            lines.append(f"{reply[0]}\t#{events.short(redeemed[1])}")
            continue
        parts = [str(reply[1]).split(" ")]
        if reply[2]:
            parts.append(str(reply[2]).split(" "))
        shown = parts[-1]
        if len(shown) == len(COUPON_VIEW) and shown[_LAST] != "-":
            shown[_LAST:] = ["#" + events.short(shown[_LAST])]
        parts = [[own.get(one, one) for one in words] for words in parts]
        naming = naming or any(parts[-1][place] != "-" and parts[-1][place][0] != "/" for place in _users_of(shown))
        lines.append("\t".join([str(reply[0]), *map(" ".join, parts)]))
    return _packed(NAMING if naming else PLAIN, lines)


def is_kept_batch(kept: str) -> bool:
    """Whether what is kept of an answer is a batch's."""
    return kept[:1] in (PLAIN, NAMING)


def read_batch(kept: str) -> KeptBatch:
    """The inverse of keep_batch, but for the operations' own words (reply_of)."""
    head, *lines = _unpacked(kept)
    durability, _, request_id = head.partition(" ")
    events, answers = _Events(), list[KeptReply | Refusal]()
    for line in lines:
        outcome, *parts = line.split("\t")
        if outcome.startswith("!"):
            answers.append(_refusal(outcome[1:], parts))
        else:
            answers.append(KeptReply(int(outcome), [events.in_full(part) for part in parts]))
    return KeptBatch(durability, request_id, answers)


def reply_of(kept: KeptReply, said: Said, records: Mapping[str, tuple[str, str]]) -> list[object]:
    """The script's reply; `records` has each redemption's record and its book's id."""
    own: dict[str, str] = dict(zip(("/c", "/u", "/o"), said, strict=True))
    reply: list[object] = [kept.outcome]
    for part in kept.parts:
        words = [own.get(one, one) for one in part.split(" ")]
        if words[-1].startswith("#"):
            record, book_id = records[words[-1][1:]]
            if len(words) == 1:
                return [kept.outcome, record, book_id, 0]
            redeemed = parse_record(record)
            words[-1:] = [redeemed.name, redeemed.user, redeemed.order, redeemed.at_ms]
        reply.append(" ".join(words))
    return reply if len(reply) == 3 else [*reply, "", 0]


def batch_without_users(kept: str, pseudonyms: Mapping[str, str]) -> str:
    """The kept form with pseudonyms in the place of these users."""
    by_word = {encode_field(user): pseudonym for user, pseudonym in pseudonyms.items()}
    head, *lines = _unpacked(kept)
    changed = [head]
    for line in lines:
        before, tab, last = line.rpartition("\t")
        words = last.split(" ")
        for place in () if line.startswith("!") else _users_of(words):
            words[place] = by_word.get(words[place], words[place])
        changed.append(before + tab + " ".join(words))
    return kept if changed == [head, *lines] else _packed(kept[:1], changed)


def _users_of(words: Sequence[str]) -> list[int]:
    size = len(COUPON_VIEW) if len(words) == _LAST + 1 else len(words)
    return [place for place in places_of_users(size) if place < _LAST]


def _refused(refusal: Refusal) -> str:
    if refusal.detail == refusal.outcome.sentence and not refusal.errors:
        return f"!{refusal.code}"
    return f"!{refusal.code}\t{_encode([refusal.detail, refusal.errors]).decode()}"


def _refusal(code: str, more: Sequence[str]) -> Refusal:
    if code not in BY_CODE:
        raise ValueError(f"no refusal has the code {code}")
    detail, errors = _decode(more[0], type=tuple[str, list[FieldError]]) if more else ("", [])
    return Refusal(code, detail, errors)


def _packed(letter: str, lines: Sequence[str]) -> str:
    return letter + base64.b64encode(zlib.compress("\n".join(lines).encode(), _LEVEL)).decode()


def _unpacked(kept: str) -> list[str]:
    return zlib.decompress(base64.b64decode(kept[1:])).decode().split("\n")


class _Events:
    """Events one after the other, each by how far it is from the one before it."""

    def __init__(self) -> None:
        self._last: EventId | None = None

    def short(self, name: str) -> str:
        """An event as it is written here; anything else stays what it is."""
        if (event := _event(name)) is None:
            return name
        last, self._last = self._last, event
        return f"+{event.seq - last.seq}" if last and event.epoch == last.epoch else name

    def in_full(self, part: str) -> str:
        """A part of a reply with its event in full."""
        before, mark, name = part.rpartition("#")
        if not mark:
            return part
        if self._last and name.startswith("+"):
            name = str(EventId(self._last.epoch, self._last.seq + int(name[1:])))
        self._last = _event(name) or self._last
        return f"{before}#{name}"


def _event(name: str) -> EventId | None:
    """None where it is a redemption's id, in records of older versions."""
    return parse_event_id(name) if name.count("-") == 1 else None
