"""The doctor's verdicts on clocks, connections, descriptors, the archive and sentinels."""

import resource
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from structlog.testing import capture_logs

from service.common.config import Settings
from service.common.redis_address import Host
from service.engine.hot.discovery import SentinelView
from service.engine.record import processes
from service.engine.record.processes import Description, measure_clock
from service.engine.record.server_state import ServerState
from service.server.doctor.deployment_checks import (
    judge_archive,
    judge_clients,
    judge_clocks,
    judge_connections,
    judge_sentinels,
    list_clocks,
)
from service.server.doctor.report import Check
from service.serving import connection_bound, server

AT = datetime(2026, 11, 29, 12, tzinfo=UTC)
QUIET = ServerState(sessions=20, most_sessions=97, archives=True, archived_at=AT, failed_at=None, archive_waits=False)
API = Description("shop-1:7:ab", "api", 0.0, 10, 10_000)
WORKER = Description("shop-2:8:@cd", "worker", 0.01, 9, None)


@pytest.mark.parametrize(
    ("ahead_s", "says"),
    [
        ({"Postgres": 0.0, "here": 0.4, "Redis a:1": -1.9}, "3 clocks differ by at most 1.9 s"),
        ({"Postgres": 0.0, "here": 0.1, "api x": 5.0}, "api x is 4.9 s ahead"),
        ({"Postgres": 0.0, "here": 7.0, "Redis a:1": 7.1, "api x": 7.0}, "Postgres is 7.0 s behind"),
        (
            {"Postgres": 0.0, "here": 0.0, "Redis a:1": -60.0, "api x": 3.0},
            "Redis a:1 is 60.0 s behind; api x is 3.0 s ahead",
        ),
    ],
)
def test_clocks(ahead_s: dict[str, float], says: str) -> None:
    """The clocks that differ from the middle one are named, with the seconds and the direction."""
    check = judge_clocks(ahead_s)
    assert (check.says, check.state) == (says, "ok" if "differ" in says else "warning")


def test_the_clocks_of_processes() -> None:
    """Each process that has stored its clock is among them, by its kind and name."""
    new = Description("shop-3:9:ef", "api", None, None, None)
    clocks = list_clocks([API, WORKER, new], "here", 0.2)
    assert clocks == {"Postgres": 0.0, "here": 0.2, "api shop-1:7:ab": 0.0, "worker shop-2:8:@cd": 0.01}


@pytest.mark.parametrize(
    ("answered_s", "clock_s", "ahead_s"), [(100.25, 95.0, 5.0), (100.25, 105.25, -5.0), (103.0, 100.0, 0.0)]
)
async def test_a_slow_reply_is_no_wrong_clock(
    answered_s: float, clock_s: float, ahead_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock is wrong by what the time until the reply, from 100 s on, can't explain."""
    times = iter([100.0, answered_s])

    async def fetchval(_statement: str) -> datetime:
        return datetime.fromtimestamp(clock_s, UTC)

    monkeypatch.setattr(processes, "time", SimpleNamespace(time=lambda: next(times)))
    assert await measure_clock(SimpleNamespace(fetchval=fetchval)) == ahead_s  # type: ignore[arg-type]


def test_connections() -> None:
    """Processes that may open more than Postgres has are a warning, and so are open connections near its limit. Behind
    a pooler processes don't count."""
    few, many = [API, WORKER], [API] * 10
    assert judge_connections(QUIET, few, is_pooled=False).says.endswith("may open 19")
    states = [
        judge_connections(QUIET, some, is_pooled=pooled).state for some in (few, many) for pooled in (False, True)
    ]
    assert states == ["ok", "ok", "warning", "ok"]
    full = ServerState(
        sessions=78, most_sessions=97, archives=False, archived_at=None, failed_at=None, archive_waits=False
    )
    check = judge_connections(full, few, is_pooled=True)
    assert (check.state, check.says) == ("warning", "78 of 97 connections of Postgres are open")


def test_descriptors() -> None:
    """An API whose limit of descriptors leaves fewer connections of clients is a warning with its name."""
    assert judge_clients([WORKER]).state == judge_clients([API, WORKER]).state == "ok"
    check = judge_clients([API, Description("shop-4:5:aa", "api", 0.0, 10, 824), WORKER])
    assert check.state == "warning"
    assert check.says == "shop-4:5:aa accepts 824 of 10,000: its `ulimit -n` allows no more"


def test_a_low_limit_of_descriptors_is_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    """An API that accepts fewer connections than usual logs it at its start; with enough descriptors it does not."""
    for files, bound in ((1024, 824), (10_200, 10_000), (100, 1), (resource.RLIM_INFINITY, 10_000)):
        monkeypatch.setattr(connection_bound.resource, "getrlimit", lambda _, files=files: (files, files))
        with capture_logs() as lines:
            server.make_server_config(Settings())
        bounded = [(line["event"], line["connections"]) for line in lines if line["event"] == "connections_bounded"]
        assert bounded == ([("connections_bounded", bound)] if bound < 10_000 else [])


def test_the_archive() -> None:
    """Archiving is bad while its newest attempt failed or hangs; a failure before the last success is not. An archive
    without a file is a warning, because it is untested."""
    later = AT + timedelta(minutes=1)

    def judge(
        archived_at: datetime | None, failed_at: datetime | None, *, archives: bool = True, waits: bool = False
    ) -> Check:
        return judge_archive(ServerState(1, 97, archives, archived_at, failed_at, waits))

    assert judge(AT, None).state == judge(later, AT).state == judge(None, AT, archives=False).state == "ok"
    assert judge(AT, later).state == judge(None, AT).state == "bad"
    assert judge(None, None).state == "warning"
    assert judge(AT, later, waits=True).says.startswith("archiving fails")
    for failed_at in (None, AT):
        hangs = judge(later, failed_at, waits=True)
        assert (hangs.state, hangs.says.partition(";")[0]) == ("bad", "archiving hangs")


def test_sentinels() -> None:
    """A silent sentinel is a warning with its name; fewer than a failover needs are bad. URLs may name only some."""
    hosts = [Host(name, 26379) for name in "abc"]
    view = SentinelView(1, Host("r", 6379), quorum=2, sentinels=3, replicas=1)
    assert judge_sentinels(hosts, [view, view, view]).state == "ok"
    check = judge_sentinels(hosts, [view, None, view])
    assert (check.state, check.says) == ("warning", "2 of 3 answer; a failover needs 2 of 3; silent: b:26379")
    assert judge_sentinels(hosts, [view, None, None]).state == judge_sentinels(hosts, [None] * 3).state == "bad"
    assert judge_sentinels(hosts, [view._replace(quorum=3), None, view]).state == "bad"
    assert judge_sentinels(hosts[:2], [view._replace(sentinels=5), None]).state == "warning"
