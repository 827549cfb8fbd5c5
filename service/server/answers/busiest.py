"""Counts of requests by workspace, for the 50 busiest alone: accounting.py hands in each second."""

from collections.abc import Mapping, Sequence

from service.common.tally import SLOTS, Tally

RESULTS = ("done", "refused", "failed")
OTHER = "workspace"
"""The counters of workspaces without a slot: this, and the result."""
_TOKEN, _DONE, _RATE = 0, 1, 4
_WORKSPACE_BITS = 32
_SPAN_S = 16
"""A slot's rate is an average over some so many seconds."""


class Busiest:
    """The slots of all processes that share a tally.

    1. The tally's head has a token for each slot: its workspace, and how often the slot was given.
    2. Each process counts in the slots of its own block. It begins at 0 when a slot has another token, so that a
       workspace's sum never falls while it has the slot.
    3. A free slot goes to the next workspace without one. Without a free slot, a workspace that in one second has more
       than twice the rate of the least busy slot gets that one.
    4. What has no slot counts as `other`.
    """

    def __init__(self, tally: Tally) -> None:
        self._tally = tally

    def add(self, counts: Mapping[int, Sequence[int]]) -> None:
        """Add a second's requests by workspace: how many were done, refused, and failed."""
        head, slots = self._tally.head, self._tally.own.slots
        self._give_slots({workspace: sum(results) for workspace, results in counts.items()})
        places = {_workspace_of(token): place for place, token in enumerate(head) if token}
        for place, slot in enumerate(slots):
            if slot[_TOKEN] != head[place]:
                _empty(slot)
                slot[_RATE] = sum(counts.get(_workspace_of(head[place]), ())) * _SPAN_S
                slot[_TOKEN] = head[place]
            slot[_RATE] -= slot[_RATE] // _SPAN_S
        for workspace, results in counts.items():
            place = places.get(workspace)
            for number, count in enumerate(results):
                if place is None:
                    self._tally.own.add((OTHER, RESULTS[number]), count)
                else:
                    slots[place][_DONE + number] += count
                    slots[place][_RATE] += count

    def read(self) -> dict[int, list[int]]:
        """The counts of the workspaces with a slot, by all processes."""
        read: dict[int, list[int]] = {}
        for place, token in enumerate(self._tally.head):
            if token:
                slots = [block.slots[place] for block in self._tally.blocks]
                own = [slot for slot in slots if slot[_TOKEN] == token]
                read[_workspace_of(token)] = [sum(slot[_DONE + n] for slot in own) for n in range(len(RESULTS))]
        return read

    def _give_slots(self, rates: Mapping[int, int]) -> None:
        head = self._tally.head
        lacking = rates.keys() - {_workspace_of(token) for token in head}
        if not lacking:
            return
        with self._tally.lock_head() as is_locked:
            if not is_locked:  # another process gives slots in this moment
                return
            lacking = rates.keys() - {_workspace_of(token) for token in head}
            slot_rates = [self._rate_of(place) for place in range(SLOTS)]
            for workspace in sorted(lacking, key=lambda one: rates[one], reverse=True):
                least = min(range(SLOTS), key=slot_rates.__getitem__)
                if slot_rates[least] * 2 >= rates[workspace] * _SPAN_S:
                    return
                slot_rates[least] = rates[workspace] * _SPAN_S
                head[least] = ((head[least] >> _WORKSPACE_BITS) + 1) << _WORKSPACE_BITS | workspace

    def _rate_of(self, place: int) -> int:
        """A slot's requests within the last _SPAN_S, more or less; -1 for a free slot."""
        token = self._tally.head[place]
        slots = [block.slots[place] for block in self._tally.living()]
        return sum(slot[_RATE] for slot in slots if slot[_TOKEN] == token) if token else -1


def _empty(slot: memoryview) -> None:
    for cell in range(len(slot)):  # the token first, so that no reader adds old counts
        slot[cell] = 0


def _workspace_of(token: int) -> int:
    return token & (1 << _WORKSPACE_BITS) - 1
