"""`scrip quarantine`: list, explain and resolve quarantined events. main.py loads it; quarantine_settler.py does what
is ordered. Names in the JSON stay."""

import asyncio
import time
from contextlib import closing
from typing import Any

import asyncpg
import click
import hiredis

from service.cli import worker_orders
from service.cli.failures import with_record
from service.cli.partitions import PARTITION
from service.cli.tables import AS_JSON, render_json, render_table
from service.common import config
from service.common.plurals import count_noun
from service.common.running_service import find_service
from service.engine.formats import key_names
from service.engine.formats.directory_entry import parse_directory_entry
from service.engine.formats.event_id import parse_sent_id
from service.engine.formats.quarantined_event import Named, describe, kind_of, read_names
from service.engine.hot.connection import Broken, connect
from service.engine.record.actor import mask
from service.engine.record.audit_entries import write_audit
from service.server.in_postgres.quarantine_resolutions import (
    Choice,
    Quarantined,
    choices_of,
    count_ordered,
    describe_recorded,
    find_quarantined,
    list_quarantine,
    order_resolution,
    order_resolutions,
)
from service.server.in_postgres.workspace_rows import read_workspace_names

MAX_LISTED = 1000

_CAUSES = {
    "refused": "Postgres refused to record it",
    "not_redone": "it is recorded, and Redis could not apply it again",
    "unrecorded": "Redis was rebuilt before it was recorded",
}
_CHOICES = {
    "retry": "records the event as it was decided. Postgres may refuse it (again)",
    "settle": "switches the code off, so that it is not sold any more. Nothing is recorded",
    "release": "drops the event: the code gets the state that Postgres has",
}
_OFF = {"1": "switched off", "2": "blocked", "3": "switched off and blocked"}
_LATER = "The order stays: a worker does it once it runs, and once no comparison of the workspace is under way."
_NOT_RECORDED = "There is nothing to release: the event is recorded. Roll the redemption back, or unassign the code."
_REPAIRING = "A comparison repairs the codes in Redis now; until it ends, `scrip reconcile` finds differences."


@click.group(epilog="Example: scrip quarantine show 5-1207")
def quarantine() -> None:
    """Events that an operator must decide about.

    The codes of these events are blocked after the next rebuild of Redis, because it is unknown whether they were used.
    `list` shows the events and `show` explains one. `retry`, `settle` and `release` resolve one: a worker does it, and
    then repairs Redis from Postgres. All three are in the audit.
    """


@quarantine.command(name="list", epilog="Example: scrip quarantine list --partition 3")
@click.option("--partition", type=PARTITION, help="Only this partition; default: all.")
@AS_JSON
@with_record
async def list_events(connection: asyncpg.Connection, partition: int | None, as_json: bool) -> None:
    """List unresolved events, the oldest first, at most 1,000."""
    workspaces = await read_workspace_names(connection)
    listed = [_outline(event, workspaces) for event in await list_quarantine(connection, partition, MAX_LISTED)]
    if as_json:
        click.echo(render_json(listed))
    elif listed:
        names = ("event", "partition", "at", "cause", "what", "workspace", "code", "ordered", "failure")
        click.echo(
            render_table([name.upper() for name in names], [[row[name] or "-" for name in names] for row in listed])
        )
    else:
        click.echo("No event waits for a decision.")


@quarantine.command(epilog="Example: scrip quarantine show 5-1207")
@click.argument("text", metavar="EVENT")
@with_record
async def show(connection: asyncpg.Connection, text: str) -> None:
    """Explain an event, and what to do with it.

    It shows what happened, what Postgres and Redis have now, and what each choice does.
    """
    event, workspaces = await _find(connection, text), await read_workspace_names(connection)
    lines = [
        f"Event {event.id} of partition {event.partition}, in quarantine since {event.at:%Y-%m-%d %H:%M:%S} UTC.",
        f"Cause: {_CAUSES[event.cause]} ({event.reason}).",
        f"What happened: {describe(event.id, event.d, event.r)}",
    ]
    for one in read_names(event.d):
        lines.append(f"Code {one.code} of workspace {workspaces.get(one.workspace, one.workspace)}:")
        recorded = await describe_recorded(connection, event.partition, one.workspace, [one.code])
        lines.append(f"  Postgres: {recorded[one.code]}")
        lines.append(f"  Redis:    {await _describe_held(find_service(config.load()).redis_url, event.partition, one)}")
    if event.resolution:
        lines.append(f"Resolved: {event.resolution}, {event.resolved_at:%Y-%m-%d %H:%M:%S} UTC.")
    else:
        if event.failure:
            lines.append(f"The last try failed: {event.failure}.")
        lines.append("Choices:")
        lines += [f"  {choice:<8} {_CHOICES[choice]}." for choice in choices_of(event)]
    click.echo("\n".join(lines))


async def _describe_held(redis_url: str | None, partition: int, one: Named) -> str:
    """The code's state in Redis."""
    if redis_url is None:
        return "REDIS_URL is not set"
    w = key_names.prefix(partition, one.workspace)
    try:
        with closing(await connect(redis_url, "scrip-command", partition=partition)) as connection:
            entry = await connection.call("HGET", key_names.directory(w, key_names.bucket(one.code)), one.code)
            text = await connection.call("GET", key_names.coupon(w, one.code))
    except (OSError, Broken):
        return "it can't be reached"
    if isinstance(entry, hiredis.ReplyError) or isinstance(text, hiredis.ReplyError):
        return "this user may not read it"
    return _describe_entry(entry, text)


