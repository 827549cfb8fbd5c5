"""A plugin of pytest: collect the tests of the scripts once, then fork a process for each mutant.

1. Where no record fits the tree: run all tests on marked scripts and record which statements each of them reaches.
2. For each mutant, fork a process that composes the scripts with the change and runs the tests that reach it.
3. It stops at the first test that fails. Tests that killed a mutant of the same file go first, then the fastest.

The tests run on the wheel's Valkey; each process starts one of its own."""

import contextlib
import gc
import importlib
import json
import os
import re
import selectors
import shutil
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from tests.harness.lua_syntax import LUA_DIR, MARKER, files, marked
from tests.lab.mutants.operators import Mutant

TESTS = ("tests/lua", "tests/unit/test_money.py")
KILLED, SURVIVED, BROKEN, TIMEOUT = "killed", "survived", "broken", "timeout"
_SLOWER, _SPARE_S = 5.0, 20.0  # a mutant may take so many times its tests' time, and so much more
_CONTROLS = 20  # tests that each worker runs unmutated first
_logged = re.compile(rb" m(\d+)\n")


class Result(NamedTuple):
    """What the tests showed: `test` is the one that failed, `tried` how many ran or were chosen."""

    mutant: Mutant
    verdict: str
    tried: Sequence[str]
    test: str = ""
    why: str = ""


class Reached(NamedTuple):
    """One test: the markers that it reached, and its seconds."""

    markers: frozenset[int]
    seconds: float


@dataclass(eq=False)
class _Running:
    """A forked process."""

    pid: int
    pipe: int
    ends_at: float
    done: Callable[[str | None, bool], None]
    output: bytes = b""


