"""The tables and plots of docs/scale.md: `python -m loadtests.scale [options]`.

They follow from a bench result, a result of `bench memory`, and a list of prices. Those in loadtests/calibration are
of one slow machine. For your own, run `make bench ARGS="--only pairs sustained opening --full"` and
`make bench PART=memory ARGS="--keep memory.json"` on the machine that you would rent, and name both files here.
`--write` renews the document."""

import argparse
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from loadtests.capacity import (
    GIB,
    MIB,
    TIB,
    Assumptions,
    Measured,
    Servers,
    Vendors,
    choose_servers,
    compute_need,
    find_ceilings,
    read_measured,
    read_vendors,
)
from loadtests.figures import markdown
from loadtests.own import PARTS
from loadtests.plots import Series, Ticks, write
from loadtests.queueing import simulate_throughput

ROOT = Path(__file__).parents[1]
CALIBRATION = ROOT / "loadtests" / "calibration"
DOCUMENT, PICTURES = ROOT / "docs" / "scale.md", ROOT / "docs" / "pictures"
SIZES = (1, 10, 100, 1_000)
"""Millions of redemptions a day."""
MILLION = 1_000_000
STEPS = 20
"""Points of a plot for each tenfold size."""
PEAKS, CORES = (5, 20, 100), (1, 2, 4)
API_PROCESSES, NODES = (1, 2, 4, 8, 12, 16, 24, 32), (1, 2, 4, 8)


def ends_table(measured: Measured, given: Assumptions, vendors: Vendors) -> str:
    """What each size reaches first, apart from the limits of a single workspace."""
    ends = [one for one in find_ceilings(measured, given, vendors) if not one.name.startswith("one workspace")]
    largest = next(one for one in find_ceilings(measured, given, vendors) if one.name.endswith("a core of Redis"))
    lines: list[list[str]] = []
    for size in SIZES:
        day = size * MILLION
        first, usd = max(ends, key=lambda one: one.use(day)), choose_servers(day, measured, given, vendors).usd
        share = f"{_number(100 * min(1.0, largest.reached() / day))} % of all"
        lines.append([f"{size:,} M", share, f"{first.name}, {first.limit}: {_share(first.use(day))} used", _money(usd)])
    return markdown(["redemptions a day", "the largest workspace", "what ends first beside it", "US$ a month"], lines)


def measured_table(measured: Measured, given: Assumptions) -> str:
    """What the model takes from the bench."""
    parts = list(PARTS)
    lines = [
        ["a redemption (lock and redeem), µs of CPU", *(f"{measured.pair_us[part]:,.0f}" for part in parts)],
        ["a request of an opening, 19 of 20 refused", *(f"{measured.refused_us[part]:,.0f}" for part in parts)],
        [
            f"a redemption and {given.refused:g} refused requests",
            *(f"{measured.pair_us[part] + given.refused * measured.refused_us[part]:,.0f}" for part in parts),
        ],
    ]
    where = f"{measured.machine['taken']}, {measured.machine['cores']} × {measured.machine['cpu']}"
    added = measured.bytes
    stored = [
        ["Redis: an idle code", f"{measured.idle_bytes:,.0f}"],
        ["Redis: a redeemed code, its order and user, beyond that", f"{measured.redeemed_bytes:,.0f}"],
        ["Redis: an Idempotency-Key, for a day", f"{measured.key_bytes:,.0f}"],
        ["Redis: an event in the outbox", f"{added['outbox']:,.0f}"],
        ["Redis: received and sent, a redemption", f"{added['network']:,.0f}"],
        ["Postgres: a redemption, with indexes", f"{added['postgres']:,.0f}"],
        ["Postgres: of that, indexes", f"{added['indexes']:,.0f}"],
        ["Postgres: its log, a redemption, without images of pages", f"{added['wal']:,.0f}"],
        ["Postgres: a code, with indexes", f"{measured.code_bytes['postgres']:,.0f}"],
    ]
    names = {"api": "API", "redis": "Redis", "worker": "worker", "postgres": "Postgres"}
    cpu = markdown([where, *(names[part] for part in parts)], lines)
    return f"{cpu}\n\n{markdown(['bytes', 'each'], stored)}"


