"""A load's plots, as SVG."""

import csv
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 900, 320, 70, 40, 50
COLOURS = ("#1f6f8b", "#c0392b", "#7d8f1a", "#8e44ad", "#d68910", "#34495e")
LINES = 4
"""Lines across a plot."""
POINTS = 1_000
"""At most so many of a line are drawn."""


Ticks = Sequence[tuple[float, str]]
"""Places on an axis, and their names."""


class Series(NamedTuple):
    """A line of a plot: what it is, and its points (seconds, value)."""

    name: str
    points: Sequence[tuple[float, float]]


def plot(title: str, series: Sequence[Series], ticks: Ticks = ()) -> str:
    """An SVG of lines, from 0 up: over time, or over what the ticks (place, name) say."""
    points = [point for one in series for point in one.points]
    last_s = max((second for second, _ in points), default=0) or 1
    highest = max((value for _, value in points), default=0) or 1
    wide, high = WIDTH - LEFT - 20, HEIGHT - TOP - BOTTOM
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans" font-size="12">',
        '<rect width="100%" height="100%" fill="#fff"/>',
        f'<text x="{LEFT}" y="20" font-size="15">{escape(title)}</text>',
    ]
    for step in range(LINES + 1):
        y = TOP + high - high * step / LINES
        parts.append(f'<path d="M{LEFT} {y:.1f}H{LEFT + wide}" stroke="#ddd"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{highest * step / LINES:,.4g}</text>')
    for place, name in ticks or [
        (last_s * step / LINES, f"{last_s * step / LINES:,.4g} s") for step in range(LINES + 1)
    ]:
        x = LEFT + wide * place / last_s
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT - 15}" text-anchor="middle">{escape(name)}</text>')
    for number, (name, line) in enumerate(series):
        drawn, colour = line[:: -(-len(line) // POINTS) or 1], COLOURS[number % len(COLOURS)]
        path = " ".join(f"{LEFT + wide * s / last_s:.1f},{TOP + high - high * v / highest:.1f}" for s, v in drawn)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        parts.append(f'<text x="{LEFT + 140 * number}" y="40" fill="{colour}">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>\n"])


def draw(folder: Path) -> None:
    """Draw what a load's CSV files have: requests, latencies, memory."""
    rows = [row for row in _read(folder / "load_stats_history.csv") if row["Name"] == "Aggregated"]
    began = float(rows[0]["Timestamp"]) if rows else 0.0

    def column(name: str, header: str) -> Series:
        return Series(name, [(float(row["Timestamp"]) - began, _number(row[header])) for row in rows])

    requests = [column("requests/s", "Requests/s"), column("failures/s", "Failures/s"), column("users", "User Count")]
    write(folder / "requests.svg", "Requests a second, as locust saw them", requests)
    latencies = [column(f"{part} answered", part) for part in ("50%", "95%", "99%")]
    write(folder / "latencies.svg", "Time to the answer, ms, over the last 10 s", latencies)
    memory: dict[str, list[tuple[float, float]]] = {}
    for row in _read(folder / "memory.csv"):
        memory.setdefault(row["process"], []).append((float(row["second"]), float(row["mib"])))
    write(folder / "memory.svg", "Resident memory, MiB", [Series(name, points) for name, points in memory.items()])


def write(path: Path, title: str, series: Sequence[Series], ticks: Ticks = ()) -> bool:
    """Write an SVG of what has points; whether there are any."""
    drawn = any(one.points for one in series)
    if drawn:
        path.write_text(plot(title, series, ticks))
    return drawn


def _read(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(newline="") as lines:
        return list(csv.DictReader(lines))


def _number(text: str) -> float:
    """What a CSV says; N/A while nothing was answered."""
    return float(text) if text.replace(".", "", 1).isdecimal() else 0.0
