"""The start of API processes: it ends at a signal, and with a message if it fails."""

import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
from uvicorn import Config
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors.multiprocess import SIGNALS

from service.common.child_processes import StartError
from service.common.config import Settings
from service.serving import api_processes, server
from tests.harness.servers import free_port
from tests.harness.waiting import PATIENCE_S

_WAITING = """
from service.common import logs
from service.common.config import Settings
from service.serving.{module} import serve
nowhere = {{"redis_url": "redis://127.0.0.1:1/0", "database_url": "postgresql://user@127.0.0.1:1/scrip"}}
settings = Settings(**nowhere, port={port}, api_processes=2, log_level="warning")
logs.configure(settings.log_level, "api")
serve(settings)
"""


@pytest.mark.parametrize("module", ["server", "api_processes"])
def test_a_signal_ends_a_start_that_waits(module: str) -> None:
    """SIGTERM ends the processes while their application waits for Postgres."""
    code = _WAITING.format(module=module, port=free_port())
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert "waiting_for_postgres" in process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        assert "Traceback" not in process.stderr.read()  # until no process has it open
        assert process.wait(PATIENCE_S) == 0


class Failing(Config):
    """The configuration of a process that can't start."""

    def __init__(self, settings: Settings) -> None:
        super().__init__("", workers=settings.api_processes, log_config=None)

    def load(self) -> None:
        """End as uvicorn does if the application does not start."""
        sys.exit(STARTUP_FAILURE)


@pytest.fixture
def _signals() -> Iterator[None]:
    """Restore the handlers of signals that uvicorn's supervisor replaces."""
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("_signals")
def test_a_process_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """If a process can't start, all of them end, and a message says where the reason is."""
    monkeypatch.setattr(api_processes, "ProcessConfig", Failing)
    with pytest.raises(StartError, match="can't start"):
        api_processes.serve(Settings(api_processes=2, port=free_port()))


@pytest.mark.parametrize("option", [socket.SO_REUSEADDR, socket.SO_REUSEPORT])
def test_an_address_in_use(option: int) -> None:
    """An address in use is a StartError that names the port, also if another service shares it among processes."""
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, option, 1)
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        says = f"127.0.0.1:{port} can't be used: Address already in use .*choose another"
        with pytest.raises(StartError, match=says):
            api_processes.make_listeners("127.0.0.1", port)
        with pytest.raises(StartError, match=f"{says} SCRIP_PORT"):
            server.serve(Settings(port=port))
        with pytest.raises(StartError, match=f"{says} SCRIP_METRICS_PORT"):
            server.serve(Settings(port=free_port(), metrics_port=port))


@pytest.mark.parametrize("serve", [server.serve, api_processes.serve])
def test_the_metrics_port_is_another(serve: Callable[[Settings], None]) -> None:
    """One port for clients and metrics is a StartError that names both settings."""
    port = free_port()
    with pytest.raises(StartError, match=f"SCRIP_METRICS_PORT and SCRIP_PORT are both {port}. Choose another"):
        serve(Settings(port=port, metrics_port=port))


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
def test_an_address_of_another_machine(host: str) -> None:
    """A host on which this machine can't listen is a StartError that names SCRIP_HOST."""
    with pytest.raises(StartError, match=r"can't be used: .* Set SCRIP_HOST to an address of this machine"):
        server.serve(Settings(host=host, port=free_port()))