def need_table(measured: Measured, given: Assumptions) -> str:
    """What each size needs."""
    needs = [compute_need(size * MILLION, measured, given) for size in SIZES]
    lines = [
        ["redemptions in the busiest second", *(_number(one.redemptions_s) for one in needs)],
        ["requests in it", *(_number(one.requests_s) for one in needs)],
        ["busy cores: API", *(_number(one.cores["api"]) for one in needs)],
        ["busy cores: Redis", *(_number(one.cores["redis"]) for one in needs)],
        ["busy cores: worker", *(_number(one.cores["worker"]) for one in needs)],
        ["busy cores: Postgres", *(_number(one.cores["postgres"]) for one in needs)],
        ["Redis's data, GiB", *(_number(one.redis_bytes / GIB) for one in needs)],
        ["Redis's network, MiB/s", *(_number(one.redis_bytes_s / MIB) for one in needs)],
        ["Postgres's data, TiB", *(_number(one.disk_bytes / TIB) for one in needs)],
        ["Postgres's indexes in use, GiB", *(_number(one.index_bytes / GIB) for one in needs)],
        ["Postgres's log, MiB/s", *(_number(one.wal_bytes_s / MIB) for one in needs)],
    ]
    return markdown(["redemptions a day", *_size_heads()], lines)


def plan_table(plans: Sequence[Servers]) -> str:
    """Servers and money."""
    parts = list(plans[0].usd)
    lines = [
        ["Redis: primaries, and as many replicas", *(_bound(one) for one in plans)],
        ["Redis: node", *(one.node.product.rsplit(" ", 1)[1] for one in plans)],
        ["partitions of each database", *(f"{one.partitions:,}" for one in plans)],
        ["API processes", *(f"{one.api:,}" for one in plans)],
        ["workers", *(f"{one.workers:,}" for one in plans)],
        ["machines of 2 vCPU for both", *(f"{one.machines:,}" for one in plans)],
        ["Postgres: databases, and as many standbys", *(f"{one.databases:,} of {one.vcpu} vCPU" for one in plans)],
        *([f"US$ a month: {part}", *(f"{one.usd[part]:,.0f}" for one in plans)] for part in parts),
        ["**US$ a month**", *(f"**{_money(one.usd)}**" for one in plans)],
        [
            "US$ a million redemptions",
            *(f"{sum(one.usd.values()) / _in_month(size):,.2f}" for size, one in zip(SIZES, plans, strict=True)),
        ],
    ]
    return markdown(["redemptions a day", *_size_heads()], lines)


def ceilings_table(measured: Measured, given: Assumptions, vendors: Vendors) -> str:
    """What ends, at which size; what a size has broken is bold."""
    lines = [
        [one.name, one.limit, _number(one.reached() / MILLION), *(_share(one.use(size * MILLION)) for size in SIZES)]
        for one in find_ceilings(measured, given, vendors)
    ]
    return markdown(["what ends", "its limit", "at millions a day", *_size_heads()], lines)


def choices_table(measured: Measured, given: Assumptions, vendors: Vendors) -> str:
    """How two assumptions change the number of primaries, and the largest workspace."""

    def cells(changed: Assumptions) -> list[str]:
        largest = next(one for one in find_ceilings(measured, changed, vendors) if one.name.endswith("a core of Redis"))
        counts = (choose_servers(size * MILLION, measured, changed, vendors).by_cpu for size in SIZES)
        return [_number(largest.reached() / MILLION), *(f"{count:,}" for count in counts)]

    peaks = [[f"--peak {peak}", *cells(msgspec.structs.replace(given, peak=peak))] for peak in PEAKS]
    cores = [[f"--core {core}", *cells(msgspec.structs.replace(given, core=core))] for core in CORES]
    none = [["--refused 0", *cells(msgspec.structs.replace(given, refused=0))]]
    return markdown(["primaries for CPU", "largest workspace, millions a day", *_size_heads()], [*peaks, *cores, *none])


def prices_table(vendors: Vendors) -> str:
    """The list of prices."""
    lines = [
        [one.vendor, one.product, one.region, f"{one.usd:g} a {one.unit}", f"{one.read}", f"<{one.source}>"]
        for one in vendors.prices
    ]
    return markdown(["vendor", "product", "region", "US$", "read", "source"], lines)


def simulated_table(by_nodes: Mapping[int, Mapping[int, float]]) -> str:
    """Throughput by processes and nodes."""
    lines = [[f"{apis}", *(f"{by_nodes[nodes][apis]:,.0f}" for nodes in NODES)] for apis in API_PROCESSES]
    return markdown(["API processes", *(f"{nodes} nodes" if nodes > 1 else "1 node" for nodes in NODES)], lines)


def simulate(measured: Measured) -> dict[int, dict[int, float]]:
    """Requests a second, by nodes and by API processes."""
    request_us = {part: us / 2 for part, us in measured.pair_us.items()}
    return {nodes: {apis: simulate_throughput(apis, nodes, request_us) for apis in API_PROCESSES} for nodes in NODES}


