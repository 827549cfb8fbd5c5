"""Write and read the entry of a batch under its Idempotency-Key: the scripts' replies in short form. batches.py and
idempotency_entry.py call this; entries in Redis and in events live for days, so each form must stay readable.

A repeat has the same operations: these are prepared again and rendered with the stored replies. The text has a head
line (`<durability> <request id>`) and a line for each operation. A refusal's line is `!<code>`, then a tab and JSON if
it has details. Another line is the outcome and the reply's parts, separated by tabs. In a reply

- `#<event>` is a redemption, whose facts are in the outbox or in Postgres;
- `/c`, `/u` and `/o` are the operation's own code, user and order (no id has a `/` or a `#`);
- `+<n>` is the event n after the previous one in the text.

The text is compressed, in base64, after one letter: `U` if it names another user than its operation, else `B`.
"""

import base64
import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from service.engine.domain.errors import FieldError, Refusal
from service.engine.domain.field_types import encode_field
from service.engine.domain.outcomes import BY_CODE
from service.engine.formats.event_id import EventId, parse_event_id
from service.engine.formats.events import parse_record
from service.engine.formats.script_replies import COUPON_VIEW, user_indexes

PLAIN, NAMING = "B", "U"
_LAST = COUPON_VIEW.index("last_event")
"""The index of a view's last redemption, of which only the event is stored."""
_LEVEL = 6

_is_redemption = re.compile(r"(\d+-\d+) R ").match
_encode, _decode = msgspec.json.encode, msgspec.json.decode


class OwnIds(NamedTuple):
    """An operation's own code, user and order as fields; '-' for none."""

    code: str = "-"
    user: str = "-"
    order: str = "-"


class _KeptRefusal(msgspec.Struct, array_like=True):
    """What a refusal has beside its code, if that is more than its outcome has."""

    detail: str
    errors: list[FieldError]
    figures: dict[str, Any]


class KeptReply(NamedTuple):
    """A script's outcome and the parts of its reply; a redemption is '#' and its event."""

    outcome: int
    parts: list[str]

    @property
    def names(self) -> list[str]:
        """The redemptions whose records the response needs."""
        return [words[-1][1:] for part in self.parts if (words := part.split(" "))[-1].startswith("#")]


class KeptBatch(NamedTuple):
    """A batch's stored answer: durability, request id, and each operation's reply or refusal."""

    durability: str
    request_id: str
    answers: list[KeptReply | Refusal]


def keep_batch(durability: str, request_id: str, answers: Iterable[tuple[OwnIds, Sequence[object] | Refusal]]) -> str:
    """The stored form of the operations' own ids and replies."""
    events, lines, naming = _Events(), [f"{durability} {request_id}"], False
    for ids, reply in answers:
        if isinstance(reply, Refusal):
            lines.append(_encode_refusal(reply))
            continue
        markers = {text: marker for text, marker in zip(ids, ("/c", "/u", "/o"), strict=True) if text != "-"}
        if redeemed := _is_redemption(str(reply[1])):  # its record names the book
            lines.append(f"{reply[0]}\t#{events.short(redeemed[1])}")
            continue
        parts = [str(reply[1]).split(" ")]
        if reply[2]:
            parts.append(str(reply[2]).split(" "))
        view = parts[-1]
        if len(view) == len(COUPON_VIEW) and view[_LAST] != "-":
            view[_LAST:] = ["#" + events.short(view[_LAST])]
        parts = [[markers.get(one, one) for one in words] for words in parts]
        naming = naming or any(parts[-1][index] != "-" and parts[-1][index][0] != "/" for index in _user_indexes(view))
        lines.append("\t".join([str(reply[0]), *map(" ".join, parts)]))
    return _compress(NAMING if naming else PLAIN, lines)


def is_kept_batch(kept: str) -> bool:
    """Whether a stored answer is a batch's."""
    return kept[:1] in (PLAIN, NAMING)