@dataclass(eq=False)
class Forks:
    """The plugin. `results` grows while it runs; `report` is called with each."""

    mutants: Sequence[Mutant]
    workers: int
    folder: Path
    record: Path
    report: Callable[[Result], None]
    results: list[Result] = field(default_factory=list)
    reached: dict[str, Reached] = field(default_factory=dict)
    failed: str = ""
    why: str = ""
    _kills: dict[str, Counter[str]] = field(default_factory=dict)

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Of each test the one on Valkey."""
        items[:] = [item for item in items if _kind_of(item) in ("valkey", "")]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep the first failure, in a forked process."""
        if report.failed and not self.failed:
            crash = getattr(report.longrepr, "reprcrash", None)
            self.failed, self.why = report.nodeid, " ".join(str(getattr(crash, "message", "")).split())[:200]

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Record, then run the mutants."""
        config: Any = session.config
        config._tmp_path_factory.getbasetemp()
        for slot in range(self.workers):
            shutil.copytree(LUA_DIR, self.folder / str(slot))
        gc.freeze()
        items = {item.nodeid: item for item in session.items}
        self._recall(items)
        if not self.reached:
            self._record_all(session)
        fastest = sorted(items.values(), key=lambda item: self.reached[item.nodeid].seconds)[:_CONTROLS]
        self._run([self._checking(fastest)] * self.workers)
        self._run([self._task(items, mutant) for mutant in self.mutants])
        return True

    def _recall(self, items: dict[str, pytest.Item]) -> None:
        if self.record.exists():
            stored = msgspec.json.decode(self.record.read_bytes(), type=dict[str, Reached])
            if stored.keys() == items.keys():
                self.reached = stored

    # --- what each test reaches

    def _record_all(self, session: pytest.Session) -> None:
        print(f"recording which statements {len(session.items)} tests reach", flush=True)
        tests: list[list[pytest.Item]] = [[] for _ in range(self.workers)]
        modules = sorted({_module_of(item) for item in session.items})
        for item in session.items:
            tests[modules.index(_module_of(item)) % self.workers].append(item)
        red: list[str] = []
        self._run([self._recording(part, red) for part in tests if part])
        self._run([self._checking([item for item in session.items if item.nodeid in red])])
        self.record.parent.mkdir(exist_ok=True)
        self.record.write_bytes(msgspec.json.encode(self.reached))

    def _recording(self, items: list[pytest.Item], red: list[str]) -> Callable[[int], _Running]:
        def child(slot: int) -> dict[str, Any]:
            log = self.folder / f"{slot}.log"
            _log_servers(log)
            folder = self.folder / f"{slot}-marked"
            shutil.copytree(LUA_DIR, folder)
            for file in files():
                if not _is_read_by_test(file, items):
                    (folder / file).write_bytes(marked(file))
            _compose_from(folder, header=f"local _log = redis.log local function {MARKER}(n) _log(2, 'm' .. n) end")
            reached, red, read = {}, [], 0
            for item, seconds in self._tests(items, to_the_end=True):
                text, read = _read_from(log, read)
                reached[item.nodeid] = (sorted({int(number) for number in _logged.findall(text)}), seconds)
                if self.failed:
                    red.append(item.nodeid)
                    self.failed = ""
            return {"red": red, "reached": reached}

        def done(output: str | None, _late: bool) -> None:
            result = json.loads(output or '{"broken": "it did not end"}')
            if "reached" not in result:
                raise pytest.UsageError(f"the recording failed: {result}")
            red.extend(result["red"])
            for test, (markers, seconds) in result["reached"].items():
                self.reached[test] = Reached(frozenset(markers), seconds)

        return lambda slot: self._fork(lambda: child(slot), 900, done)

    def _checking(self, items: list[pytest.Item]) -> Callable[[int], _Running]:
        """Run tests as a mutant's, but without a change: they must be green."""

        def child(slot: int) -> dict[str, Any]:
            return self._first_failure(slot, items)

        def done(output: str | None, _late: bool) -> None:
            if not output or json.loads(output)["failed"]:
                raise pytest.UsageError(f"red though nothing was changed: {output}")

        return lambda slot: self._fork(lambda: child(slot), 900, done)

    # --- mutants

    def _task(self, items: dict[str, pytest.Item], mutant: Mutant) -> Callable[[int], _Running]:
        def start(slot: int) -> _Running:
            tests = self._tests_of(mutant, items)
            budget = _SPARE_S + _SLOWER * sum(self.reached[test].seconds for test in tests)

            def child() -> dict[str, Any]:
                (self.folder / str(slot) / mutant.file).write_bytes(mutant.mutated())
                return self._first_failure(slot, [items[test] for test in tests])

            def done(output: str | None, late: bool) -> None:
                shutil.copy(LUA_DIR / mutant.file, self.folder / str(slot) / mutant.file)
                result = json.loads(output or '{"broken": "it wrote nothing"}')
                verdict = (
                    TIMEOUT if late else BROKEN if "broken" in result else KILLED if result["failed"] else SURVIVED
                )
                if verdict == KILLED:
                    self._kills.setdefault(mutant.file, Counter())[result["failed"]] += 1
                self.results.append(
                    Result(
                        mutant, verdict, tests, result.get("failed", ""), result.get("why", result.get("broken", ""))
                    )
                )
                self.report(self.results[-1])

            return self._fork(child, budget, done)

        return start

    def _tests_of(self, mutant: Mutant, items: dict[str, pytest.Item]) -> list[str]:
        """The tests that reach it, first what killed another mutant of its file; last those that read the file."""
        kills = self._kills.get(mutant.file, Counter())
        reaching = [test for test, one in self.reached.items() if mutant.marker in one.markers]
        reaching.sort(key=lambda test: (-kills[test], self.reached[test].seconds))
        return reaching + [test for test, item in items.items() if _is_read_by_test(mutant.file, [item])]

    def _first_failure(self, slot: int, items: Sequence[pytest.Item]) -> dict[str, Any]:
        _compose_from(self.folder / str(slot))
        for _ in self._tests(items):
            pass
        return {"failed": self.failed, "why": self.why}

    # --- processes

    def _tests(self, items: Sequence[pytest.Item], *, to_the_end: bool = False) -> Iterator[tuple[pytest.Item, float]]:
        """Run tests one after the other until one fails."""
        for item, following in zip(items, [*items[1:], None], strict=False):
            began = time.monotonic()
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            yield item, time.monotonic() - began
            if self.failed and not to_the_end:
                return

    def _fork(
        self, child: Callable[[], dict[str, Any]], seconds: float, done: Callable[[str | None, bool], None]
    ) -> _Running:
        """A process that runs it and writes what it returns; its servers are of its process group."""
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.setsid()
            quiet = os.open(os.devnull, os.O_RDWR)
            for number in (0, 1, 2):
                os.dup2(quiet, number)
            try:
                result = child()
            except BaseException:  # noqa: BLE001 - the parent reports it
                result = {"broken": traceback.format_exc()[-600:]}
            _write(writing, json.dumps(result).encode())
            os._exit(0)
        os.close(writing)
        return _Running(pid, reading, time.monotonic() + seconds, done)

    def _run(self, tasks: Sequence[Callable[[int], _Running]]) -> None:
        """Run all, as many at a time as there are workers."""
        waiting, running = list(reversed(tasks)), dict[int, _Running]()
        idle = list(range(self.workers))
        with selectors.DefaultSelector() as selector:
            try:
                while waiting or running:
                    while idle and waiting:
                        slot = idle.pop()
                        running[slot] = waiting.pop()(slot)
                        selector.register(running[slot].pipe, selectors.EVENT_READ, slot)
                    for key, _ in selector.select(timeout=0.5):
                        one = running[key.data]
                        one.output += (piece := os.read(one.pipe, 1 << 20))
                        if not piece:
                            one.ends_at = 0
                    for slot, one in list(running.items()):
                        if time.monotonic() > one.ends_at:
                            selector.unregister(one.pipe)
                            del running[slot]
                            idle.append(slot)
                            _end(one)
                            one.done(one.output.decode() or None, one.ends_at > 0)
            finally:
                for one in running.values():
                    _end(one)


