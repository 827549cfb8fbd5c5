"""Judges the state of a partition. Pure functions; `partition_reader` reads the state."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

import msgspec

from service.doctor.partition_reader import RecordState, RedisState
from service.doctor.report import Check
from service.formats.event_id import EventId
from service.formats.gate_text import parse_gate
from service.record.partitions.failing_tasks import Failing
from service.record.partitions.partition_rows import Partition

_WAIT = "A worker opens the partition by itself. Check that one runs, and read its log."
_SLOW = "Find out what slows down Postgres or the worker."
_WRONG_PAIR = (
    "Check that REDIS_URL and DATABASE_URL belong together, and that neither was restored from a backup alone."
)
_FIX_TASK = "Find the cause in the worker's log, and fix the cause."
_GATES = {
    "open": ("ok", "all requests are decided", ""),
    "full": ("warning", "no locks and assigns: the record lags behind", _SLOW),
    "behind": ("bad", "reads only: the record lags far behind", _SLOW),
    "closed": ("bad", "closed: requests are answered 503 `recovering`", _WAIT),
}


def judge_record(row: Partition, record: RecordState) -> Iterator[Check]:
    """Judge what Postgres stores: epoch, lease, quarantine, recovery, failing tasks."""
    p = row.id
    if row.state == "open":
        yield Check("epoch", "ok", f"{row.epoch}, open", partition=p)
    elif row.epoch:
        yield Check("epoch", "bad", f"{row.epoch}, not opened yet", _WAIT, p)
    else:
        yield Check("epoch", "bad", "no worker has opened it yet", "Start `scrip worker`.", p)
    if row.lease_live:
        yield Check("lease", "ok", f"held by {row.lease_holder or 'nobody'}", partition=p)
    else:
        yield Check(
            "lease",
            "bad",
            f"of {row.lease_holder}, expired" if row.lease_holder else "held by no worker",
            "Start `scrip worker`, or find out why it hangs.",
            p,
        )
    yield _judge_quarantine(p, record)
    if record.quarantine.aside:
        yield Check(
            "set aside",
            "warning",
            f"{record.quarantine.aside} events that Redis had lost are set aside",
            "Compare the table quarantine with your sales. Delete a row once it is resolved.",
            p,
        )
    yield _judge_recovery(p, record)
    yield _judge_tasks(p, record.failing)


def replace_advice(checks: Sequence[Check], failing: Sequence[Failing]) -> list[Check]:
    """Return the checks. If the opening fails, none of them advises to wait until a worker opens the partition."""
    opening = next((one for one in failing if one.task == "opening"), None)
    if opening is None:
        return list(checks)
    failure = _describe_failure(opening).replace("opening", "Opening", 1)
    advice = f"{failure}. {_FIX_TASK}"
    return [msgspec.structs.replace(check, next=advice) if check.next == _WAIT else check for check in checks]


def judge_redis(row: Partition, after: Partition, redis: RedisState) -> Iterator[Check]:
    """Judge the state in Redis. `row` and `after` are the partition's row before and after Redis was read."""
    p = row.id
    yield judge_gate(redis.gate, row)
    if row.state == "open" and not redis.has_scripts:
        yield Check(
            "scripts", "bad", f"not loaded for epoch {row.epoch}: Redis has restarted, or is another server", _WAIT, p
        )
    elif row.state == "open" and not redis.has_same_history:
        yield Check("scripts", "bad", "the replication of Redis has changed since a worker verified it", _WAIT, p)
    else:
        yield Check(
            "scripts",
            "ok",
            "loaded" if row.state == "open" else "not needed while the partition is closed",
            partition=p,
        )
    if row.cursor_digest is None:
        yield Check("anchor", "ok", "no event is recorded yet", partition=p)
    elif redis.anchor is None:
        yield Check("anchor", "bad", f"{row.cursor} is recorded, but not in the outbox", _WAIT, p)
    elif redis.anchor != row.cursor_digest:
        yield Check("anchor", "bad", f"{row.cursor} is not the entry that was recorded", _WAIT, p)
    else:
        yield Check("anchor", "ok", f"{row.cursor} is in the outbox", partition=p)
    unrecorded = row.unrecorded(redis.last)
    span = f"{redis.first} to {redis.last}, " if redis.entries else ""
    yield Check("outbox", "ok", f"{span}{redis.entries} entries, {unrecorded} of them unrecorded", partition=p)
    yield _judge_lag(row, after, redis)
    yield _judge_config(row, redis)
    yield _judge_types(p, redis)
    if redis.mending:
        progress = "whole" if redis.mending == "whole" else f"up to {redis.mending}"
        yield Check("mending", "warning", f"started, not finished: {progress}", _WAIT, p)


