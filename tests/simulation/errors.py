"""What goes wrong in the protocol's own terms, and what must not happen."""


class Violation(Exception):
    """An invariant is broken."""


class Protocol(Exception):
    """What the modelled processes raise and handle."""


class Broken(Protocol):
    """The connection to Redis broke; whether the command was carried out is not known."""


class PostgresAway(Protocol):
    """Postgres is not there, or broke away; whether the transaction was committed is not known."""


class Gone(Protocol):
    """The API process died before it answered."""


class LeaseLost(Protocol):
    """Another has the partition's lease."""


class Fenced(Protocol):
    """The gate is not what it was thought to be; or these scripts are not known, or not let through."""


class Unverified(Protocol):
    """What the worker sees of Redis is not what it opened."""


class OutboxGap(Protocol):
    """Events are missing that the record needs next."""


class AnchorLost(OutboxGap):
    """The entry that was recorded last is not in the outbox as it was."""


class CursorMoved(Protocol):
    """The cursor is not where it was left."""


class Refused(Protocol):
    """What an API answers instead of a decision: `recovering`, `outcome_unknown`, `unavailable`."""