def make_tables(measured: Measured, given: Assumptions, vendors: Vendors) -> dict[str, str]:
    """All tables of the document by name, without the simulated one, which takes longer."""
    plans = [choose_servers(size * MILLION, measured, given, vendors) for size in SIZES]
    return {
        "ends": ends_table(measured, given, vendors),
        "measured": measured_table(measured, given),
        "need": need_table(measured, given),
        "ceilings": ceilings_table(measured, given, vendors),
        "plan": plan_table(plans),
        "choices": choices_table(measured, given, vendors),
        "prices": prices_table(vendors),
    }


def fill_tables(text: str, named: Mapping[str, str]) -> str:
    """A document with these tables in their places. LookupError if it has no place for one."""
    for name, table in named.items():
        place = re.compile(rf"(<!-- table: {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        text, count = place.subn(lambda found, table=table: f"{found[1]}\n{table}\n\n{found[2]}", text)
        if count != 1:
            raise LookupError(f"The document needs one line <!-- table: {name} --> and <!-- end --> after it.")
    return text


def draw_plots(
    measured: Measured, given: Assumptions, vendors: Vendors, by_nodes: Mapping[int, Mapping[int, float]]
) -> None:
    """Draw the document's plots."""
    by_size: Ticks = [(place, f"{size:,} M") for place, size in enumerate(SIZES)]
    plans = [choose_servers(size * MILLION, measured, given, vendors) for size in SIZES]
    cost = [
        Series(part, [(place, one.usd[part] / _in_month(SIZES[place])) for place, one in enumerate(plans)])
        for part in plans[0].usd
    ]
    write(PICTURES / "scale-cost.svg", "US$ for a million redemptions, by redemptions a day", cost, by_size)
    days = [(step / STEPS, 10 ** (step / STEPS) * MILLION) for step in range(STEPS * (len(SIZES) - 1) + 1)]
    ends = [
        Series(one.name.partition(": ")[2], [(place, min(1.0, one.use(day)) * 100) for place, day in days])
        for one in find_ceilings(measured, given, vendors)[:6]
    ]
    title = "Used part of a limit, %: a workspace's core, memory and worker; Postgres's indexes, reads and disk"
    write(PICTURES / "scale-ceilings.svg", title, ends, by_size)
    by_processes: Ticks = [(apis, f"{apis}") for apis in API_PROCESSES]
    lines = [
        Series(f"{nodes} nodes" if nodes > 1 else "1 node", [(apis, rate / 1_000) for apis, rate in by_apis.items()])
        for nodes, by_apis in by_nodes.items()
    ]
    write(
        PICTURES / "scale-simulated.svg",
        "Simulated: thousands of requests a second, by API processes",
        lines,
        by_processes,
    )


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:,.1f}" if value >= 1 else f"{value:.2g}"


def _money(usd: Mapping[str, float]) -> str:
    return f"{sum(usd.values()):,.0f}"


def _share(value: float) -> str:
    shown = f"{value:,.0%}" if value >= 0.01 else "<1%"
    return f"**{shown}**" if value > 1 else shown


def _bound(one: Servers) -> str:
    return f"{one.primaries:,} ({'CPU' if one.by_cpu >= one.by_memory else 'memory'})"


def _in_month(millions: float) -> float:
    """Of so many a day."""
    return millions * 365 / 12


def _size_heads() -> list[str]:
    return [f"{size:,} M" for size in SIZES]


def read_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command's options; each assumption is one."""
    options = argparse.ArgumentParser(prog="python -m loadtests.scale", description=__doc__)
    options.add_argument("--bench", type=Path, default=CALIBRATION / "bench.json", help="bench.json of a result")
    options.add_argument("--memory", type=Path, default=CALIBRATION / "memory.json", help="of PART=memory ARGS=--keep")
    options.add_argument("--prices", type=Path, default=CALIBRATION / "prices.toml", help="prices and limits")
    options.add_argument("--write", action="store_true", help="renew docs/scale.md and its plots")
    for name, value in msgspec.structs.asdict(Assumptions()).items():
        options.add_argument(f"--{name.replace('_', '-')}", type=float, default=value, help=f"{value:g}")
    return options.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables, or write them."""
    chosen = read_options(arguments)
    measured, vendors = read_measured(chosen.bench, chosen.memory), read_vendors(chosen.prices)
    given = Assumptions(**{name: getattr(chosen, name) for name in Assumptions.__struct_fields__})
    by_nodes = simulate(measured)
    named = make_tables(measured, given, vendors) | {"simulated": simulated_table(by_nodes)}
    if chosen.write:
        DOCUMENT.write_text(fill_tables(DOCUMENT.read_text("utf-8"), named), "utf-8")
        draw_plots(measured, given, vendors, by_nodes)
    else:
        print("\n\n".join(named.values()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