def judge_gate(gate: str, row: Partition) -> Check:
    """Judge the gate's text against the epoch and the state in Postgres."""
    p = row.id
    if not gate:
        return Check("gate", "bad", "missing: Redis was emptied, or is another server", _WAIT, p)
    epoch, state = parse_gate(gate)
    if not epoch.isdigit() or state not in _GATES:
        return Check("gate", "bad", "it holds a text that Scrip never writes", _WRONG_PAIR, p)
    text = f"{gate!r}, and Postgres is at {row.epoch}: "
    if int(epoch) > row.epoch:
        return Check("gate", "bad", f"{text}Postgres is older than this Redis, or belongs to another", _WRONG_PAIR, p)
    if int(epoch) < row.epoch:
        return Check("gate", "bad", f"{text}this Redis is not the one that was opened last", _WAIT, p)
    verdict, meaning, advice = _GATES[state]
    if state != "closed" and row.state == "closed":
        return Check("gate", "bad", f"{text}the gate is open, but Postgres has the partition closed", _WAIT, p)
    return Check("gate", verdict, f"{gate!r}: {meaning}", advice, p)  # type: ignore[arg-type]


def _judge_quarantine(p: int, record: RecordState) -> Check:
    quarantine = record.quarantine
    if not quarantine.refused:
        return Check("quarantine", "ok", "empty", partition=p)
    newest = ", ".join(f"{EventId(event.epoch, event.seq)} ({event.reason})" for event in quarantine.newest)
    return Check(
        "quarantine",
        "bad",
        f"{quarantine.refused} events could not be recorded, or not applied again; the newest: {newest}",
        "Read the table quarantine, correct the effect of each event and delete its row. Then run "
        "`scrip reconcile --repair`: a rebuild blocks the codes of these events.",
        p,
    )


def _judge_recovery(p: int, record: RecordState) -> Check:
    ordered = f" A rebuild is ordered: {record.ordered.reason}." if record.ordered else ""
    last = record.recovery
    if last is None:
        return Check("recovery", "warning" if ordered else "ok", f"none was needed.{ordered}", partition=p)
    last_recovery = f"{'whole' if last.kind == 'whole' else 'of a tail'}, for epoch {last.epoch} ({last.reason})"
    if last.finished_at is None:
        return Check(
            "recovery", "warning", f"{last_recovery}: {last.done} of about {last.total} done.{ordered}", _WAIT, p
        )
    ended = f"{last.finished_at:%Y-%m-%d %H:%M:%S} UTC"
    return Check(
        "recovery",
        "warning" if ordered else "ok",
        f"the last was {last_recovery}, ended {ended}.{ordered}",
        partition=p,
    )


def _judge_tasks(p: int, failing: Sequence[Failing]) -> Check:
    if not failing:
        return Check("tasks", "ok", "no task fails", partition=p)
    return Check("tasks", "bad", "; ".join(map(_describe_failure, failing)), _FIX_TASK, p)


def _describe_failure(failing: Failing) -> str:
    since = f"{failing.since:%Y-%m-%d %H:%M:%S} UTC"
    return f"{failing.task} has failed {failing.failures} times since {since}, last because of {failing.reason}"


def _judge_lag(row: Partition, after: Partition, redis: RedisState) -> Check:
    unrecorded = after.unrecorded(redis.last)
    last_record = "no event is recorded yet"
    if after.recorded_at:
        last_record = f"last recorded {max(0.0, (datetime.now(UTC) - after.recorded_at).total_seconds()):.0f} s ago"
    if not unrecorded:
        return Check("lag", "ok", f"none; {last_record}", partition=row.id)
    if after.cursor > row.cursor:
        return Check("lag", "warning", f"{unrecorded} events; the worker is recording", partition=row.id)
    return Check(
        "lag", "bad", f"{unrecorded} events wait; {last_record}", "Check that a worker runs, and read its log.", row.id
    )


def _judge_config(row: Partition, redis: RedisState) -> Check:
    p, missing = row.id, row.config_version - redis.config_version
    if redis.newest_version > row.config_version:
        return Check(
            "config",
            "bad",
            f"Redis has change {redis.newest_version}, Postgres only {row.config_version}",
            _WRONG_PAIR,
            p,
        )
    if not row.confirmed:
        return Check(
            "config",
            "warning",
            "Postgres has restarted, and refuses changes until a worker has compared it with Redis",
            "A worker compares them within ten seconds. If not, check that one runs, and read its log.",
            p,
        )
    if missing > 0:
        return Check(
            "config",
            "warning",
            f"Redis lacks {missing} changes of {row.config_version}",
            "A worker applies them within two seconds. If not, read its log.",
            p,
        )
    return Check("config", "ok", f"all {row.config_version} changes are in Redis", partition=p)


def _judge_types(p: int, redis: RedisState) -> Check:
    types = redis.types
    if types.own:
        return Check("types", "bad", f"keys of a wrong type: {', '.join(types.own)}", _WAIT, p)
    if types.wrong:
        says = f"{len(types.wrong)} of {types.checked} keys have a wrong type; the first: {types.wrong[0]}"
        return Check("types", "bad", says, "Run `scrip reconcile --repair`.", p)
    return Check("types", "ok", f"correct in all {types.checked} keys that were checked", partition=p)
