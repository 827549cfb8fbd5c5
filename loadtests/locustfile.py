"""The load as locust runs it: `locust -f loadtests/locustfile.py`, with its page or `--headless`, on one host or many.

Locust decides how many users come and when, keeps statistics, and connects hosts; `loadtests/visits.py` decides what a
user does. `python -m loadtests.load` starts it, too."""

import asyncio
import html
import io
import logging
import os
import random
import subprocess
import sys
import time
from collections.abc import Coroutine, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, ClassVar, cast

import flask
import gevent
import msgspec
from locust import User, events, runners, task, web
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment
from locust.exception import StopUser
from locust.util.timespan import parse_timespan

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(1, str(ROOT))  # locust may run in any folder; it takes the first path away again

from loadtests import visits, watch  # noqa: E402
from loadtests.buyers import Crowd  # noqa: E402
from loadtests.hosts import CLOCK, LEDGER, PART_BYTES, Hosts, Sender  # noqa: E402
from loadtests.ledger import CUT_OFF, Entry, Ledger, now_ms  # noqa: E402
from loadtests.plan import TOKEN, Plan, check_key, make_books, new_mark  # noqa: E402
from loadtests.summary import RESULTS, Spent  # noqa: E402
from loadtests.target import Target  # noqa: E402
from loadtests.wire import Barrage  # noqa: E402

SECONDS = 600
"""How long a load may be expected to take if its run time is not limited."""
ARRIVED_S = 2.0
"""After this, an opening ends if no user is left."""
MANAGE_S = 2.0
"""The average time between two changes by the merchant."""
RECORDED = 0.02
"""The share of requests that wait until they are recorded."""
SILENT_S = 60.0
"""How long the master waits for the next part of a ledger, in addition to --stop-timeout."""
STOP = "scrip_stop"
"""A message to workers: locust sends none before it asks them to quit."""
runners.HEARTBEAT_LIVENESS = 60  # pyrefly: ignore[bad-assignment]
"""A process counts as lost after so many seconds without a heartbeat: locust's 3 are too few on a busy machine."""
web.HOST_IS_REQUIRED = True  # pyrefly: ignore[bad-assignment]
_log = logging.getLogger("locust.scrip")


class _ReportingLedger(Ledger):
    """A ledger that also reports users' requests to locust, except those that the end of the load cuts off."""

    def write(self, entry: Entry) -> None:
        super().write(entry)
        if entry.buyer and entry.cause != CUT_OFF:
            events.request.fire(
                request_type=entry.buyer,
                name=entry.op,
                response_time=entry.answered_ms - entry.sent_ms,
                response_length=0,
                exception=RuntimeError(f"{entry.status} {entry.refusal}") if entry.cause else None,
                context={},
            )


class Bridge:
    """Runs visits, which are coroutines, for locust's users, which are greenlets.

    1. One asyncio loop runs all visits of a process. It has a greenlet to itself: locust patches the selectors, so a
       loop that waits for sockets lets the other greenlets run.
    2. A user hands over a visit and waits for its end, while other users go on. The first process also has a merchant.
    3. The ledger reports each answer to locust's statistics as it arrives. A worker's goes to the master.
    """

    def __init__(self, environment: Environment) -> None:
        options: Any = environment.parsed_options
        runner = environment.runner
        self.plan = plan = msgspec.json.decode(options.plan, type=Plan)
        part, folder, file = (0, 1), Load.current.folder if Load.current else None, None
        if isinstance(runner, runners.WorkerRunner):
            file = cast("IO[bytes]", io.BufferedWriter(Sender(runner.send_message, plan.mark), PART_BYTES))
            late = runner.client_id not in plan.workers  # it has no codes of its own
            part = (10**9 if late else plan.workers.index(runner.client_id), len(plan.workers))
        self._ledger = _ReportingLedger([plan.url], options.token, folder, file=file, recorded=RECORDED, keep=False)
        about: dict[str, Any] = {"seconds": plan.seconds, "part": part, "mix": plan.mix}
        self.crowd = Crowd(self._ledger, plan.books, plan.mark, plan.pay_s, **about)
        self._loop = asyncio.new_event_loop()
        self._runner = gevent.spawn(self._loop.run_forever)
        self._merchant = None
        if part[0] == 0 and plan.shape != "opening":
            self._merchant = asyncio.run_coroutine_threadsafe(self.crowd.manage(MANAGE_S), self._loop)

    def run(self, visit: Coroutine[Any, Any, None]) -> None:
        """Run a visit to its end, or cancel it where this greenlet is killed. Raises what the visit raises."""
        future = asyncio.run_coroutine_threadsafe(visit, self._loop)
        try:
            future.result()
        finally:
            future.cancel()

    def close(self) -> None:
        """End the merchant, unlock the crowd's locks, and end the ledger and the loop. Raises what the merchant did."""
        self.crowd.ended = True
        try:
            if self._merchant and not self._merchant.cancel():
                self._merchant.result()
        finally:
            self.run(self._end())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._runner.join()
            self._loop.close()

    async def _end(self) -> None:
        with self._ledger:
            await self.crowd.give_back()


