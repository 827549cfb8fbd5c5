"""What a load prints at its end: answers, speed, errors, and the result last."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

from loadtests.judge import Judgement
from loadtests.ledger import ANSWER_S, CUT_OFF
from loadtests.plan import Plan
from loadtests.tally import Tally, describe_ms

BUSY = 0.9
"""Above this part of a core, locust itself is the delay."""
RESULTS = ("Wrong:", "Everything is as it should be.")
_FILE = "spent.json"
_REASONS = {
    "TimeoutError": f"no answer within {ANSWER_S:.0f} s",
    "ConnectionRefusedError": "nothing listens at the address: the service has stopped or is starting",
    "ConnectionResetError": "the service or a proxy closed the connection",
    "BrokenPipeError": "the service or a proxy closed the connection",
    "IncompleteReadError": "the connection ended before the answer was complete",
    "LimitOverrunError": "the answer is not HTTP",
    "ValueError": "the answer is not HTTP",
    "gaierror": "the name of the host can't be resolved",
    "SSLCertVerificationError": "the service's certificate is not trusted",
    CUT_OFF: "by the end of the load, which is no error",
}
"""What the reasons in the ledger mean."""


class Spent(msgspec.Struct):
    """What locust took, and what it observed that fails the load."""

    elapsed_s: float
    cpu_s: float
    failures: list[str]

    def save(self, folder: Path) -> None:
        """Write it into a load's folder."""
        (folder / _FILE).write_bytes(msgspec.json.encode(self))


def read_spent(folder: Path) -> Spent:
    """What locust took for the load of a folder."""
    return msgspec.json.decode((folder / _FILE).read_bytes(), type=Spent)


def list_failures(judgement: Judgement, plan: Plan, tally: Tally, spent: Spent) -> list[str]:
    wrong = [*map(str, judgement.wrong), *spent.failures]
    if plan.max_p99_ms and tally.p99_ms > plan.max_p99_ms:
        wrong.append(f"the p99 is {describe_ms(tally.p99_ms)}, and at most {describe_ms(plan.max_p99_ms)} is allowed")
    if tally.errors > plan.max_errors:
        wrong.append(f"{tally.errors:.2g} % of the requests are errors, and at most {plan.max_errors:g} % are allowed")
    return wrong


def describe(judgement: Judgement, wrong: Sequence[str], tally: Tally, plan: Plan, spent: Spent) -> list[str]:
    """The summary, a line each."""
    sent = sum(judgement.seen.values())
    others = f"{sent:,} of users and {judgement.answers - sent:,} of the load itself, to return locks and to check"
    result = [f"{judgement.answers:,} requests judged: {others}; {judgement.redemptions:,} redemptions recorded."]
    result += [*(f"{RESULTS[0]} {one}" for one in wrong), *([] if wrong else [RESULTS[1]])]
    return [
        *_section("Answers", (f"{many:>9,}  {label}" for label, many in judgement.seen.items())),
        *_section("Speed", _describe_speed(judgement, tally, spent, len(plan.workers))),
        *_section("Errors by cause", tally.list_causes()),
        *_section("Requests without an answer", _describe_unanswered(judgement.unanswered)),
        *_section("Result", result)[:-1],
    ]


def _section(title: str, lines: Iterable[str]) -> list[str]:
    return [title, *(f"  {line}" for line in list(lines) or ["none"]), ""]


def _describe_speed(judgement: Judgement, tally: Tally, spent: Spent, processes: int) -> list[str]:
    sent, took_s = sum(judgement.seen.values()), judgement.took_s
    lines = [f"{sent:,} requests of users in {took_s:.1f} s, {sent / (took_s or 1):,.0f} a second"]
    if latencies := tally.describe_latencies():
        lines.append(f"{latencies}, of answers that are no error")
    rate = f"{sent / (spent.cpu_s or 1):,.0f} requests per CPU-second"
    lines.append(f"locust used {spent.cpu_s:.1f} s of CPU in {spent.elapsed_s:.1f} s, {rate}")
    if spent.cpu_s > BUSY * processes * took_s:
        lines.append("Locust was as fast as it can: the latencies are its own. Use more --processes or fewer --users.")
    return lines


def _describe_unanswered(unanswered: Mapping[tuple[str, str], int]) -> list[str]:
    """`3 × lock: ConnectionResetError (the service or a proxy closed the connection)`."""
    lines = []
    for (op, reason), many in unanswered.items():
        meaning = f" ({_REASONS[reason]})" if reason in _REASONS else ""
        lines.append(f"{many:,} × {op}: {reason}{meaning}")
    return lines
