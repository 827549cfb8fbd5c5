"""A load by locust, and whether everything is as it should be afterwards: `python -m loadtests.load`.

It starts a service of its own, or takes one at `--url`, with the key in SCRIP_LOAD_TOKEN, which needs the scopes
checkout, manage and operate. It makes books for the load and leaves them there, so that should be a workspace for
tests. What locust reports, the ledger and the judgement are kept in `loadtests/results/<time>-<shape>/`."""

import argparse
import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from loadtests import watch
from loadtests.figures import say
from loadtests.ground import Ground
from loadtests.judge import Judge, Judgement
from loadtests.ledger import Ledger, read_entries
from loadtests.own import ROOT, own_service
from loadtests.plan import FOLDER, HOLD_S, TOKEN, Plan, make_books, new_mark, read_plan
from loadtests.progress import Progress
from loadtests.summary import Spent, describe
from loadtests.tables import Tables
from loadtests.tally import read_tally
from loadtests.wire import Barrage
from tests.harness.servers import free_port

RESULTS = ROOT / "loadtests" / "results"
REPORT = "report.html"
"""Locust's, in a load's folder."""
DEFAULTS = {"steady": (50, 10.0, 60), "opening": (500, 500.0, 30), "soak": (30, 5.0, 3600)}
"""Users, new users a second, and seconds."""
SPARE_S = 60
"""What locust may take beyond the load to end."""
QUIT_S = 60
"""How long locust's other processes may outlive its first."""
UPDATE_S = 1.0
"""How often the progress is shown."""


def drive(plan: Plan, folder: Path, token: str, memory: watch.Memory) -> tuple[Spent, list[str]]:
    """Run locust; what it spent, and what grew in a soak's memory. RuntimeError if locust fails."""
    command = [sys.executable, "-m", "locust", "--headless", "-f", "loadtests/locustfile.py", "--host", plan.url]
    command += ["--csv", folder / "load", "--html", folder / REPORT, "--only-summary"]
    command += ["--exit-code-on-error", "0", "--stop-timeout", str(round(2 * plan.pay_s + 4 * HOLD_S + 20))]
    if plan.processes > 1:
        port = str(free_port())
        command += ["--processes", str(plan.processes), "--master-bind-host", "127.0.0.1"]
        command += ["--master-bind-port", port, "--master-port", port]
    environment = os.environ | {FOLDER: str(folder), TOKEN: token}
    pause_s = max(1.0, plan.seconds / watch.SAMPLES)
    began = time.monotonic()
    with (
        (folder / "locust.log").open("wb") as log,
        watch.Watch(memory, pause_s, folder) as watched,
        Progress(plan, folder) as progress,
    ):
        locust = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT)
        try:
            code = _wait(locust, plan.seconds + round(4 * plan.pay_s) + SPARE_S, progress)
        finally:
            if locust.poll() is None:
                locust.kill()
                locust.wait()
    if code:
        raise RuntimeError(f"locust ended with {code}: see {folder}/locust.log")
    cpu_s = _cpu_s(folder, plan.processes + 1 if plan.processes > 1 else 1)
    spent = Spent(time.monotonic() - began, cpu_s, plan.processes)
    return spent, watch.growth(watched.series) if plan.shape == "soak" else []


def _wait(locust: "subprocess.Popen[bytes]", patience_s: float, progress: Progress) -> int:
    """Show the progress until locust ends; return its exit code. Ctrl-C ends locust early; its requests so far are
    judged. Raises TimeoutExpired."""
    deadline = time.monotonic() + patience_s
    while True:
        try:
            with suppress(subprocess.TimeoutExpired):
                return locust.wait(UPDATE_S)
            progress.update()
        except KeyboardInterrupt:
            deadline = min(deadline, time.monotonic() + SPARE_S)
        if time.monotonic() > deadline:
            raise subprocess.TimeoutExpired("locust", patience_s)


def _cpu_s(folder: Path, processes: int) -> float:
    """CPU seconds of locust's processes. Each writes its own as its last step: all ledgers are complete then.
    RuntimeError if one is missing."""
    deadline = time.monotonic() + QUIT_S
    while True:
        texts = [path.read_text() for path in folder.glob("cpu-*.txt")]
        if len(texts) == processes and all(text.endswith("\n") for text in texts):
            return sum(map(float, texts))
        if time.monotonic() > deadline:
            raise RuntimeError(f"{processes - len(texts)} of locust's processes did not end in order")
        time.sleep(0.05)


async def prepare(plan: Plan, folder: Path, token: str) -> Plan:
    """Make the books, and keep the plan. RuntimeError if the key lacks `manage` or `operate`."""
    with Barrage(plan.url, token) as barrage, Ledger([plan.url], token, keep=False) as ledger:
        await barrage.one("GET", "/v1/ops/consistency")
        plan = await make_books(ledger, Ground(barrage, 1), plan)
    plan.save(folder)
    return plan