def _write(pipe: int, data: bytes) -> None:
    while data:
        data = data[os.write(pipe, data) :]


def _end(one: _Running) -> None:
    """End a process that we forked, and its servers."""
    os.close(one.pipe)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(one.pid, signal.SIGKILL)
    os.waitpid(one.pid, 0)


def _compose_from(folder: Path, header: str = "") -> None:
    """From now on scripts are composed from this folder, with a line before each."""
    scripts = importlib.import_module("service.engine.hot.scripts")
    modules: list[Any] = list(sys.modules.values())
    for module in modules:
        if isinstance(getattr(module, "LUA_DIR", None), Path) and module.__name__ != "tests.harness.lua_syntax":
            module.LUA_DIR = folder
    general = importlib.import_module("tests.lua.general")
    for composed in (scripts._read, scripts._expand, scripts._body, general._changed_body, scripts._fill_all):
        composed.cache_clear()
    if header:
        read = scripts._read
        scripts.__dict__["HEAD"] = header.replace("{", "{{").replace("}", "}}") + "\n" + scripts.HEAD
        # A test that runs includes alone begins with this one.
        scripts.__dict__["_read"] = lambda part, name: f"{header}\n" * (name == "gate") + read(part, name)


def _log_servers(log: Path) -> None:
    """From now on servers write what scripts log to this file."""
    modules: list[Any] = [module for module in list(sys.modules.values()) if hasattr(module, "valkey_for_scripts")]
    for module in modules:
        module.started = lambda *args, started=module.started: started(*args, "--logfile", str(log))


def _read_from(path: Path, start: int) -> tuple[bytes, int]:
    """What was written to a file after `start`, and where it ends."""
    if not path.exists():
        return b"", start
    with path.open("rb") as file:
        file.seek(start)
        return file.read(), file.tell()


def _kind_of(item: pytest.Item) -> str:
    callspec = getattr(item, "callspec", None)
    return str(callspec.params.get("kind", "")) if callspec else ""


def _module_of(item: pytest.Item) -> str:
    return item.nodeid.partition("::")[0]


def _is_read_by_test(file: str, items: Sequence[pytest.Item]) -> bool:
    """Whether one of the tests reads the file by itself, past the composing of scripts."""
    name = f'"{Path(file).name}"'
    return any(name in Path(item.path).read_text() for item in items if "/unit/" in str(item.path))
