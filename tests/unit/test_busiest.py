"""Requests by workspace: the busiest have counts of their own, and no count falls."""

import os
from collections import Counter

from service.common.tally import PID, SLOTS, Tally
from service.server.answers.busiest import OTHER, Busiest


def test_a_flood_gets_a_slot() -> None:
    """Of more workspaces than slots, a far busier one gets a slot at once, others keep theirs, the rest count as 1."""
    tally = Tally()
    busiest = Busiest(tally)
    usual = {workspace: [10, 1, 0] for workspace in range(1, SLOTS + 1)}
    for _ in range(20):
        busiest.add(usual)
    busiest.add(usual | {99: [12, 0, 0]})
    assert 99 not in busiest.read()
    assert tally.counts() == Counter({(OTHER, "done"): 12})
    busiest.add(usual | {99: [500, 0, 3]})
    busiest.add(usual | {99: [500, 0, 3]})
    read = busiest.read()
    assert (len(read), read[99]) == (SLOTS, [1000, 0, 6])
    assert len(usual.keys() & read.keys()) == SLOTS - 1
    assert {tuple(read[workspace]) for workspace in usual.keys() & read.keys()} == {(230, 23, 0)}
    busiest.add({workspace: counts for workspace, counts in usual.items() if workspace not in read})
    assert busiest.read().keys() == read.keys(), "a slot is kept against those that are as busy as others"


def test_several_processes() -> None:
    """Processes count in the same slots. If one gives a slot away, the counts of all processes leave with it."""
    tally = Tally(2)
    here, there = Busiest(tally), Busiest(other := _second(tally))
    usual = {workspace: [10, 0, 0] for workspace in range(1, SLOTS + 1)}
    for _ in range(3):
        here.add(usual)
        there.add({1: [10, 0, 0]})
    assert (here.read()[1], there.read()[1], here.read()[2]) == ([60, 0, 0], [60, 0, 0], [30, 0, 0])
    here.add({7777: [1000, 0, 0]})
    (gone,) = usual.keys() - here.read().keys()
    assert gone != 1, "the least busy of all processes leaves"
    there.add({7777: [5, 0, 0]})
    assert here.read()[7777] == there.read()[7777] == [1005, 0, 0]
    assert other is not tally


def _second(tally: Tally) -> Tally:
    """The same memory, as another process has it."""
    for block in tally.blocks:
        block.cells[PID] = os.getpid()
    other = Tally(2, tally._fd)
    other.own = other.blocks[1]
    return other