class Shopper(User):
    """Visits again and again; at an opening, once."""

    bridge: ClassVar[Bridge | None] = None

    @task
    def visit(self) -> None:
        assert self.bridge
        self.bridge.run(self.bridge.crowd.visit())
        if self.bridge.plan.shape == "opening":
            raise StopUser

    def wait_time(self) -> float:
        assert self.bridge
        return random.uniform(0, 2 * self.bridge.plan.pay_s)


class Load:
    """One load, in the process that judges it: locust's only one, or its master.

    1. Before it starts, check the key and make the books. The plan goes to workers among locust's options.
    2. While it runs, sample the service's memory. It ends after its requests, and an opening when all users have left.
    3. Gather the workers' ledgers and judge them, in a process of its own, so that locust's page still answers.
    """

    current: ClassVar["Load | None"] = None
    hosts: ClassVar[Hosts | None] = None
    is_busy: ClassVar[bool] = False
    """Whether a load is being prepared or judged."""
    said: ClassVar[str] = "No load was judged yet."
    """What the page shows."""
    last: ClassVar[str] = ""
    """What is printed at the end."""

    def __init__(self, environment: Environment, form: Mapping[str, str]) -> None:
        """Of the page's form and locust's options. ValueError if there is a wrong one."""
        self._environment, self._options = environment, cast("Any", environment.parsed_options)
        self._runner: Any = environment.runner
        options = vars(self._options) | dict(form)
        self._token = options["token"] or os.environ.get(TOKEN, "")
        fields = {
            "url": (options["host"] or "").rstrip("/"),
            "users": options.get("user_count") or options["num_users"] or 1,
            "seconds": parse_timespan(str(options["run_time"] or SECONDS)),
            "payS": options["pay"],
            "mix": dict(part.strip().partition("=")[::2] for part in options["mix"].split(",")),
            "maxP99Ms": options["max_p99"],
            "maxErrors": options["max_errors"],
            "mark": new_mark(),
        }
        fields |= {name: options[name] for name in ("shape", "requests")}
        self.plan = msgspec.convert(fields, Plan, strict=False)
        visits.weigh(self.plan.mix)
        folder = Path("loadtests/results") / f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{self.plan.shape}"
        self.folder = Path(options["folder"] or folder).absolute()

    @classmethod
    def prepare(cls, environment: Environment, form: Mapping[str, str] = {}) -> str:
        """Make a load's books; why it can't start, or ''."""
        if cls.is_busy:
            return "Another load is being prepared or judged."
        cls.is_busy, loop = True, asyncio.new_event_loop()
        try:
            load = Load(environment, form)
            if not load.plan.url.startswith(("http://", "https://")):
                raise ValueError("Give the service's URL, --host http://…")
            if any(load.folder.glob("ledger-*")):
                raise ValueError(f"{load.folder} has the ledger of another load.")
            loop.run_until_complete(load._make_books())
            load.folder.mkdir(parents=True, exist_ok=True)
            cls.current = load
        except (ValueError, OSError, RuntimeError) as error:
            cls.said = f"The load can't start. {error or type(error).__name__}"
            return cls.said
        finally:
            loop.close()
            cls.is_busy = False
        return ""

    async def _make_books(self) -> None:
        await check_key(self.plan.url, self._token)
        self.say("Making the books.")
        with Barrage(self.plan.url, self._token) as barrage, Ledger([self.plan.url], self._token, keep=False) as ledger:
            self.plan = await make_books(ledger, Target(barrage, 1), self.plan)

    @classmethod
    def say(cls, text: str) -> None:
        """Show a text on the page and in the log."""
        cls.said = text
        _log.info(text)

    def begin(self) -> None:
        """Pass the plan to workers; watch."""
        if self.hosts:
            self.plan = msgspec.structs.replace(self.plan, workers=tuple(one.id for one in self._runner.clients.ready))
            self.hosts.begin(self.folder, self.plan.mark, self.plan.workers)
        self.plan.save(self.folder)
        self._options.plan, self._options.token = msgspec.json.encode(self.plan).decode(), self._token
        pids = (part.split("=") for part in self._options.pids.split())
        parts = {part: [int(pid) for pid in text.split(",")] for part, text in pids}
        memory = watch.of_processes(parts) if parts else watch.of_metrics(self.plan.url)
        self._watch = watch.Watch(memory, max(1.0, self.plan.seconds / watch.SAMPLES), self.folder)
        self._watch.start()
        self._began_s, self._cpu_s = time.monotonic(), time.process_time()
        self._minder = gevent.spawn(self._mind)
        self.say("The load runs.")

    def _mind(self) -> None:
        """End the load when its time has come."""
        while True:
            gevent.sleep(1)
            arrived = time.monotonic() - self._began_s > ARRIVED_S and self._runner.state == runners.STATE_RUNNING
            if self._runner.stats.num_requests >= self.plan.requests:
                break
            if self.plan.shape == "opening" and arrived and not self._runner.user_count:
                break
        gevent.spawn(self._runner.quit if self._options.headless else self._runner.stop)

    def finish(self) -> None:
        """Gather, and judge. The exit code is the result."""
        self._minder.kill()
        self._watch.stop()
        failures, cpu_s = self._gather()
        failures += [f"{one['count']} × a visit raised {one['msg']}" for one in self._runner.exceptions.values()]
        failures += watch.growth(self._watch.series) if self.plan.shape == "soak" else []
        Spent(time.monotonic() - self._began_s, cpu_s, failures).save(self.folder)
        self.say("Judging the answers.")
        command = [sys.executable, "-m", "loadtests.load", "--judge", self.folder]
        variables = os.environ | {TOKEN: self._token}
        done = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, check=False)
        Load.said = done.stdout or done.stderr
        if self._options.headless:
            Load.last = Load.said
        else:
            print(Load.said, end="", flush=True)
        self._environment.process_exit_code = done.returncode

    def _gather(self) -> tuple[list[str], float]:
        """Wait for the ledgers of all workers; the failures, and locust's CPU seconds."""
        if not self.hosts:
            return [], time.process_time() - self._cpu_s
        self._runner.send_message(STOP)
        patience_s = self._environment.stop_timeout + SILENT_S
        while not self.hosts.are_complete and time.monotonic() < self.hosts.heard_s + patience_s:
            gevent.sleep(0.02)
        return self.hosts.close()


