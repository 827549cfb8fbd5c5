"""`scrip run` for tests: everything on one machine, as a user starts it."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from service.engine.record.migrations import apply_missing
from service.engine.record.pool import connect_once
from tests.harness.trees import ROOT
from tests.harness.waiting import PATIENCE_S, until

T = TypeVar("T")
PARTITIONS = int(os.environ.get("SCRIP_TEST_PARTITIONS") or 4)
"""Of a service that tests share, or that gets faults. A service of one test alone has one, as `scrip run` makes it."""
HOME = PARTITIONS - 1
"""The partition of a test that uses one."""
_IN_MEMORY = Path("/dev/shm")
_PLENTY_BYTES = 3 << 30
"""Four processes of tests, side by side, hold up to 0.5 GiB at once."""
_IN_TRANSACTION = """
SELECT EXISTS (
  SELECT FROM pg_stat_activity
  WHERE datname = current_database() AND application_name = 'scrip-worker' AND xact_start IS NOT NULL
)"""


@contextmanager
def data_folder() -> Iterator[Path]:
    """A folder for servers' data, gone in the end: in memory where there is plenty, since what tests wait for most is a
    disk's syncs, and no test is about these. Never in pytest's folder, which each run of it closes to other accounts,
    Postgres's too."""
    roomy = os.access(_IN_MEMORY, os.W_OK) and shutil.disk_usage(_IN_MEMORY).free >= _PLENTY_BYTES
    place = _IN_MEMORY if roomy else None
    with tempfile.TemporaryDirectory(prefix="scrip-tests-", dir=place, ignore_cleanup_errors=True) as folder:
        yield Path(folder)


async def migrate(database_url: str, *folder: Path) -> list[str]:
    """Apply the missing migrations of the service, or of another folder; return their names."""
    connection = await connect_once(database_url, name="scrip migrate")
    observer = await connect_once(database_url)
    try:
        return await apply_missing(connection, observer, *folder)
    finally:
        await observer.close()
        await connection.close()


def run_aside(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end on a loop of its own: the test may have one here."""
    with ThreadPoolExecutor(1) as aside:
        return aside.submit(asyncio.run, work).result()


def _is_in_transaction(database_url: str) -> bool:
    """Whether a worker has a transaction there."""

    async def ask() -> bool:
        connection = await connect_once(database_url, name="tests")
        try:
            return bool(await connection.fetchval(_IN_TRANSACTION))
        finally:
            await connection.close()

    return run_aside(ask())


def is_ready(url: str) -> bool:
    """Whether the service there is ready and no part of it fails."""
    try:
        with urllib.request.urlopen(f"{url}/health/ready", timeout=5) as answer:
            return json.load(answer)["failing"] == []
    except OSError:
        return False


class Run:
    """One `scrip run` on a data folder, of this tree or another; its output goes to a file beside that folder."""

    def __init__(self, data_dir: Path, port: int, tree: Path = ROOT, *, partitions: int | None = None) -> None:
        self.data_dir = data_dir
        self.output = data_dir.with_name(f"output-{port}")
        self.url, self.tree = f"http://127.0.0.1:{port}", tree
        unset = ("REDIS_URL", "DATABASE_URL")
        env = {name: value for name, value in os.environ.items() if name not in unset}
        env |= {"SCRIP_DATA_DIR": str(data_dir), "SCRIP_PORT": str(port)}
        env.setdefault("SCRIP_RETIRE_DAYS", "0")  # no book leaves Redis while a test compares it
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "service", "run", *(["--partitions", str(partitions)] if partitions else [])],
                cwd=tree,
                env=env,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    @property
    def facts(self) -> dict[str, Any]:
        return json.loads((self.data_dir / "run.json").read_text())

    @property
    def pids(self) -> list[int]:
        return [pid for pids in self.facts["pids"].values() for pid in pids]

    def until_ready(self) -> "Run":
        self._until(lambda: (self.data_dir / "run.json").exists() and self.ready())
        return self

    def until_replaced(self, part: str, pid: int) -> None:
        self._until(lambda: self.facts["pids"][part] not in ([], [pid]) and self.ready())

    def kill(self, part: str, which: signal.Signals = signal.SIGKILL) -> None:
        """Kill the process of a part, and wait until another has its place."""
        (pid,) = self.facts["pids"][part]
        os.kill(pid, which)
        self.until_replaced(part, pid)

    def ready(self) -> bool:
        """Whether it is ready and no part of it fails."""
        return is_ready(self.url)

    def get(self, path: str, key: str) -> bytes:
        request = urllib.request.Request(self.url + path, headers={"Authorization": f"Bearer {key}"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.read()

    @contextmanager
    def asleep(self, *parts: str) -> Iterator[None]:
        """Stop the processes of these parts with SIGSTOP inside the block. A worker stops outside of its transactions:
        else changes would wait for its locks, for up to 8 s."""
        pids = [pid for part in parts for pid in self.facts["pids"][part]]

        def send(which: signal.Signals) -> None:
            for pid in pids:
                os.kill(pid, which)

        def stop() -> bool:
            send(signal.SIGSTOP)
            if "worker" not in parts or not _is_in_transaction(self.facts["databaseUrl"]):
                return True
            send(signal.SIGCONT)
            return False

        until(stop, "a moment without a transaction of the worker")
        try:
            yield
        finally:
            send(signal.SIGCONT)

    def end(self, which: signal.Signals = signal.SIGINT) -> int:
        self.process.send_signal(which)
        return self.process.wait(PATIENCE_S)

    def refusal(self) -> str:
        """What it says when it refuses to start: one line and exit code 2."""
        assert self.process.wait(PATIENCE_S) == 2
        text = self.output.read_text()
        assert "Traceback" not in text
        return next(line for line in text.splitlines() if line.startswith("Error: "))

    def _until(self, reached: Callable[[], bool]) -> None:
        def is_reached() -> bool:
            assert self.process.poll() is None, "`scrip run` has ended"
            return reached()

        try:
            until(is_reached, "`scrip run`")
        except AssertionError as error:
            error.add_note(self.output.read_text())
            raise
