"""A service of a load's own, for as long as it takes."""

import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.running import Run
from tests.servers import free_port


@contextmanager
def own_service() -> Iterator[Run]:
    """A `scrip run` on data of its own, ready; gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="scrip-load-", ignore_cleanup_errors=True) as folder:
        service = Run(Path(folder) / "data", free_port())
        try:
            yield service.until_ready()
        finally:
            if service.process.poll() is None:
                service.end(signal.SIGTERM)
