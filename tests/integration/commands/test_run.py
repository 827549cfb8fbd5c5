"""`scrip run`: everything on one machine, as a user starts it."""

import contextlib
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.harness.running import Run, data_folder
from tests.harness.servers import free_port
from tests.harness.service_fixture import Service
from tests.harness.waiting import until


@pytest.fixture
def folder() -> Iterator[Path]:
    """The empty folder in which `data` will be."""
    with data_folder() as folder:
        yield folder


def _start_in_vain(folder: Path, port: int | None = None) -> str:
    """Start a run that must refuse to start; return its message."""
    return Run(folder / "data", port or free_port()).refusal()


def _running(pids: list[int]) -> list[int]:
    """Return the live processes; a zombie has ended."""
    live: list[int] = []
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                live.append(pid)
    return live


def test_ready(patient: Service) -> None:
    """A ready run has one process of each kind in run.json, and prints the demo's keys and the checkout's URL."""
    run = patient.run
    pids = {name: len(pids) for name, pids in run.facts["pids"].items()}
    assert run.facts["url"] == run.url
    assert pids == {"api": 1, "worker": 1, "redis": 1, "postgres": 1}
    assert len(_running(run.pids)) == 4
    assert "demo_checkout" in run.output.read_text()
    assert f"{run.url}/checkout  a mock shop" in run.output.read_text()


def test_second_run(patient: Service) -> None:
    """A second run on the same data folder refuses to start and does not disturb the first."""
    facts = patient.run.facts

    refusal = _start_in_vain(patient.run.data_dir.parent)

    assert f"pid {patient.run.process.pid}" in refusal
    assert patient.run.facts == facts
    assert patient.run.ready()


def test_not_ready_without_scripts(patient: Service) -> None:
    """A Redis with an open gate and without its scripts is not ready."""
    with patient.run.asleep("worker"):
        patient.redis().script_flush()
        assert not patient.run.ready()
    patient.run.until_ready()


def test_killed_parts_come_back(patient: Service) -> None:
    """The run restarts each killed part alone, updates run.json, and is ready again."""
    run = patient.run
    for part in ("api", "worker", "redis", "postgres"):
        others = {name: pids for name, pids in run.facts["pids"].items() if name != part}
        (pid,) = run.facts["pids"][part]

        os.kill(pid, signal.SIGKILL)
        run.until_replaced(part, pid)

        assert {name: pids for name, pids in run.facts["pids"].items() if name != part} == others


def test_ends(own_service: Callable[[], Service]) -> None:
    """Ctrl-C and SIGTERM end the run with 0 and leave neither a process nor run.json; a killed run leaves no process.
    Each time the next start serves the same data, also where Valkey's log ends with an incomplete command, which no
    client got a reply to."""
    linux = sys.platform == "linux"  # only Linux signals a parent's death to its children
    run = own_service().run
    books = run.get("/v1/books", "demo_manage")
    for which in (signal.SIGINT, signal.SIGTERM, *([signal.SIGKILL] if linux else [])):
        pids = run.pids
        assert run.end(which) == (-which if which == signal.SIGKILL else 0)
        if which != signal.SIGKILL:
            assert not (run.data_dir / "run.json").exists()
            assert _running(pids) == []
        until(lambda: not _running(pids))  # noqa: B023
        if which == signal.SIGTERM:
            (log,) = (run.data_dir / "valkey" / "appendonlydir").glob("*.incr.aof")
            with log.open("ab") as file:
                file.write(b"*3\r\n$3\r\nSET\r\n$3\r\nke")
        run = own_service().run
        assert run.get("/v1/books", "demo_manage") == books


def test_port_in_use(folder: Path) -> None:
    """A port in use ends the start in one line, before any server starts."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refusal = _start_in_vain(folder, port)

    assert f"127.0.0.1:{port}" in refusal
    assert "SCRIP_PORT" in refusal
    assert not (folder / "data" / "postgres").exists()


def test_folder_is_a_file(folder: Path) -> None:
    """The message names a data folder that is a file."""
    (folder / "data").write_text("")

    assert str(folder / "data") in _start_in_vain(folder)


def test_broken_postgres(folder: Path) -> None:
    """The message names a broken Postgres folder, which stays as it is."""
    marker = folder / "data" / "postgres" / "PG_VERSION"
    marker.parent.mkdir(parents=True)
    marker.write_bytes(b"\xffgarbage")

    assert str(marker.parent) in _start_in_vain(folder)
    assert marker.read_bytes() == b"\xffgarbage"


def test_broken_valkey(folder: Path) -> None:
    """The message names a broken Valkey log with Valkey's own error, and no process stays."""
    logs = folder / "data" / "valkey" / "appendonlydir"
    logs.mkdir(parents=True)
    (logs / "appendonly.aof.manifest").write_text("file appendonly.aof.1.incr.aof seq 1 type i\n")
    (logs / "appendonly.aof.1.incr.aof").write_text("garbage\n")

    refusal = _start_in_vain(folder)

    assert str(logs.parent) in refusal
    assert "Bad file format" in refusal
    assert not [
        process
        for process in psutil.process_iter(["cmdline"])
        if str(folder) in " ".join(process.info["cmdline"] or [])
    ]
