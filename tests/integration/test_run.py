"""`scrip run`: everything on one machine, as a user starts it."""

import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import redis

from loadtests.harness.running import PATIENCE_S, Run, data_folder
from loadtests.harness.servers import free_port


@pytest.fixture
def folder() -> Iterator[Path]:
    """Where `data` is; nothing else is there."""
    with data_folder() as folder:
        yield folder


def _refused(folder: Path, port: int | None = None) -> str:
    """What a run on this folder says when it refuses to start."""
    return Run(folder / "data", port or free_port()).refusal()


class Home:
    """A data folder, and the run on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._port = free_port()
        self.run: Run | None = None

    def up(self) -> Run:
        """The run, ready; a new one where the last has ended."""
        if self.run is None or self.run.process.poll() is not None:
            self.run = Run(self.folder / "data", self._port)
        return self.run.until_ready()


@pytest.fixture(scope="module")
def home() -> Iterator[Home]:
    """What most tests here share: a start takes longer than they do."""
    with data_folder() as folder:
        home = Home(folder)
        yield home
        if home.run and home.run.process.poll() is None:
            home.run.end(signal.SIGTERM)


def _running(pids: list[int]) -> list[int]:
    """Those that still run; a zombie has only not been waited for."""
    live: list[int] = []
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                live.append(pid)
    return live


def _until_gone(pids: list[int]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while left := _running(pids):
        assert time.monotonic() < deadline, left
        time.sleep(0.05)


def test_ready(home: Home) -> None:
    """A first start ends ready, with one process of each kind in run.json and the keys to try printed."""
    run = home.up()

    assert run.facts["url"] == run.url
    assert {name: len(pids) for name, pids in run.facts["pids"].items()} == {
        "api": 1,
        "worker": 1,
        "redis": 1,
        "postgres": 1,
    }
    assert len(_running(run.pids)) == 4
    assert "demo_checkout" in run.output.read_text()
    assert f"{run.url}/checkout\n" in run.output.read_text()


def test_second_run(home: Home) -> None:
    """A second run on the same data folder is refused and doesn't disturb the first."""
    first = home.up()
    facts = first.facts

    refusal = _refused(home.folder)

    assert f"pid {first.process.pid}" in refusal
    assert first.facts == facts
    assert first.ready()


def test_not_ready_without_scripts(home: Home) -> None:
    """A Redis that kept an open gate and forgot its scripts decides nothing, so nobody is told that it can."""
    run = home.up()
    (worker,) = run.facts["pids"]["worker"]
    os.kill(worker, signal.SIGSTOP)
    with redis.Redis.from_url(run.facts["redisUrl"]) as client:
        client.script_flush()
    assert not run.ready()
    os.kill(worker, signal.SIGCONT)
    run.until_ready()


def test_killed_parts_come_back(home: Home) -> None:
    """Each part that is killed is started again by itself, run.json says so, and the service is ready again."""
    run = home.up()
    for part in ("api", "worker", "redis", "postgres"):
        others = {name: pids for name, pids in run.facts["pids"].items() if name != part}
        (pid,) = run.facts["pids"][part]

        os.kill(pid, signal.SIGKILL)
        run.until_replaced(part, pid)

        assert {name: pids for name, pids in run.facts["pids"].items() if name != part} == others


@pytest.mark.parametrize("which", [signal.SIGINT, signal.SIGTERM])
def test_stops_in_order(home: Home, which: signal.Signals) -> None:
    """Ctrl-C and SIGTERM end it with 0, and leave neither a process nor run.json."""
    run = home.up()
    pids = run.pids

    assert run.end(which) == 0

    assert not (run.data_dir / "run.json").exists()
    assert _running(pids) == []


def test_data_stays(home: Home) -> None:
    """The next start serves the same data."""
    run = home.up()
    before = run.get("/v1/books", "demo_manage")
    run.end()

    assert home.up().get("/v1/books", "demo_manage") == before


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells children of their parent's death")
def test_killed_itself(home: Home) -> None:
    """Where `scrip run` itself is killed, no process outlives it, and the next start is ready."""
    run = home.up()
    pids = run.pids

    run.end(signal.SIGKILL)

    _until_gone(pids)
    home.up()


def test_cut_off_valkey_log(home: Home) -> None:
    """A command cut off at the end of Valkey's log, which nobody was answered, doesn't hinder a start."""
    run = home.up()
    run.end()
    (log,) = (run.data_dir / "valkey" / "appendonlydir").glob("*.incr.aof")
    with log.open("ab") as file:
        file.write(b"*3\r\n$3\r\nSET\r\n$3\r\nke")

    home.up()


def test_port_in_use(folder: Path) -> None:
    """A port in use is said in one line, before anything is started."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refusal = _refused(folder, port)

    assert f"127.0.0.1:{port}" in refusal
    assert "SCRIP_PORT" in refusal
    assert not (folder / "data" / "postgres").exists()


def test_folder_is_a_file(folder: Path) -> None:
    """A data folder that can't be used is named."""
    (folder / "data").write_text("")

    assert str(folder / "data") in _refused(folder)


def test_broken_postgres(folder: Path) -> None:
    """A broken Postgres folder is named and left as it is."""
    marker = folder / "data" / "postgres" / "PG_VERSION"
    marker.parent.mkdir(parents=True)
    marker.write_bytes(b"\xffgarbage")

    assert str(marker.parent) in _refused(folder)
    assert marker.read_bytes() == b"\xffgarbage"


def test_broken_valkey(folder: Path) -> None:
    """A broken log of Valkey is named with what Valkey says about it, and nothing is left running."""
    logs = folder / "data" / "valkey" / "appendonlydir"
    logs.mkdir(parents=True)
    (logs / "appendonly.aof.manifest").write_text("file appendonly.aof.1.incr.aof seq 1 type i\n")
    (logs / "appendonly.aof.1.incr.aof").write_text("garbage\n")

    refusal = _refused(folder)

    assert str(logs.parent) in refusal
    assert "Bad file format" in refusal
    assert not [
        process
        for process in psutil.process_iter(["cmdline"])
        if str(folder) in " ".join(process.info["cmdline"] or [])
    ]
