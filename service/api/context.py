"""What handlers work with; one a process, made by wiring."""

from dataclasses import dataclass, field

import asyncpg

from service.access.keyring import Keyring
from service.api.csv_stream import ExportSlots
from service.common.config import Settings
from service.hot.decider import Decider
from service.hot.projection import RedisProjector
from service.hot.workspace_state import Workspace
from service.record.facts.recorded_wait import Recorded


@dataclass(slots=True)
class Context:
    """Connections and what stands on them."""

    settings: Settings
    pool: asyncpg.Pool
    decider: Decider
    hot: Workspace
    projector: RedisProjector
    recorded: Recorded
    keyring: Keyring = field(default_factory=Keyring)
    export_slots: ExportSlots = field(default_factory=ExportSlots)
    open_partitions: frozenset[int] = frozenset()
    """Those whose Redis Postgres says is verified."""
    selling_until_s: float = 0.0
    """Until when, by time.monotonic, a flash sale of the console's has this process; 0 where none does."""
