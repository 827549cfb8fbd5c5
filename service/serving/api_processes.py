"""Several API processes on one address. uvicorn's supervisor starts and replaces them. `scrip api`
(process_commands.py) calls `serve`, if more than one is set."""

import gc
import multiprocessing
import os
import signal
import socket
from typing import Any

from uvicorn import Config
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess

from service.common import logs
from service.common.child_processes import StartError
from service.common.config import Settings
from service.common.free_ports import check_metrics_port, resolve_free
from service.common.tally import Tally
from service.common.tracing import start_traces

HEALTH_TIMEOUT_S = 30
"""Time for a process to answer the supervisor, and for a new one to start before it replaces another on SIGHUP."""


def serve(settings: Settings) -> None:
    """Serve with several processes until SIGTERM or SIGINT. Raises StartError if the address or a process fails."""
    check_metrics_port(settings)
    gc.enable()
    supervisor = Supervisor(ProcessConfig(settings), make_listeners(settings.host, settings.port))
    for number in (signal.SIGTTIN, signal.SIGTTOU):  # uvicorn would change the number of processes
        signal.signal(number, signal.SIG_IGN)
    supervisor.run()
    if any(process.exitcode == STARTUP_FAILURE for process in supervisor.processes):
        raise StartError("An API process can't start, so all of them have ended. The log has the reason.")


class Supervisor(Multiprocess):
    """uvicorn's supervisor. It replaces a process that has ended, or that does not answer in HEALTH_TIMEOUT_S."""

    def keep_subprocess_alive(self) -> None:
        """Look after the processes. The death of one that is being asked ends the wait for its answer at once."""
        for process in self.processes:
            process.child_conn.close()
        super().keep_subprocess_alive()


class ProcessConfig(Config):
    """uvicorn's configuration of each process, which makes its application when uvicorn loads this.

    1. The supervisor pickles it for each process that it starts. All processes have the same tally.
    2. Each second, a process measures itself for the metrics. It ends if the supervisor has ended.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__(
            "", workers=settings.api_processes, timeout_worker_healthcheck=HEALTH_TIMEOUT_S, log_config=None
        )
        self._settings = settings
        self._tally = Tally(settings.api_processes + 1)  # one more for the new process during a replacement

    def get_loop_factory(self) -> Any:
        """Load the application before uvicorn handles signals: until then, a signal ends the process at once."""
        self.load()
        return super().get_loop_factory()

    def load(self) -> None:
        """Make the application, and count in the shared tally from now on."""
        gc.disable()
        import redis.asyncio.connection  # noqa: F401, or the first connection would: its objects are frozen, too

        from service.server.answers.accounting import answers
        from service.serving.process_metrics import process_metrics
        from service.serving.server import Lifespan, make_server_config

        logs.configure(self._settings.log_level, f"api {os.getpid()}")
        self._tally.take_block()
        answers.share(self._tally)
        process_metrics.replace_pythons()
        traces = start_traces("scrip-api")
        made = make_server_config(self._settings, traces=traces, callback_notify=self._update, timeout_notify=0)
        make_protocol: Any = made.http

        def make_counted_protocol(**options: Any) -> Any:
            process_metrics.connections = options["server_state"].connections
            return make_protocol(**options)

        vars(self).update(vars(made), http=make_counted_protocol)
        super().load()
        self.lifespan_class = Lifespan
        gc.freeze()
        gc.enable()

    async def _update(self) -> None:
        from service.serving.process_metrics import process_metrics

        process_metrics.measure()
        supervisor = multiprocessing.parent_process()
        if supervisor is not None and not supervisor.is_alive():
            signal.raise_signal(signal.SIGTERM)


class Listener:
    """An address. A process that unpickles it gets a socket of its own there, which does not listen yet.

    The kernel distributes connections evenly among several sockets. Of one socket, a process that wakes up takes all.
    """

    def __init__(self, family: int, address: Any) -> None:
        self._family, self._address = family, address

    def __reduce__(self) -> tuple[Any, ...]:
        return _bind, (self._family, self._address)


def make_listeners(host: str, port: int) -> list[Any]:
    """Make listeners for all addresses of `host`. Raises StartError if one is in use."""
    return [Listener(family, address) for family, _, _, _, address in resolve_free(host, port, "SCRIP_PORT")]


def _bind(family: int, address: Any) -> socket.socket:
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    if family == socket.AF_INET6:
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    listener.bind(address)
    return listener
