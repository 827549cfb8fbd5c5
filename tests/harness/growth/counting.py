"""Count what the API's process computes for each shape of a request, and for each piece of work of its event loop.

Instructions, if this process runs under valgrind's callgrind, which then writes a file at each call of `getppid`; else
ns of CPU: `python -m tests.harness.growth.counting pieces`.
"""

import asyncio
import gc
import json
import logging
import os
import sys
import time
from asyncio.subprocess import DEVNULL
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import structlog

from service.engine.domain.errors import Refusal
from service.server.requests.code_requests import Lines
from service.server.requests.json_codes import JsonCodes
from tests.harness.growth.long_pieces import PIECES
from tests.harness.growth.request_shapes import FREE, SHAPES, Shape
from tests.harness.growth.storeless import Storeless


class Counter:
    """What this process has spent."""

    def __init__(self, out: str = "") -> None:
        self._out, self._dumps, self._before_ns = out, 0, 0

    async def start(self) -> None:
        if self._out:
            command = ("callgrind_control", "--instr=on", str(os.getpid()))
            started = await asyncio.create_subprocess_exec(*command, stdout=DEVNULL)
            await started.wait()

    def read(self) -> int:
        """Instructions, or ns, since the last call."""
        if not self._out:
            before, self._before_ns = self._before_ns, time.thread_time_ns()
            return self._before_ns - before
        os.getppid()
        self._dumps += 1
        dump = Path(f"{self._out}.{self._dumps}")
        total = int(dump.read_text().rpartition("totals: ")[2].split()[0])
        dump.unlink()
        return total


def _parse(kind: str, parts: Sequence[bytes]) -> Iterator[object]:
    """The lines of a file of codes, in the pieces in which an upload parses them."""
    parser = JsonCodes() if kind == "application/json" else Lines(kind == "text/csv")
    try:
        for part in parts:
            yield from parser.feed(part)
        yield from parser.close()
    except Refusal:
        return


async def count_growth(counter: Counter, kind: str) -> None:
    """A line for each shape: its name, and instructions at 1, 2, 4 and 8 times its size; at 1 and 8 times if the
    difference is small."""
    api = Storeless()
    await counter.start()
    for name, shape in SHAPES[kind].items():
        print(json.dumps([name, await _count_shape(counter, api, shape)]), flush=True)


async def _count_shape(counter: Counter, api: Storeless, shape: Shape) -> list[int]:
    counts: dict[int, int] = {}
    for times in (1, 8, 4, 2):
        if times == 4 and counts[8] - counts[1] < 7 * shape.size * FREE:
            break
        pieces = shape.make(shape.size * times)
        counter.read()
        if shape.media_type:
            deque(_parse(shape.media_type, pieces), 0)
        else:
            await api.send(*pieces)
        counts[times] = counter.read()
    return [counts[times] for times in sorted(counts)]


async def count_pieces(counter: Counter) -> None:
    """A line for each row of PIECES: its name, and the longest piece of work."""
    api = Storeless()
    await counter.start()
    for name, (shape, size) in PIECES.items():
        pieces = shape.make(size)
        if shape.media_type:
            longest = max(_count_steps(counter, _parse(shape.media_type, pieces)))
        else:
            await api.send(*pieces)
            with _counted_turns(counter) as turns:
                await api.send(*pieces)
            longest = max(turns)
        print(json.dumps([name, longest]), flush=True)


def _count_steps(counter: Counter, steps: Iterator[object]) -> Iterator[int]:
    counter.read()
    for _ in steps:
        yield counter.read()
    yield counter.read()


@contextmanager
def _counted_turns(counter: Counter) -> Iterator[list[int]]:
    """What each callback of the event loop and each step of a task spends within the block."""
    run, turns = asyncio.Handle._run, list[int]()

    def run_counted(handle: asyncio.Handle) -> None:
        run(handle)
        turns.append(counter.read())

    asyncio.Handle._run = run_counted  # type: ignore[method-assign]
    counter.read()
    yield turns
    asyncio.Handle._run = run  # type: ignore[method-assign]


def main(kind: str, out: str = "") -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    gc.disable()
    counter = Counter(out)
    asyncio.run(count_pieces(counter) if kind == "pieces" else count_growth(counter, kind))


if __name__ == "__main__":
    main(*sys.argv[1:])
