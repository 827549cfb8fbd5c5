"""The events of an outbox: ids without a gap, and facts that can follow each other."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from service.engine.formats.event_id import parse_event_id
from service.engine.formats.events import (
    Assigned,
    BalanceChanged,
    Event,
    Opened,
    Redeemed,
    RolledBack,
    Unassigned,
    encode_event,
    parse,
)


@dataclass
class Outbox:
    """The state after all events."""

    is_erased: bool = False
    """Whether users were deleted since, so that later events have their pseudonyms."""
    owners: dict[str, Assigned | Unassigned] = field(default_factory=dict)
    """The last change of owner by code."""
    gifts: dict[str, Assigned] = field(default_factory=dict)
    """The last gift by order."""
    redeemed: dict[str, Redeemed] = field(default_factory=dict)
    """Redemptions by event id."""
    rolled_back: dict[str, bool] = field(default_factory=dict)
    """By redemption's event id: whether its use was restored."""
    by_id: dict[str, Redeemed] = field(default_factory=dict)
    """Redemptions by redemption id."""
    uses: Counter[str] = field(default_factory=Counter)
    changed: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By code and kind (`credited`, `closed`, `spent`): the amounts of cards."""

    def change_owner(self, event: Assigned | Unassigned) -> None:
        """Apply an assignment, a gift, or its end."""
        before, self.owners[event.code] = self.owners.get(event.code), event
        assert type(before) is not type(event), event
        if isinstance(event, Assigned):
            if event.order is not None:
                self.gifts[event.order] = event
            return
        assert self.uses[event.code] == 0, event
        is_same = before is None or (before.book, before.user) == (event.book, event.user)
        assert is_same or self.is_erased, event

    def redeem(self, event: Redeemed) -> None:
        self.uses[event.code] += 1
        self.redeemed[str(event.id)] = self.by_id[event.redemption_id] = event
        self.changed[event.code, "spent"] += event.discount_e4
        if event.gift:
            self.change_owner(event.gift)

    def roll_back(self, event: RolledBack) -> None:
        redeemed = self.by_id[event.redemption_id]
        assert str(redeemed.id) not in self.rolled_back
        assert (redeemed.book, redeemed.code, redeemed.order) == (event.book, event.code, event.order)
        assert redeemed.user == event.user or self.is_erased
        self.uses[event.code] -= event.restore
        self.changed[event.code, "spent"] -= event.restore * redeemed.discount_e4
        assert (event.balance_after_e4 is None) == (redeemed.balance_after_e4 is None)
        self.rolled_back[str(redeemed.id)] = event.restore


def parse_entry(entry_id: str, fields: dict[str, str]) -> Event:
    """An entry's event. Checks that encoding it gives the same text."""
    event = parse(*parse_event_id(entry_id), fields["d"].encode(), fields["r"].encode())
    assert encode_event(event) == fields["d"]
    return event


def read_outbox(entries: Iterable[tuple[str, dict[str, str]]], *, is_erased: bool = False) -> Outbox:
    """Apply and check events from the first."""
    outbox = Outbox(is_erased)
    for seq, (entry_id, fields) in enumerate(entries):
        assert {"d", "r"} <= set(fields) <= {"d", "r", "i"}
        event = parse_entry(entry_id, fields)
        assert event.seq == seq
        match event:
            case Opened():
                assert (seq, fields["r"]) == (0, "")
            case Assigned() | Unassigned():
                outbox.change_owner(event)
            case Redeemed():
                outbox.redeem(event)
            case RolledBack():
                outbox.roll_back(event)
            case BalanceChanged():
                outbox.changed[event.code, event.kind] += event.amount_e4
    return outbox