async def judge(folder: Path, url: str, token: str) -> Judgement:
    """Judge a load's folder by what a service returns now."""
    path = folder / "check.sqlite"
    path.unlink(missing_ok=True)
    plan, entries, tables = read_plan(folder), read_entries(folder), Tables(str(path))
    with Barrage(url, token) as barrage, Ledger([url], token, folder) as ledger:
        judge = Judge(Ground(barrage, 1), plan.books, ledger, entries, tables)
        judgement = await judge.judge()
    tables.close()
    return judgement


def run(plan: Plan, folder: Path, token: str, memory: watch.Memory) -> bool:
    """Run the load and print its judgement; whether everything was as it should be."""
    plan = asyncio.run(prepare(plan, folder, token))
    print(
        f"{plan.shape}: {plan.users} users, at most {plan.seconds} s, {plan.requests:,} requests; {folder}", flush=True
    )
    spent, grown = drive(plan, folder, token, memory)
    say("Judging the answers.")
    judgement = asyncio.run(judge(folder, plan.url, token))
    report = folder / REPORT
    lines = describe(judgement, [*map(str, judgement.wrong), *grown], read_tally(folder), report, spent)
    text = "\n".join(lines)
    (folder / "judgement.txt").write_text(text + "\n")
    print(text)
    return not judgement.wrong and not grown


def main(arguments: list[str] | None = None) -> int:
    """The command."""
    options = _options()
    chosen = options.parse_args(arguments)
    token = os.environ.get(TOKEN) or "demo_admin"
    try:
        if chosen.judge:
            judgement = asyncio.run(judge(chosen.judge, chosen.url or read_plan(chosen.judge).url, token))
            tally, report = read_tally(chosen.judge), chosen.judge / REPORT
            print(*describe(judgement, map(str, judgement.wrong), tally, report, None), sep="\n")
            return bool(judgement.wrong)
        plan = _plan(chosen)
        folder = chosen.results / f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{plan.shape}"
        folder.mkdir(parents=True)
        with _service(chosen.url) as (url, memory):
            return not run(msgspec.structs.replace(plan, url=url), folder.absolute(), token, memory)
    except (OSError, RuntimeError, TimeoutError, subprocess.TimeoutExpired) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1


@contextmanager
def _service(url: str | None) -> Iterator[tuple[str, watch.Memory]]:
    """The address of a service, and how its memory is read."""
    if url:
        yield url.rstrip("/"), watch.of_metrics(url.rstrip("/"))
        return
    say("Starting a service.")
    with own_service() as own:
        pids = own.facts["pids"]
        yield own.url, watch.of_processes({part: pids[part] for part in ("api", "worker", "redis")})


def _plan(chosen: argparse.Namespace) -> Plan:
    users, rate, seconds = DEFAULTS[chosen.shape]
    users = chosen.users or users
    rate, seconds = chosen.rate or min(rate, users), chosen.seconds or seconds
    if chosen.shape != "opening" and users / rate > seconds:
        raise SystemExit(f"{users} users at {rate:g} a second don't come within {seconds} s")
    numbers = (users, rate, seconds, chosen.requests, chosen.pay, chosen.processes)
    return Plan(chosen.shape, "", *numbers, new_mark())


def _options() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--url", help="of a running service; without it one is started for this")
    options.add_argument("--shape", choices=DEFAULTS, default="steady")
    options.add_argument("--users", type=bounded(int, 1, 20_000), help="50; at an opening 500, in a soak 30")
    options.add_argument("--rate", type=bounded(float, 0.01, 20_000), help="users who come a second: 10; in a soak 5")
    options.add_argument("--seconds", type=bounded(int, 1, 7 * 86_400), help="60; at an opening 30, in a soak 3,600")
    options.add_argument("--requests", type=bounded(int, 1, 100_000_000), default=1_000_000, help="end after so many")
    options.add_argument("--pay", type=bounded(float, 0, 60), default=1.0, help="seconds that buyers take to pay")
    options.add_argument("--processes", type=bounded(int, 1, 256), default=1, help="of locust, each fills a core")
    options.add_argument("--results", type=Path, default=RESULTS, help="where the load's folder is made")
    options.add_argument("--judge", type=Path, metavar="FOLDER", help="only judge a load that was run before, again")
    return options


def bounded(kind: type, least: float, most: float) -> Callable[[str], Any]:
    """The type of an option that is a number within these bounds."""

    def number(text: str) -> Any:
        value = kind(text)
        if not least <= value <= most:
            raise ValueError(text)
        return value

    return number


if __name__ == "__main__":
    sys.exit(main())
