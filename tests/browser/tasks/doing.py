"""Does a task, and says whether and how it was possible."""

import asyncio
from dataclasses import dataclass

from playwright.async_api import Error

from tests.browser.tasks.day import Task
from tests.browser.tasks.hands import Hands, Impossible
from tests.service_fixture import Service
from tests.waiting import PATIENCE_S

_MOST_S = 2 * PATIENCE_S
"""A task that takes longer counts as not possible."""


@dataclass(frozen=True)
class Done:
    """One task done one way."""

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
    return Done(problem, hands.remarks)