@events.init_command_line_parser.add_listener
def add_options(parser: LocustArgumentParser) -> None:
    """The options, which are also fields of locust's page."""

    def keep(token: str) -> str:
        """Keep the key where the source of locust's page does not have it."""
        if token:
            os.environ[TOKEN] = token
        return ""

    add, mix = parser.add_argument, ",".join(f"{buyer}={share}" for buyer, share in visits.usual_mix().items())
    parser.set_defaults(exit_code_on_error=0)  # the judgement decides
    add("--token", type=keep, default="", is_secret=True, help=f"an API key of the service, instead of {TOKEN}")
    add("--shape", choices=["steady", "opening", "soak"], default="steady", help="at an opening users come once")
    add("--mix", default=mix, help="the share of each kind of buyer")
    add("--pay", type=float, default=1.0, help="seconds that buyers take to pay")
    add("--requests", type=int, default=1_000_000, help="end after so many")
    add("--max-p99", type=float, default=0.0, help="fail if the p99 is more, in ms; 0 for never")
    add("--max-errors", type=float, default=100.0, help="fail if more than this percentage of the requests are errors")
    add("--folder", default="", help="for the results; a new one in loadtests/results by default")
    add("--pids", default="", include_in_web_ui=False, help="whose memory to watch: `api=1,2 worker=3`")


