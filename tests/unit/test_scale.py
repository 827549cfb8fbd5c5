"""The model of size: docs/scale.md is what it prints, and its figures follow from what they are made of."""

import json
from pathlib import Path

import pytest
from msgspec.structs import replace

from loadtests import queueing, scale
from loadtests.capacity import Assumptions, choose_servers, compute_need, find_ceilings, read_measured, read_vendors
from loadtests.scale import CALIBRATION, DOCUMENT, MILLION, fill_tables, make_tables

GIVEN = Assumptions()
MEASURED = read_measured(CALIBRATION / "bench.json", CALIBRATION / "memory.json")
VENDORS = read_vendors(CALIBRATION / "prices.toml")


def test_the_document_has_what_the_program_prints() -> None:
    """Each table of docs/scale.md is that of the committed results; `python -m loadtests.scale --write` renews it."""
    text = DOCUMENT.read_text("utf-8")
    assert fill_tables(text, make_tables(MEASURED, GIVEN, VENDORS)) == text


def test_a_table_without_a_place_is_an_error() -> None:
    """A document that lost the place of a table is refused, not left without it."""
    with pytest.raises(LookupError, match="table: plan"):
        fill_tables("# Scale\n", {"plan": "| a |"})


def test_simulated_figures_of_the_document() -> None:
    """The document's simulated throughput of one API process and one node is that of the simulation."""
    request_us = {part: us / 2 for part, us in MEASURED.pair_us.items()}
    row = next(line for line in DOCUMENT.read_text("utf-8").splitlines() if line.startswith("| 1   "))
    assert row.split("|")[2].strip() == f"{queueing.simulate_throughput(1, 1, request_us):,.0f}"


def test_the_peak_and_the_core_decide_the_busy_cores() -> None:
    """86,400 redemptions a day with a peak of 10 are 10 a second; a core twice as fast is half as busy."""
    given = replace(GIVEN, peak=10, refused=2)
    needed = compute_need(86_400, MEASURED, given)
    each_us = MEASURED.pair_us["redis"] + 2 * MEASURED.refused_us["redis"]
    assert needed.redemptions_s == pytest.approx(10)
    assert needed.cores["redis"] == pytest.approx(each_us * 10 / 1e6)
    faster = compute_need(86_400, MEASURED, replace(given, core=2))
    assert faster.cores["redis"] == pytest.approx(needed.cores["redis"] / 2)
    assert faster.redis_bytes == needed.redis_bytes


@pytest.mark.parametrize("name", [one.name for one in find_ceilings(MEASURED, GIVEN, VENDORS)])
def test_a_ceiling_is_reached_where_it_is_used_up(name: str) -> None:
    """At the size that a ceiling names it is used up; a hundredth below it is not."""
    ceiling = next(one for one in find_ceilings(MEASURED, GIVEN, VENDORS) if one.name == name)
    assert ceiling.use(ceiling.reached()) >= 1 > ceiling.use(ceiling.reached() * 0.99)


@pytest.mark.parametrize("millions", scale.SIZES)
def test_a_plan_has_room_for_its_need(millions: int) -> None:
    """The planned servers have the memory and the cores that the size needs, and no less than two of each process."""
    needed, planned = (
        compute_need(millions * MILLION, MEASURED, GIVEN),
        choose_servers(millions * MILLION, MEASURED, GIVEN, VENDORS),
    )
    assert planned.primaries * planned.node.memory_gib * 2**30 * GIVEN.full >= needed.redis_bytes
    assert planned.primaries * GIVEN.busy >= needed.cores["redis"]
    assert planned.api * GIVEN.busy >= needed.cores["api"]
    assert planned.databases * planned.vcpu * GIVEN.busy >= needed.cores["postgres"]
    assert min(planned.api, planned.workers, planned.machines) >= 2


def test_a_core_bounds_the_simulated_throughput() -> None:
    """Neither a node nor an API process handles more than its core can, and a second node helps busy processes."""
    request_us = {"api": 50.0, "redis": 60.0}
    redis = queueing.derive_core("redis", 60.0).request
    one, two = (queueing.simulate_throughput(8, nodes, request_us, seconds=0.5) for nodes in (1, 2))
    assert one < 1e6 / redis
    assert two > one * 1.5
    assert queueing.simulate_throughput(1, 8, request_us, seconds=0.5) < 1e6 / queueing.derive_core("api", 50.0).request


def test_a_result_without_a_row_is_refused(tmp_path: Path) -> None:
    """A bench result that lacks the opening is refused with the command that measures it."""
    result = json.loads((CALIBRATION / "bench.json").read_bytes())
    result["rows"] = [row for row in result["rows"] if row["part"] != "opening"]
    (tmp_path / "bench.json").write_text(json.dumps(result))
    with pytest.raises(LookupError, match="make bench"):
        read_measured(tmp_path / "bench.json", CALIBRATION / "memory.json")
