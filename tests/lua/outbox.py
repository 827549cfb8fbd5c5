"""What an outbox tells, event by event: ids that leave no gap, and facts that can follow each other."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from uuid import UUID
from zlib import crc32


@dataclass
class Told:
    """What is true after all events."""

    erased: bool = False
    owners: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """By code: A(ssigned) or U(nassigned), book, user, time."""
    gifts: dict[str, str] = field(default_factory=dict)
    """By order, as `g:` has them."""
    redeemed: dict[str, list[str]] = field(default_factory=dict)
    """By event: what it says."""
    rolled_back: dict[str, str] = field(default_factory=dict)
    """By the redemption's event: whether it restored."""
    events: dict[str, str] = field(default_factory=dict)
    """By the redemption's id: its event."""
    uses: Counter[str] = field(default_factory=Counter)

    def gave(self, kind: str, book: str, code: str, user: str, at: str, own_bucket: str, *gift: str) -> None:
        """Events `A` and `U`, and a checkout's gift."""
        before, self.owners[code] = self.owners.get(code), (kind, book, user, at)
        assert own_bucket == bucket(code)
        same = before is None or kind == "A" or before[1:3] == (book, user) or self.erased
        assert same, code
        assert before is None or before[0] != kind, code
        assert kind == "A" or self.uses[code] == 0, code
        if gift:
            order, order_bucket = gift
            assert order_bucket == bucket(order)
            self.gifts[order] = f"{code} {own_bucket} {user} {at}"

    def redeem(self, event_id: str, words: list[str]) -> None:
        """Event `R`."""
        assert len(words) in (17, 20)
        _, _, _, code, user, order, own_id, _, _, _, _, at, _, code_bucket, order_bucket, _, user_bucket, *gift = words
        assert (code_bucket, order_bucket, user_bucket) == (bucket(code), bucket(order), bucket(user))
        assert own_id == "-"
        self.uses[code] += 1
        self.redeemed[event_id] = words[:17]
        self.events[made_id(event_id, int(at))] = event_id
        if gift:
            self.gave("A", gift[0], gift[1], user, at, gift[2], order, order_bucket)

    def roll_back(self, words: list[str]) -> None:
        """Event `B`."""
        _, _, book, code, user, order, own_id, _, restore, code_bucket, order_bucket = words
        event = self.events[own_id]
        assert event not in self.rolled_back
        redeemed = self.redeemed[event]
        assert [*redeemed[2:4], redeemed[5]] == [book, code, order]
        assert redeemed[4] == user or self.erased
        assert (code_bucket, order_bucket) == (bucket(code), bucket(order))
        self.uses[code] -= restore == "1"
        self.rolled_back[event] = restore


def read_outbox(entries: Iterable[tuple[str, dict[str, str]]], *, erased: bool = False) -> Told:
    """All events from the first on; `erased` where users were deleted meanwhile, so that later ones have pseudonyms."""
    told = Told(erased=erased)
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
                told.redeem(event_id, words)
            case "B":
                told.roll_back(words)
            case "S":
                assert re.fullmatch(r"S \d+ \d+ (low|out) (codes|uses) \d+ \d+", fields["d"])
            case _:
                assert (words[0], len(words)) == ("K", 3)
    return told


def made_id(event: str, at: int) -> str:
    """The id of the redemption of an event: a UUIDv7 of its time, epoch and number."""
    epoch, seq = map(int, event.split("-"))
    bits = at << 80 | 7 << 76 | (epoch >> 14) << 64 | 2 << 62 | (epoch & 0x3FFF) << 48 | seq
    return str(UUID(int=bits))


def bucket(text: str) -> str:
    """The bucket of a code, an order or a user, as keys and events write it."""
    return str(crc32(text.encode()) % 131_072)


async def none_recorded(keys: Sequence[str]) -> set[str]:
    """Those of some idempotency keys that Postgres doesn't have: all of them."""
    return set(keys)
