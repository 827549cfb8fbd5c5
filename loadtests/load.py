"""A load by locust and its judgement: `python -m loadtests.load`, which is `make load`.

It starts a service of its own, or takes one at `--url`, with the key in SCRIP_LOAD_TOKEN. loadtests/locustfile.py makes
the books, which stay there, and judges with `--judge`. What locust reports, the ledger and the judgement are kept in
`loadtests/results/<time>-<shape>/`."""

import argparse
import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from loadtests.judge import Judge, Judgement
from loadtests.ledger import Ledger, read_entries
from loadtests.plan import FILE, HOLD_S, TOKEN, Plan, check_key, read_plan
from loadtests.progress import Progress
from loadtests.summary import describe, list_failures, read_spent
from loadtests.tables import Tables
from loadtests.tally import read_tally
from loadtests.target import Target
from loadtests.wire import Barrage

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "loadtests" / "results"
REPORT, JUDGEMENT = "report.html", "judgement.txt"
"""Locust's and ours, in a load's folder."""
DEFAULTS = {"steady": (50, 10.0, 60), "opening": (500, 500.0, 30), "soak": (30, 5.0, 3600)}
"""Users, new users a second, and seconds."""
UPDATE_S = 1.0
"""How often the progress is shown."""


def drive(chosen: argparse.Namespace, folder: Path, url: str, token: str, pids: str) -> int:
    """Run locust; its exit code."""
    stop_s = round(2 * chosen.pay + 4 * HOLD_S + 20)
    command = [sys.executable, "-m", "locust", "--headless", "-f", "loadtests/locustfile.py", "--host", url]
    command += ["--users", str(chosen.users), "--spawn-rate", str(chosen.rate), "--run-time", str(chosen.seconds)]
    command += ["--csv", folder / "load", "--html", folder / REPORT, "--only-summary", "--stop-timeout", str(stop_s)]
    command += ["--folder", folder, "--pids", pids]
    for name in ("shape", "requests", "pay", "mix", "max_p99", "max_errors"):
        if (value := getattr(chosen, name)) is not None:
            command += [f"--{name.replace('_', '-')}", str(value)]
    if chosen.processes > 1:
        from tests.harness.servers import free_port

        port = str(free_port())
        command += ["--processes", str(chosen.processes), "--master-bind-host", "127.0.0.1"]
        command += ["--master-bind-port", port, "--master-port", port]
    with (folder / "locust.log").open("wb") as log, Progress(chosen.seconds, folder) as progress:
        variables = os.environ | {TOKEN: token}
        locust = subprocess.Popen(command, cwd=ROOT, env=variables, stdout=log, stderr=subprocess.STDOUT)
        try:
            return _wait(locust, progress)
        finally:
            if locust.poll() is None:
                locust.kill()
                locust.wait()


def _wait(locust: "subprocess.Popen[bytes]", progress: Progress) -> int:
    """Show the progress until locust ends; return its exit code. Ctrl-C ends the load early; it is judged so far."""
    while True:
        with suppress(KeyboardInterrupt, subprocess.TimeoutExpired):
            return locust.wait(UPDATE_S)
        progress.update()


async def _judge(folder: Path, plan: Plan, url: str, token: str) -> Judgement:
    """Judge a load's folder by what a service returns now."""
    path = folder / "check.sqlite"
    path.unlink(missing_ok=True)
    entries, tables = read_entries(folder), Tables(str(path))
    with Barrage(url, token) as barrage, Ledger([url], token, folder) as ledger:
        judgement = await Judge(Target(barrage, 1), plan.books, ledger, entries, tables).judge()
    tables.close()
    return judgement


def judge(folder: Path, url: str, token: str) -> bool:
    """Judge a load's folder; keep and print the judgement. Whether everything was as it should be."""
    plan, spent, tally = read_plan(folder), read_spent(folder), read_tally(folder)
    judgement = asyncio.run(_judge(folder, plan, url or plan.url, token))
    wrong = list_failures(judgement, plan, tally, spent)
    text = "\n".join(describe(judgement, wrong, tally, plan, spent))
    (folder / JUDGEMENT).write_text(text + "\n")
    print(text)
    return not wrong


