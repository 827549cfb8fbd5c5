"""Which workspaces move when the number of partitions changes."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from service.cli.placement import plan_moves
from service.record.partitions.resizes import Placement

_placements = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 5)), max_size=40).map(
    lambda pairs: [Placement(n, f"shop-{n}", partition, codes) for n, (partition, codes) in enumerate(pairs)]
)


@given(_placements, st.integers(1, 12))
def test_workspaces_are_spread_evenly_with_the_fewest_moves(placements: list[Placement], partitions: int) -> None:
    """Each workspace moves at most once, and only from a partition that goes or has too many; then the numbers differ
    by one at most, and nothing is left to plan. A partition keeps the workspaces with the most codes."""
    before = Counter(one.partition for one in placements)
    steps = plan_moves(placements, partitions)
    moved = {step.workspace.workspace: step.target for step in steps}
    assert len(moved) == len(steps)
    after = [
        Placement(one.workspace, one.name, moved.get(one.workspace, one.partition), one.codes) for one in placements
    ]
    counts = Counter(one.partition for one in after)
    numbers = [counts[partition] for partition in range(partitions)]
    assert sum(numbers) == len(placements)
    assert max(numbers) - min(numbers) <= 1
    assert plan_moves(after, partitions) == []
    fewest, larger = divmod(len(placements), partitions)
    fullest = sorted((before[partition] for partition in range(partitions)), reverse=True)
    assert len(steps) == len(placements) - sum(
        min(count, fewest + (place < larger)) for place, count in enumerate(fullest)
    )
    assert [step.workspace.codes for step in steps] == sorted(step.workspace.codes for step in steps)
    for partition in range(partitions):
        kept = [one.codes for one in placements if one.partition == partition and one.workspace not in moved]
        gone = [one.codes for one in placements if one.partition == partition and one.workspace in moved]
        assert not kept or not gone or min(kept) >= max(gone)