def _describe_entry(entry: str | None, text: str | None) -> str:
    listed = parse_directory_entry(entry) if entry else None
    if listed is None:
        return "no such code"
    if (record := listed.record(text)) is None:
        return "its record can't be read"
    parts = [_OFF.get(record.off, "active"), "used up" if record.uses == record.max_uses else f"{record.uses} uses"]
    parts += [f"assigned to {record.user}"] if record.user != "-" else []
    parts += [f"last redeemed by event {record.last}"] if record.last != "-" else []
    return ", ".join(parts)


def _outline(event: Quarantined, workspaces: dict[int, str]) -> dict[str, Any]:
    named = next(iter(read_names(event.d)), None)
    return {
        "event": str(event.id),
        "partition": str(event.partition),
        "at": f"{event.at:%Y-%m-%d %H:%M:%S}",
        "cause": event.cause,
        "reason": event.reason,
        "what": kind_of(event.d),
        "workspace": workspaces.get(named.workspace, str(named.workspace)) if named else None,
        "code": mask(named.code) if named else None,
        "ordered": event.ordered,
        "failure": event.failure,
    }


async def _find(connection: asyncpg.Connection, text: str) -> Quarantined:
    """Raises ClickException."""
    at = parse_sent_id(text)
    if at is None:
        raise click.ClickException(f"{text!r} is no event. Events look like 5-1207; `list` shows them.")
    found = await find_quarantined(connection, at)
    live = [event for event in found if event.resolution is None]
    if not found:
        raise click.ClickException(f"Event {text} is not in quarantine. `scrip quarantine list` shows all.")
    return (live or found)[0]


@with_record
async def _order_all(connection: asyncpg.Connection, partition: int | None, choice: Choice) -> None:
    """Order it for all events, audited, and follow the workers. Raises ClickException."""
    async with connection.transaction():
        ordered, known = await order_resolutions(connection, partition, choice), await read_workspace_names(connection)
        for workspace, events in ordered.items():
            if workspace in known:
                await write_audit(connection, workspace, f"quarantine.{choice}", "all", after={"events": events})
    total = sum(ordered.values())
    if not total and not await count_ordered(connection, partition):
        click.echo("No event waits for this choice.")
        return
    deadline, label = time.monotonic() + worker_orders.WORKER_S, count_noun(total, "event")
    with click.progressbar(length=max(total, 1), label=label) as bar:
        while left := await count_ordered(connection, partition):
            if total - left > bar.pos:
                bar.update(total - left - bar.pos)
                deadline = time.monotonic() + worker_orders.WORKER_S
            if time.monotonic() > deadline:
                raise click.ClickException(f"No worker has done the rest yet. {_LATER}")
            await asyncio.sleep(worker_orders.POLL_S)
    click.echo(f"{_REPAIRING} `scrip quarantine list` shows what is left.")


@with_record
async def _order(connection: asyncpg.Connection, text: str, choice: Choice) -> None:
    """Order it, audited, and wait until a worker has done it. Raises ClickException."""
    event = await _find(connection, text)
    if event.resolution:
        raise click.ClickException(f"Event {text} is resolved already: {event.resolution}.")
    if choice not in choices_of(event):
        possible = f"Possible: {', '.join(choices_of(event))}."
        remedy = _NOT_RECORDED if event.cause == "not_redone" else possible
        raise click.ClickException(f"{choice} is not possible for event {text}. {remedy}")
    async with connection.transaction():
        await order_resolution(connection, event, choice)
        known = await read_workspace_names(connection)
        for workspace in {name.workspace for name in read_names(event.d)} & known.keys():
            after = {"cause": event.cause, "reason": event.reason}
            await write_audit(connection, workspace, f"quarantine.{choice}", event.id, after=after)
    await _wait(connection, text, choice)


async def _wait(connection: asyncpg.Connection, text: str, choice: Choice) -> None:
    deadline = time.monotonic() + worker_orders.WORKER_S
    while True:
        event = await _find(connection, text)
        if event.resolution:
            click.echo(f"Event {text} is resolved: {choice}. {_REPAIRING}")
            return
        if event.failure:
            raise click.ClickException(f"Event {text} stays in quarantine: {event.failure}.")
        if time.monotonic() > deadline:
            raise click.ClickException(
                f"No worker has done it yet. {_LATER} `scrip quarantine show {text}` shows whether it is done."
            )
        await asyncio.sleep(worker_orders.POLL_S)


def _add_choice(choice: Choice, sentence: str) -> None:
    """Add the command that resolves an event, or all, by this choice."""

    @quarantine.command(choice, help=sentence, epilog=f"Example: scrip quarantine {choice} 5-1207")
    @click.argument("event", required=False)
    @click.option("--all", "every", is_flag=True, help="All events for which it is possible.")
    @click.option("--partition", type=PARTITION, help="With --all: only of this partition.")
    @click.option("--yes", is_flag=True, help="With --all: do not ask.")
    def resolve(event: str | None, every: bool, partition: int | None, yes: bool) -> None:
        if (event is None) != every:
            raise click.UsageError("Name an event, or --all.")
        if event is not None:
            _order(event, choice)
            return
        if not yes:
            click.confirm(f"{choice} all events in quarantine?", abort=True)
        _order_all(partition, choice)


_add_choice("retry", "Record the event as it was decided.")
_add_choice("settle", "Switch the event's codes off: they are not sold any more.")
_add_choice("release", "Drop the event: its codes get the state that Postgres has.")
