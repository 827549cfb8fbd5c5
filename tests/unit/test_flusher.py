"""What ends a worker's recording of a partition."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import hiredis
import pytest

from service.formats.event_id import EventId
from service.hot.outbox import Outbox
from service.worker import write_behind
from service.worker.write_behind import Flusher
from tests.waiting import PATIENCE_S


class _Refusing:
    """An outbox whose node refuses each command with the next of these errors."""

    def __init__(self, *errors: str) -> None:
        self.errors = [*errors]

    async def entries(self, _first: bytes, _count: int) -> Any:
        raise hiredis.ReplyError(self.errors.pop(0))


@pytest.mark.parametrize("redirection", ["MOVED 7 10.0.0.1:6379", "ASK 7 10.0.0.1:6379", "CLUSTERDOWN", "TRYAGAIN"])
async def test_a_slot_that_left_its_node(monkeypatch: pytest.MonkeyPatch, redirection: str) -> None:
    """A node that is busy is asked again. Once it redirects, the recording ends: another node must be opened first, and
    a worker whose partition is idle would look at the gate only after ten seconds."""
    row = SimpleNamespace(fence=1, cursor=EventId(1, 1), cursor_digest=b"", state="open")

    async def read_partition(*_: Any) -> Any:
        return row

    monkeypatch.setattr(write_behind, "read_partition", read_partition)
    outbox = _Refusing("BUSY a script runs", redirection)
    with pytest.raises(hiredis.ReplyError, match=redirection.partition(" ")[0]):
        async with asyncio.timeout(PATIENCE_S):
            await Flusher(cast("Outbox", outbox), cast("Any", None), 0, 1).run()
    assert not outbox.errors
