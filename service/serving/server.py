"""The HTTP server of an API process: uvicorn with httptools and uvloop."""

import asyncio
import gc
import resource
import socket
from functools import partial
from typing import Any

import uvicorn
from litestar import Litestar
from prometheus_client import REGISTRY

from service.api.cors import Origins
from service.api.recall import resolve_recall
from service.common import logs
from service.common.config import Settings
from service.common.forwarded_for import Proxies
from service.fastlane.bounded_protocol import MAX_CONNECTIONS
from service.fastlane.protocol import Protocol
from service.fastlane.routes import Lane
from service.serving.resource_usage import RequestsInFlight, count_in_flight

BACKLOG = 2048
KEEP_ALIVE_S = 30
SHUTDOWN_TIMEOUT_S = 8
RESERVED_FILES = 200
"""File descriptors that the process needs besides its clients' connections."""
EXIT_POLL_S = 0.1
"""Interval at which a start looks for a signal."""


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT, then finish the requests in flight."""
    logs.configure(settings, "api")
    server = Server(make_server_config(settings))
    REGISTRY.register(RequestsInFlight(lambda: count_in_flight(server.server_state.connections)))
    # The application's objects live as long as the process; collecting garbage among them blocks the loop for 50 ms.
    gc.freeze()
    server.run()


class Server(uvicorn.Server):
    """uvicorn's server, which a signal also ends while the application waits for Postgres to start."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, or end the wait at a signal: then `started` stays False, and uvicorn returns."""
        starting = asyncio.create_task(super().startup(sockets))
        while not starting.done() and not self.should_exit:
            await asyncio.wait({starting}, timeout=EXIT_POLL_S)
        if not starting.done():
            starting.cancel()
            await asyncio.wait({starting})
        if not starting.cancelled():
            starting.result()


def make_server_config(
    settings: Settings, *, app: Litestar | None = None, has_fast_lane: bool = True, **more: Any
) -> uvicorn.Config:
    """Make uvicorn's configuration; `more` overrides its options. If `app` is None, the application is created.

    Without the fast lane, Litestar answers all requests, with the same results but more slowly.
    """
    from service.api.request_middleware import around
    from service.serving.app import create_app

    app = create_app(settings) if app is None else app
    proxies, origins = Proxies(settings.trusted_proxies), Origins(settings.cors_origins)
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    max_connections = max(min(MAX_CONNECTIONS, files - RESERVED_FILES), 1)

    def make_protocol(**options: Any) -> Protocol:
        return Protocol(**options, max_connections=max_connections, lane=get_lane() if has_fast_lane else None)

    lanes: list[Lane] = []

    def get_lane() -> Lane:
        if not lanes:  # at the first connection, when the application has started
            context = app.state.context
            recall = partial(resolve_recall, context.decider, context.pool)
            lanes.append(Lane(context.decider, context.keyring, recall, proxies, answers_origins=origins.some))
        return lanes[0]

    return uvicorn.Config(
        around(app, proxies, origins),
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
        **({"host": settings.host, "port": settings.port} | more),
    )