def read_batch(kept: str) -> KeptBatch:
    """The inverse of keep_batch, except for the operations' own ids (reply_of)."""
    head, *lines = _decompress(kept)
    durability, _, request_id = head.partition(" ")
    events, answers = _Events(), list[KeptReply | Refusal]()
    for line in lines:
        outcome, *parts = line.split("\t")
        if outcome.startswith("!"):
            answers.append(_decode_refusal(outcome[1:], parts))
        else:
            answers.append(KeptReply(int(outcome), [events.in_full(part) for part in parts]))
    return KeptBatch(durability, request_id, answers)


def reply_of(kept: KeptReply, ids: OwnIds, records: Mapping[str, tuple[str, str]]) -> list[object]:
    """The script's reply; `records` has each redemption's record and its book's id."""
    ids_by_marker: dict[str, str] = dict(zip(("/c", "/u", "/o"), ids, strict=True))
    reply: list[object] = [kept.outcome]
    for part in kept.parts:
        words = [ids_by_marker.get(one, one) for one in part.split(" ")]
        if words[-1].startswith("#"):
            record, book_id = records[words[-1][1:]]
            if len(words) == 1:
                return [kept.outcome, record, book_id, 0]
            redeemed = parse_record(record)
            words[-1:] = [redeemed.event, redeemed.user, redeemed.order, redeemed.at_ms]
        reply.append(" ".join(words))
    return reply if len(reply) == 3 else [*reply, "", 0]


def batch_without_users(kept: str, pseudonyms: Mapping[str, str]) -> str:
    """Replace these users by their pseudonyms in a stored batch."""
    by_field = {encode_field(user): pseudonym for user, pseudonym in pseudonyms.items()}
    head, *lines = _decompress(kept)
    changed = [head]
    for line in lines:
        before, tab, last = line.rpartition("\t")
        words = last.split(" ")
        for index in () if line.startswith("!") else _user_indexes(words):
            words[index] = by_field.get(words[index], words[index])
        changed.append(before + tab + " ".join(words))
    return kept if changed == [head, *lines] else _compress(kept[:1], changed)


def _user_indexes(words: Sequence[str]) -> list[int]:
    size = len(COUPON_VIEW) if len(words) == _LAST + 1 else len(words)
    return [index for index in user_indexes(size) if index < _LAST]


def _encode_refusal(refusal: Refusal) -> str:
    if refusal.detail == refusal.outcome.detail and not refusal.errors:
        return f"!{refusal.code}"
    return f"!{refusal.code}\t{_encode([refusal.detail, refusal.errors, refusal.figures]).decode()}"


def _decode_refusal(code: str, more: Sequence[str]) -> Refusal:
    if code not in BY_CODE:
        raise ValueError(f"no refusal has the code {code}")
    if not more:
        return Refusal(code)
    kept = _decode(more[0], type=_KeptRefusal)
    refusal = Refusal(code, kept.detail, kept.errors)
    refusal.figures = kept.figures
    return refusal


def _compress(letter: str, lines: Sequence[str]) -> str:
    return letter + base64.b64encode(zlib.compress("\n".join(lines).encode(), _LEVEL)).decode()


def _decompress(kept: str) -> list[str]:
    return zlib.decompress(base64.b64decode(kept[1:])).decode().split("\n")


class _Events:
    """Encodes each event of a text by its distance from the previous one."""

    def __init__(self) -> None:
        self._last: EventId | None = None

    def short(self, name: str) -> str:
        event = parse_event_id(name)
        last, self._last = self._last, event
        return f"+{event.seq - last.seq}" if last and event.epoch == last.epoch else name

    def in_full(self, part: str) -> str:
        """A part of a reply with its full event."""
        before, marker, name = part.rpartition("#")
        if not marker:
            return part
        if self._last and name.startswith("+"):
            name = str(EventId(self._last.epoch, self._last.seq + int(name[1:])))
        self._last = parse_event_id(name)
        return f"{before}#{name}"
