"""The doctor's report: checks with their remedies, as a table or as JSON. checks.py makes it, process_commands.py
prints it. Programs read the JSON: names of fields and checks, states and exit codes stay; texts may change."""

import re
from collections.abc import Sequence
from typing import Literal

import msgspec

from service.common.plurals import count_noun

State = Literal["ok", "warning", "bad"]

MANY_PARTITIONS = 4
"""With more partitions, the table has a line for each finding, and none for those that are `ok`."""
NAMED = 3
"""So many partitions of a finding are named in the table."""
_ORDER: tuple[State, ...] = ("ok", "warning", "bad")


class Check(msgspec.Struct, frozen=True):
    """The result of one check. `says` is the finding; `next` is the remedy, '' if none is needed."""

    name: str
    state: State
    says: str
    next: str = ""
    partition: int | None = None


class Report(msgspec.Struct, frozen=True):
    """At least one check. `unreachable` lists `redis` and `postgres`; `unusable`: the settings can't be used, or the
    database is of a version that does not fit."""

    checks: list[Check]
    unreachable: list[str] = []
    unusable: bool = False

    @property
    def state(self) -> State:
        """The worst state of all checks."""
        return _ORDER[max(_ORDER.index(check.state) for check in self.checks)]

    @property
    def exit_code(self) -> int:
        """0: nothing is bad; 1: a check is bad; 2: a server is unreachable, or `unusable`."""
        return 2 if self.unreachable or self.unusable else int(self.state == "bad")

    def render_json(self) -> str:
        """Render the report as a JSON object: `state`, `unreachable`, `checks`."""
        body = {"state": self.state, "unreachable": self.unreachable, "checks": self.checks}
        return msgspec.json.format(msgspec.json.encode(body), indent=2).decode()

    def render_table(self) -> str:
        """Render the report as lines of state, check and finding, each with its remedy below. With many partitions,
        those whose findings differ only in numbers share a line, which has the first one's, and findings that are `ok`
        are omitted. Without a server some checks did not run."""
        partitions = {check.partition for check in self.checks} - {None}
        is_brief = len(partitions) > MANY_PARTITIONS
        found: dict[Check, list[Check]] = {}
        for check in self.checks:
            if not is_brief or check.partition is None:
                found[check] = [check]
            elif check.state != "ok":
                kind = msgspec.structs.replace(check, partition=None, says=re.sub(r"\d+", "", check.says))
                found.setdefault(kind, []).append(check)
        names = [_name(alike) for alike in found.values()]
        width = max(map(len, names), default=0)
        lines: list[str] = []
        for name, (check, *_) in zip(names, found.values(), strict=True):
            lines.append(f"{check.state:<7}  {name:<{width}}  {check.says}")
            if check.next:
                lines.append(f"{'':<7}  {'':<{width}}  → {check.next}")
        healthy = partitions - {check.partition for alike in found.values() for check in alike}
        if is_brief and not self.unreachable and healthy:
            noun = "partition" if healthy == partitions else "other partition"
            lines.append(f"ok       all checks of {count_noun(len(healthy), noun)}")
        return "\n".join(lines)


def _name(alike: Sequence[Check]) -> str:
    """The name of checks with one finding, with the partitions that have it; none for a check of all."""
    name = alike[0].name
    if alike[0].partition is None:
        return name
    first = ", ".join(f"p{check.partition}" for check in alike[:NAMED])
    more = f" and {len(alike) - NAMED} more" if len(alike) > NAMED else ""
    return f"{first}{more} {name}"
