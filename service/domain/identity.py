"""Who asks: a credential's workspace and what it may do."""

from dataclasses import dataclass, field
from uuid import UUID

from service.domain import keys

SCOPES = ("public", "checkout", "manage", "operate")
"""None implies another."""


@dataclass(frozen=True, slots=True)
class Caller:
    """A credential, as every process keeps it in memory."""

    key_id: UUID
    workspace: int
    workspace_id: UUID
    partition: int
    mode: str
    scopes: frozenset[str]
    expires_ms: int | None = None
    prefix: str = field(init=False)
    gate: str = field(init=False)
    outbox: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "prefix", keys.prefix(self.partition, self.workspace))
        object.__setattr__(self, "gate", keys.gate(self.partition))
        object.__setattr__(self, "outbox", keys.outbox(self.partition))
