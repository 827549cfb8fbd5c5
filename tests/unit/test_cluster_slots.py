"""The slots of a cluster, as its nodes report them."""

import hiredis
import pytest

from service.common.redis_address import Host
from service.engine.domain.errors import Refusal
from service.engine.hot.cluster import Claim, Node, Report, SlotMap, parse_report, slot_of
from service.engine.hot.decider import Decider
from service.engine.hot.link import Link

ASKED = Host("seed", 7000)
REPORT = """\
0123456789abcdef0123456789abcdef01234567 :7000@17000 myself,master - 0 0 4 connected 0-99 101 [77->-b0]
b0 10.0.0.2:7001@17001,b.example,shard-id=x master - 0 17 5 connected 102-16383 [77-<-a0]
c0 ::1:7002@17002 master,fail - 3 17 6 disconnected 100
d0 10.0.0.4:7003@17003 slave a0 0 17 4 connected
e0 10.0.0.5:7004@17004 master - 0 17 7 connected
f0 :0@0 master,noaddr - 0 17 1 disconnected
"""


def test_a_report_is_parsed() -> None:
    """Primaries with slots count, failing ones too; a moving slot is its node's. A node without slots has no report."""
    report = parse_report(False, ASKED, REPORT)
    assert report
    assert [node[:4] for node in report.nodes if node.is_primary] == [
        (4, Host("seed", 7000), ((0, 99), (101, 101)), "0123456789ab"),
        (5, Host("10.0.0.2", 7001), ((102, 16383),), "b0"),
        (6, Host("::1", 7002), ((100, 100),), "c0"),
    ]
    assert [node.id for node in report.nodes if not node.is_there] == ["c0", "f0"]
    assert report.claim(77) == Claim("0123456789ab", "0123456789ab", 4)
    with_names = parse_report(True, ASKED, REPORT)
    assert with_names
    assert with_names.nodes[1].host == Host("b.example", 7001)
    assert parse_report(False, ASKED, "a0 :7000@17000 myself,master - 0 0 0 connected\n") is None
    assert parse_report(False, ASKED, hiredis.ReplyError("ERR This instance has cluster support disabled")) is None


def _report(*nodes: tuple[int, str, tuple[int, int]]) -> Report:
    primary = frozenset({"master"})
    return Report("a", tuple(Node(epoch, Host(name, 1), (slots,), name, primary) for epoch, name, slots in nodes))


@pytest.mark.parametrize("is_newest_first", [True, False])
def test_the_newest_configuration_counts(is_newest_first: bool) -> None:
    """Each slot belongs to the primary with the greatest epoch, whichever report comes first."""
    old = _report((1, "a", (0, 9000)), (2, "b", (9001, 16383)))
    new = _report((5, "c", (0, 9000)), (2, "b", (9001, 16383)))
    slots = SlotMap([new, old] if is_newest_first else [old, new])
    assert slots.hosts == {Host("b", 1), Host("c", 1)}
    assert {slots.host_of(partition) for partition in range(16)} == {Host("b", 1), Host("c", 1)}
    assert SlotMap([_report((1, "a", (0, slot_of(0) - 1)))]).host_of(0) is None


def test_the_slot_of_a_hash_tag() -> None:
    """The slots are those that CLUSTER KEYSLOT returns for `{p0}:gate`, `{p7}:gate` and `{p15}:gate`."""
    assert [slot_of(partition) for partition in (0, 7, 15)] == [15882, 3821, 2138]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        ("MOVED 15882 10.0.0.1:7000", "recovering"),
        ("ASK 15882 10.0.0.1:7000", "recovering"),
        ("TRYAGAIN Multiple keys request during rehashing of slot", "recovering"),
        ("CLUSTERDOWN The cluster is down", "recovering"),
        ("NOSCRIPT No matching script", "recovering"),
        ("ERR Attempted to access a non local key in a cluster node", "recovering"),
        ("ERR Script attempted to execute a command while the cluster is down", "recovering"),
        ("ERR user_script:3: attempt to index a nil value", "outcome_unknown"),
    ],
)
def test_a_node_that_refuses_has_decided_nothing(error: str, code: str) -> None:
    """A node that doesn't have the slot has decided nothing; a script that failed may have."""
    decider = Decider(Link("redis://unused", "tests"))
    decider.learn(0, 1, "0123456789abcdef!history", polled_at=0.0)
    with pytest.raises(Refusal, match=code):
        decider.interpret(0, 1, hiredis.ReplyError(error))
