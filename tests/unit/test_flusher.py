"""What ends a worker's recording of a partition."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import hiredis
import pytest
from structlog.testing import capture_logs

from service.engine.formats.event_id import EventId
from service.engine.formats.events import entry_digest
from service.engine.hot.outbox import Outbox
from service.engine.worker import write_behind
from service.engine.worker.write_behind import Flusher
from tests.harness.waiting import PATIENCE_S


class _Refusing:
    """An outbox whose node refuses each command with the next of these errors."""

    def __init__(self, *errors: str) -> None:
        self.errors = [*errors]

    async def entries(self, _first: bytes, _count: int) -> Any:
        raise hiredis.ReplyError(self.errors.pop(0))


class _Deaf:
    """An outbox with nothing that is not recorded, whose server refuses to be waited at."""

    def __init__(self, *errors: str) -> None:
        self._errors = [*errors]

    async def entries(self, _first: bytes, _count: int) -> Any:
        return [(b"1-1", [])]

    async def has_more(self, _after: bytes, _wait_ms: int) -> bool:
        raise hiredis.ReplyError(self._errors.pop(0))


@pytest.fixture(autouse=True)
def _row(monkeypatch: pytest.MonkeyPatch) -> None:
    row = SimpleNamespace(fence=1, cursor=EventId(1, 1), cursor_digest=entry_digest(b"1-1"), state="open")

    async def read_partition(*_: Any) -> Any:
        return row

    monkeypatch.setattr(write_behind, "read_partition", read_partition)


@pytest.mark.parametrize("redirection", ["MOVED 7 10.0.0.1:6379", "ASK 7 10.0.0.1:6379", "CLUSTERDOWN", "TRYAGAIN"])
async def test_a_slot_that_left_its_node(redirection: str) -> None:
    """A node that is busy is asked again. Once it redirects, the recording ends: another node must be opened first, and
    a worker whose partition is idle would look at the gate only after ten seconds."""
    outbox = _Refusing("BUSY a script runs", redirection)
    with pytest.raises(hiredis.ReplyError, match=redirection.partition(" ")[0]):
        async with asyncio.timeout(PATIENCE_S):
            await Flusher(cast("Outbox", outbox), cast("Any", None), 0, 1).run()
    assert not outbox.errors


async def test_a_server_that_refuses_to_be_waited_at() -> None:
    """The pauses grow, although each reading of the outbox succeeds, and the log names the right."""
    refused = "NOPERM User w has no permissions to run the 'xread' command"
    outbox = _Deaf(*[refused] * 4, "MOVED 7 10.0.0.1:6379")
    with capture_logs() as logs, pytest.raises(hiredis.ReplyError, match="MOVED"):
        async with asyncio.timeout(PATIENCE_S):
            await Flusher(cast("Outbox", outbox), cast("Any", None), 0, 1).run()
    assert {log["reason"] for log in logs} == {"ReplyError NOPERM xread"}
    assert logs[3]["seconds"] > 2 * logs[0]["seconds"]
