"""What a request costs before a store is asked: instructions, which valgrind's callgrind counts.

The shapes are in tests/harness/growth/. Without valgrind these tests are left out. Heads, bodies, files and the longest
pieces take a quarter of an hour: they run where SCRIP_GROWTH is `all`.
"""

import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.harness.growth.request_shapes import FREE, SHAPES
from tests.harness.plugin import require

ROOT = Path(__file__).parents[3]
IS_WHOLE = os.environ.get("SCRIP_GROWTH") == "all"
MOST_GROWTH = 2.6
"""Of the instructions that twice as many bytes add, compared with those that half of them added: 2 if each byte costs
the same, 4 if each byte costs as much as there are bytes."""
MOST_AT_ONCE = 60_000_000
"""Instructions of a piece of work of the event loop: 5 ms on a usual machine."""


def _count(kind: str, folder: Path) -> dict[str, Any]:
    """What the program prints, by name."""
    out = folder / "out"
    callgrind = ("--tool=callgrind", "--dump-line=no", "--instr-atstart=no", "--dump-before=getppid")
    program = (sys.executable, "-m", "tests.harness.growth.counting", kind, str(out))
    command = (require("valgrind"), "-q", *callgrind, f"--callgrind-out-file={out}", *program)
    counted = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, timeout=1800)
    return dict(map(json.loads, counted.stdout.splitlines()))


@pytest.mark.parametrize("kind", SHAPES if IS_WHOLE else ["connections", "targets"])
def test_each_byte_costs_the_same(kind: str, tmp_path: Path) -> None:
    """At twice, four and eight times its size no shape of a request needs more instructions for a byte."""
    counted = _count(kind, tmp_path)
    assert counted.keys() == SHAPES[kind].keys()
    assert {name: counts for name, counts in counted.items() if _grows(counts, SHAPES[kind][name].size)} == {}


def _grows(counts: list[int], size: int) -> bool:
    if len(counts) == 2:
        return False
    half, all_ = (after - before for before, after in pairwise(counts[1:]))
    return all_ > MOST_GROWTH * half + 4 * size * FREE


@pytest.mark.skipif(not IS_WHOLE, reason="it takes minutes: SCRIP_GROWTH=all")
def test_no_piece_of_work_is_long(tmp_path: Path) -> None:
    """At the bounds of heads, bodies, batches and files, others wait for no piece of work longer than about 5 ms."""
    counted = _count("pieces", tmp_path)
    assert {name: count for name, count in counted.items() if count > MOST_AT_ONCE} == {}
