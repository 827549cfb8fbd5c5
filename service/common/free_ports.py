"""Ports that a process is about to listen on. server.py, api_processes.py and local_service.py see whether they are
free before a process starts; metrics_port.py explains its own error."""

import contextlib
import errno
import socket
from collections.abc import Iterator
from typing import Any

from service.common.child_processes import StartError
from service.common.config import Settings


def resolve_free(host: str, port: int | None, setting: str) -> list[Any]:
    """The addresses of `host`, as socket.getaddrinfo returns them; none without a port. Raises StartError if one is in
    use. `setting` names the port."""
    if port is None:
        return []
    with explain_use(host, port, setting):
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, _, _, _, address in found:
            # Not with SO_REUSEPORT: that would join another service.
            socket.create_server(address[:2], family=family).close()
    return found


def check_metrics_port(settings: Settings) -> None:
    """Raises StartError if an API process can't use its port of metrics."""
    if settings.metrics_port == settings.port:
        raise StartError(f"SCRIP_METRICS_PORT and SCRIP_PORT are both {settings.port}. Choose another one of them.")
    resolve_free(settings.host, settings.metrics_port, "SCRIP_METRICS_PORT")


@contextlib.contextmanager
def explain_use(host: str, port: int, setting: str) -> Iterator[None]:
    """Turn an OSError within into a StartError that names the port's setting."""
    try:
        yield
    except OSError as error:
        remedy = f"Stop what listens there, or choose another {setting}."
        if error.errno not in (errno.EADDRINUSE, errno.EACCES):
            remedy = "Set SCRIP_HOST to an address of this machine."
        raise StartError(f"{host}:{port} can't be used: {error.strerror}. {remedy}") from error
