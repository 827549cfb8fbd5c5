"""What the doctor says: checks, each with what to do next, as a table or as JSON."""

from typing import Literal

import msgspec

State = Literal["ok", "warning", "bad"]

MANY_PARTITIONS = 4
"""With more of them, a table leaves out what is in order in a partition."""
_ORDER: tuple[State, ...] = ("ok", "warning", "bad")


class Check(msgspec.Struct, frozen=True):
    """One thing that was looked at. `next` is what to do, '' where nothing is."""

    name: str
    state: State
    says: str
    next: str = ""
    partition: int | None = None


class Report(msgspec.Struct, frozen=True):
    """All checks, and which of `redis` and `postgres` can't be reached; `unusable` where the settings don't fit the
    database."""

    checks: list[Check]
    unreachable: list[str] = []
    unusable: bool = False

    @property
    def state(self) -> State:
        """The worst of all."""
        return _ORDER[max(_ORDER.index(check.state) for check in self.checks)]

    @property
    def exit_code(self) -> int:
        """0 where nothing is bad, 1 where something is, 2 where a server can't be reached or the settings don't fit."""
        return 2 if self.unreachable or self.unusable else int(self.state == "bad")

    def json(self) -> str:
        """The report as a JSON object: `state`, `unreachable`, `checks`."""
        body = {"state": self.state, "unreachable": self.unreachable, "checks": self.checks}
        return msgspec.json.format(msgspec.json.encode(body), indent=2).decode()

    def table(self) -> str:
        """The report in lines: state, check, what it says; below it what to do."""
        partitions = {check.partition for check in self.checks} - {None}
        brief = len(partitions) > MANY_PARTITIONS
        shown = [check for check in self.checks if not (brief and check.partition is not None and check.state == "ok")]
        names = [check.name if check.partition is None else f"p{check.partition} {check.name}" for check in shown]
        width = max(map(len, names))
        lines: list[str] = []
        for name, check in zip(names, shown, strict=True):
            lines.append(f"{check.state:<7}  {name:<{width}}  {check.says}")
            if check.next:
                lines.append(f"{'':<7}  {'':<{width}}  → {check.next}")
        if brief:
            whole = partitions - {check.partition for check in shown}
            lines.append(f"ok       all of {len(whole)} other partitions")
        return "\n".join(lines)
