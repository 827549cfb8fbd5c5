"""The tables of docs/scale.md: `python -m loadtests.scale [options]` prints them, and `--write` renews the document.

They follow from the figures of loadtests/scale/constants.py and the assumptions, which are options."""

import argparse
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from loadtests.figures import markdown
from loadtests.scale import constants
from loadtests.scale.capacity import (
    GIB,
    MIB,
    TIB,
    Assumptions,
    Servers,
    choose_servers,
    compute_need,
    find_ceilings,
)

DOCUMENT = Path(__file__).parents[2] / "docs" / "scale.md"
SIZES = (1, 10, 100, 1_000)
"""Millions of redemptions a day."""
MILLION = 1_000_000
PEAKS, CORES = (5, 20, 100), (1, 2, 4)


def ends_table(given: Assumptions) -> str:
    """What each size reaches first, apart from the limits of a single workspace."""
    ends = [one for one in find_ceilings(given) if not one.name.startswith("one workspace")]
    largest = next(one for one in find_ceilings(given) if one.name.endswith("a core of Redis"))
    lines: list[list[str]] = []
    for size in SIZES:
        day = size * MILLION
        first, usd = max(ends, key=lambda one: one.use(day)), choose_servers(day, given).usd
        share = f"{_number(100 * min(1.0, largest.reached() / day))} % of all"
        lines.append([f"{size:,} M", share, f"{first.name}, {first.limit}: {_share(first.use(day))} used", _money(usd)])
    return markdown(["redemptions a day", "one workspace may have", "what else ends first", "US$ a month"], lines)


def measured_table(given: Assumptions) -> str:
    pair_us, refused_us = constants.PAIR_US, constants.REFUSED_US
    lines = [
        ["a redemption (lock and redeem), µs of CPU", *(f"{us:,.0f}" for us in pair_us.values())],
        ["a request of an opening, 19 of 20 refused", *(f"{us:,.0f}" for us in refused_us.values())],
        [
            f"a redemption and {given.refused:g} refused requests",
            *(f"{us + given.refused * refused_us[part]:,.0f}" for part, us in pair_us.items()),
        ],
    ]
    stored = {
        "Redis: an idle code": constants.IDLE_BYTES,
        "Redis: a redeemed code, its order and user, beyond that": constants.REDEEMED_BYTES,
        "Redis: an Idempotency-Key, for a day": constants.KEY_BYTES,
        "Redis: an event in the outbox": constants.OUTBOX_BYTES,
        "Redis: received and sent, a redemption": constants.NETWORK_BYTES,
        "Postgres: a redemption, with indexes": constants.POSTGRES_BYTES,
        "Postgres: of that, indexes": constants.INDEX_BYTES,
        "Postgres: its log, a redemption, without images of pages": constants.WAL_BYTES,
        "Postgres: a code, with indexes": constants.CODE_POSTGRES_BYTES,
    }
    cpu = markdown([constants.MEASURED_ON, "API", "Redis", "worker", "Postgres"], lines)
    return f"{cpu}\n\n{markdown(['bytes', 'each'], [[name, f'{each:,.0f}'] for name, each in stored.items()])}"


def need_table(given: Assumptions) -> str:
    needs = [compute_need(size * MILLION, given) for size in SIZES]
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


def ceilings_table(given: Assumptions) -> str:
    """What ends, at which size; what a size has broken is bold."""
    lines = [
        [one.name, one.limit, _number(one.reached() / MILLION), *(_share(one.use(size * MILLION)) for size in SIZES)]
        for one in find_ceilings(given)
    ]
    return markdown(["what ends", "its limit", "at millions a day", *_size_heads()], lines)


def choices_table(given: Assumptions) -> str:
    """How two assumptions change the number of primaries, and the largest workspace."""

    def cells(changed: Assumptions) -> list[str]:
        largest = next(one for one in find_ceilings(changed) if one.name.endswith("a core of Redis"))
        counts = (choose_servers(size * MILLION, changed).by_cpu for size in SIZES)
        return [_number(largest.reached() / MILLION), *(f"{count:,}" for count in counts)]

    peaks = [[f"--peak {peak}", *cells(msgspec.structs.replace(given, peak=peak))] for peak in PEAKS]
    cores = [[f"--core {core}", *cells(msgspec.structs.replace(given, core=core))] for core in CORES]
    none = [["--refused 0", *cells(msgspec.structs.replace(given, refused=0))]]
    return markdown(["primaries for CPU", "largest workspace, millions a day", *_size_heads()], [*peaks, *cores, *none])


def prices_table() -> str:
    lines = [[one.product, f"{one.usd:g} a {one.unit}", one.read, f"<{one.source}>"] for one in constants.PRICES]
    return markdown(["product", "US$", "read", "source"], lines)


def make_tables(given: Assumptions) -> dict[str, str]:
    """All tables of the document by name."""
    plans = [choose_servers(size * MILLION, given) for size in SIZES]
    return {
        "ends": ends_table(given),
        "measured": measured_table(given),
        "need": need_table(given),
        "ceilings": ceilings_table(given),
        "plan": plan_table(plans),
        "choices": choices_table(given),
        "prices": prices_table(),
    }


def fill_tables(text: str, named: Mapping[str, str]) -> str:
    """A document with these tables in their places. LookupError if it has no place for one."""
    for name, table in named.items():
        place = re.compile(rf"(<!-- table: {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        text, count = place.subn(lambda found, table=table: f"{found[1]}\n{table}\n\n{found[2]}", text)
        if count != 1:
            raise LookupError(f"The document needs one line <!-- table: {name} --> and <!-- end --> after it.")
    return text


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


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables, or write them."""
    options = argparse.ArgumentParser(prog="python -m loadtests.scale", description=__doc__)
    options.add_argument("--write", action="store_true", help="renew docs/scale.md")
    for name, value in msgspec.structs.asdict(Assumptions()).items():
        options.add_argument(f"--{name.replace('_', '-')}", type=float, default=value, help=f"{value:g}")
    chosen = options.parse_args(arguments)
    named = make_tables(Assumptions(**{name: getattr(chosen, name) for name in Assumptions.__struct_fields__}))
    if chosen.write:
        DOCUMENT.write_text(fill_tables(DOCUMENT.read_text("utf-8"), named), "utf-8")
    else:
        print("\n\n".join(named.values()))
    return 0
