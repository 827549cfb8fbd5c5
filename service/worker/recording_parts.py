"""What makes a partition's Flusher, and the Poster of its webhooks; partition_worker.py calls this."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from service.worker.webhooks.public_http import Poster
from service.worker.write_behind import Flusher

if TYPE_CHECKING:
    from service.common.spans import Traces


def choose_parts(traces: "Traces | None") -> tuple[Callable[..., Flusher], Callable[[bool], Poster]]:
    """With traces, the classes that make spans."""
    if traces is None:
        return Flusher, Poster
    from service.worker.traced_recording import traced_parts

    return traced_parts(traces)
