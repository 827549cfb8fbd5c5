"""The model of size: docs/scale.md is what it prints, and its figures follow from what they are made of."""

import pytest
from msgspec.structs import replace

from loadtests.scale.capacity import Assumptions, choose_servers, compute_need, find_ceilings
from loadtests.scale.constants import PAIR_US, REFUSED_US
from loadtests.scale.document import DOCUMENT, MILLION, SIZES, fill_tables, make_tables

GIVEN = Assumptions()


def test_the_document_has_what_the_program_prints() -> None:
    """Each table of docs/scale.md is that of the committed figures; `python -m loadtests.scale --write` renews it."""
    text = DOCUMENT.read_text("utf-8")
    assert fill_tables(text, make_tables(GIVEN)) == text


def test_a_table_without_a_place_is_an_error() -> None:
    """A document that lost the place of a table is refused, not left without it."""
    with pytest.raises(LookupError, match="table: plan"):
        fill_tables("# Scale\n", {"plan": "| a |"})


def test_the_peak_and_the_core_decide_the_busy_cores() -> None:
    """86,400 redemptions a day with a peak of 10 are 10 a second; a core twice as fast is half as busy."""
    given = replace(GIVEN, peak=10, refused=2)
    needed = compute_need(86_400, given)
    each_us = PAIR_US["redis"] + 2 * REFUSED_US["redis"]
    assert needed.redemptions_s == pytest.approx(10)
    assert needed.cores["redis"] == pytest.approx(each_us * 10 / 1e6)
    faster = compute_need(86_400, replace(given, core=2))
    assert faster.cores["redis"] == pytest.approx(needed.cores["redis"] / 2)
    assert faster.redis_bytes == needed.redis_bytes


@pytest.mark.parametrize("name", [one.name for one in find_ceilings(GIVEN)])
def test_a_ceiling_is_reached_where_it_is_used_up(name: str) -> None:
    """At the size that a ceiling names it is used up; a hundredth below it is not."""
    ceiling = next(one for one in find_ceilings(GIVEN) if one.name == name)
    assert ceiling.use(ceiling.reached()) >= 1 > ceiling.use(ceiling.reached() * 0.99)


@pytest.mark.parametrize("millions", SIZES)
def test_a_plan_has_room_for_its_need(millions: int) -> None:
    """The planned servers have the memory and the cores that the size needs, and at least two of each process."""
    needed, planned = compute_need(millions * MILLION, GIVEN), choose_servers(millions * MILLION, GIVEN)
    assert planned.primaries * planned.node.memory_gib * 2**30 * GIVEN.full >= needed.redis_bytes
    assert planned.primaries * GIVEN.busy >= needed.cores["redis"]
    assert planned.api * GIVEN.busy >= needed.cores["api"]
    assert planned.databases * planned.vcpu * GIVEN.busy >= needed.cores["postgres"]
    assert min(planned.api, planned.workers, planned.machines) >= 2
