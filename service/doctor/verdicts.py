"""What is to be thought of a partition: pure, from what was read of it."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

import msgspec

from service.doctor.partition_reader import InRecord, InRedis
from service.doctor.report import Check
from service.formats.event_id import EventId
from service.formats.gate_text import parse_gate
from service.record.partitions.failing_tasks import Failing
from service.record.partitions.partition_rows import Partition

_WAIT = "A worker opens it by itself; see that one runs, and read its log."
_BUSY = "Find out what keeps Postgres or the worker busy."
_OTHER = "See that REDIS_URL and DATABASE_URL belong together, and that neither was restored from a backup alone."
_GATES = {
    "open": ("ok", "everything is decided", ""),
    "full": ("warning", "no locks and assigns: the record is behind", _BUSY),
    "behind": ("bad", "reads alone: the record is far behind", _BUSY),
    "closed": ("bad", "closed: requests hear `recovering`", _WAIT),
}


def judge_record(row: Partition, record: InRecord) -> Iterator[Check]:
    """What Postgres alone says."""
    p = row.id
    if row.state == "open":
        yield Check("epoch", "ok", f"{row.epoch}, open", partition=p)
    elif row.epoch:
        yield Check("epoch", "bad", f"{row.epoch}, not opened yet", _WAIT, p)
    else:
        yield Check("epoch", "bad", "no worker has opened it yet", "Start `scrip worker`.", p)
    holder = row.lease_holder or "nobody"
    if row.lease_live:
        yield Check("lease", "ok", f"held by {holder}", partition=p)
    else:
        yield Check(
            "lease",
            "bad",
            f"held by {holder}, and over" if row.lease_holder else "nobody holds it",
            "Start `scrip worker`, or see why it stands still.",
            p,
        )
    yield _quarantine(p, record)
    if record.quarantine.aside:
        yield Check(
            "set aside",
            "warning",
            f"{record.quarantine.aside} events that a Redis lost are kept apart",
            "Compare the table quarantine with what was sold; delete a row once it is dealt with.",
            p,
        )
    yield _recovery(p, record)
    yield _tasks(p, record.failing)


def advise(checks: Sequence[Check], failing: Sequence[Failing]) -> list[Check]:
    """The same checks; where the opening fails, none of them may say that a worker opens the partition by itself."""
    opening = next((one for one in failing if one.task == "opening"), None)
    if opening is None:
        return list(checks)
    todo = (
        f"{_told(opening).replace('opening', 'Opening', 1)}. Read the worker's log for what fails, and set that right."
    )
    return [msgspec.structs.replace(check, next=todo) if check.next == _WAIT else check for check in checks]


def judge_redis(row: Partition, after: Partition, redis: InRedis) -> Iterator[Check]:
    """What Redis says, beside the partition's row as it was before and a while after Redis was read."""
    p = row.id
    yield judge_gate(redis.gate, row)
    if row.state == "open" and not redis.has_scripts:
        yield Check(
            "scripts", "bad", f"those of epoch {row.epoch} are unknown: Redis has restarted, or is another", _WAIT, p
        )
    elif row.state == "open" and not redis.same_history:
        yield Check("scripts", "bad", "Redis follows, or is followed, otherwise than when it was verified", _WAIT, p)
    else:
        yield Check("scripts", "ok", "known" if row.state == "open" else "none are due while it is closed", partition=p)
    if row.cursor_digest is None:
        yield Check("anchor", "ok", "nothing was ever recorded", partition=p)
    elif redis.anchor is None:
        yield Check("anchor", "bad", f"{row.cursor} is recorded and not in the outbox", _WAIT, p)
    elif redis.anchor != row.cursor_digest:
        yield Check("anchor", "bad", f"{row.cursor} is not the entry that was recorded", _WAIT, p)
    else:
        yield Check("anchor", "ok", f"{row.cursor} is in its place", partition=p)
    unrecorded = row.unrecorded(redis.last)
    reach = f"{redis.first} to {redis.last}, " if redis.entries else ""
    yield Check("outbox", "ok", f"{reach}{redis.entries} entries, {unrecorded} of them unrecorded", partition=p)
    yield _lag(row, after, redis)
    yield _config(row, redis)
    yield _types(p, redis)
    if redis.mark:
        how = "whole" if redis.mark == "whole" else f"up to {redis.mark}"
        yield Check("mending", "warning", f"begun and not ended: {how}", _WAIT, p)


