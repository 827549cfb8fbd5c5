"""The names of Redis's keys (docs/architecture.md, Redis keys). Every part is a number of ours, or text that may hold
no space and is the last part, so two different things never share a key."""

from zlib import crc32

BUCKETS = 131_072
"""Buckets of the directory, the pool, the orders and the users; a power of two, the same for every workspace."""


LAYOUT = "5"
"""The number of this layout. A Redis of another one is rebuilt whole when it is opened."""


def bucket(text: str) -> int:
    """The bucket of a code, an order or a user."""
    return crc32(text.encode()) & (BUCKETS - 1)


def partition_of(workspace_id: str, partitions: int) -> int:
    """The partition of a workspace, from its UUID in the usual spelling."""
    return crc32(workspace_id.encode()) % partitions


def prefix(partition: int, workspace: int) -> str:
    """What every key of a workspace begins with."""
    return f"{{p{partition}}}:w{workspace}:"


def gate(partition: int) -> str:
    """The partition's gate."""
    return f"{{p{partition}}}:gate"


def outbox(partition: int) -> str:
    """The partition's stream of events."""
    return f"{{p{partition}}}:outbox"


def config(partition: int) -> str:
    """The last configuration version that is here with all before it."""
    return f"{{p{partition}}}:config"


def layout(partition: int) -> str:
    """The number of the layout that all keys of the partition have."""
    return f"{{p{partition}}}:layout"


def newest(partition: int) -> str:
    """The newest configuration version that anything here is of."""
    return f"{{p{partition}}}:newest"


def mend(partition: int) -> str:
    """How far the mending of a partition's Redis is."""
    return f"{{p{partition}}}:mend"
