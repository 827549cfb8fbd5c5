"""How leases are shared out."""

from hypothesis import given
from hypothesis import strategies as st

from service.engine.worker.lease_keeper import EXPIRED_S, RENEW_S, choose_handover, choose_pause_s, share_out

_held = st.dictionaries(st.text("abc", min_size=1, max_size=3), st.integers(0, 40), min_size=1, max_size=9)


@given(_held, st.integers(0, 40), st.data())
def test_free_leases_go_to_the_workers_with_the_fewest(held: dict[str, int], free: int, data: st.DataObject) -> None:
    """A worker gets a free lease only while no other has fewer. One that has just come gets none beside others."""
    settled = data.draw(st.sets(st.sampled_from([*held])))
    shares = share_out(held, range(free), settled)
    assert shares.keys() == {*range(free)}
    for partition in range(free):
        counts = {one: held[one] + [*shares.values()][:partition].count(one) for one in settled or held}
        assert counts[shares[partition]] == min(counts.values())


@given(_held)
def test_handovers_end_with_even_leases(held: dict[str, int]) -> None:
    """Handovers make leases even, with as few moves as possible; then there is none."""
    most, moves = -(-sum(held.values()) // len(held)), 0
    least = max(
        sum(max(0, count - most) for count in held.values()),
        sum(max(0, sum(held.values()) // len(held) - count) for count in held.values()),
    )
    while moves <= least:
        giver, receiver = choose_handover(held, {*held})
        if giver is None or receiver is None:
            break
        held[giver] -= 1
        held[receiver] += 1
        moves += 1
    assert max(held.values()) - min(held.values()) <= 1
    assert moves == least


def test_a_new_worker_waits() -> None:
    """A worker that has just come, or comes and goes, gets no leases of others."""
    assert choose_handover({"a": 4, "b": 0}, {"a"}) == (None, None)
    assert choose_handover({"a": 4, "b": 0}, {"a", "b"}) == ("a", "b")
    assert choose_handover({"a": 4, "b": 0}, set()) == (None, None)


def test_leases_are_read_when_a_worker_expires() -> None:
    """A worker waits for the end of another's row, and not for that of its own."""
    assert choose_pause_s({"a": 0.1, "b": 1.6}, "a") == RENEW_S
    assert choose_pause_s({"a": 2.0, "b": 0.3, "c": 0.2}, "a") == 0.2 + EXPIRED_S
    assert choose_pause_s({}, "a") == RENEW_S
