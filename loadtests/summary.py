"""What a load prints at its end: answers, speed, errors, the result, and the report's address last."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from loadtests.judge import Judgement
from loadtests.ledger import ANSWER_S
from loadtests.tally import CUT_OFF, Tally

BUSY = 0.9
"""Above this part of a core, locust itself is the delay."""
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


class Spent(NamedTuple):
    """What locust took."""

    elapsed_s: float
    cpu_s: float
    processes: int


def describe(judgement: Judgement, wrong: Iterable[str], tally: Tally, report: Path, spent: Spent | None) -> list[str]:
    """The summary, a line each. `spent` is None if the load ran before."""
    wrong = list(wrong)
    result = [f"{judgement.answers:,} requests judged, {judgement.redemptions:,} redemptions recorded."]
    result += [*(f"Wrong: {one}" for one in wrong), *([] if wrong else ["Everything is as it should be."])]
    return [
        *_section("Answers", (f"{many:>9,}  {label}" for label, many in judgement.seen.items())),
        *_section("Speed", _describe_speed(judgement, tally, spent)),
        *_section("Errors by cause", tally.list_causes()),
        *_section("Requests without an answer", _describe_unanswered(judgement.unanswered)),
        *_section("Result", result),
        f"Report: {report.absolute().as_uri()}",
    ]


def _section(title: str, lines: Iterable[str]) -> list[str]:
    return [title, *(f"  {line}" for line in list(lines) or ["none"]), ""]


def _describe_speed(judgement: Judgement, tally: Tally, spent: Spent | None) -> list[str]:
    sent, took_s = sum(judgement.seen.values()), judgement.took_s
    lines = [f"{sent:,} requests in {took_s:.1f} s, {sent / (took_s or 1):,.0f} a second"]
    if latencies := tally.describe_latencies():
        lines.append(f"{latencies}, of answers that are no error")
    if spent:
        rate = f"{sent / (spent.cpu_s or 1):,.0f} requests per CPU-second"
        lines.append(f"locust used {spent.cpu_s:.1f} s of CPU in {spent.elapsed_s:.1f} s, {rate}")
        if spent.cpu_s > BUSY * spent.processes * took_s:
            lines.append(
                "Locust was as fast as it can: the latencies are its own. Use more --processes or fewer --users."
            )
    return lines


def _describe_unanswered(unanswered: Mapping[tuple[str, str], int]) -> list[str]:
    """`3 × lock: ConnectionResetError (the service or a proxy closed the connection)`."""
    lines = []
    for (op, reason), many in unanswered.items():
        meaning = f" ({_REASONS[reason]})" if reason in _REASONS else ""
        lines.append(f"{many:,} × {op}: {reason}{meaning}")
    return lines
