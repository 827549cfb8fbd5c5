"""The partitions that this worker records, for the console's history. partition_worker.py adds and removes them;
process.py samples their backlog."""

from service.record.samples import Backlog
from service.worker.write_behind import Flusher


class OpenPartitions:
    """The flushers of the open partitions."""

    def __init__(self) -> None:
        self._flushers: dict[int, Flusher] = {}

    def add(self, partition: int, flusher: Flusher) -> None:
        self._flushers[partition] = flusher

    def remove(self, partition: int) -> None:
        """No effect if it is not there."""
        self._flushers.pop(partition, None)

    def take_backlog(self) -> list[Backlog]:
        """What each partition has not recorded, now."""
        flushers = sorted(self._flushers.items())
        backlogs = [(number, flusher.unrecorded) for number, flusher in flushers]
        return [Backlog(number, one.events, round(one.seconds * 1000)) for number, one in backlogs]
