"""What an outbox tells, event by event: ids that leave no gap, and facts that can follow each other."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from zlib import crc32


@dataclass
class Told:
    """What is true after all events."""

    owners: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """By code: A(ssigned) or U(nassigned), book, user, time."""
    gifts: dict[str, str] = field(default_factory=dict)
    """By order, as `g:` has them."""
    redeemed: dict[str, tuple[str, str]] = field(default_factory=dict)
    """By id: the event's id, and what it says."""
    rolled_back: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """By id: book, code, user, order, time, restore."""
    uses: Counter[str] = field(default_factory=Counter)

    def gave(self, kind: str, book: str, code: str, user: str, at: str, own_bucket: str, *gift: str) -> None:
        """Events `A` and `U`, and a checkout's gift."""
        before, self.owners[code] = self.owners.get(code), (kind, book, user, at)
        assert own_bucket == bucket(code)
        assert before is None or (before[0] != kind and (kind == "A" or before[1:3] == (book, user))), code
        assert kind == "A" or self.uses[code] == 0, code
        if gift:
            order, order_bucket = gift
            assert order_bucket == bucket(order)
            self.gifts[order] = f"{code} {own_bucket} {user} {at}"

    def redeem(self, event_id: str, words: list[str], request: str) -> None:
        """Event `R`."""
        assert len(words) in (16, 19)
        _, _, _, code, user, order, own_id, _, _, _, _, at, _, code_bucket, order_bucket, _, *gift = words
        assert (code_bucket, order_bucket) == (bucket(code), bucket(order))
        self.uses[code] += 1
        self.redeemed[own_id] = event_id, f"{' '.join(words[:16])} {request}"
        if gift:
            self.gave("A", gift[0], gift[1], user, at, gift[2], order, order_bucket)

    def roll_back(self, words: list[str]) -> None:
        """Event `B`."""
        _, _, book, code, user, order, own_id, at, restore, code_bucket, order_bucket = words
        assert own_id not in self.rolled_back
        assert (code_bucket, order_bucket) == (bucket(code), bucket(order))
        self.uses[code] -= restore == "1"
        self.rolled_back[own_id] = book, code, user, order, at, restore


def read_outbox(entries: Iterable[tuple[str, dict[str, str]]]) -> Told:
    """All events from the first on."""
    told = Told()
    for place, (event_id, fields) in enumerate(entries):
        assert int(event_id.partition("-")[2]) == place
        assert {"d", "r"} <= set(fields) <= {"d", "r", "i"}
        words = fields["d"].split(" ")
        match words[0]:
            case "O":
                assert (place, fields["d"], fields["r"]) == (0, "O", "")
            case "A" | "U":
                told.gave(words[0], *words[2:])
            case "R":
                told.redeem(event_id, words, fields["r"])
            case "B":
                told.roll_back(words)
            case "S":
                assert re.fullmatch(r"S \d+ \d+ (low|out) (codes|uses) \d+ \d+", fields["d"])
            case _:
                assert (words[0], len(words)) == ("K", 3)
    return told


def bucket(text: str) -> str:
    """The bucket of a code or an order, as keys and events write it."""
    return str(crc32(text.encode()) % 131_072)
