"""Judges the state of one partition, as partition_reader.py has read it; and standbys. checks.py calls this, and adds
the partition's number. Names of checks are in the JSON of `scrip doctor`: never change one. The texts are free."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

import msgspec

from service.common.plurals import count_noun
from service.engine.formats.event_id import EventId
from service.engine.formats.gate_text import parse_gate
from service.engine.record.facts.quarantined_events import Cause, Quarantine
from service.engine.record.partitions.failing_tasks import FailingTask
from service.engine.record.partitions.partition_rows import Partition
from service.engine.record.partitions.standby_rows import Flushed
from service.server.doctor.partition_reader import KeyTypes, RecordState, RedisState
from service.server.doctor.report import Check, State
from service.server.in_postgres.comparisons import LastComparisons

_WAIT = (
    "A worker opens the partition by itself. Check that one runs, and read its log: "
    "docs/operations.md#scrippartitionclosed."
)
_SLOW = "Find out what slows down Postgres or the worker: docs/operations.md#scripunrecordedeventsold."
_WRONG_PAIR = (
    "Check that REDIS_URL and DATABASE_URL belong together, and that neither was restored from a backup alone."
)
_OLDER = (
    "Bring the newer Postgres back: then a worker opens the partition by itself. If it is gone, or another partition "
    "was open on this one, `scrip recover` shows what Redis has and Postgres lacks, and what can become of it: "
    "docs/operations.md#scrippostgresolder."
)
_FIX_TASK = (
    "Find the cause in the worker's log, and fix the cause (NOPERM: load the users of deploy/redis-acl again): "
    "docs/operations.md#scriptaskfailing."
)
_FIX_THING = (
    "Others go on, and each thing is tried again. Find the cause in the log (`set_aside`): "
    "docs/operations.md#scripsetaside."
)
_NEWEST_SET_ASIDE = 3
_CAUSES: dict[Cause, str] = {
    "refused": "that Postgres refused to record",
    "not_redone": "that Redis could not apply again",
    "unrecorded": "not recorded before Redis was rebuilt",
}
_GATES: dict[str, tuple[State, str, str]] = {
    "open": ("ok", "all requests are decided", ""),
    "full": ("warning", "no locks and assigns: the record lags behind", _SLOW),
    "behind": ("bad", "reads only: the record lags far behind", _SLOW),
    "closed": ("bad", "closed: requests are answered 503 `recovering`", _WAIT),
}


def judge_record(row: Partition, record: RecordState, compared: LastComparisons | None) -> Iterator[Check]:
    """Judge what Postgres stores, from the epoch to the last comparisons (None without a workspace)."""
    if row.lacks:
        yield Check("epoch", "bad", row.lacks, _OLDER)
    elif row.state == "open":
        yield Check("epoch", "ok", f"{row.epoch}, open")
    elif row.epoch:
        yield Check("epoch", "bad", f"{row.epoch}, not opened yet", _WAIT)
    else:
        yield Check("epoch", "bad", "no worker has opened it yet", "Start `scrip worker`.")
    if row.lease_live:
        yield Check("lease", "ok", f"held by {row.lease_holder or 'nobody'}")
    else:
        says = f"of {row.lease_holder}, expired" if row.lease_holder else "held by no worker"
        advice = "Start `scrip worker`, or find out why it hangs: docs/operations.md#scripworkermissing."
        yield Check("lease", "bad", says, advice)
    yield _judge_quarantine(record.quarantine)
    yield _judge_recovery(record)
    yield _judge_tasks([one for one in record.failing if not one.thing])
    yield _judge_set_aside([one for one in record.failing if one.thing])
    yield _judge_drift(compared)


def judge_standbys(flushed: Flushed, wanted: int) -> Check:
    """The limit is BEHIND_EVENTS (unrecorded.py) and KEEP_EVENTS (write_behind.py)."""
    if flushed.flushed is None:
        says = f"fewer than {wanted} receive the record, so that the outbox keeps everything"
        advice = (
            "Start the standbys, and GRANT pg_read_all_stats to this role. At 1,100,000 entries in the outbox all "
            "changes are refused. A worker that is started with SCRIP_STANDBYS=0 drops them without waiting: "
            "docs/operations.md#scripstandby."
        )
        return Check("standbys", "bad", says, advice)
    return Check(
        "standbys", "ok", f"{wanted} lack at most {(flushed.written - flushed.flushed) / 1e6:,.1f} MB of the WAL"
    )


def replace_advice(checks: Sequence[Check], failing: Sequence[FailingTask]) -> list[Check]:
    """Return the checks. If the opening fails, none of them advises to wait until a worker opens the partition."""
    opening = next((one for one in failing if one.task == "opening"), None)
    if opening is None:
        return list(checks)
    failure = _describe_failure(opening).replace("opening", "Opening", 1)
    advice = f"{failure}. {_FIX_TASK}"
    return [msgspec.structs.replace(check, next=advice) if check.next == _WAIT else check for check in checks]


def judge_redis(row: Partition, after: Partition, redis: RedisState) -> Iterator[Check]:
    """Judge the state in Redis. `row` and `after` are the partition's row before and after Redis was read."""
    yield _judge_gate(redis.gate, row, after)
    yield _judge_scripts(row, redis)
    yield _judge_anchor(row, redis)
    span = f"{redis.first} to {redis.last}, " if redis.entries else ""
    yield Check("outbox", "ok", f"{span}{redis.entries} entries, {after.unrecorded(redis.last)} of them unrecorded")
    yield _judge_lag(row, after, redis)
    yield _judge_config(row, after, redis)
    yield _judge_types(redis.types)
    if redis.mending:
        progress = "whole" if redis.mending == "whole" else f"up to {redis.mending}"
        yield Check("mending", "warning", f"started, not finished: {progress}", _WAIT)


