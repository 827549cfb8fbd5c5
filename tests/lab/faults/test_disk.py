"""What our libraries do to a process: its clock is stepped, and with its power it loses what it had not synced."""

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.harness.plugin import require
from tests.lab.faults.disk import Disk, Preloads

_WRITES = """
import os, sys
file = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
os.write(file, b"a" * 1000)
os.fdatasync(file)
os.pwrite(file, b"b" * 600, 100)
os.write(file, b"c" * 500)
other = os.open(sys.argv[2], os.O_RDWR | os.O_CREAT)
os.write(other, b"d" * 100)
os.fsync(other)
os.ftruncate(other, 40)
os.rename(sys.argv[2], sys.argv[2] + "-moved")
"""


@pytest.fixture
def preloads(tmp_path: Path) -> Preloads:
    require("cc")
    return Preloads(tmp_path / "preloads")


def _written(folder: Path, disk: Disk) -> tuple[bytes, bytes]:
    files = [str(folder / "file"), str(folder / "other")]
    subprocess.run([sys.executable, "-c", _WRITES, *files], check=True, env=os.environ | disk.env)
    return (folder / "file").read_bytes(), (folder / "other-moved").read_bytes()


@pytest.mark.parametrize("seed", range(8))
def test_what_was_not_synced_is_lost_or_a_part_of_it(preloads: Preloads, tmp_path: Path, seed: int) -> None:
    """What was synced stays; what was appended since is kept up to some byte, what was overwritten by sectors."""
    folder = tmp_path / "data"
    folder.mkdir()
    disk = preloads.disk("server", folder)
    whole, cut = _written(folder, disk)
    assert (len(whole), len(cut)) == (1500, 40)

    disk.lose_power(random.Random(seed))
    kept = (folder / "file").read_bytes()
    assert whole.startswith(kept[:100])
    assert set(kept[100:700]) <= set(b"ab")
    assert kept[700:1000] == b"a" * 300
    assert len(kept) >= 1000
    assert set(kept[1000:]) <= set(b"c")
    assert (folder / "other-moved").read_bytes() in (b"d" * 40, b"d" * 100)
    assert disk.lose_power(random.Random(seed)) == 0


def test_all_that_was_not_synced_may_be_lost(preloads: Preloads, tmp_path: Path) -> None:
    """Among a few losses there is one of everything, and one of a part."""
    contents = set()
    for seed in range(12):
        folder = tmp_path / f"data-{seed}"
        folder.mkdir()
        disk = preloads.disk(f"server-{seed}", folder)
        _written(folder, disk)
        disk.lose_power(random.Random(seed))
        contents.add((folder / "file").read_bytes())
    assert b"a" * 1000 in contents
    assert len(contents) > 3


def test_a_clock_is_stepped_while_the_process_runs(preloads: Preloads) -> None:
    """By hours and by milliseconds, to and fro; what it measures time by goes on."""
    clock = preloads.clock("python")
    asks = "import time\nwhile input(): print(time.time(), time.monotonic(), flush=True)"
    command = [sys.executable, "-c", asks]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | clock.env
    ) as process:
        assert process.stdin
        assert process.stdout
        for offset_ms in (0, 3_600_000, -3_600_000, -300):
            clock.set(offset_ms)
            before = time.time(), time.monotonic()
            process.stdin.write("now\n")
            process.stdin.flush()
            wall, steady = map(float, process.stdout.readline().split())
            after = time.time(), time.monotonic()
            assert before[0] - 0.01 <= wall - offset_ms / 1000 <= after[0] + 0.01
            assert before[1] <= steady <= after[1]
        process.stdin.write("\n")
        process.stdin.close()
