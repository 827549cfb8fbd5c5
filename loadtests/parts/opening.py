"""A service whose openings are measured: it says in its worker's log when each began, what it did and when it ended."""

import asyncio
import json
import signal
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from loadtests.harness.running import Run
from loadtests.harness.servers import free_port

PATIENCE_S = 900.0
POLL_S = 0.1


class Service:
    """A `scrip run` on a data folder, ready."""

    def __init__(self, data_dir: Path) -> None:
        self.run = Run(data_dir, free_port())
        try:
            self.run.until_ready()
        except BaseException:
            self.run.process.terminate()
            raise

    async def until_recovered(self, since: datetime) -> list[dict[str, Any]]:
        """Wait until requests are decided again after an opening that began after a moment; what its worker logged."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            lines = [line for line in self._logged() if line.get("process") == "worker" and moment(line) >= since]
            if any(line["event"] == "open" for line in lines) and self.run.ready():
                return lines
            await asyncio.sleep(POLL_S)
        raise TimeoutError(f"not open after {PATIENCE_S:.0f} s")

    def _logged(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.run.output.read_text().splitlines() if line.startswith("{")]

    def end(self) -> None:
        """End it in order."""
        if self.run.process.poll() is None:
            self.run.end(signal.SIGTERM)


def moment(line: dict[str, Any]) -> datetime:
    """When it was logged."""
    return datetime.fromisoformat(line["timestamp"])
