"""The API process: uvicorn with httptools and uvloop."""

import gc
import resource
from functools import partial
from typing import Any

import uvicorn
from litestar import Litestar

from service.api.cors import Origins
from service.api.recall import resolve_recall
from service.common import logs
from service.common.config import Settings
from service.common.forwarded_for import Proxies
from service.fastlane.bounded_protocol import MAX_CONNECTIONS
from service.fastlane.protocol import Protocol
from service.fastlane.routes import Lane

BACKLOG = 2048
KEEP_ALIVE_S = 30
GRACE_S = 8
OTHER_FILES = 200
"""What the process opens besides its clients' connections."""


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; answers in flight go out."""
    logs.configure(settings, "api")
    server = uvicorn.Server(server_config(settings))
    # The application's own objects live as long as the process: a look for cycles among them held the loop for 50 ms.
    gc.freeze()
    server.run()


def server_config(settings: Settings, *, app: Litestar | None = None, hot: bool = True, **more: Any) -> uvicorn.Config:
    """How uvicorn serves the app, which is made where there is none. Not `hot` where Litestar is to take everything,
    which answers the same, only later."""
    from service.api.request_middleware import around
    from service.serving.app import create_app

    app = create_app(settings) if app is None else app
    proxies, origins = Proxies(settings.trusted_proxies), Origins(settings.cors_origins)
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    max_connections = max(min(MAX_CONNECTIONS, files - OTHER_FILES), 1)

    def protocol(**made: Any) -> Protocol:
        return Protocol(**made, max_connections=max_connections, lane=lane() if hot else None)

    lanes: list[Lane] = []

    def lane() -> Lane:
        if not lanes:  # the first connection comes when the application has started
            context = app.state.context
            recall = partial(resolve_recall, context.decider, context.pool)
            lanes.append(Lane(context.decider, context.keyring, recall, proxies, answers_origins=origins.some))
        return lanes[0]

    return uvicorn.Config(
        around(app, proxies, origins),
        http=protocol,  # type: ignore[arg-type]
        loop="uvloop",
        ws="none",
        lifespan="on",
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=GRACE_S,
        access_log=False,
        log_config=None,
        server_header=False,
        date_header=True,
        proxy_headers=False,
        **({"host": settings.host, "port": settings.port} | more),
    )
