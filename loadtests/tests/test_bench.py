"""How the bench computes its rows, and what ends it; loadtests/tests/test_bench_on_servers.py runs it."""

import msgspec
import pytest

from loadtests import bench, figures
from loadtests.generator import Histogram, Load
from loadtests.parts import table
from loadtests.parts.table import Bench, Wrong
from loadtests.subject import Spent

CPU_S = {"api": 0.2, "redis": 0.1, "worker": 0.06, "postgres": 0.04}
HISTOGRAM = Histogram(4_000, 9_000, [(500, 2_000), (2_000, 1_970), (9_000, 30)])
LOAD = Load(
    good=True, seconds=2.0, cpu_seconds=0.5, finished=2_000, asked=4_000, answered=4_000, unanswered=0, unasked=0,
    unexpected=0, connections_lost=0, answers={"lock 201": 2_000, "redeem 201": 2_000}, latency_us={"all": HISTOGRAM},
)  # fmt: skip
SPENT = Spent(LOAD, CPU_S, 0.4, 1.5, {"redis": 300_000.0, "wal": 2_000_000.0})


def test_a_row_has_cpu_for_each_request_and_each_redemption() -> None:
    """A pair is two requests and one redemption; `a_second` counts the pairs that the load finished in a second."""
    row = figures.row("pairs", "plain pairs", "pairs", SPENT, LOAD.finished, codes=10_000, connections=64)
    assert row.a_second == 1_000
    assert row.request_us == pytest.approx({"api": 50, "redis": 25, "worker": 15, "postgres": 10})
    assert row.redemption_us == pytest.approx({"api": 100, "redis": 50, "worker": 30, "postgres": 20})
    assert row.latency_ms == {"p50": 0.5, "p90": 2.0, "p99": 2.0, "p99.9": 9.0, "max": 9.0}
    assert (row.lag_s, row.generator_busy) == (0.4, 0.25)
    assert row.redemption_bytes == {"redis": 150, "wal": 1_000}


def test_a_wrong_sale_ends_the_bench() -> None:
    """An opening that sells one code too many, or any unexpected answer, ends the bench; a good one is a row."""
    on = Bench(table.QUICK)
    answers = {"assign 201": 1_000, "assign 409 out_of_stock": 19_000}
    load = msgspec.structs.replace(LOAD, answers=answers, finished=1_000, seconds=1.234)
    on._add_opening("20,000 buyers", SPENT._replace(load=load), "assign", "out_of_stock")
    assert on.rows[0].note == "1,000 sold, 19,000 refused as out_of_stock, the last after 1.23 s"
    more = msgspec.structs.replace(load, answers=answers | {"assign 201": 1_001})
    with pytest.raises(Wrong, match="sold"):
        on._add_opening("20,000 buyers", SPENT._replace(load=more), "assign", "out_of_stock")
    with pytest.raises(Wrong, match="3 answers that should not be"):
        table._good(SPENT._replace(load=msgspec.structs.replace(LOAD, good=False, unexpected=3)))


@pytest.mark.parametrize("words", ["--codes 7919", "--codes 5", "--connections 0", "--buyers 10", "--full --plain"])
def test_bad_options_are_refused(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The bench refuses bad options before it starts a server."""
    with pytest.raises(SystemExit):
        bench.main(words.split())
    assert "error: argument" in capsys.readouterr().err