def run(chosen: argparse.Namespace, folder: Path) -> bool:
    """Run a load, and print its judgement; whether everything was as it should be."""
    with _service(chosen.url) as (url, pids):
        token = os.environ.get(TOKEN, "") if chosen.url else "demo_admin"
        asyncio.run(check_key(url, token))
        folder.mkdir(parents=True)
        print(f"{chosen.shape}: {chosen.users} users, {chosen.seconds} s; {folder}", flush=True)
        code = drive(chosen, folder, url, token, pids)
    if not (folder / JUDGEMENT).exists():
        raise RuntimeError(f"locust ended with {code}: see {folder}/locust.log")
    print((folder / JUDGEMENT).read_text())
    print(f"Report: {(folder / REPORT).as_uri()}")
    return code == 0


def main(arguments: list[str] | None = None) -> int:
    chosen = _options().parse_args(arguments)
    try:
        if chosen.judge:
            return not judge(chosen.judge, chosen.url, os.environ.get(TOKEN) or "demo_admin")
        users, rate, seconds = DEFAULTS[chosen.shape]
        chosen.users, chosen.seconds = chosen.users or users, chosen.seconds or seconds
        chosen.rate = chosen.rate or min(rate, chosen.users)
        if chosen.shape == "opening":
            chosen.rate = chosen.users
        elif chosen.users / chosen.rate > chosen.seconds:
            raise SystemExit(f"{chosen.users} users at {chosen.rate:g} a second don't come within {chosen.seconds} s")
        return not run(chosen, chosen.results.absolute() / f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{chosen.shape}")
    except (OSError, RuntimeError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1


@contextmanager
def _service(url: str | None) -> Iterator[tuple[str, str]]:
    """The address of a service, and its processes if it was started for this."""
    if url:
        yield url.rstrip("/"), ""
        return
    from loadtests.own import own_service

    print("Starting a service.", file=sys.stderr)
    with own_service() as own:
        pids = own.facts["pids"]
        yield own.url, " ".join(f"{part}={','.join(map(str, pids[part]))}" for part in ("api", "worker", "redis"))


def _http_url(text: str) -> str:
    if not text.startswith(("http://", "https://")):
        raise argparse.ArgumentTypeError("must begin with http:// or https://")
    return text


def _load_folder(text: str) -> Path:
    folder = Path(text)
    if not (folder / FILE).is_file():
        raise argparse.ArgumentTypeError(f"{text} has no {FILE}: it is no folder of a load")
    return folder


def _options() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--url", type=_http_url, help="of a running service; without it one is started for this")
    options.add_argument("--shape", choices=DEFAULTS, default="steady")
    options.add_argument("--users", type=bounded(int, 1, 20_000), help="50; at an opening 500, in a soak 30")
    options.add_argument("--rate", type=bounded(float, 0.01, 20_000), help="users who come a second: 10; in a soak 5")
    options.add_argument("--seconds", type=bounded(int, 1, 7 * 86_400), help="60; at an opening 30, in a soak 3,600")
    options.add_argument("--requests", type=bounded(int, 1, 100_000_000), default=1_000_000, help="end after so many")
    options.add_argument("--pay", type=bounded(float, 0, 60), default=1.0, help="seconds that buyers take to pay")
    options.add_argument("--processes", type=bounded(int, 1, 256), default=1, help="of locust, each fills a core")
    options.add_argument("--mix", help="the share of each kind of buyer: Buyer=9,Guesser=1")
    options.add_argument("--max-p99", type=bounded(float, 0, 60_000), help="fail if the p99 is longer, in ms")
    options.add_argument("--max-errors", type=bounded(float, 0, 100), help="fail if more %% of the requests are errors")
    options.add_argument("--results", type=Path, default=RESULTS, help="where the load's folder is made")
    options.add_argument(
        "--judge", type=_load_folder, metavar="FOLDER", help="only judge a load that was run before, again"
    )
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
