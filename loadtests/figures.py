"""What a bench found: tables as Markdown, rows of one table as JSON, too."""

import os
import platform
import sys
import sysconfig
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from itertools import compress
from pathlib import Path
from typing import Any, Literal

import msgspec

from loadtests.generator import Histogram
from loadtests.own import PARTS
from loadtests.subject import Spent

SHARES = (0.5, 0.9, 0.99, 0.999)
Part = Literal["pairs", "sustained", "opening", "bulk"]
_HEADS = (
    "what", "codes", "connections", "a second", "p50 ms", "p99 ms", "µs of API, Redis, worker, Postgres",
    "all a redemption", "lag s",
)  # fmt: skip


class BenchRow(msgspec.Struct, rename="camel", kw_only=True):
    """One measurement. CPU is in µs, of each process; what isn't measured is None."""

    part: Part
    what: str
    unit: str
    a_second: float
    """Of the unit: pairs, buyers, codes."""
    codes: int | None = None
    connections: int | None = None
    latency_ms: dict[str, float] = {}
    request_us: dict[str, float] = {}
    redemption_us: dict[str, float] = {}
    code_bytes: dict[str, float] = {}
    """What each uploaded code adds to each of Subject.sizes."""
    redemption_bytes: dict[str, float] = {}
    """What each redemption adds to them."""
    lag_s: float | None = None
    generator_busy: float | None = None
    """The part of a core that the load took itself."""
    machine_load: float | None = None
    note: str = ""


def row(part: Part, what: str, unit: str, spent: Spent, redemptions: int, **more: Any) -> BenchRow:
    """What a load took, for each of its requests and of its redemptions."""
    load, histogram = spent.load, spent.load.latency_us["all"]
    units = redemptions if unit == "pairs" else load.answered
    return BenchRow(
        part=part,
        what=what,
        unit=unit,
        a_second=units / load.seconds if load.seconds else 0.0,
        latency_ms=latency_ms(histogram),
        request_us={name: spent.cpu_s[name] / max(load.answered, 1) * 1e6 for name in PARTS},
        redemption_us={name: spent.cpu_s[name] / max(redemptions, 1) * 1e6 for name in PARTS},
        redemption_bytes={name: grown / max(redemptions, 1) for name, grown in spent.grown_bytes.items()},
        lag_s=spent.lag_s,
        generator_busy=load.cpu_seconds / load.seconds if load.seconds else 0.0,
        machine_load=spent.machine_load,
        **more,
    )


def latency_ms(histogram: Histogram) -> dict[str, float]:
    """The percentiles that the table has."""
    return {f"p{share * 100:g}": histogram.at_us(share) / 1000 for share in SHARES} | {"max": histogram.max / 1000}


def table(rows: Sequence[BenchRow]) -> str:
    """Where and when, what was measured, and notes, as Markdown. `bench.json` has more."""
    where = machine()
    caption = f"{where['taken']}, {where['cores']} × {where['cpu']}, Linux {where['kernel']}, {where['python']}:"
    lines = [_cells(one) for one in rows]
    measured = [any(column) for column in zip(*lines, strict=True)]
    heads, *lines = (list(compress(line, measured)) for line in (_HEADS, *lines))
    notes = "".join(f"\n- {one.what}: {one.note}" for one in rows if one.note)
    return f"{caption}\n\n{markdown(heads, lines)}" + (f"\n{notes}" if notes else "")


def markdown(heads: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A table in columns that a terminal shows straight."""
    cells = [heads, *lines]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    rows = [f"| {' | '.join(map(str.ljust, line, widths))} |" for line in cells]
    rows.insert(1, f"|{'|'.join('-' * (wide + 2) for wide in widths)}|")
    return "\n".join(rows)


def say(text: str) -> None:
    """Print progress to stderr."""
    print(text, file=sys.stderr, flush=True)


def _cells(one: BenchRow) -> list[str]:
    def number(value: float | None, digits: int = 0) -> str:
        return "" if value is None else f"{value:,.{digits}f}"

    latencies = (one.latency_ms.get(name) for name in ("p50", "p99"))
    return [
        one.what,
        number(one.codes),
        number(one.connections),
        f"{one.a_second:,.0f} {one.unit}",
        *(number(ms, 1 if ms is None or ms >= 1 else 2) for ms in latencies),
        ", ".join(f"{one.request_us[part]:.1f}" for part in PARTS if part in one.request_us),
        number(sum(one.redemption_us.values()) if one.redemption_us else None),
        number(one.lag_s, 2),
    ]


def machine() -> dict[str, Any]:
    """Where and when it was measured."""
    with Path("/proc/cpuinfo").open() as lines:
        models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "taken": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "cores": len(os.sched_getaffinity(0)),
        "cpu": models[0] if models else platform.machine(),
        "kernel": platform.release(),
        "python": interpreter(),
    }


def interpreter() -> str:
    """Which Python runs this, and the flags of its build that make it faster by a tenth to a third."""
    configured = sysconfig.get_config_var("CONFIG_ARGS") or ""
    flags = [flag for flag in ("--enable-optimizations", "--with-lto") if flag in configured]
    named = " ".join(flags) or "neither --enable-optimizations nor --with-lto"
    return f"{platform.python_implementation()} {platform.python_version()} configured with {named}"


def keep(folder: Path, rows: Sequence[BenchRow]) -> str:
    """Write the table and all figures into a folder; the table."""
    written = table(rows)
    (folder / "table.md").write_text(written + "\n")
    (folder / "bench.json").write_bytes(msgspec.json.format(msgspec.json.encode({"machine": machine(), "rows": rows})))
    return written
