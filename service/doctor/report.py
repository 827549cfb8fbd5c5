"""The doctor's report: checks with their remedies, as a table or as JSON. checks.py makes it, process_commands.py
prints it. Programs read the JSON: names of fields and checks, states and exit codes stay; texts may change."""

from typing import Literal

import msgspec

from service.common.plurals import count_noun

State = Literal["ok", "warning", "bad"]

MANY_PARTITIONS = 4
"""With more partitions, the table omits their `ok` checks."""
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
        """Render the report as lines of state, check and finding. A remedy stands below its check."""
        partitions = {check.partition for check in self.checks} - {None}
        is_brief = len(partitions) > MANY_PARTITIONS
        listed = [
            check for check in self.checks if not (is_brief and check.partition is not None and check.state == "ok")
        ]
        names = [check.name if check.partition is None else f"p{check.partition} {check.name}" for check in listed]
        width = max(map(len, names))
        lines: list[str] = []
        for name, check in zip(names, listed, strict=True):
            lines.append(f"{check.state:<7}  {name:<{width}}  {check.says}")
            if check.next:
                lines.append(f"{'':<7}  {'':<{width}}  → {check.next}")
        if is_brief:
            healthy = partitions - {check.partition for check in listed}
            lines.append(f"ok       all checks of {count_noun(len(healthy), 'other partition')}")
        return "\n".join(lines)
