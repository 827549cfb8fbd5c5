"""Run the mutants of the operators over lua/ and those of written.txt; print what survives."""

import argparse
import hashlib
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import pytest
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tests.harness.trees import ROOT, Mistake
from tests.lab.mutants.forking import TESTS, TIMEOUT, Forks, Result
from tests.lab.mutants.operators import OPERATORS, Mutant, all_mutants, equivalents
from tests.lab.mutants.witness import BROKEN, KILLED, SURVIVED
from tests.lab.mutants.written import run_written, written

_WRITTEN = "written"
_READ = ("lua", "service", "tests/lua", "tests/harness", "tests/model")


def record_path() -> Path:
    """Where the record of what each test reaches is, for the tree as it is."""
    digest = hashlib.sha256()
    files = [path for name in _READ for path in (ROOT / name).rglob("*")]
    for path in sorted([*files, *(ROOT / "tests").glob("*.py")]):
        if path.suffix in (".lua", ".py"):
            digest.update(str(path.relative_to(ROOT)).encode() + path.read_bytes())
    return ROOT / ".pytest_cache" / f"mutants-{digest.hexdigest()[:16]}.json"


def choose(only: str, operator: str, sample: int | None, seed: int) -> tuple[list[Mutant], list[Mistake]]:
    """The mutants to run: (of the operators, hand-written)."""

    def is_named(text: str) -> bool:
        return any(words in text for words in only.split(","))

    made = [one for one in all_mutants() if is_named(f"lua/{one.file}") and operator in ("", one.operator)]
    by_hand = [one for one in written() if is_named(f"{one.changes[0].path} {one.rule}") and operator in ("", _WRITTEN)]
    if sample is not None:
        drawn = random.Random(seed).sample([*made, *by_hand], min(sample, len(made) + len(by_hand)))
        made = [one for one in drawn if isinstance(one, Mutant)]
        by_hand = [one for one in drawn if isinstance(one, Mistake)]
    return made, by_hand


class Report:
    """Counts verdicts, prints survivors, and moves the bar."""

    def __init__(self, total: int, *, verbose: bool) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bar, self._verbose = Progress(*columns, redirect_stdout=False, redirect_stderr=False), verbose
        self._task = self._bar.add_task("mutants", total=total)
        self._began = time.monotonic()
        self.verdicts: Counter[str] = Counter()

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def made(self, result: Result) -> None:
        """A mutant of an operator has run."""
        listed = result.verdict == SURVIVED and result.mutant.row in dict(equivalents())
        self._count("equivalent" if listed else result.verdict)
        if result.verdict in (SURVIVED, BROKEN) and not listed:
            files = Counter(test.partition("::")[0].removeprefix("tests/") for test in result.tried)
            tried = ", ".join(f"{file} {count}" for file, count in sorted(files.items())) or "none reaches it"
            self._print(f"{result.verdict}: {result.mutant}\n  tests tried: {tried} {result.why}")
            self._print(f"  row: {result.mutant.row}")
        elif self._verbose:
            self._print(f"{result.verdict}: {result.mutant} by {result.test}")

    def by_hand(self, mutant: Mistake, verdict: str, why: str) -> None:
        self._count(verdict)
        if verdict != KILLED:
            self._print(f"{verdict}: {mutant.changes[0].path} written: {mutant.rule}")
            self._print(f"  tests tried: {mutant.found_by} {why}")

    def _count(self, verdict: str) -> None:
        self.verdicts[verdict] += 1
        self._bar.advance(self._task)

    def _print(self, text: str) -> None:
        self._bar.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def summary(self) -> str:
        """The counts, and how fast it was."""
        minutes = (time.monotonic() - self._began) / 60
        ran = self.verdicts.total()
        counts = ", ".join(f"{count} {verdict}" for verdict, count in sorted(self.verdicts.items()))
        return f"{ran} mutants in {minutes:.1f} minutes, {ran / minutes:.0f} a minute: {counts}"


def _run(made: Sequence[Mutant], by_hand: Sequence[Mistake], workers: int, report: Report, folder: Path) -> None:
    if made:
        forks = Forks(made, workers, folder, record_path(), report.made)
        options = ["-q", "-s", "-p", "no:cacheprovider", "-p", "no:xdist"]
        code = pytest.main([*TESTS, *options, "--basetemp", str(folder / "tests")], plugins=[forks])
        if len(forks.results) != len(made):
            raise SystemExit(f"pytest ended with {code} before all mutants had run")
    for mutant, seen in run_written(by_hand, folder, workers):
        report.by_hand(mutant, seen.verdict, seen.why)


def main() -> int:
    """Run them, some at a time; 1 where one of them survives that is not listed as equivalent."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--only", default="", help="those whose file or rule contains this, or one of these, between commas"
    )
    parser.add_argument("--operator", default="", choices=[*OPERATORS, _WRITTEN], help="those of one operator")
    parser.add_argument("--sample", type=int, help="so many of them, drawn at random")
    parser.add_argument("--seed", type=int, default=1, help="of the sample")
    parser.add_argument("--workers", type=int, default=2, help="how many at a time, each with a server of its own")
    parser.add_argument("--verbose", action="store_true", help="print the killed ones, too, and by which test")
    asked = parser.parse_args()
    made, by_hand = choose(asked.only, asked.operator, asked.sample, asked.seed)
    if not made and not by_hand:
        raise SystemExit("no mutant is like this")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that servers end, too
    report = Report(len(made) + len(by_hand), verbose=asked.verbose)
    with (
        tempfile.TemporaryDirectory(prefix="scrip-mutants-", ignore_cleanup_errors=True) as folder,
        report,
    ):
        try:
            _run(made, by_hand, asked.workers, report, Path(folder))
        finally:
            print(report.summary())
    return 0 if set(report.verdicts) <= {KILLED, TIMEOUT, "equivalent"} else 1
