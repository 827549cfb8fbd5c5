"""A command as it runs where its caller is under limits."""

from service.domain.limits import address_counter
from service.operations.base import Call, Command, Rendered, Reply


def under_limits(call: Call, command: Command) -> Command:
    """The same command, which counts first and may be refused for that; the answer then says what is left."""
    caller = call.caller
    if not caller.limits:
        return command
    render = command.render

    def render_limited(reply: Reply, durability: str) -> Rendered:
        rates = reply.pop()
        rendered = render(reply, durability)
        rendered.rates = rates
        return rendered

    limits = f"{caller.limits} {caller.holder} {int(caller.is_told)}"
    names = (*command.keys, *counters(call))
    return Command(f"{command.script}+", names, (limits, *command.args), render_limited)


def counters(call: Call) -> tuple[str, str, str]:
    """The keys of the counters: the credential's requests and misses, the address's misses."""
    caller = call.caller
    counter = address_counter(call.ip, caller.workspace_id.bytes)
    q = f"{caller.prefix}q:"
    return f"{q}r:{caller.holder}", f"{q}m:{caller.holder}", f"{q}a:{counter}"
