"""Some of an operator's tasks of a day, by the keyboard alone: the focus is never set by a script, and always seen."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Locator, expect

from tests.browser.operator import Operator
from tests.harness.service_fixture import Service, new_code, new_id, ok
from tests.harness.waiting import wait_until

pytestmark = pytest.mark.asyncio(loop_scope="session")

_MOST_KEYS = 80
_NAME = "e => (e.getAttribute('aria-label') ?? e.labels?.[0]?.textContent ?? e.textContent).trim().slice(0, 40)"
_HAS_FOCUS = "![null, document.body].includes(document.activeElement)"
_NEXT_KEY = Path(__file__).with_name("next_key.js").read_text()
_ROWS, _PARTS = "tbody tr, .timeline li", "#main :is(form, .tabs, .card)"
_JUMPS = [("j", _ROWS, True), ("k", _ROWS, False), ("n", _PARTS, True), ("p", _PARTS, False)]
"""Keys to the first control of the next or previous of these."""
_IN_FORM = "e => e.form?.contains(document.activeElement) ?? false"
_TAKES_ENTER = "document.activeElement.matches('form input:not([type=file])')"
_FOCUS = """() => {
  const e = document.activeElement, [{ x, y, width, height }] = e.getClientRects();
  const { outlineStyle, outlineWidth } = getComputedStyle(e);
  return [outlineStyle, outlineWidth, e.contains(document.elementFromPoint(x + width / 2, y + height / 2))];
}"""
"""The outline of the focused element, and whether it is in sight, in one step: a live page replaces its elements."""


class _Keyboard:
    """Tab, letters, Enter, and the console's shortcuts."""

    def __init__(self, operator: Operator) -> None:
        self._operator, self._page = operator, operator.page
        self._key = operator.page.keyboard.press

    async def press(self, target: Locator) -> None:
        """Press a button, or follow a link."""
        await self._reach(target)
        await self._key("Enter")

    async def choose(self, control: Locator, option: str) -> None:
        """Type the option's text; once more where a pause of a second had ended the browser's search for it."""

        async def is_chosen() -> bool:
            await self._reach(control)
            await self._page.keyboard.type(option)
            if await control.locator("option:checked").text_content() == option:
                return True
            await self._key("Tab")  # the next letter begins a new search
            return False

        await wait_until(is_chosen, f"“{option}” to be chosen by its letters")

    async def submit(self, button: Locator) -> None:
        """Send the form with this button, after its last control."""
        await expect(button).to_be_enabled()
        if not await button.evaluate(_IN_FORM):
            await self.press(button)
        else:
            await self._key("Enter" if await self._page.evaluate(_TAKES_ENTER) else "Control+Enter")

    async def open_page(self, name: str, letter: str = "") -> None:
        for key in ("g", letter or name[0].lower()):
            await self._key(key)
        await expect(self._operator.heading(name)).to_be_visible()

    async def search(self, text: str) -> None:
        await self._key("/")
        await self._page.keyboard.type(text)
        await self._key("Enter")

    async def _reach(self, target: Locator) -> None:
        """Press Tab, Shift+Tab or keys that jump, until the target has the focus, which must be seen there."""
        await expect(target).to_be_enabled()
        name = await target.evaluate(_NAME)
        await wait_until(lambda: self._page.evaluate(_HAS_FOCUS), f"the focus before “{name}”")
        for _ in range(_MOST_KEYS):
            if not (key := await target.evaluate(_NEXT_KEY, _JUMPS)):
                break
            await self._key(key)
        else:
            pytest.fail(f"{_MOST_KEYS} keys do not reach “{name}”")
        style, width, is_in_sight = await self._page.evaluate(_FOCUS)
        assert style != "none", f"no outline shows the focus on “{name}”"
        assert width != "0px", f"no outline shows the focus on “{name}”"
        assert is_in_sight, f"“{name}” has the focus and is out of sight"


@pytest_asyncio.fixture(loop_scope="session")
async def keyboard(operator: Operator) -> _Keyboard:
    await operator.page.set_viewport_size({"width": 1024, "height": 768})
    return _Keyboard(operator)


