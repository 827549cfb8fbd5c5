"""Run the mutants of the operators over lua/; print what survives."""

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

from tests.harness.trees import ROOT
from tests.lab.mutants.forking import BROKEN, KILLED, SURVIVED, TESTS, TIMEOUT, Forks, Result
from tests.lab.mutants.operators import OPERATORS, Mutant, all_mutants, equivalents

_READ = ("lua", "service", "tests/lua", "tests/harness", "tests/model")


def record_path() -> Path:
    """Where the record of what each test reaches is, for the tree as it is."""
    digest = hashlib.sha256()
    files = [path for name in _READ for path in (ROOT / name).rglob("*")]
    for path in sorted([*files, *(ROOT / "tests").glob("*.py")]):
        if path.suffix in (".lua", ".py"):
            digest.update(str(path.relative_to(ROOT)).encode() + path.read_bytes())
    return ROOT / ".pytest_cache" / f"mutants-{digest.hexdigest()[:16]}.json"


def choose(only: str, operator: str, sample: int | None, seed: int) -> list[Mutant]:
    """The mutants to run."""
    named = [one for one in all_mutants() if any(words in f"lua/{one.file}" for words in only.split(","))]
    chosen = [one for one in named if operator in ("", one.operator)]
    return chosen if sample is None else random.Random(seed).sample(chosen, min(sample, len(chosen)))


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

    def add(self, result: Result) -> None:
        """A mutant has run."""
        listed = result.verdict == SURVIVED and result.mutant.row in dict(equivalents())
        self._count("equivalent" if listed else result.verdict)
        if result.verdict in (SURVIVED, BROKEN) and not listed:
            files = Counter(test.partition("::")[0].removeprefix("tests/") for test in result.tried)
            tried = ", ".join(f"{file} {count}" for file, count in sorted(files.items())) or "none reaches it"
            self._print(f"{result.verdict}: {result.mutant}\n  tests tried: {tried} {result.why}")
            self._print(f"  row: {result.mutant.row}")
        elif self._verbose:
            self._print(f"{result.verdict}: {result.mutant} by {result.test}")

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


def _run(mutants: Sequence[Mutant], workers: int, report: Report, folder: Path) -> None:
    forks = Forks(mutants, workers, folder, record_path(), report.add)
    options = ["-q", "-s", "-p", "no:cacheprovider", "-p", "no:xdist"]
    code = pytest.main([*TESTS, *options, "--basetemp", str(folder / "tests")], plugins=[forks])
    if len(forks.results) != len(mutants):
        raise SystemExit(f"pytest ended with {code} before all mutants had run")


def main() -> int:
    """Run them, some at a time; 1 where one of them survives that is not listed as equivalent."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="those whose file contains this, or one of these, between commas")
    parser.add_argument("--operator", default="", choices=[*OPERATORS], help="those of one operator")
    parser.add_argument("--sample", type=int, help="so many of them, drawn at random")
    parser.add_argument("--seed", type=int, default=1, help="of the sample")
    parser.add_argument("--workers", type=int, default=2, help="how many at a time, each with a server of its own")
    parser.add_argument("--verbose", action="store_true", help="print the killed ones, too, and by which test")
    asked = parser.parse_args()
    mutants = choose(asked.only, asked.operator, asked.sample, asked.seed)
    if not mutants:
        raise SystemExit("no mutant is like this")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that servers end, too
    report = Report(len(mutants), verbose=asked.verbose)
    with (
        tempfile.TemporaryDirectory(prefix="scrip-mutants-", ignore_cleanup_errors=True) as folder,
        report,
    ):
        try:
            _run(mutants, asked.workers, report, Path(folder))
        finally:
            print(report.summary())
    return 0 if set(report.verdicts) <= {KILLED, TIMEOUT, "equivalent"} else 1
