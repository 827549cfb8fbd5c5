"""Which books and codes were sold out when this API process last had a decision about them: decider.py keeps
a SoldOut, turns.py asks it and shows it each reply.

This is a hint for the way of the next request, never an answer: lua/run_requests.lua tries to refuse such a request
with what it reads once for a call, and decides as usual if it can't (docs/internals/decisions/0058).
"""

from collections.abc import Sequence
from typing import Any

from service.engine.domain.outcomes import BY_CODE, OK
from service.engine.formats.script_replies import expand_reply
from service.engine.hot.scripts import count_arguments

MAX_HINTS = 1_000
"""Books and codes; the hint that was given first goes first."""
ARGUMENTS = {name: count_arguments(name) for name in ("assign_any", "lock", "redeem")}
"""Scripts that may refuse so, with their number of arguments without facts. The second names the book or the code."""

REFUSED = frozenset(BY_CODE[code].number for code in ("out_of_stock", "coupon_exhausted"))


class SoldOut:
    """Books whose last assignment was `out_of_stock`, and codes whose last lock or redemption `coupon_exhausted`."""

    __slots__ = ("hints",)

    def __init__(self) -> None:
        self.hints: dict[str, None] = {}

    def hints_at(self, script: str, names: Sequence[str], args: Sequence[Any]) -> bool:
        """Whether the request may well be refused."""
        return bool(self.hints) and ARGUMENTS.get(script) == len(args) and names[1] + args[1] in self.hints

    def learn(self, script: str, names: Sequence[str], args: Sequence[Any], reply: Any) -> None:
        """Read a reply. A success that is no replay means that there was something left."""
        reply = expand_reply(reply)
        if type(reply) is not list or script not in ARGUMENTS:
            return
        outcome, hints = reply[0], self.hints
        if outcome in REFUSED:
            name = names[1] + args[1]
            if name not in hints:
                if len(hints) >= MAX_HINTS:
                    del hints[next(iter(hints))]
                hints[name] = None
        elif outcome == OK and hints and not reply[3]:
            hints.pop(names[1] + args[1], None)
