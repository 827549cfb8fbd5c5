"""Which fencing an epoch gets (service/engine/hot/fencing.py)."""

import msgspec
import pytest

from service.common.redis_address import Host
from service.engine.hot.cluster import Node, Report
from service.engine.hot.fencing import Fencing, Nonce, choose_committee, choose_nonce, parse_nonce
from service.engine.hot.fitness import Replication

_ALONE = Replication(history="a" * 40, former="", count=0, is_clustered=False)
_FOLLOWED = msgspec.structs.replace(_ALONE, count=1)


@pytest.mark.parametrize(
    ("server", "has_log", "expected"),
    [
        (_ALONE, False, ""),
        (_ALONE, True, ""),
        (_FOLLOWED, False, "postgres"),
        (_FOLLOWED, True, "log"),
        (msgspec.structs.replace(_ALONE, former="b" * 40), False, "postgres"),
        (msgspec.structs.replace(_ALONE, is_clustered=True), False, "postgres"),
        (msgspec.structs.replace(_ALONE, is_clustered=True), True, "log"),
    ],
)
def test_the_fencing_of_an_epoch(server: Replication, has_log: bool, expected: Fencing) -> None:
    """Where another server may have the data, Postgres or a declared log guards the epoch; the nonce says so."""
    nonce = choose_nonce("0123456789abcdef" * 2, server, has_log=has_log)
    assert (nonce.fencing, parse_nonce(str(nonce))) == (expected, nonce)
    assert nonce.fits(server)


def _report(primaries: str, replicas: str = "", away: str = "") -> Report:
    """Nodes by their ids, one letter each. The first primary reports."""

    def node(id_: str) -> Node:
        flags = {"master" if id_ in primaries else "slave", "fail" if id_ in away else "-"}
        return Node(1, Host(id_, 1), ((0, 1),) if id_ in primaries else (), id_, frozenset(flags))

    return Report(primaries[0], tuple(map(node, primaries + replicas)))


@pytest.mark.parametrize(
    ("report", "last", "expected"),
    [
        (_report("cab", "fed"), "", "abcde"),
        (_report("abc", "d"), "", "abc"),
        (_report("abc", "def", away="af"), "", "bcd"),
        (_report("ab", "cdef"), "", ""),
        (_report("abc", "", away="b"), "", ""),
        (_report("bcf", "ade", away="a"), "abcde", "abcde"),
        (_report("bcf", "ade", away="ad"), "abcde", "bcf"),
        (_report("abc", "", away="b"), "abc", "abc"),
        (_report("abc", "d", away="b"), "abc", "acd"),
        (_report("acd", "b", away="bcd"), "abc", ""),
        (_report("ab", "c"), "abc", ""),
    ],
)
def test_the_nodes_of_a_committee(report: Report, last: str, expected: str) -> None:
    """An odd number of nodes that are there, at most five, primaries first; none in a cluster of two primaries. The
    last committee stays while it can lose a node, or no other could."""
    assert choose_committee(report, tuple(last)) == tuple(expected)


def test_a_committee_of_a_cluster() -> None:
    """Only a cluster's node whose history is known gets a committee. The texts of scripts have none, and a reader that
    knows no committees takes the epoch for one that Postgres alone confirms."""
    report, clustered = _report("abc"), msgspec.structs.replace(_ALONE, is_clustered=True)
    nonce = choose_nonce("0123456789abcdef" * 2, clustered, report)
    assert nonce == Nonce(nonce.random, "cluster", "a" * 40, node="a", committee=("a", "b", "c"))
    assert parse_nonce(str(nonce)) == nonce
    assert nonce.fits(clustered)
    assert str(nonce).startswith(f"{nonce.random}!{nonce.history}~")
    assert parse_nonce(nonce.shared) == Nonce(nonce.random[:16], "postgres", "a" * 40)
    hidden = msgspec.structs.replace(clustered, history="")
    assert choose_nonce(nonce.random, hidden, report).fencing == "postgres"
    assert choose_nonce(nonce.random, clustered, report, has_log=True).fencing == "log"
