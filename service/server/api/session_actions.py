"""Hot operations that a session of the console runs: each that changes something has an entry in the audit, by the
session's person or key. hot_path.py calls this."""

from service.engine.deciding.recall import decide
from service.engine.domain.errors import Refusal
from service.engine.domain.field_types import canonicalize_code
from service.engine.hot.decider import Reply
from service.engine.operations.base import Command
from service.engine.operations.caller import Caller
from service.engine.operations.table import Row
from service.engine.record.actor import mask
from service.engine.record.audit_entries import write_audit
from service.engine.record.pool import ERRORS, Connection
from service.server.api.context import Context
from service.server.in_postgres.code_pages import find_code

NOT_IN_SESSION = "A session of the console can't do this. Send an API key as `Authorization: Bearer …`."


def check_action(row: Row, name: str | None) -> str:
    """The name, of which the entry is. Raises Refusal `forbidden` for what no session may do."""
    if not row.audited or name is None:
        raise Refusal("forbidden", NOT_IN_SESSION)
    return name


async def decide_audited(context: Context, caller: Caller, row: Row, name: str, command: Command) -> Reply:
    """As decide, with an entry in the audit, also if the outcome is not known. One action at a time: it may need a
    second connection to Postgres, and each process has at least two.

    Raises Refusal as decide does, and `outcome_unknown` if Postgres fails between the action and the commit of its
    entry."""
    has_run, unknown = False, None
    async with context.acting:
        try:
            async with context.pool.acquire() as connection, connection.transaction():
                subject = await _find_subject(connection, caller, row, name)
                reply: Reply = []
                try:
                    reply = await decide(context.decider, context.pool, caller, command)
                except Refusal as refusal:
                    if refusal.code != "outcome_unknown":
                        raise
                    unknown = refusal
                has_run = True
                if unknown or _has_changed(row, command, reply):
                    await write_audit(connection, caller.workspace, row.audited, subject)
        except ERRORS as error:
            if has_run:
                raise Refusal("outcome_unknown", retry_after_ms=1000) from error
            raise
    if unknown:
        raise unknown
    return reply


def _has_changed(row: Row, command: Command, reply: Reply) -> bool:
    """Whether this is the first answer: a repeated one has the status 200, or is replayed."""
    rendered = command.render(reply, "accepted")
    return rendered.status == row.operation.status and not rendered.replayed


async def _find_subject(connection: Connection, caller: Caller, row: Row, name: str) -> str:
    """The subject of the entry: a redemption's or order's id, or a code as code_rows.py writes it."""
    if "{code}" not in row.route:
        return name
    code = canonicalize_code(name) or ""
    place = await find_code(connection, caller.workspace, code)
    return f"{place.book_id} {mask(code)}" if place else mask(code)
