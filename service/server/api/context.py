"""The objects that handlers use; service/serving/wiring.py makes one Context per process, and keeps the fields about
partitions up to date. Handlers find it as `app.state.context`."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

import asyncpg

from service.common.config import Settings
from service.engine.deciding.deciding import Deciding
from service.engine.hot.decider import Decider
from service.engine.hot.projection import RedisProjector
from service.engine.record.facts.recorded_wait import Recorded
from service.server.access.keyring import Keyring
from service.server.api.bulk import Bulk
from service.server.api.partition_watch import PartitionWatch
from service.server.in_postgres.replica import Replica
from service.server.in_redis.key_messages import KeyMessages
from service.server.in_redis.workspace_state import Workspace


@dataclass(slots=True)
class Context:
    """Connections, and the objects that use them."""

    settings: Settings
    pool: asyncpg.Pool
    deciding: Deciding
    decider: Decider
    hot: Workspace
    projector: RedisProjector
    recorded: Recorded
    replica: Replica
    key_messages: KeyMessages
    watch: PartitionWatch
    keyring: Keyring = field(default_factory=Keyring)
    bulk: Bulk = field(default_factory=Bulk)
    readiness_check: asyncio.Task[Any] | None = None
    """The last check of readiness; requests that arrive while it runs get its result."""
    acting: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held by the one action of the console that is being audited (session_actions.py)."""
    selling_until_s: float = 0.0
    """When the console's flash sale in this process ends at the latest, by time.monotonic; 0 without a sale."""
