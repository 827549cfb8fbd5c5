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

PLAIN, NAMING = "B", "U"
VIEW_WORDS, VIEW_USERS = 15, (5, 8, 12)
"""Of a coupon's view (lua/includes/view.lua): its words, and which are users: the owner, the lock's, the last one's."""
LOCK_WORDS, LOCK_USERS = 6, (2,)
"""The same of a lock's payload."""
_LAST = 11
"""Where a view's last redemption begins: its event (or id), user, order and time."""
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
        if len(shown) == VIEW_WORDS and shown[_LAST] != "-":
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
            event, _, _, _, _, user, order, own_id, _, _, _, _, at, _ = record.split(" ", 13)
            words[-1:] = [event if own_id == "-" else own_id, user, order, at]
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


def _users_of(words: Sequence[str]) -> Sequence[int]:
    if len(words) == LOCK_WORDS:
        return LOCK_USERS
    if len(words) in (VIEW_WORDS, _LAST + 1):
        return [place for place in VIEW_USERS if place < _LAST]
    return ()


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
        self._last = ("", 0)

    def short(self, name: str) -> str:
        """An event as it is written here; anything else stays what it is."""
        epoch, _, seq = name.partition("-")
        if not seq.isdecimal():
            return name
        (last_epoch, last_seq), self._last = self._last, (epoch, int(seq))
        return f"+{int(seq) - last_seq}" if epoch == last_epoch else name

    def in_full(self, part: str) -> str:
        """A part of a reply with its event in full."""
        before, mark, name = part.rpartition("#")
        if not mark:
            return part
        if name.startswith("+"):
            epoch, seq = self._last
            name = f"{epoch}-{seq + int(name[1:])}"
        epoch, _, seq = name.partition("-")
        if seq.isdecimal():
            self._last = (epoch, int(seq))
        return f"{before}#{name}"