async def test_a_hold_is_released(keyboard: _Keyboard, operator: Operator, service: Service) -> None:
    """Search a code, release its hold, and confirm."""
    order = {"userId": new_id(), "orderId": new_id("order")}
    ok(service.checkout.post(f"/v1/coupons/lock/{(code := service.coupon())}", json=order), 201)
    for text in (new_code(), code):  # the second search replaces the text of the first
        await keyboard.search(text)
        await expect(operator.page.locator("#main h1")).to_contain_text(text)
        await expect(operator.page.locator("#main h1")).to_be_focused()
    await keyboard.press(operator.button("Release the hold"))
    await keyboard.submit(operator.page.get_by_role("dialog").get_by_role("button", name="Release the hold"))
    await expect(operator.page.get_by_text("no one", exact=True)).to_be_visible()
    assert ok(service.manage.get(f"/v1/coupons/{code}"))["lock"] is None


async def test_a_delivery_is_sent_again(keyboard: _Keyboard, operator: Operator, service: Service) -> None:
    """Open a webhook of the list, and send one of its events again."""
    about, url = new_id("hook"), f"{service.run.url}/console/receiver/204"
    body = {"url": url, "events": ["coupon.redeemed"], "description": about}
    hook = ok(service.operate.post("/v1/webhooks", json=body), 201)["webhookId"]
    event = service.operate.post(f"/v1/webhooks/{hook}/test", json={}).json()["eventId"]
    await keyboard.open_page("Webhooks")
    await keyboard.press(operator.row(about).get_by_role("link"))
    await keyboard.press(operator.button(f"Send {event} again"))
    await operator.expect_message(f"{event} is sent again.")
    assert service.operate.delete(f"/v1/webhooks/{hook}").status_code == 204


async def test_who_changed_a_book(keyboard: _Keyboard, operator: Operator, service: Service) -> None:
    """Filter the audit by an action."""
    book = service.book(name=(name := new_id("book")))
    ok(service.manage.patch(f"/v1/books/{book}", json={"maxRedemptions": 7}))
    await keyboard.open_page("Audit")
    await keyboard.choose(operator.page.get_by_label("Action"), "book.changed")
    await keyboard.submit(operator.button("Filter"))
    await expect(operator.row("session.began")).to_have_count(0)
    await expect(operator.row(name)).to_contain_text("Max redemptions: none → 7")
    await expect(operator.row(name)).to_contain_text("manage")


async def test_a_choice_by_keyboard_waits_for_the_last_key(keyboard: _Keyboard, operator: Operator) -> None:
    """The page opens a second after the last key, even where the key changed nothing."""
    clock = operator.page.clock
    await keyboard.open_page("Reports", "p")
    await clock.install()
    await clock.pause_at(datetime.now(UTC) + timedelta(hours=1))
    await keyboard.choose(operator.page.get_by_label("Time", exact=True), "Last 13 weeks")
    await clock.run_for(900)
    await operator.page.keyboard.press("Shift")
    await clock.run_for(900)
    await expect(operator.page).to_have_url(re.compile("#/reports$"))
    await clock.run_for(100)
    await expect(operator.page).to_have_url(re.compile("period=quarter"))


async def test_a_report_beside_another_book(keyboard: _Keyboard, operator: Operator, service: Service) -> None:
    """Choose the time, the book and the other one: each choice opens the page again, and keeps the focus."""
    code, name, other = new_code(), new_id("Sold"), new_id("Other")
    service.book(code, name=name)
    service.book(name=other)
    ok(service.checkout.post(f"/v1/coupons/redeem/{code}", json={"userId": new_id(), "orderValue": "20.00"}), 201)
    await keyboard.open_page("Reports", "p")
    chosen = (
        ("Time", "Last 7 days", "period=week"),
        ("Books", name, "of=book"),
        ("Compared with", other, "beside=book"),
    )
    for label, option, query in chosen:
        control = operator.page.get_by_label(label, exact=True)
        await keyboard.choose(control, option)
        await expect(operator.page).to_have_url(re.compile(query))
        await expect(operator.page.locator("#main h1")).to_be_visible()
        await expect(control).to_be_focused()
    await expect(operator.page.locator(".facts")).to_contain_text(f"0 in {other}")
