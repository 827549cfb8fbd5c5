"""Some of an operator's tasks of a day, by keyboard and by mouse."""

import pytest

from tests.browser.operator import Operator
from tests.browser.tasks import day
from tests.browser.tasks.doing import do
from tests.browser.tasks.hands import HEIGHT, WIDTH, Keyboard, Mouse
from tests.service_fixture import Service

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_tasks_of_a_day(operator: Operator, service: Service) -> None:
    """Tasks are done by the keyboard alone, whose focus is always seen, and by clicks, without scrolling sideways."""
    await operator.page.set_viewport_size({"width": WIDTH, "height": HEIGHT})
    for hands, task in (
        (Keyboard(operator), day.release_a_hold),
        (Keyboard(operator), day.send_a_delivery_again),
        (Keyboard(operator), day.see_who_changed_a_book),
        (Mouse(operator), day.assign_a_code),
        (Mouse(operator), day.send_a_delivery_again),
    ):
        done = await do(task, hands, service)
        assert (done.problem, done.remarks) == (None, []), task.__name__
