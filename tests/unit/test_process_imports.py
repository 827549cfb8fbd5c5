"""What the processes import: starting them is a good part of an outage, and of the tests' time."""

import subprocess
import sys

import pytest

_COMMAND = "from service.cli.main import main; main.get_command(None, {!r});"
_APPLICATION = """
from service.common import config
from service.serving.server import make_server_config
make_server_config(config.load()).load()
"""
_NEVER = {
    "aiohttp",
    "attr",
    "cryptography",
    "jinja2",
    "jwt",
    "opentelemetry.sdk",
    "pydantic.v1",
    "pygments",
    "redis",
    "rich",
}
_OF_THE_API = {"litestar", "httptools", "anyio", "multipart", "yaml", "service.server.api", "service.server.fastlane"}
_PROCESSES = {
    "api": (_COMMAND.format("api") + _APPLICATION, _NEVER),
    "supervisor of APIs": (_COMMAND.format("api") + "import service.serving.api_processes", _NEVER | _OF_THE_API),
    "worker": (_COMMAND.format("worker") + "import service.serving.worker", _NEVER | _OF_THE_API | {"uvicorn"}),
    "list of commands": (
        "from service.cli.main import main; main(['--help'], standalone_mode=False)",
        _NEVER | _OF_THE_API | {"uvicorn", "asyncpg", "pydantic", "asyncio", "service.cli.process_commands"},
    ),
    "every command": (
        "from service.cli.main import main; [main.get_command(None, name) for name in main.list_commands(None)]",
        {"redis"},
    ),
}


@pytest.mark.parametrize("process", _PROCESSES)
def test_a_process_imports_only_what_it_runs(process: str) -> None:
    """A process does not import the heavy packages that it only needs for some settings, or that others need."""
    code, heavy = _PROCESSES[process]
    command = [sys.executable, "-c", f"{code}\nimport sys; print(*sys.modules)"]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    assert not heavy.intersection(ran.stdout.split())
