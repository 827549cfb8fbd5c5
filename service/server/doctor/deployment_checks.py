"""Checks of a deployment: clocks, connections, descriptors, the archive, sentinels. checks.py calls these."""

import statistics
from collections.abc import Mapping, Sequence

from service.common.redis_address import Host
from service.engine.hot.discovery import SentinelView
from service.engine.record.processes import Description
from service.engine.record.server_state import ServerState
from service.server.doctor.report import Check
from service.server.fastlane.bounded_protocol import MAX_CONNECTIONS

CLOCK_S = 2.0
"""From so much on a clock is wrong, as for the alert ScripClock."""
NEARLY_ALL = 0.8
"""The share of Postgres's connections from which they are few, as for the alert ScripConnections."""


def judge_clocks(ahead_s: Mapping[str, float]) -> Check:
    """Judge clocks by name, each with the seconds by which it is ahead of one of them. The middle one counts as right,
    so that a wrong clock of Postgres is named, too."""
    middle_s = statistics.median_low(ahead_s.values())
    wrong = {name: ahead - middle_s for name, ahead in ahead_s.items() if abs(ahead - middle_s) >= CLOCK_S}
    if not wrong:
        most_s = max(abs(ahead - middle_s) for ahead in ahead_s.values())
        return Check("clocks", "ok", f"{len(ahead_s)} clocks differ by at most {most_s:.1f} s")
    says = "; ".join(
        f"{name} is {abs(by_s):.1f} s {'ahead' if by_s > 0 else 'behind'}" for name, by_s in sorted(wrong.items())
    )
    advice = "Repair time synchronization on the host that is wrong: docs/operations.md#scripclock."
    return Check("clocks", "warning", says, advice)


def list_clocks(processes: Sequence[Description], here: str, ahead_s: float) -> dict[str, float]:
    """By how much clocks are ahead of Postgres's: its own, that of this machine, and those of processes."""
    described = {f"{one.kind} {one.id}": one.clock_ahead_s for one in processes if one.clock_ahead_s is not None}
    return {"Postgres": 0.0, here: ahead_s, **described}


def judge_connections(server: ServerState, processes: Sequence[Description], *, is_pooled: bool) -> Check:
    """Judge what processes may open beside what others have open. Behind a pooler only what is open counts."""
    open_now = f"{server.sessions} of {server.most_sessions} connections of Postgres are open"
    most = sum(one.connections or 0 for one in processes)
    advice = "Raise max_connections, or stop what holds them: docs/operations.md#scripconnections."
    if server.sessions >= NEARLY_ALL * server.most_sessions:
        return Check("connections", "warning", open_now, advice)
    if is_pooled:
        return Check("connections", "ok", open_now)
    says = f"{open_now}; the processes of Scrip may open {most}"
    if most > server.most_sessions:
        return Check("connections", "warning", says, advice)
    return Check("connections", "ok", says)


def judge_clients(processes: Sequence[Description]) -> Check:
    """Judge how many connections of clients each API accepts."""
    apis = [one for one in processes if one.clients is not None]
    few = [f"{one.id} accepts {one.clients:,}" for one in apis if (one.clients or 0) < MAX_CONNECTIONS]
    if not few:
        return Check("client connections", "ok", f"each API accepts {MAX_CONNECTIONS:,}" if apis else "no API runs")
    says = f"{', '.join(few)} of {MAX_CONNECTIONS:,}: its `ulimit -n` allows no more"
    return Check("client connections", "warning", says, "Raise `ulimit -n` (LimitNOFILE), and restart the API.")


def judge_archive(server: ServerState) -> Check:
    """Judge the last attempt to archive Postgres's WAL. An archive without a file is untested."""
    if not server.archives:
        return Check("archive", "ok", "archive_mode is off")
    archived = f"last archived {server.archived_at:%Y-%m-%d %H:%M:%S} UTC" if server.archived_at else "nothing archived"
    if server.archive_fails:
        failed = f"fails, last {server.failed_at:%Y-%m-%d %H:%M:%S} UTC" if server.archive_failed else "hangs"
        advice = "Repair archive_command or its store: docs/operations.md#scriparchive."
        return Check("archive", "bad", f"archiving {failed}; {archived}", advice)
    if not server.archived_at:
        return Check("archive", "warning", archived, "Run SELECT pg_switch_wal() as an administrator, then this again.")
    return Check("archive", "ok", archived)


def judge_sentinels(hosts: Sequence[Host], views: Sequence[SentinelView | None]) -> Check:
    """Judge the sentinels of REDIS_URL by what each reports; None: it does not answer. Others may exist."""
    seen = [view for view in views if view]
    everyone = max([len(hosts), *(view.sentinels for view in seen)])
    needed = max([everyone // 2 + 1, *(view.quorum for view in seen)])
    silent = [str(host) for host, view in zip(hosts, views, strict=True) if view is None]
    says = f"{len(seen)} of {len(hosts)} answer; a failover needs {needed} of {everyone}"
    if not silent:
        return Check("sentinels", "ok", says)
    is_lost = everyone - len(silent) < needed
    advice = "Start them, or restart those that hang: docs/operations.md#scripsentinels."
    return Check("sentinels", "bad" if is_lost else "warning", f"{says}; silent: {', '.join(silent)}", advice)
