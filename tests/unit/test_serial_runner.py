"""SerialRunner: one piece of work at a time, and no failure is lost."""

import asyncio

import pytest

from service.common.serial_runner import SerialRunner


class Pieces:
    """Pieces of work that end on request."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.ended: list[int] = []
        self.may_end = asyncio.Event()

    async def piece(self, number: int) -> None:
        self.begun.append(number)
        await self.may_end.wait()
        self.ended.append(number)


async def _fail() -> None:
    raise ConnectionResetError


async def test_one_at_a_time() -> None:
    """A piece runs while its caller goes on, the next begins once it has ended, and the block waits for all."""
    pieces = Pieces()
    async with SerialRunner() as behind:
        await behind.put(lambda: pieces.piece(1))
        second = asyncio.create_task(behind.put(lambda: pieces.piece(2)))
        for _ in range(5):
            await asyncio.sleep(0)
        meanwhile = (list(pieces.begun), list(pieces.ended), second.done())
        pieces.may_end.set()
        await second
    assert meanwhile == ([1], [], False)
    assert (pieces.begun, pieces.ended) == ([1, 2], [1, 2])


async def test_a_failure_is_raised_once() -> None:
    """A failure is raised at the next `put`, whose piece isn't begun, or at the end of the block."""
    pieces = Pieces()
    async with SerialRunner() as behind:
        await behind.put(_fail)
        with pytest.raises(ConnectionResetError):
            await behind.put(lambda: pieces.piece(1))
        assert pieces.begun == []
    with pytest.raises(ConnectionResetError):
        async with SerialRunner() as behind:
            await behind.put(_fail)


async def test_a_block_that_fails_lets_its_work_end() -> None:
    """A block's own failure is raised once the running piece has ended."""
    pieces = Pieces()

    async def block() -> None:
        async with SerialRunner() as behind:
            await behind.put(lambda: pieces.piece(1))
            await asyncio.sleep(0)
            pieces.may_end.set()
            raise LookupError

    with pytest.raises(LookupError):
        await block()
    assert pieces.ended == [1]


@pytest.mark.parametrize("where", ["in the block", "at its end"])
async def test_a_block_that_is_cancelled_cancels_its_work(where: str) -> None:
    """A cancelled block cancels its work."""
    pieces = Pieces()

    async def block() -> None:
        async with SerialRunner() as behind:
            await behind.put(lambda: pieces.piece(1))
            if where == "in the block":
                await asyncio.Event().wait()

    task = asyncio.create_task(block())
    for _ in range(5):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (pieces.begun, pieces.ended) == ([1], [])
    assert asyncio.all_tasks() == {asyncio.current_task()}