def judge_gate(gate: str, row: Partition) -> Check:
    """The gate's text, and what it means beside Postgres's epoch."""
    p = row.id
    if not gate:
        return Check("gate", "bad", "there is none: Redis was emptied, or is another", _WAIT, p)
    epoch, state = parse_gate(gate)
    if not epoch.isdigit() or state not in _GATES:
        return Check("gate", "bad", "it says nothing that we write", _OTHER, p)
    said = f"{gate!r}, and Postgres is at {row.epoch}: "
    if int(epoch) > row.epoch:
        return Check("gate", "bad", f"{said}Postgres is older than this Redis, or another's", _OTHER, p)
    if int(epoch) < row.epoch:
        return Check("gate", "bad", f"{said}this Redis is not the one that was opened last", _WAIT, p)
    how, words, todo = _GATES[state]
    if state != "closed" and row.state == "closed":
        return Check("gate", "bad", f"{said}open, and Postgres says closed", _WAIT, p)
    return Check("gate", how, f"{gate!r}: {words}", todo, p)  # type: ignore[arg-type]


def _quarantine(p: int, record: InRecord) -> Check:
    kept = record.quarantine
    if not kept.refused:
        return Check("quarantine", "ok", "empty", partition=p)
    newest = ", ".join(f"{EventId(event.epoch, event.seq)} ({event.reason})" for event in kept.newest)
    return Check(
        "quarantine",
        "bad",
        f"{kept.refused} events could not be recorded, or not applied again, the newest {newest}",
        "Look at the table quarantine, set right what each did, and delete its row; then `scrip reconcile --repair`, "
        "since a rebuild makes their codes unusable.",
        p,
    )


def _recovery(p: int, record: InRecord) -> Check:
    ordered = f" A rebuild is ordered: {record.ordered.reason}." if record.ordered else ""
    last = record.recovery
    if last is None:
        return Check("recovery", "warning" if ordered else "ok", f"none was needed.{ordered}", partition=p)
    what = f"{'whole' if last.kind == 'whole' else 'of a tail'}, for epoch {last.epoch} ({last.reason})"
    if last.finished_at is None:
        return Check("recovery", "warning", f"{what}: {last.done} of about {last.total} are done.{ordered}", _WAIT, p)
    ended = f"{last.finished_at:%Y-%m-%d %H:%M:%S} UTC"
    return Check(
        "recovery", "warning" if ordered else "ok", f"the last was {what}, ended {ended}.{ordered}", partition=p
    )


def _tasks(p: int, failing: Sequence[Failing]) -> Check:
    if not failing:
        return Check("tasks", "ok", "none fails", partition=p)
    says = "; ".join(_told(one) for one in failing)
    return Check("tasks", "bad", says, "Read the worker's log for what fails, and set that right.", p)


def _told(failing: Failing) -> str:
    since = f"{failing.since:%Y-%m-%d %H:%M:%S} UTC"
    return f"{failing.task} has failed {failing.failures} times since {since}, last because of {failing.reason}"


def _lag(row: Partition, after: Partition, redis: InRedis) -> Check:
    left = after.unrecorded(redis.last)
    recorded = "nothing was recorded yet"
    if after.recorded_at:
        recorded = f"recorded last {max(0.0, (datetime.now(UTC) - after.recorded_at).total_seconds()):.0f} s ago"
    if not left:
        return Check("lag", "ok", f"none; {recorded}", partition=row.id)
    if after.cursor > row.cursor:
        return Check("lag", "warning", f"{left} events, and recording goes on", partition=row.id)
    return Check("lag", "bad", f"{left} events wait; {recorded}", "See that a worker runs, and read its log.", row.id)


def _config(row: Partition, redis: InRedis) -> Check:
    p, missing = row.id, row.config_version - redis.config_version
    if redis.newest_version > row.config_version:
        return Check(
            "config", "bad", f"Redis has change {redis.newest_version}, Postgres only {row.config_version}", _OTHER, p
        )
    if not row.confirmed:
        return Check(
            "config",
            "warning",
            "Postgres was started, and takes no changes until a worker has compared it with Redis",
            "A worker does it within ten seconds; if not, see that one runs, and read its log.",
            p,
        )
    if missing > 0:
        return Check(
            "config",
            "warning",
            f"Redis lacks {missing} changes of {row.config_version}",
            "A worker applies them within two seconds; if not, read its log.",
            p,
        )
    return Check("config", "ok", f"all {row.config_version} changes are in Redis", partition=p)


def _types(p: int, redis: InRedis) -> Check:
    types = redis.types
    if types.own:
        return Check("types", "bad", f"of another type than they should be: {', '.join(types.own)}", _WAIT, p)
    if types.wrong:
        says = (
            f"{len(types.wrong)} of {types.looked} keys hold another type than they should, the first {types.wrong[0]}"
        )
        return Check("types", "bad", says, "Run `scrip reconcile --repair`.", p)
    return Check("types", "ok", f"as they should be, of the first {types.looked} keys", partition=p)