def _judge_gate(gate: str, row: Partition, after: Partition) -> Check:
    if not gate:
        return Check("gate", "bad", "missing: Redis was emptied, or is another server", _WAIT)
    epoch, state = parse_gate(gate)
    if not epoch.isdigit() or state not in _GATES:
        return Check("gate", "bad", "it holds a text that Scrip never writes", _WRONG_PAIR)
    if int(epoch) > row.epoch:  # a worker has begun to open the partition since
        row = after
    text = f"{gate!r}, and Postgres is at {row.epoch}: "
    if int(epoch) > row.epoch:
        return Check("gate", "bad", f"{text}Postgres is older than this Redis, or belongs to another", _WRONG_PAIR)
    if int(epoch) < row.epoch:
        return Check("gate", "bad", f"{text}this Redis is not the one that was opened last", _WAIT)
    verdict, meaning, advice = _GATES[state]
    if state != "closed" and row.state == "closed":
        return Check("gate", "bad", f"{text}the gate is open, but Postgres has the partition closed", _WAIT)
    return Check("gate", verdict, f"{gate!r}: {meaning}", advice)


def _judge_scripts(row: Partition, redis: RedisState) -> Check:
    if row.state != "open":
        return Check("scripts", "ok", "not needed while the partition is closed")
    if not redis.has_scripts:
        says = f"not loaded for epoch {row.epoch}: Redis has restarted, or is another server"
        return Check("scripts", "bad", says, _WAIT)
    if not redis.has_same_history:
        return Check("scripts", "bad", "the replication of Redis has changed since a worker verified it", _WAIT)
    return Check("scripts", "ok", "loaded")


def _judge_anchor(row: Partition, redis: RedisState) -> Check:
    if row.cursor_digest is None:
        return Check("anchor", "ok", "no event is recorded yet")
    if redis.anchor is None:
        return Check("anchor", "bad", f"{row.cursor} is recorded, but not in the outbox", _WAIT)
    if redis.anchor != row.cursor_digest:
        return Check("anchor", "bad", f"{row.cursor} is not the entry that was recorded", _WAIT)
    return Check("anchor", "ok", f"{row.cursor} is in the outbox")


def _judge_quarantine(quarantine: Quarantine) -> Check:
    if not quarantine.counts:
        return Check("quarantine", "ok", "empty")
    causes = sorted(quarantine.counts.items())
    counts = ", ".join(f"{count_noun(number, 'event')} {_CAUSES[cause]}" for cause, number in causes)
    newest = ", ".join(f"{EventId(event.epoch, event.seq)} ({event.reason})" for event in quarantine.newest)
    return Check(
        "quarantine",
        "bad",
        f"{counts}; the newest: {newest}",
        "`scrip quarantine list` shows them, and `scrip quarantine show` explains what to do with one. A rebuild of "
        "Redis blocks their codes until then: docs/operations.md#scripquarantine.",
    )


def _judge_recovery(record: RecordState) -> Check:
    ordered = f" A rebuild is ordered: {record.ordered.reason}." if record.ordered else ""
    state: State = "warning" if ordered else "ok"
    last = record.recovery
    if last is None:
        return Check("recovery", state, f"none was needed.{ordered}")
    last_recovery = f"{'whole' if last.kind == 'whole' else 'of a tail'}, for epoch {last.epoch} ({last.reason})"
    if last.finished_at is None:
        says = f"{last_recovery}: {last.done} of about {last.total} done.{ordered}"
        return Check("recovery", "warning", says, _WAIT)
    ended = f"{last.finished_at:%Y-%m-%d %H:%M:%S} UTC"
    return Check("recovery", state, f"the last was {last_recovery}, ended {ended}.{ordered}")


