"""A bench's pictures: SVG, and PNG where Debian's headless Chromium is there to make them."""

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from loadtests.figures import NINES, Row
from loadtests.plots import HEIGHT, WIDTH, Series, Ticks, write

_QUIET = ("--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--force-device-scale-factor=2")
_PATIENCE_S = 60


def draw(folder: Path, rows: Sequence[Row]) -> None:
    """Draw what there is to see of these rows."""
    pairs = [one for one in rows if one.part == "pairs"]
    widths = sorted({one.connections or 0 for one in pairs})
    by_width: Ticks = [(place, f"{width:,}") for place, width in enumerate(widths)]

    def lines(value: str) -> list[Series]:
        return [
            Series(
                name, [(widths.index(one.connections or 0), _value(one, value)) for one in pairs if _name(one) == name]
            )
            for name in dict.fromkeys(map(_name, pairs))
        ]

    _write(folder / "pairs", "Pairs of lock and redeem a second, by connections", lines("a second"), by_width)
    _write(folder / "p50", "Time to the answer, p50, ms, by connections", lines("p50"), by_width)
    _write(folder / "p99", "Time to the answer, p99, ms, by connections", lines("p99"), by_width)
    tails = [one for one in rows if one.part == "sustained"]
    by_nine: Ticks = [(place, f"p{share * 100:g}") for place, share in enumerate(NINES)]
    drawn = [Series(one.what, list(enumerate(one.tail_ms))) for one in tails]
    _write(folder / "sustained-latency", "Time to the answer at full load, ms, by percentile", drawn, by_nine)
    drawn = [Series(one.what, one.timeline) for one in tails]
    _write(folder / "sustained-answers", "Answers a second at full load", drawn)
    _write(folder / "sustained-lag", "How far the record is behind, s", [Series(one.what, one.lags) for one in tails])
    drawn = [Series(one.what, one.timeline) for one in rows if one.part == "opening"]
    _write(folder / "opening-answers", "Answers a second at an opening", drawn)


def _name(one: Row) -> str:
    return f"{one.what}, {one.codes:,}"


def _value(one: Row, name: str) -> float:
    return one.a_second if name == "a second" else one.latency_ms[name]


def _write(path: Path, title: str, series: Sequence[Series], ticks: Ticks = ()) -> None:
    drawn = path.with_suffix(".svg")
    if write(drawn, title, series, ticks) and (chromium := shutil.which("chromium-headless-shell")):
        size = (f"--window-size={WIDTH},{HEIGHT}", f"--screenshot={path.with_suffix('.png')}")
        command = [chromium, *_QUIET, *size, drawn.absolute().as_uri()]
        subprocess.run(command, check=True, capture_output=True, timeout=_PATIENCE_S)
