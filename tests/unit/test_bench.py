"""What a bench makes of its measurements: rows, the table, and what others' program says."""

import argparse
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from loadtests import bench, figures
from loadtests.figures import Row
from loadtests.generator import Histogram, Load
from loadtests.parts import bulk, peers, table
from loadtests.parts.table import Bench, Wrong
from loadtests.subject import Spent

CPU_S = {"api": 0.2, "redis": 0.1, "worker": 0.06, "postgres": 0.04}
HISTOGRAM = Histogram(4_000, 9_000, [(500, 2_000), (2_000, 1_970), (9_000, 30)])
LOAD = Load(
    good=True, seconds=2.0, cpu_seconds=0.5, finished=2_000, asked=4_000, answered=4_000, unanswered=0, unasked=0,
    unexpected=0, connections_lost=0, answers={"lock 201": 2_000, "redeem 201": 2_000}, latency_us={"all": HISTOGRAM},
    timeline_ms=100, timeline=[150, 250, 3],
)  # fmt: skip
SPENT = Spent(LOAD, CPU_S, 0.4, [(0.0, 0.1), (1.0, 0.4)], 1.5)
TWO_MINUTES = {"quick": True, "only": None, "full": False, "plain": False}
NOTHING_SAID: dict[str, Any] = TWO_MINUTES | dict.fromkeys(["codes", "connections", "seconds", "buyers"])


def pairs(**more: Any) -> Row:
    """A measurement of pairs."""
    said = {"codes": 10_000, "connections": 64, "bytes_a_code": 47.25} | more
    return figures.row("pairs", "plain pairs", "pairs", SPENT, LOAD.finished, **said)


def test_a_row_says_cpu_for_each_request_and_each_redemption() -> None:
    """A pair is two requests and one redemption; a second of the load has as many as it finished in one."""
    found = pairs()
    assert found.a_second == 1_000
    assert found.request_us == pytest.approx({"api": 50, "redis": 25, "worker": 15, "postgres": 10})
    assert found.redemption_us == pytest.approx({"api": 100, "redis": 50, "worker": 30, "postgres": 20})
    assert found.latency_ms == {"p50": 0.5, "p90": 2.0, "p99": 2.0, "p99.9": 9.0, "max": 9.0}
    assert found.timeline == [(0.0, 1_500), (0.1, 2_500)], "but for the last, which is no whole one"
    assert (found.lag_s, found.generator_busy) == (0.4, 0.25)


def test_a_row_of_buyers_counts_them_all() -> None:
    """Also those who got nothing."""
    assert figures.row("opening", "buyers", "buyers", SPENT, 10).a_second == 2_000


def test_the_table_has_the_columns_that_some_row_has() -> None:
    """What wasn't measured of a row is empty, and every line is as long."""
    peer = Row(part="peers", what="beside us: go", unit="pairs", a_second=5.4, request_us={"api": 26.25})

    def table_of(*rows: Row) -> list[dict[str, str]]:
        lines = figures.table(list(rows)).splitlines()[2:]
        assert len({len(line) for line in lines}) == 1
        heads, _, *cells = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
        return [dict(zip(heads, row, strict=True)) for row in cells]

    assert table_of(peer)[0].keys() == {"what", "a second", "API µs"}
    ours, theirs = table_of(pairs(), peer)
    assert (ours["codes"], ours["Redis µs"], theirs["Redis µs"]) == ("10,000", "25.0", "")


def test_a_bench_is_kept_whole(tmp_path: Path) -> None:
    """As a table to paste, and as figures to read again."""
    rows = [pairs(), pairs(connections=256), msgspec.structs.replace(pairs(), part="sustained", what="60 s")]
    written = figures.keep(tmp_path, rows)
    assert (tmp_path / "table.md").read_text() == written + "\n"
    kept = json.loads((tmp_path / "bench.json").read_bytes())
    assert msgspec.convert(kept["rows"], list[Row]) == rows
    assert kept["machine"]["cores"] >= 1


@pytest.mark.parametrize(
    ("said", "wrong"), [({"good": False, "unexpected": 3}, "3 answers that should not be"), ({}, "")]
)
def test_an_answer_that_should_not_be_ends_the_bench(said: dict[str, Any], wrong: str) -> None:
    """With all that is known of it."""
    spent = SPENT._replace(load=msgspec.structs.replace(LOAD, **said))
    if not wrong:
        assert table._good(spent) == 2_000
        return
    with pytest.raises(Wrong, match=wrong):
        table._good(spent)


def test_a_count_that_differs_ends_the_bench() -> None:
    """Whichever of those that should be the same."""
    table._same("rows, codes", (5, 5), 5)
    with pytest.raises(Wrong, match=r"rows, codes: \(5, 4\), and each should be 5"):
        table._same("rows, codes", (5, 4), 5)


def test_an_opening_sells_what_there_is() -> None:
    """One more or one less ends the bench; the row says who got what, and when the last had an answer."""
    on = Bench(table.QUICK)
    answers = {"assign 201": 1_000, "assign 409 out_of_stock": 19_000}
    load = msgspec.structs.replace(LOAD, answers=answers, finished=1_000, seconds=1.234)
    on._add_opening("20,000 buyers", SPENT._replace(load=load), "assign", "out_of_stock")
    assert on.rows[0].note == "1,000 sold, 19,000 told out_of_stock, the last after 1.23 s"
    more = msgspec.structs.replace(load, answers=answers | {"assign 201": 1_001})
    with pytest.raises(Wrong, match="sold"):
        on._add_opening("20,000 buyers", SPENT._replace(load=more), "assign", "out_of_stock")