def _judge_tasks(failing: Sequence[FailingTask]) -> Check:
    if not failing:
        return Check("tasks", "ok", "no task fails")
    return Check("tasks", "bad", "; ".join(map(_describe_failure, failing)), _FIX_TASK)


def _judge_set_aside(things: Sequence[FailingTask]) -> Check:
    if not things:
        return Check("set aside", "ok", "nothing")
    newest = sorted(things, key=lambda one: one.since, reverse=True)[:_NEWEST_SET_ASIDE]
    says = f"{count_noun(len(things), 'thing')} that failed; the newest: {'; '.join(map(_describe_thing, newest))}"
    return Check("set aside", "bad", says, _FIX_THING)


def _describe_thing(thing: FailingTask) -> str:
    of = f" of {thing.workspace}" if thing.workspace else ""
    since = f"{thing.since:%Y-%m-%d %H:%M:%S} UTC"
    return f"{thing.task}, {thing.thing}{of}: {thing.failures} times since {since} ({thing.reason})"


def _judge_drift(compared: LastComparisons | None) -> Check:
    if compared is None or compared.oldest is None:
        return Check("drift", "ok", "Redis and Postgres were not compared yet")
    if not compared.left_over:
        return Check("drift", "ok", f"none; every workspace was compared since {compared.oldest:%Y-%m-%d %H:%M:%S} UTC")
    left = ", ".join(f"{name} {number}" for name, number in sorted(compared.left_over.items()))
    advice = "`scrip reconcile` lists the differences: docs/operations.md#scripdrift."
    return Check("drift", "bad", f"the last comparisons left differences: {left}", advice)


def _describe_failure(failing: FailingTask) -> str:
    since = f"{failing.since:%Y-%m-%d %H:%M:%S} UTC"
    return f"{failing.task} has failed {failing.failures} times since {since}, last because of {failing.reason}"


def _judge_lag(row: Partition, after: Partition, redis: RedisState) -> Check:
    unrecorded = after.unrecorded(redis.last)
    last_record = "no event is recorded yet"
    if after.recorded_at:
        last_record = f"last recorded {max(0.0, (datetime.now(UTC) - after.recorded_at).total_seconds()):.0f} s ago"
    if not unrecorded:
        return Check("lag", "ok", f"none; {last_record}")
    if after.cursor > row.cursor:
        return Check("lag", "warning", f"{count_noun(unrecorded, 'event')}; the worker is recording")
    advice = "Check that a worker runs, and read its log: docs/operations.md#scripunrecordedeventsold."
    return Check("lag", "bad", f"{count_noun(unrecorded, 'event')} not recorded; {last_record}", advice)


def _judge_config(row: Partition, after: Partition, redis: RedisState) -> Check:
    missing = row.config_version - redis.config_version
    if redis.newest_version > row.config_version:
        says = f"Redis has change {redis.newest_version}, Postgres only {row.config_version}"
        return Check("config", "bad", says, _WRONG_PAIR)
    if not row.confirmed:
        says = "Postgres has restarted, and refuses changes until a worker has compared it with Redis"
        advice = "A worker compares them within ten seconds. If not, check that one runs, and read its log."
        return Check("config", "warning", says, advice)
    if missing > 0:
        says = f"Redis lacks {count_noun(missing, 'change')} of {row.config_version}"
        return Check("config", "warning", says, "A worker applies them within two seconds. If not, read its log.")
    if redis.unset and row.state == "open" and redis.config_version >= after.config_version:
        lacks = f"Redis lacks the settings of {count_noun(redis.unset, 'workspace')}"
        says = f"{lacks}, whose requests get 503 `recovering`"
        return Check("config", "bad", says, "Run `scrip reconcile --repair`: docs/operations.md#scripdrift.")
    return Check("config", "ok", f"all {row.config_version} changes are in Redis")


def _judge_types(types: KeyTypes) -> Check:
    if types.own:
        return Check("types", "bad", f"keys of a wrong type: {', '.join(types.own)}", _WAIT)
    if types.wrong:
        says = f"{len(types.wrong)} of {types.checked} keys have a wrong type; the first: {types.wrong[0]}"
        return Check("types", "bad", says, "Run `scrip reconcile --repair`: docs/operations.md#scripdrift.")
    return Check("types", "ok", f"correct in all {types.checked} keys that were checked")
