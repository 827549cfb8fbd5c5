"""Loads by locust against a running service, and their verdict."""

import csv
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from loadtests import load
from loadtests.ledger import Ledger, read_entries
from loadtests.plan import TOKEN, Plan
from loadtests.visits import VISITS
from tests.service_fixture import Service

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


def test_one_redemption_too_many_fails(loaded: Loaded, service: Service, capsys: pytest.CaptureFixture[str]) -> None:
    """An invented answer in the ledger of a good load is reported, and the exit code is 1."""
    code, folder = loaded("--users", "10", "--rate", "10", "--seconds", "3")
    assert code == 0
    assert load.main(["--judge", str(folder)]) == 0
    used = next(one for one in read_entries(folder) if one.op == "redeem" and one.redemption and one.buyer == "Buyer")
    planted = msgspec.structs.replace(used, response=used.response | {"redemptionId": "another"}, key="k", digest="d")
    with Ledger([], "", folder) as ledger:
        ledger.write(planted)
    capsys.readouterr()
    assert load.main(["--judge", str(folder), "--url", service.run.url]) == 1
    output = capsys.readouterr().out
    assert f"Wrong: response not recorded: 1 × redemption another {used.code}" in output
    assert f"Wrong: a code over its limit: 1 × {used.code} 2 of 1" in output


def test_a_visit_that_raises_fails(loaded: Loaded, capsys: pytest.CaptureFixture[str]) -> None:
    """A buyer's own mistake is no success: where a book is missing in the plan, the exit code is 1."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(load, "prepare", _without_books)
        code, folder = loaded("--users", "3", "--rate", "3", "--seconds", "3")
    assert code == 1
    assert "locust ended with 1" in capsys.readouterr().err
    assert "KeyError" in (folder / "locust.log").read_text()


async def _without_books(plan: Plan, folder: Path, token: str) -> Plan:
    plan.save(folder)
    return plan


def test_an_unreachable_service(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An unreachable service ends the load with exit code 1 and one line."""
    assert load.main(["--url", "http://127.0.0.1:9", "--results", str(tmp_path)]) == 1
    assert "Connect call failed" in capsys.readouterr().err


def test_a_rate_that_is_too_low() -> None:
    """A rate at which not all users come in time is refused at the start."""
    with pytest.raises(SystemExit, match="100 users at 1 a second don't come within 60 s"):
        load.main(["--users", "100", "--rate", "1"])
