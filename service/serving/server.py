"""The HTTP server of an API process: uvicorn with httptools and uvloop. `scrip api` (process_commands.py) calls
`serve` for one process; api_processes.py runs several."""

import gc
import os
import signal
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog
import uvicorn
from uvicorn.lifespan.on import LifespanOn
from uvicorn.server import HANDLED_SIGNALS

from service.common.config import Settings
from service.common.forwarded_for import Proxies
from service.common.free_ports import check_metrics_port, resolve_free
from service.common.tracing import start_traces
from service.engine.deciding.recall import resolve_recall
from service.server.api.cors import Origins
from service.server.fastlane.bounded_protocol import MAX_CONNECTIONS
from service.server.fastlane.connection_room import Room
from service.server.fastlane.protocol import Protocol
from service.server.fastlane.routes import Lane
from service.serving.connection_bound import bound_connections
from service.serving.process_metrics import process_metrics

if TYPE_CHECKING:
    from service.common.spans import Traces

BACKLOG = 2048
KEEP_ALIVE_S = 30
SHUTDOWN_TIMEOUT_S = 8

log = structlog.get_logger()


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT, then finish the requests in flight. Raises StartError if a port is in use."""
    resolve_free(settings.host, settings.port, "SCRIP_PORT")
    check_metrics_port(settings)
    config = make_server_config(settings, traces=start_traces("scrip-api"))
    config.load()
    config.lifespan_class = Lifespan
    server = uvicorn.Server(config)
    process_metrics.connections = server.server_state.connections
    # The application's objects live as long as the process; collecting garbage among them blocks the loop for 50 ms.
    gc.freeze()
    gc.enable()
    server.run()


class Lifespan(LifespanOn):
    """uvicorn's lifespan; a signal ends a process whose application still waits for Postgres to start."""

    async def startup(self) -> None:
        """Start the application. At SIGTERM and SIGINT, end the process with 0: it has nothing to finish yet."""
        handlers = {number: signal.signal(number, lambda *_: os._exit(0)) for number in HANDLED_SIGNALS}
        try:
            await super().startup()
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)


def make_server_config(
    settings: Settings, *, has_fast_lane: bool = True, traces: "Traces | None" = None, **more: Any
) -> uvicorn.Config:
    """Create the application, and make uvicorn's configuration; `more` overrides its options.

    Without the fast lane, Litestar answers all requests, with the same results but more slowly.
    """
    from service.server.api.request_middleware import around
    from service.serving.app import create_app

    app = create_app(settings, traces)
    proxies, origins = Proxies(settings.trusted_proxies), Origins(settings.cors_origins)
    max_connections = bound_connections()
    if max_connections < MAX_CONNECTIONS:
        log.warning("connections_bounded", connections=max_connections, usual=MAX_CONNECTIONS)

    protocol, outer = Protocol, around(app, proxies, origins)
    if traces:
        from service.server.api.traced_requests import traced
        from service.server.fastlane.traced_protocol import TracedProtocol

        protocol, outer = partial(TracedProtocol, traces=traces), traced(outer, traces)

    room = Room()

    def make_protocol(**options: Any) -> Protocol:
        lane = get_lane() if has_fast_lane else None
        return protocol(**options, max_connections=max_connections, room=room, lane=lane)

    lanes: list[Lane] = []

    def get_lane() -> Lane:
        if not lanes:  # at the first connection, when the application has started
            context = app.state.context
            recall = partial(resolve_recall, context.decider, context.pool)
            lanes.append(Lane(context.decider, context.keyring, recall, proxies, answers_origins=origins.some))
        return lanes[0]

    address: dict[str, Any] = {"host": settings.host, "port": settings.port}
    return uvicorn.Config(
        outer,
        http=make_protocol,  # type: ignore[arg-type]
        loop="uvloop",
        ws="none",
        lifespan="on",
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=SHUTDOWN_TIMEOUT_S,
        access_log=False,
        log_config=None,
        server_header=False,
        date_header=True,
        proxy_headers=False,
        **address | more,
    )
