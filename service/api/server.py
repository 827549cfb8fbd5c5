"""The API process: uvicorn with httptools and uvloop."""

import uvicorn

from service import logs
from service.config import Settings
from service.fastlane.protocol import Protocol

BACKLOG = 2048
KEEP_ALIVE_S = 30
GRACE_S = 8


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; answers in flight go out."""
    from service.api.requests import with_request_id
    from service.app import create_app

    logs.configure(settings, "api")
    config = uvicorn.Config(
        with_request_id(create_app(settings)),
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        http=Protocol,
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
    )
    uvicorn.Server(config).run()
