"""The hand-written mutants of written.txt: of Python and SQL, and of Lua where no operator makes the change. Each runs
alone, in a copy of the tree, against the tests that must turn red."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple

from tests.harness.trees import COPIED, Mistake, copied, make, read_mistakes
from tests.lab.mutants.witness import BROKEN, SURVIVED

_LIMIT_S = 300.0
_GREEN, _RED = 0, (1, 2)  # pytest's exit codes; 2 where a fixture failed, or a file couldn't be read


@cache
def written() -> tuple[Mistake, ...]:
    return tuple(read_mistakes(Path(__file__).with_name("written.txt")))


def selection_of(mutant: Mistake) -> tuple[list[str], str]:
    """The files of tests that it names, and pytest's -k ('' for all); of scripts' tests only those on fakeredis."""
    names, _, quoted = mutant.found_by.partition(" -k ")
    files, only = names.split(), quoted.strip("'")
    if not all(file.startswith("tests/lua/") for file in files):
        return files, only
    return files, f"fakeredis and ({only})" if only else "fakeredis"


class Seen(NamedTuple):
    """What the tests showed: `verdict` is killed, broken or survived; `test` is the one that failed."""

    verdict: str
    test: str
    why: str


class Copy:
    """A copy of the tree, in which one mutant lives at a time."""

    def __init__(self, folder: Path) -> None:
        self._tree, self._witness = folder / "tree", folder / "witness.json"
        copied(self._tree, (*COPIED, "tests", "loadtests"))

    def test(self, files: Sequence[str], only: str) -> Seen:
        """Run tests until one fails."""
        self._witness.unlink(missing_ok=True)
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-x",
            "-q",
            "-p",
            "no:cacheprovider",
            "-p",
            "tests.lab.mutants.witness",
        ]
        command += ["--witness", str(self._witness), "--tree", str(self._tree), *files, *(["-k", only] if only else [])]
        code, output = self._run(command)
        if code == _GREEN:
            return Seen(SURVIVED, "", "")
        if code not in _RED or not self._witness.exists():
            return Seen(BROKEN, "", output.strip()[-600:])
        return Seen(**json.loads(self._witness.read_text()))

    def _run(self, command: Sequence[str]) -> tuple[int | None, str]:
        """The exit code, None where it didn't end, and what was printed."""
        env = os.environ | {"PYTHONPATH": str(self._tree)}
        process = subprocess.Popen(
            command, cwd=self._tree, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            output, _ = process.communicate(timeout=_LIMIT_S)
            return process.returncode, output.decode()
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            return None, "the tests don't end"

    @contextlib.contextmanager
    def changed(self, mutant: Mistake) -> Iterator[None]:
        """The tree with this mutant. Compiled files go: a change may leave a file as long and as old as it was."""
        texts = {path: path.read_text() for path in (self._tree / change.path for change in mutant.changes)}
        try:
            make(mutant.changes, self._tree)
            _forget_compiled(texts)
            yield
        finally:
            for path, text in texts.items():
                path.write_text(text)
            _forget_compiled(texts)


def run_written(mutants: Sequence[Mistake], folder: Path, workers: int) -> Iterator[tuple[Mistake, Seen]]:
    """Each mutant and what its tests showed; RuntimeError where they are red though nothing is changed."""
    idle: SimpleQueue[Copy] = SimpleQueue()
    for name in range(workers if mutants else 0):
        idle.put(Copy(folder.resolve() / f"copy{name}"))

    def test(selection: tuple[list[str], str], mutant: Mistake | None) -> Seen:
        copy = idle.get()
        try:
            with copy.changed(mutant) if mutant else contextlib.nullcontext():
                return copy.test(*selection)
        finally:
            idle.put(copy)

    with ThreadPoolExecutor(workers) as pool:
        for seen in pool.map(lambda run: test(run, None), selections(mutants)):
            if seen.verdict != SURVIVED:
                pool.shutdown(cancel_futures=True)
                raise RuntimeError(f"red though nothing was changed: {seen.test} {seen.why}")
        yield from zip(mutants, pool.map(lambda one: test(selection_of(one), one), mutants), strict=True)


def selections(mutants: Sequence[Mistake]) -> list[tuple[list[str], str]]:
    """All tests that the mutants name, in few runs of pytest: (files, -k)."""
    by_only: dict[str, set[str]] = {}
    for files, only in map(selection_of, mutants):
        by_only.setdefault(only, set()).update(files)
    by_files: dict[tuple[str, ...], list[str]] = {}
    for only, names in by_only.items():
        by_files.setdefault(tuple(sorted(names)), []).append(only)
    return [
        (list(files), "" if "" in onlys else " or ".join(f"({only})" for only in onlys))
        for files, onlys in by_files.items()
    ]


def _forget_compiled(paths: Iterable[Path]) -> None:
    for path in paths:
        for compiled in path.parent.glob(f"__pycache__/{path.stem}.*"):
            compiled.unlink()
