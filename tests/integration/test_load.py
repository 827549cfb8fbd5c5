"""Loads by locust against a running service, and their verdict."""

import csv
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from loadtests import load
from loadtests.ledger import Ledger, entries
from loadtests.plan import TOKEN
from tests.service_fixture import Service

KINDS = {"Abandoner", "Buyer", "Fighter", "Gifted", "Guesser", "Repeater"}
KEPT = {"plan.json", "report.html", "locust.log", "judgement.txt", "memory.csv", "memory.svg", "load_stats.csv"}
KEPT |= {"load_stats_history.csv", "load_failures.csv", "requests.svg", "latencies.svg"}

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
    """A load has every kind of user, a clean verdict, and leaves reports, ledger and plots."""
    code, folder = loaded("--shape", shape, *SHAPES[shape].split())
    assert code == 0, (folder / "judgement.txt").read_text() + (folder / "locust.log").read_text()
    assert {one.kind for one in entries(folder)} == KINDS
    assert {path.name for path in folder.iterdir()} >= KEPT
    with (folder / "load_failures.csv").open() as lines:
        assert list(csv.DictReader(lines)) == []
    assert not any(b"trial_admin" in path.read_bytes() for path in folder.iterdir())


def test_a_load_ends_after_its_requests(loaded: Loaded) -> None:
    """A load of two processes ends after its number of requests; each process has a ledger."""
    few = ("--users", "10", "--rate", "10", "--seconds", "60", "--requests", "20", "--processes", "2")
    code, folder = loaded(*few)
    assert code == 0, (folder / "judgement.txt").read_text() + (folder / "locust.log").read_text()
    assert sum(1 for _ in entries(folder)) >= 20
    assert len(list(folder.glob("ledger-*.jsonl"))) == 2


def test_one_redemption_too_many_fails(loaded: Loaded, service: Service, capsys: pytest.CaptureFixture[str]) -> None:
    """An invented answer in the ledger of a good load is reported, and the exit code is 1."""
    code, folder = loaded("--users", "10", "--rate", "10", "--seconds", "3")
    assert code == 0
    assert load.main(["--judge", str(folder)]) == 0
    used = next(one for one in entries(folder) if one.redemption_id and one.kind == "Buyer")
    ledger = Ledger(folder)
    ledger.write(msgspec.structs.replace(used, redemption_id="another", key="k", order_id="o", user_id="u"))
    ledger.close()
    capsys.readouterr()
    assert load.main(["--judge", str(folder), "--url", service.run.url]) == 1
    output = capsys.readouterr().out
    assert f"Wrong: answered, and not recorded: 1 × redemption another {used.got}" in output
    assert f"Wrong: a code over its limit: 1 × {used.got} 2 of 1" in output


def test_an_unreachable_service(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An unreachable service ends the load with exit code 1 and one line."""
    assert load.main(["--url", "http://127.0.0.1:9", "--results", str(tmp_path)]) == 1
    assert "Connect call failed" in capsys.readouterr().err


def test_a_rate_that_is_too_low() -> None:
    """A rate at which not all users come in time is refused at the start."""
    with pytest.raises(SystemExit, match="100 users at 1 a second don't come within 60 s"):
        load.main(["--users", "100", "--rate", "1"])
