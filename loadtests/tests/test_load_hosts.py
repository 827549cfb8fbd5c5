"""Workers' ledgers on the master of a load."""

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from loadtests import hosts
from loadtests.hosts import CLOCK, LEDGER, Hosts, Sender
from loadtests.ledger import Entry, Ledger, read_entries


class Lines:
    """A master and workers that are joined by function calls; a worker's clock is late by so many ms."""

    def __init__(self, folder: Path, late_ms: dict[str, float], monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_ms, self._late_ms = 1000.0, late_ms
        monkeypatch.setattr(hosts, "now_ms", lambda: self.now_ms)
        self.master = Hosts(self._ask)
        self.master.begin(folder, "mark", list(late_ms))

    def _ask(self, kind: str, data: dict[str, float], worker: str) -> None:
        """One way takes a ms, the other three."""
        assert kind == CLOCK
        here_ms = self.now_ms + 1 - self._late_ms[worker]
        self.now_ms += 4
        self.master.set_clock(SimpleNamespace(node_id=worker, data=data | {"here_ms": here_ms}))

    def ledger(self, worker: str, mark: str = "mark") -> Ledger:
        def send(kind: str, data: Any) -> None:
            assert kind == LEDGER
            self.master.receive(SimpleNamespace(node_id=worker, data=data))

        return Ledger([], "", file=io.BufferedWriter(Sender(send, mark)))


def test_ledgers_of_hosts_are_read_by_one_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Times of a worker whose clock is an hour late become times of the master, within what messages took."""
    lines = Lines(tmp_path, {"here": 0.0, "late": 3_600_000.0}, monkeypatch)
    for worker, at_ms in (("here", 2000.0), ("late", 2000.0 - 3_600_000)):
        with lines.ledger(worker) as ledger:
            ledger.write(Entry(worker, "lock", "/", {}, asked_ms=at_ms, sent_ms=at_ms + 10, answered_ms=at_ms + 20))
            assert not lines.master.are_complete
    assert lines.master.are_complete
    failures, _ = lines.master.close()
    assert failures == []
    for entry in read_entries(tmp_path):
        assert (entry.asked_ms, entry.sent_ms, entry.answered_ms) == (1999.0, 2009.0, 2023.0)
    assert [entry.buyer for entry in read_entries(tmp_path)] == ["here", "late"]


def test_an_incomplete_ledger_fails_the_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers that never began or did not end, and lost parts, are failures; another load's parts are not entered."""
    lines = Lines(tmp_path, {"silent": 0.0, "cut": 0.0, "lossy": 0.0}, monkeypatch)
    with lines.ledger("silent", "another load") as ledger:
        ledger.write(Entry("Buyer", "lock", "/", {}))
    ledgers = [lines.ledger("cut"), lines.ledger("lossy")]
    for ledger in ledgers:
        ledger.write(Entry("Buyer", "lock", "/", {}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines.master, "receive", lambda _: None)
        cast("io.BufferedWriter", ledgers[1]._file).flush()
    ledgers[1].__exit__()
    failures, _ = lines.master.close()
    assert failures == [f"the ledger of worker {name} is not complete" for name in ("silent", "cut", "lossy")]
    assert list(read_entries(tmp_path)) == []
