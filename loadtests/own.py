"""A service of a load's own, for as long as it takes, and what it spends."""

import contextlib
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from loadtests.harness.running import Run
from loadtests.harness.servers import free_port

ROOT = Path(__file__).parents[1]


@contextmanager
def own_service(tree: Path = ROOT) -> Iterator[Run]:
    """A `scrip run` of this tree or another on data of its own, ready; gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="scrip-load-", ignore_cleanup_errors=True) as folder:
        service = Run(Path(folder) / "data", free_port(), tree)
        try:
            yield service.until_ready()
        finally:
            if service.process.poll() is None:
                service.end(signal.SIGTERM)


def cpu_s(pid: int) -> float:
    """CPU seconds of a process so far, with its children."""
    process = psutil.Process(pid)
    spent = process.cpu_times()
    total = spent.user + spent.system + spent.children_user + spent.children_system
    for child in process.children():
        with contextlib.suppress(psutil.NoSuchProcess):
            times = child.cpu_times()
            total += times.user + times.system
    return total
