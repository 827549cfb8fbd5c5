"""Run an operation: `begin` makes the command from a request, `finish` the response from the script's reply.

Neither waits: the fast lane calls them from callbacks; Litestar, batches and jobs await between them.
"""

from typing import Any

import msgspec

from service.engine.domain.errors import Refusal
from service.engine.domain.limits import address_counter
from service.engine.domain.outcomes import RECALL
from service.engine.formats.key_names import rate
from service.engine.operations.base import Call, Command, Rendered, Reply
from service.engine.operations.call_headers import check_key, fingerprint
from service.engine.operations.caller import Caller
from service.engine.operations.table import Row


class Raw(msgspec.Struct, gc=False):
    """A request as its transport read it."""

    method: bytes
    path: bytes
    query: bytes
    body: bytes
    name: str | None
    """From the path: a code, or the id of a redemption, an order or a user."""
    key: str | None
    """The Idempotency-Key."""
    ip: str | None
    user_agent: str | None
    """Cleaned by service/engine/operations/call_headers.py."""
    request: Any = None
    """The body, if its transport has decoded it without the user of a token."""


def begin(caller: Caller, row: Row, raw: Raw) -> Command:
    """The script's command. Raises Refusal if the request is malformed, or needs no script to be refused."""
    request = raw.request
    if request is None or caller.user is not None:
        request = row.operation.decode(caller, raw.body)
    return begin_decoded(row, make_call(caller, raw), raw.name, request)


def make_call(caller: Caller, raw: Raw) -> Call:
    """The request without its body. Raises Refusal `malformed`."""
    if raw.key is None:
        return Call(caller, "", "-", raw.ip, raw.user_agent)
    print_ = fingerprint(raw.method, raw.path, raw.query, raw.body, caller.user)
    return Call(caller, check_key(raw.key), print_, raw.ip, raw.user_agent)


def begin_decoded(row: Row, call: Call, name: str | None, request: Any, *, counted: bool = False) -> Command:
    """As begin, from a request struct. `counted`: the caller's limits have already counted the request."""
    command = row.operation.prepare(call, name, request)
    return with_limits(call, command) if call.caller.limits and not counted else command


def needs_facts(reply: Reply) -> bool:
    """Whether the script needs facts from Postgres before it decides (service/engine/deciding/recall.py)."""
    return reply[0] == RECALL


def finish(command: Command, reply: Reply, durability: str) -> Rendered:
    return command.render(reply, durability)


def finish_refused(row: Row, caller: Caller, refusal: Refusal) -> Rendered | None:
    """The response that replaces the refusal, if any."""
    answer_refusal = row.operation.answer_refusal
    return answer_refusal(caller, refusal) if answer_refusal else None


def with_limits(call: Call, command: Command) -> Command:
    """The command within lua/includes/limits.lua. The response has the caller's remaining limits."""
    caller = call.caller
    render = command.render

    def render_limited(reply: Reply, durability: str) -> Rendered:
        rendered = render(reply[:-1], durability)
        rendered.rates = reply[-1]
        return rendered

    sees_reasons = caller.sees_reasons or command.script != "validate"  # which alone hides reasons
    limits = f"{caller.limits} {caller.limit_key} {int(sees_reasons)}"
    names = (*command.keys, *_counter_keys(call))
    return Command(f"{command.script}+", names, (limits, *command.args), render_limited)


def _counter_keys(call: Call) -> tuple[str, str, str]:
    """The counters of the credential's requests and misses, and of the address's misses."""
    w, key = call.caller.prefix, call.caller.limit_key
    address = address_counter(call.ip, call.caller.workspace_id.bytes)
    return rate(w, "r", key), rate(w, "m", key), rate(w, "a", address)
