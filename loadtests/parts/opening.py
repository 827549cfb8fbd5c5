"""When an opening of a service is over, and what its worker logged of it."""

import asyncio
import json
import time
from datetime import datetime
from typing import Any

from tests.harness.running import Run

PATIENCE_S = 900.0
POLL_S = 0.1


async def until_recovered(run: Run, since: datetime) -> list[dict[str, Any]]:
    """Wait until requests are decided again after an opening that began after a moment; what the worker logged since
    then."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        logged = [json.loads(line) for line in run.output.read_text().splitlines() if line.startswith("{")]
        lines = [line for line in logged if line.get("process") == "worker" and moment(line) >= since]
        if any(line["event"] == "open" for line in lines) and run.ready():
            return lines
        await asyncio.sleep(POLL_S)
    raise TimeoutError(f"not open after {PATIENCE_S:.0f} s")


def moment(line: dict[str, Any]) -> datetime:
    """When it was logged."""
    return datetime.fromisoformat(line["timestamp"])
