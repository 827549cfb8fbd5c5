"""Loads by locust against a running service, and their verdict."""

import csv
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import msgspec
import pytest

from loadtests import load
from loadtests.buyers import Crowd
from loadtests.judge import Judge
from loadtests.ledger import Ledger, read_entries
from loadtests.own import ROOT
from loadtests.plan import BOOK_USES, TOKEN, Maker, new_mark
from loadtests.tables import Tables
from loadtests.target import Target
from loadtests.visits import VISITS, Visit
from loadtests.wire import Barrage
from tests.harness.servers import free_port
from tests.harness.service_fixture import Service
from tests.harness.waiting import PATIENCE_S, until

KEPT = {"plan.json", "report.html", "locust.log", "judgement.txt", "memory.csv", "load_stats.csv", "load_failures.csv"}

Loaded = Callable[..., tuple[int, Path]]


@pytest.fixture
def loaded(service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Loaded:
    """Run `make load` with these options; its exit code and its folder."""
    monkeypatch.setenv(TOKEN, "trial_admin")

    def run(*options: str) -> tuple[int, Path]:
        code = load.main(["--url", service.run.url, "--results", str(tmp_path), "--pay", "0.3", *options])
        (folder,) = tmp_path.iterdir()
        return code, folder

    return run


SHAPES = {
    "steady": "--users 25 --rate 25 --seconds 10",
    "opening": "--users 150 --seconds 20",
    "soak": "--users 15 --rate 5 --seconds 10",
}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_load_is_judged_and_kept(loaded: Loaded, shape: str) -> None:
    """A load has every kind of buyer, a clean verdict, and leaves reports and a ledger. Locust counts the same
    requests as the ledger, except those that its end cut off."""
    code, folder = loaded("--shape", shape, *SHAPES[shape].split())
    assert code == 0, (folder / "judgement.txt").read_text() + (folder / "locust.log").read_text()
    sent = Counter((one.buyer, one.op) for one in read_entries(folder) if one.buyer and (one.status or one.refusal))
    assert {who for who, _ in sent} >= {who for who, _, _ in VISITS}
    assert {path.name for path in folder.iterdir()} >= KEPT
    with (folder / "load_failures.csv").open() as lines:
        assert list(csv.DictReader(lines)) == []
    summary = re.findall(r"^(\w+) +(\w+) +(\d+) +0\(0.00%\)", (folder / "locust.log").read_text(), re.MULTILINE)
    assert {(who, op): int(number) for who, op, number in summary} == sent
    assert not any(b"trial_admin" in path.read_bytes() for path in folder.iterdir())


def test_a_load_ends_after_its_requests(loaded: Loaded) -> None:
    """A load of two processes ends after its number of requests; each process has a ledger, and the judge one."""
    few = ("--users", "10", "--rate", "10", "--seconds", "60", "--requests", "20", "--processes", "2")
    code, folder = loaded(*few)
    assert code == 0, (folder / "judgement.txt").read_text() + (folder / "locust.log").read_text()
    assert sum(one.buyer != "" for one in read_entries(folder)) >= 20
    assert len(list(folder.glob("ledger-*.jsonl"))) == 3


async def test_a_lock_without_an_answer_is_returned(service: Service) -> None:
    """The load's end cuts off a lock that holds a use of a total: the judge returns it, and can use the total up."""
    url, key, mark = service.run.url, "trial_admin", new_mark()
    with Barrage(url, key) as barrage, Ledger([url], key) as ledger:
        maker = Maker(ledger, mark)
        book = await maker.book("reserved", 2 * BOOK_USES, total=BOOK_USES)
        visit = Visit(Crowd(ledger, maker.books, mark), "Fighter")
        await visit.redeem(book, book.code(0))
        locked = await visit.lock(book, book.code(1), visit.order())
        unanswered = msgspec.structs.replace(locked, status=0, response={}, digest="")
        entries = [entry for entry in ledger.entries if entry is not locked] + [unanswered]
        judgement = await Judge(Target(barrage, 1), maker.books, ledger, entries, Tables()).judge()
    assert judgement.wrong == []


LOCUST = [sys.executable, "-m", "locust", "-f"]
PLANTING = """
from msgspec.structs import replace
from loadtests.ledger import Ledger
from loadtests.locustfile import Shopper

def write(ledger, entry, write=Ledger.write):
    write(ledger, entry)
    if entry.op == "redeem" and entry.redemption and entry.buyer == "Buyer" and Ledger.write is not write:
        Ledger.write = write
        write(ledger, replace(entry, response=entry.response | {"redemptionId": "another"}, key="k", digest="d"))
        raise RuntimeError("planted")

Ledger.write = write
"""
"""A locustfile whose first buyer enters an answer that the service never gave, and then raises."""


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """A master of locust and three workers; the page's address, and the processes. The last worker plants an answer."""
    (tmp_path / "planting.py").write_text(PLANTING)
    page, port = free_port(), str(free_port())
    processes: list[subprocess.Popen[bytes]] = []

    def start(name: str, file: Path, *options: str) -> None:
        place = tmp_path / name
        place.mkdir()
        variables, command = os.environ | {"PYTHONPATH": str(ROOT)}, [*LOCUST, str(file), *options]
        with (tmp_path / f"{name}.log").open("wb") as log:
            processes.append(subprocess.Popen(command, cwd=place, env=variables, stdout=log, stderr=subprocess.STDOUT))

    real, local = ROOT / "loadtests" / "locustfile.py", ["--web-host", "127.0.0.1", "--master-bind-host", "127.0.0.1"]
    start("master", real, "--master", "--master-bind-port", port, "--web-port", str(page), *local)
    for name, file in (("one", real), ("two", real), ("three", tmp_path / "planting.py")):
        start(name, file, "--worker", "--master-host", "127.0.0.1", "--master-port", port)
    try:
        yield f"http://127.0.0.1:{page}", processes
    finally:
        for process in processes:
            process.kill()
            process.wait()


def test_a_load_of_many_hosts_is_judged_as_one(
    hosts: tuple[str, list[subprocess.Popen[bytes]]], service: Service, tmp_path: Path
) -> None:
    """A load of three workers, which locust's page starts, has one judgement, also in locust's report. It finds the one
    oversold code, which is in one worker's ledger, and the visit that raised; then the master's exit code is 1."""
    address, processes = hosts
    with httpx.Client(base_url=address, verify=False, timeout=PATIENCE_S) as page:
        count = lambda: page.get("/worker-count").json()["worker_count"] == 3  # noqa: E731
        until(count, "three workers", away=(httpx.TransportError,))
        form = {"host": service.run.url, "user_count": "9", "spawn_rate": "9", "run_time": "60", "pay": "0.1"}
        refused = page.post("/swarm", data=form | {"token": "demo_checkout"}).json()
        assert "The key lacks the scope manage and the scope operate." in refused["message"]
        assert page.post("/swarm", data=form | {"token": "trial_admin"}).json()["success"]
        sent = lambda: page.get("/stats/requests").json()["stats"][-1]["num_requests"] > 60  # noqa: E731
        until(sent, "requests of all workers")
        page.post("/stop")
        shown, report = page.get("/judgement").text, page.get("/stats/report").text
    processes[0].terminate()
    assert [process.wait(PATIENCE_S) for process in processes] == [1, 0, 0, 0]
    (folder,) = (tmp_path / "master" / "loadtests" / "results").iterdir()
    (planted,) = [one for one in read_entries(folder) if one.response.get("redemptionId") == "another"]
    wrong = [line.strip() for line in (folder / "judgement.txt").read_text().splitlines() if "Wrong:" in line]
    assert f"Wrong: a code over its limit: 1 × {planted.code} 2 of 1" in wrong
    assert wrong.pop() == "Wrong: 1 × a visit raised planted"
    assert [line for line in wrong if planted.code not in line and planted.order not in line] == []
    assert planted.code in shown
    assert planted.code in report
    ledgers = {path.name: path.stat().st_size for path in folder.glob("ledger-worker-*")}
    assert ledgers.keys() == {f"ledger-worker-{number}.jsonl" for number in range(3)}
    assert all(ledgers.values())
    assert not any(list((tmp_path / name).iterdir()) for name in ("one", "two", "three"))
    assert not any(b"trial_admin" in path.read_bytes() for path in (*folder.iterdir(), *tmp_path.glob("*.log")))


def test_an_unreachable_service(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An unreachable service ends the load with exit code 1 and one line."""
    assert load.main(["--url", "http://127.0.0.1:9", "--results", str(tmp_path)]) == 1
    assert "No answer from the service" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_rate_that_is_too_low() -> None:
    """A rate at which not all users come in time is refused at the start."""
    with pytest.raises(SystemExit, match="100 users at 1 a second don't come within 60 s"):
        load.main(["--users", "100", "--rate", "1"])


@pytest.mark.parametrize(
    ("options", "says"),
    [(["--url", "127.0.0.1:8000"], "must begin with http://"), (["--judge", "/"], "is no folder of a load")],
)
def test_options_of_another_form(options: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    """They are refused before a request, and the message says what is wrong."""
    with pytest.raises(SystemExit) as refused:
        load.main(options)
    assert (refused.value.code, says in capsys.readouterr().err) == (2, True)
