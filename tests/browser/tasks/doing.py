"""Does tasks by keyboard and by mouse, and prints a table of their steps and seconds."""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from playwright.async_api import Error

from tests.browser.chromium import launched
from tests.browser.operator import Operator
from tests.browser.tasks.day import Task
from tests.browser.tasks.hands import HEIGHT, WIDTH, Hands, Impossible, Keyboard, Mouse
from tests.service_fixture import Service
from tests.waiting import PATIENCE_S

WAYS: dict[str, type[Hands]] = {"keyboard": Keyboard, "mouse": Mouse}
_MOST_S = 2 * PATIENCE_S
"""A task that takes longer counts as not possible."""


@dataclass(frozen=True)
class Done:
    """One task done one way."""

    steps: int
    seconds: float
    problem: str | None
    """Why it was not possible."""
    remarks: list[str]


async def do(task: Task, hands: Hands, service: Service) -> Done:
    """Do a task, from the overview on."""
    await hands.operator.open_page("", "Overview")
    problem = None
    try:
        async with asyncio.timeout(_MOST_S):
            await task(hands, service)
    except Impossible as reason:
        problem = str(reason)
    except TimeoutError:
        problem = f"not done in {_MOST_S:.0f} s"
    except (AssertionError, Error) as error:
        problem = " ".join(str(error).split())[:300]
    return Done(hands.steps, hands.seconds, problem, hands.remarks)


async def run_tasks(service: Service, tasks: Mapping[str, Task], chromium: str, ways: Iterable[str]) -> bool:
    """Print a row for each task; whether all were possible, each way."""
    print(f"| task | {' | '.join(f'{way}: steps | seconds' for way in ways)} | remarks |")
    print("|---|" + "---:|---:|" * len([*ways]) + "---|")
    possible = True
    async with launched(chromium) as browser:
        for name, task in tasks.items():
            cells, remarks = [], []
            for way in ways:
                page = await browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
                done = await do(task, WAYS[way](await Operator(page, service).sign_in()), service)
                await page.context.close()
                possible &= done.problem is None
                cells += ["–", "–"] if done.problem else [str(done.steps), f"{done.seconds:.1f}"]
                remarks += [
                    f"{way}: {remark}"
                    for remark in [*([f"not possible: {done.problem}"] if done.problem else []), *done.remarks]
                ]
            print(f"| {name} | {' | '.join(cells)} | {'; '.join(remarks)} |", flush=True)
    return possible
