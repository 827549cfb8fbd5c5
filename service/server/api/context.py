"""The objects that handlers use; service/serving/wiring.py makes one Context per process, and keeps the fields about
partitions up to date. Handlers find it as `app.state.context`."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import asyncpg

from service.common.config import Settings
from service.engine.hot.decider import Decider
from service.engine.hot.projection import RedisProjector
from service.engine.record.facts.recorded_wait import Recorded
from service.server.access.keyring import Keyring
from service.server.api.bulk import Bulk
from service.server.api.partition_watch import PartitionWatch
from service.server.hot.key_messages import KeyMessages
from service.server.hot.workspace_state import Workspace
from service.server.record.replica import Replica


@dataclass(slots=True)
class Context:
    """Connections, and the objects that use them."""

    settings: Settings
    pool: asyncpg.Pool
    decider: Decider
    hot: Workspace
    projector: RedisProjector
    recorded: Recorded
    replica: Replica
    key_messages: KeyMessages
    watch: PartitionWatch
    keyring: Keyring = field(default_factory=Keyring)
    bulk: Bulk = field(default_factory=Bulk)
    partitions: range = range(0)
    """All partitions in Postgres; none until a worker has created them."""
    open_partitions: frozenset[int] = frozenset()
    """The partitions whose Redis is verified, by the table of partitions in Postgres."""
    kept_closed: Mapping[int, Literal["waiting_for_old_redis", "postgres_older"]] = field(default_factory=dict)
    """Those that a worker may not open yet, and why (service/engine/worker/opening/old_server.py, older_postgres.py)."""
    loaded_partitions: frozenset[int] = frozenset()
    """Those whose Redis has this version's scripts."""
    readiness_check: asyncio.Task[Any] | None = None
    """The last check of readiness; requests that arrive while it runs get its result."""
    acting: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held by the one action of the console that is being audited (session_actions.py)."""
    selling_until_s: float = 0.0
    """When the console's flash sale in this process ends at the latest, by time.monotonic; 0 without a sale."""
