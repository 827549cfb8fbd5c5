"""Events that the record can't take, kept as they were. Each is an alarm."""

from service.record.pool import Database
from service.record.queries import query


async def set_aside(database: Database, partition: int, at: tuple[int, int], d: bytes, r: bytes) -> None:
    """Keep an event of a closed epoch that was never recorded; once, however often it is asked."""
    await database.execute(query("set_aside"), partition, *at, "lost with its Redis: never recorded", d, r)
