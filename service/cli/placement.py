"""Which workspaces move when the number of partitions changes (docs/decisions/0059)."""

from collections import defaultdict
from collections.abc import Sequence
from heapq import heapify, heapreplace
from typing import NamedTuple

from service.record.partitions.resizes import Placement


class Step(NamedTuple):
    """A workspace that is to move."""

    workspace: Placement
    target: int


def plan_moves(placements: Sequence[Placement], partitions: int) -> list[Step]:
    """The fewest moves after which the first `partitions` have all workspaces, in numbers that differ by one at most;
    those of the fewest codes first.

    A partition keeps its workspaces with the most codes, which would take the longest to move.
    """
    here: defaultdict[int, list[Placement]] = defaultdict(list)
    for one in sorted(placements, key=lambda one: (-one.codes, one.workspace)):
        here[one.partition].append(one)
    fewest, larger = divmod(len(placements), partitions)
    leaving, counts = list[Placement](), dict[int, int]()
    for place, partition in enumerate(sorted(range(partitions), key=lambda one: (-len(here[one]), one))):
        kept = fewest + (place < larger)
        leaving += here[partition][kept:]
        counts[partition] = min(kept, len(here[partition]))
    leaving += (one for partition in here if partition >= partitions for one in here[partition])
    emptiest = [(count, partition) for partition, count in counts.items()]
    heapify(emptiest)
    steps: list[Step] = []
    for one in sorted(leaving, key=lambda one: (one.codes, one.workspace)):
        count, target = emptiest[0]
        heapreplace(emptiest, (count + 1, target))
        steps.append(Step(one, target))
    return steps
