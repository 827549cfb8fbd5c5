"""Run the mutants: each alone, in a copy of the tree, against the tests that must turn red."""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple

from loadtests.harness.trees import COPIED, copied
from tests.mutants.mutant import Mutant
from tests.mutants.table import MUTANTS
from tests.mutants.witness import BROKEN, CAUGHT

ROOT = Path(__file__).parents[2]
NAMES = (*COPIED, "tests")
SURVIVED = "survived"
PATIENCE_S = 300.0
_GREEN, _RED = 0, (1, 2)  # pytest's exit codes; 2 where a fixture failed, or a file couldn't be read


class Seen(NamedTuple):
    """What the tests said: `verdict` is caught, broken or survived; `test` is the one that failed."""

    verdict: str
    test: str
    why: str
    seconds: float


class Copy:
    """A copy of the tree, in which one mutant lives at a time."""

    def __init__(self, folder: Path) -> None:
        self._tree, self._witness = folder / "tree", folder / "witness.json"
        copied(ROOT, self._tree, NAMES)

    def test(self, files: Sequence[str], only: str) -> Seen:
        """Run tests until one fails."""
        self._witness.unlink(missing_ok=True)
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-p", "tests.mutants.witness"]
        command += ["--witness", str(self._witness), "--tree", str(self._tree), *files, *(["-k", only] if only else [])]
        began = time.monotonic()
        code, output = self._run(command)
        seconds = time.monotonic() - began
        if code == _GREEN:
            return Seen(SURVIVED, "", "", seconds)
        if code not in _RED or not self._witness.exists():
            return Seen(BROKEN, "", output.strip()[-600:], seconds)
        return Seen(**json.loads(self._witness.read_text()), seconds=seconds)

    def _run(self, command: Sequence[str]) -> tuple[int | None, str]:
        """The exit code, None where it didn't end, and what was printed."""
        env = os.environ | {"PYTHONPATH": str(self._tree)}
        process = subprocess.Popen(
            command, cwd=self._tree, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            output, _ = process.communicate(timeout=PATIENCE_S)
            return process.returncode, output.decode()
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            return None, "the tests don't end"

    @contextlib.contextmanager
    def changed(self, mutant: Mutant) -> Iterator[None]:
        """The tree with this change. Compiled files go: a change may leave a file as long and as old as it was."""
        path = self._tree / mutant.path
        text = path.read_text()
        try:
            path.write_text(mutant.mutated(text))
            _forget_compiled(path)
            yield
        finally:
            path.write_text(text)
            _forget_compiled(path)


class Copies:
    """Some copies; each is taken by one thread at a time."""

    def __init__(self, folder: Path, number: int) -> None:
        self._idle: SimpleQueue[Copy] = SimpleQueue()
        for name in range(number):
            self._idle.put(Copy(folder.resolve() / str(name)))

    @contextlib.contextmanager
    def one(self) -> Iterator[Copy]:
        """A copy that nobody uses now."""
        copy = self._idle.get()
        try:
            yield copy
        finally:
            self._idle.put(copy)

    def unmutated(self, files: Sequence[str], only: str) -> Seen:
        """What tests say of the tree as it is."""
        with self.one() as copy:
            return copy.test(files, only)

    def mutated(self, mutant: Mutant) -> Seen:
        """What a mutant's tests say of it."""
        with self.one() as copy, copy.changed(mutant):
            return copy.test(mutant.files, mutant.only)


def _forget_compiled(path: Path) -> None:
    for compiled in path.parent.glob(f"__pycache__/{path.stem}.*"):
        compiled.unlink()


def selections(mutants: Sequence[Mutant]) -> list[tuple[list[str], str]]:
    """All tests that the mutants name, in few runs of pytest: (files, -k)."""
    by_only: dict[str, set[str]] = {}
    for mutant in mutants:
        by_only.setdefault(mutant.only, set()).update(mutant.files)
    by_files: dict[tuple[str, ...], list[str]] = {}
    for only, files in by_only.items():
        by_files.setdefault(tuple(sorted(files)), []).append(only)
    return [
        (list(files), "" if "" in onlys else " or ".join(f"({only})" for only in onlys))
        for files, onlys in by_files.items()
    ]


def table(seen: Sequence[tuple[Mutant, Seen]]) -> str:
    """Rule, change and the test that turned red, in Markdown."""
    lines = ["| | rule | change | red |", "|---|---|---|---|"]
    for number, (mutant, found) in enumerate(seen, 1):
        red = f"`{found.test.removeprefix('tests/')}`" if found.verdict == CAUGHT else f"**{found.verdict}**"
        lines.append(f"| {number} | {mutant.rule} | {mutant.change()} | {red} |")
    return "\n".join(lines)


def _chosen(words: str) -> list[Mutant]:
    """The mutants with these words; the run ends at once where one of them doesn't fit its file any more."""
    chosen = [mutant for mutant in MUTANTS if words in f"{mutant.rule} {mutant.path}"]
    if not chosen:
        raise SystemExit(f"no mutant has {words!r} in its rule or path")
    for mutant in chosen:
        mutant.mutated((ROOT / mutant.path).read_text())
    return chosen


def _green_before(pool: ThreadPoolExecutor, copies: Copies, mutants: Sequence[Mutant]) -> bool:
    """Whether all tests that the mutants name are green while nothing is changed; said on the way."""
    runs = selections(mutants)
    told = [pool.submit(copies.unmutated, *run) for run in runs]
    for number, (future, (files, only)) in enumerate(zip(told, runs, strict=True), 1):
        found = future.result()
        print(f"unchanged {number}/{len(runs)} {found.seconds:5.1f} s  {' '.join(files)}  {only}", flush=True)
        if found.verdict != SURVIVED:
            print(f"red though nothing was changed: {found.test} {found.why}", file=sys.stderr)
            pool.shutdown(cancel_futures=True)
            return False
    return True


def main() -> int:
    """Run them, some at a time; 1 where one of them isn't caught."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="those with these words in their rule or path")
    parser.add_argument("--workers", type=int, default=2, help="how many at a time, each in a copy of its own")
    parser.add_argument("--table", type=Path, help="write the table here, too")
    asked = parser.parse_args()
    mutants, seen = _chosen(asked.only), []
    with (
        tempfile.TemporaryDirectory(prefix="scrip-mutants-", ignore_cleanup_errors=True) as folder,
        ThreadPoolExecutor(asked.workers) as pool,
    ):
        copies = Copies(Path(folder), asked.workers)
        if not _green_before(pool, copies, mutants):
            return 1
        for mutant, found in zip(mutants, pool.map(copies.mutated, mutants), strict=True):
            seen.append((mutant, found))
            about = f"by {found.test}" if found.verdict == CAUGHT else f"({mutant.path}) {found.test} {found.why}"
            count = f"{len(seen):3}/{len(mutants)}"
            print(f"{count} {found.verdict:8} {found.seconds:5.1f} s  {mutant.rule}  {about}", flush=True)
    print(f"\n{table(seen)}\n")
    if asked.table:
        asked.table.write_text(table(seen) + "\n")
    caught = sum(found.verdict == CAUGHT for _, found in seen)
    print(f"{caught} of {len(seen)} turn a test red")
    return 0 if caught == len(seen) else 1
