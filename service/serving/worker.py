"""The composition root of a worker process: the engine, with the server's tasks. `scrip worker` calls `run`."""

import gc
from functools import partial
from typing import TYPE_CHECKING

import uvloop

from service.common import logs
from service.common.config import Settings
from service.common.metrics_port import serve_metrics
from service.common.running_service import find_servers
from service.common.tracing import start_traces
from service.engine.worker import process
from service.engine.worker.engine_settings import EngineSettings
from service.engine.worker.partition_worker import Parts
from service.engine.worker.write_behind import Flusher
from service.server.tasks.partition_tasks import partition_tasks
from service.server.tasks.process_tasks import PRUNES, process_tasks

if TYPE_CHECKING:
    from service.server.webhooks.public_http import Poster


def run(settings: Settings) -> None:
    """Work until SIGTERM or SIGINT. Raises Unusable if a server is not set."""
    urls = find_servers(settings)
    logs.configure(settings.log_level, "worker")
    traces = start_traces("scrip-worker")

    def make_parts() -> Parts:
        """For one partition: with traces, the classes that make spans, which share the events of requests."""
        make_flusher, make_poster = Flusher, partial(_make_poster, settings.embedded)
        if traces:
            from service.engine.worker.traced_recording import EventTraces, TracedFlusher
            from service.server.webhooks.traced_sending import TracedPoster

            events = EventTraces()
            make_flusher = partial(TracedFlusher, traces, events)
            make_poster = partial(TracedPoster, traces, events, settings.embedded)
        return Parts(make_flusher, lambda opened: partition_tasks(settings, opened, make_poster))

    serve = partial(serve_metrics, settings.host, settings.metrics_port)
    import redis.asyncio.connection  # noqa: F401, or the first connection would: its objects are frozen, too

    # A batch of the outbox is some ten thousand live lists. Collecting cycles after every 700 cost 1.2 µs an event.
    gc.freeze()
    gc.set_threshold(100_000)
    gc.enable()
    engine = EngineSettings(*urls, settings.redis_durability, settings.standbys, settings.max_unrecorded_s)
    uvloop.run(process.work(engine, process.Work(make_parts, process_tasks, PRUNES, serve)))
    if traces:
        traces.end()


def _make_poster(to_loopback: bool) -> "Poster":
    from service.server.webhooks.public_http import Poster  # it needs aiohttp, which most partitions don't

    return Poster(to_loopback)