def test_bulk_work_is_a_row_like_others() -> None:
    """CPU for each code; the latencies are the shopper's."""
    latencies = [(11.5, float(number)) for number in range(1_000, 0, -1)]
    found = bulk.Step("upload", 1_000, 11.0, 13.0, CPU_S, "api 80 to 95 MiB", 1.0).row([(10.9, 9e9), *latencies])
    assert (found.a_second, found.codes, found.latency_ms["p99"]) == (500, 1_000, 991)
    assert found.request_us["api"] == pytest.approx(200)
    assert "1,000 redeems, the longest 1000 ms" in found.note
    nothing = bulk.Step("nothing", 0, 13.0, 18.0, CPU_S, "", 1.0).row(latencies)
    assert (nothing.a_second, nothing.request_us, nothing.latency_ms) == (0, {}, {})


def test_options_change_the_plan() -> None:
    """What isn't said stays as it is; a short bench is a plan of its own."""
    assert table.plan_of(argparse.Namespace(**NOTHING_SAID)) == table.QUICK
    assert table.plan_of(argparse.Namespace(**NOTHING_SAID | {"quick": False})) == table.WHOLE
    said = {"quick": False, "full": True, "codes": [20_000], "only": ["pairs"], "seconds": 5}
    assert table.plan_of(argparse.Namespace(**NOTHING_SAID | said)) == table.WHOLE._replace(
        shapes=(True,), codes=[20_000], parts=["pairs"], sustained_s=5
    )


@pytest.mark.parametrize("words", ["--codes 7919", "--codes 5", "--connections 0", "--buyers 10", "--full --plain"])
def test_numbers_that_make_no_sense_are_refused(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Before anything is started."""
    with pytest.raises(SystemExit):
        bench.main(words.split())
    assert "error: argument" in capsys.readouterr().err


@pytest.mark.parametrize("part", bench.PARTS)
def test_each_part_says_what_it_measures(part: str, capsys: pytest.CaptureFixture[str]) -> None:
    """And what its options are."""
    with pytest.raises(SystemExit, match="0"):
        bench.main([part, "--help"])
    assert f"usage: python -m loadtests.bench {part}" in capsys.readouterr().out


def test_a_part_that_is_not_there_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """With the names of those that are."""
    assert bench.main(["lags"]) == 2
    assert capsys.readouterr().err == f"No part is named lags: {', '.join(bench.PARTS)}\n"


def test_without_a_compiler_the_bench_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And ends with 1, before anything is started or made."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    assert bench.main(["--results", str(tmp_path / "results")]) == 1
    assert "no C compiler: install one (Debian: apt-get install gcc libc6-dev)" in capsys.readouterr().err
    assert not (tmp_path / "results").exists()


_COMPARE = """
import json, sys
kept = sys.argv[sys.argv.index("--json") + 1]
one = {
  "requests": 4000, "won": 2000, "requests_per_s": 9000.0, "generator_share": 0.2, "exact": True,
  "latency_ms": {"all": {"p50": 1.5, "p99": 9.5}},
}
ours = one | {"cpu_s": {"api": 0.2, "redis": 0.1, "worker": 0.02, "postgres": 0.04}}
theirs = [one | {"cpu_s": {"server": cpu_s, "store": 0.08}} for cpu_s in (0.1, 0.2, 9.0)]
json.dump({"results": {sys.argv[1]: theirs, "scrip": [ours]}}, open(kept, "w"))
open(kept + ".words", "w").write(" ".join(sys.argv[1:]))
"""
_RUN: Any = SimpleNamespace(
    url="http://127.0.0.1:8000", facts={"pids": {"api": [1], "worker": [2], "redis": [3], "postgres": [4]}}
)


def test_others_stand_beside_us(tmp_path: Path) -> None:
    """Medians of what their program found, of theirs and of ours; it is told whom to drive, and whose CPU to count."""
    (tmp_path / "compare").write_text(_COMPARE)
    kept = tmp_path / "peers.json"
    theirs, ours = peers.compare(tmp_path, ["go"], _RUN, full=True, pairs=2_000, kept=kept)
    assert (theirs.what, theirs.a_second, theirs.request_us) == ("beside us: go, full", 4_500, {"api": 50, "redis": 20})
    assert ours.request_us == pytest.approx({"api": 50, "redis": 25, "worker": 5, "postgres": 10})
    assert sum(ours.redemption_us.values()) == pytest.approx(180)
    words = Path(f"{kept}.words").read_text()
    assert words.startswith("go --name scrip --url http://127.0.0.1:8000 ")
    assert "--pids api=1,worker=2,redis=3,postgres=4 " in words
    assert words.endswith(" --full")


def test_a_program_of_others_that_fails_is_told(tmp_path: Path) -> None:
    """With what it said."""
    (tmp_path / "compare").write_text("print('go is missing'); raise SystemExit(1)")
    with pytest.raises(peers.PeersError, match="ended with 1: go is missing"):
        peers.compare(tmp_path, ["go"], _RUN, full=False, pairs=1, kept=tmp_path / "peers.json")
