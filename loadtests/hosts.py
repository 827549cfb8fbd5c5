"""The ledgers of a load on many hosts: workers send theirs to the master, which measures their clocks.
`loadtests/locustfile.py` passes the messages."""

import io
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import IO, Any

import msgspec

from loadtests.ledger import CLOCKS, Clock, now_ms

LEDGER, CLOCK = "scrip_ledger", "scrip_clock"
"""Messages: a part of a ledger, and a question for the time or its answer."""
PART_BYTES = 64 << 10
Send = Callable[..., None]
"""Locust's: the kind of message, its data, and to which worker."""


class Sender(io.RawIOBase):
    """The file of a worker's ledger: what is written goes to the master. The end has the bytes and the CPU."""

    def __init__(self, send: Send, mark: str) -> None:
        self._send, self._mark, self._bytes, self._cpu_s = send, mark, 0, time.process_time()
        self.write(b"")  # so that the clock is known early

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._bytes += len(data)
        self._send(LEDGER, {"mark": self._mark, "part": bytes(data)})
        return len(data)

    def close(self) -> None:
        """Send the end, once."""
        if not self.closed:
            end = {"bytes": self._bytes, "cpu_s": time.process_time() - self._cpu_s}
            self._send(LEDGER, {"mark": self._mark, "part": b"", "end": end})
        super().close()


@dataclass
class _Worker:
    file: IO[bytes]
    end: dict[str, Any] | None = None
    least_ms: float = -inf
    """By how much its clock is behind at least, of all answers."""
    most_ms: float = inf

    @property
    def is_complete(self) -> bool:
        """Whether the whole ledger is here, and the clock known."""
        return bool(self.end) and self.file.tell() == self.end["bytes"] and self.most_ms < inf


class Hosts:
    """The workers, on the master.

    1. Each part of a ledger is appended to the worker's file in the load's folder; the worker is asked for its time.
    2. Its clock is behind by an amount between two differences: from the question, and from the answer.
    3. At the end the clocks are written beside the ledgers, and a ledger that is not complete is a failure.
    """

    def __init__(self, send: Send) -> None:
        self._send, self._mark = send, ""
        self._workers: dict[str, _Worker] = {}

    def begin(self, folder: Path, mark: str, workers: Sequence[str]) -> None:
        """Expect the ledgers of a load."""
        self._folder, self._mark, self.heard_s = folder, mark, time.monotonic()
        self._workers.clear()
        for name in workers:
            self._find(name)

    @property
    def are_complete(self) -> bool:
        """Whether all ledgers are here."""
        return all(worker.is_complete for worker in self._workers.values())

    def receive(self, msg: Any, **_: Any) -> None:
        """Take a part of a worker's ledger, unless it is another load's."""
        if msg.data["mark"] == self._mark:
            worker, self.heard_s = self._find(msg.node_id), time.monotonic()
            worker.file.write(msg.data["part"])
            worker.end = msg.data.get("end")
            self._send(CLOCK, {"asked_ms": now_ms()}, msg.node_id)

    def set_clock(self, msg: Any, **_: Any) -> None:
        """Take a worker's time."""
        if worker := self._workers.get(msg.node_id):
            worker.least_ms = max(worker.least_ms, msg.data["asked_ms"] - msg.data["here_ms"])
            worker.most_ms = min(worker.most_ms, now_ms() - msg.data["here_ms"])

    def close(self) -> tuple[list[str], float]:
        """Write the clocks; the failures, and the CPU seconds of all workers."""
        workers = self._workers.items()
        failures = [
            f"the ledger of worker {name} is not complete" for name, worker in workers if not worker.is_complete
        ]
        clocks: dict[str, Clock] = {}
        for _, worker in workers:
            if worker.most_ms < inf:
                middle_ms, half_ms = (worker.least_ms + worker.most_ms) / 2, (worker.most_ms - worker.least_ms) / 2
                clocks[Path(worker.file.name).name] = Clock(middle_ms, abs(half_ms))
            worker.file.close()
        (self._folder / CLOCKS).write_bytes(msgspec.json.encode(clocks))
        return failures, sum(worker.end["cpu_s"] for _, worker in workers if worker.end)

    def _find(self, name: str) -> _Worker:
        if name not in self._workers:
            path = self._folder / f"ledger-worker-{len(self._workers)}.jsonl"
            self._workers[name] = _Worker(path.open("wb"))
        return self._workers[name]