@events.init.add_listener
def connect(environment: Environment, runner: runners.Runner, web_ui: web.WebUI | None, **_: Any) -> None:
    """Listen to other hosts and to the page; prepare a load that starts by itself."""
    options = environment.parsed_options
    assert options
    environment.events.quitting.add_listener(quit_)  # runs before locust's own
    if isinstance(runner, runners.WorkerRunner):
        runner.register_message(STOP, lambda **_: runner.stop())
        runner.register_message(CLOCK, lambda msg, **_: runner.send_message(CLOCK, msg.data | {"here_ms": now_ms()}))
        return
    if isinstance(runner, runners.MasterRunner):
        Load.hosts = Hosts(runner.send_message)
        runner.register_message(LEDGER, Load.hosts.receive)
        runner.register_message(CLOCK, Load.hosts.set_clock)
    if web_ui:
        extend_page(environment, web_ui)
    if options.shape == "opening":
        options.spawn_rate = options.spawn_rate or options.num_users
    if (options.headless or options.autostart) and (reason := Load.prepare(environment)):
        runner.quit()
        raise SystemExit(reason)


@events.test_start.add_listener
def begin(environment: Environment, **_: Any) -> None:
    """Start the load, and the loop in each process that has users."""
    if not isinstance(environment.runner, runners.WorkerRunner):
        assert Load.current, "a load starts on the page, or with --headless or --autostart"
        Load.current.begin()
    if not isinstance(environment.runner, runners.MasterRunner):
        Shopper.bridge = Bridge(environment)


@events.test_stop.add_listener
def end(environment: Environment, **_: Any) -> None:
    """End the loop, and judge the load."""
    bridge, Shopper.bridge = Shopper.bridge, None
    if bridge:
        try:
            bridge.close()
        except Exception as error:  # noqa: BLE001 - the judgement reports it
            environment.events.user_error.fire(user_instance=None, exception=error, tb=error.__traceback__)
    if load := Load.current:
        Load.current, Load.is_busy = None, True
        try:
            load.finish()
        finally:
            Load.is_busy = False


def quit_(environment: Environment, **_: Any) -> None:
    """End the load if it still runs, and add the judgement to locust's report."""
    runner: Any = environment.runner
    runner.stop()
    if path := vars(environment.parsed_options)["html_file"]:
        Path(path).write_text(with_judgement(Path(path).read_text()))


@events.quit.add_listener
def print_judgement(**_: Any) -> None:
    """Print the judgement after all that locust prints, if there is no page."""
    print(Load.last, end="")


def with_judgement(report: str) -> str:
    """Locust's report, with the judgement at its head."""
    head, body, rest = report.rpartition("<body>")
    return f'{head}{body}<div style="margin: 2em; font: 14px sans-serif">{render()}</div>{rest}'


def find_result() -> str:
    """The result in the judgement's text."""
    lines = [line.strip() for line in Load.said.splitlines()]
    return " ".join([line for line in lines if line.startswith(RESULTS)] or lines[:1])


def render() -> str:
    return f"<b>Judgement: {html.escape(find_result())}</b><pre>{html.escape(Load.said)}</pre>"


def extend_page(environment: Environment, web_ui: web.WebUI) -> None:
    """Prepare a load when the page starts it, and show the judgement on the page and in its report."""
    app, runner, options = cast("Any", (web_ui.app, environment.runner, environment.parsed_options))
    base = options.web_base_path or ""

    @app.before_request
    def prepare_first() -> Any:
        is_new = runner.state not in (runners.STATE_SPAWNING, runners.STATE_RUNNING)
        return prepare() if flask.request.path == f"{base}/swarm" and is_new else None

    @web_ui.auth_required_if_enabled
    def prepare() -> flask.Response | None:
        reason = Load.prepare(environment, flask.request.form.to_dict())
        return flask.jsonify({"success": False, "message": reason, "host": environment.host}) if reason else None

    @app.route(f"{base}/judgement")
    @web_ui.auth_required_if_enabled
    def judgement() -> str:
        return f'<!doctype html><meta http-equiv="refresh" content="2"><body style="font: 14px sans-serif">{render()}'

    @app.after_request
    def show(response: flask.Response) -> flask.Response:
        if flask.request.path == f"{base}/stats/report":
            response.set_data(with_judgement(response.get_data(as_text=True)))
        elif flask.request.path == f"{base}/" and response.mimetype == "text/html":
            response.set_data(response.get_data(as_text=True).replace("</body>", f"{_BAR}</body>"))
        return response


_BAR = """<iframe src="judgement" title="Judgement" style="position: fixed; bottom: 0; width: 100%; height: 3em;
resize: vertical; border: 0; border-top: 1px solid; background: white"></iframe>"""
