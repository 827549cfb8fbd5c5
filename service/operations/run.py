"""Run an operation: `begin` makes a command of a request, `finish` the answer of the script's reply. Both are pure.

The fast lane calls them from callbacks, Litestar and batches with `await` in between. No transport decodes a body by
its caller, counts a request or answers in a refusal's place by itself.
"""

from typing import Any

import msgspec

from service.access.caller import Caller
from service.domain.errors import Refusal
from service.domain.limits import address_counter
from service.domain.outcomes import RECALL
from service.operations.base import Call, Command, Rendered, Reply
from service.operations.call_headers import checked_key, fingerprint
from service.operations.table import Row


class Raw(msgspec.Struct):
    """A request as its transport read it."""

    method: bytes
    path: bytes
    query: bytes
    body: bytes
    name: str | None
    """In the path: a code, a redemption's or an order's id, a user's; None where the path has none."""
    key: str | None
    """Its Idempotency-Key."""
    ip: str | None
    user_agent: str | None
    """As service/operations/call_headers.py cuts it."""


def begin(caller: Caller, row: Row, raw: Raw) -> Command:
    """The script's call. Raises Refusal where the request is malformed, or the script is not needed to refuse it."""
    request = row.operation.decode(caller, raw.body)
    return begin_decoded(row, call_of(caller, raw), raw.name, request)


def call_of(caller: Caller, raw: Raw) -> Call:
    """What the request says beyond its body. Raises Refusal `malformed`."""
    if raw.key is None:
        return Call(caller, "", "-", raw.ip, raw.user_agent)
    print_ = fingerprint(raw.method, raw.path, raw.query, raw.body, caller.user)
    return Call(caller, checked_key(raw.key), print_, raw.ip, raw.user_agent)


def begin_decoded(row: Row, call: Call, name: str | None, request: Any, *, counted: bool = False) -> Command:
    """As begin, from a request struct; `counted` where the caller's limits have counted the request before."""
    command = row.operation.prepare(call, name, request)
    return with_limits(call, command) if call.caller.limits and not counted else command


def needs_facts(reply: Reply) -> bool:
    """Whether the script has decided nothing, and needs facts that only Postgres stores (service/api/recall.py)."""
    return reply[0] == RECALL


def finish(command: Command, reply: Reply, durability: str) -> Rendered:
    """The answer."""
    return command.render(reply, durability)


def finish_refused(row: Row, caller: Caller, refusal: Refusal) -> Rendered | None:
    """The answer in the refusal's place; None where the refusal is the answer."""
    answer_refusal = row.operation.answer_refusal
    return answer_refusal(caller, refusal) if answer_refusal else None


def with_limits(call: Call, command: Command) -> Command:
    """The command for a caller with limits: the script counts first, and may refuse for that. The answer has what is
    left of the limits."""
    caller = call.caller
    render = command.render

    def render_limited(reply: Reply, durability: str) -> Rendered:
        rendered = render(reply[:-1], durability)
        rendered.rates = reply[-1]
        return rendered

    limits = f"{caller.limits} {caller.limit_key} {int(caller.sees_reasons)}"
    names = (*command.keys, *_counters(call))
    return Command(f"{command.script}+", names, (limits, *command.args), render_limited)


def _counters(call: Call) -> tuple[str, str, str]:
    """The keys of the counters: the credential's requests and misses, the address's misses."""
    caller = call.caller
    counter = address_counter(call.ip, caller.workspace_id.bytes)
    q = f"{caller.prefix}q:"
    return f"{q}r:{caller.limit_key}", f"{q}m:{caller.limit_key}", f"{q}a:{counter}"
