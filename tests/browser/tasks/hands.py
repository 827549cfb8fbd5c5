"""Two ways to use a page: by the keyboard alone, and by the mouse. Neither way sets the focus or clicks by script.

Only a dialog of the system is left out: the list that a click on a select opens."""

import asyncio
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar

from playwright.async_api import Locator, Page, expect

from tests.browser.operator import Operator
from tests.waiting import PATIENCE_S

WIDTH, HEIGHT = 1024, 768
_MOST_TABS = 80
_POLL_S = 0.05
_LOOKS = 20
_SCROLL_S = 0.15
_NAME = "e => (e.getAttribute('aria-label') ?? e.labels?.[0]?.textContent ?? e.textContent).trim().slice(0, 40)"
_IS_FOCUSED = "e => e === document.activeElement"
_IS_LOST = "[null, document.body].includes(document.activeElement)"
_NEXT_KEY = Path(__file__).with_name("next_key.js").read_text()
_ROWS, _PARTS = "tbody tr, .timeline li", "#main :is(form, .tabs, .card)"
_IN_FORM = "e => e.form?.contains(document.activeElement) ?? false"
_TAKES_ENTER = "document.activeElement.matches('form input:not([type=file])')"
_CENTRE = """e => {
  const { x, y, width, height } = e.getClientRects()[0] ?? {};
  const at = [x + width / 2, y + height / 2];
  return { x: at[0], y: at[1], hit: e.contains(document.elementFromPoint(...at)) };
}"""
_OUTLINE = "e => { const { outlineStyle, outlineWidth } = getComputedStyle(e); return [outlineStyle, outlineWidth] }"


class Impossible(Exception):
    """The task can't be done this way; the text is the reason."""


class Hands(ABC):
    """An operator's hands on a page."""

    def __init__(self, operator: Operator) -> None:
        self.operator = operator
        self.remarks: list[str] = []
        """What makes the way hard."""
        self._has_acted = False

    @property
    def page(self) -> Page:
        return self.operator.page

    def begin(self) -> None:
        """Begin the task: what it needs is there."""
        self.remarks, self._has_acted = [], False

    @abstractmethod
    async def press(self, target: Locator) -> None:
        """Press a button, or follow a link."""

    @abstractmethod
    async def write(self, control: Locator, text: str) -> None:
        """Replace the text of a control."""

    @abstractmethod
    async def choose(self, control: Locator, option: str) -> None:
        """Choose the option with this text."""

    @abstractmethod
    async def submit(self, button: Locator) -> None:
        """Send the form with this button, after its last control."""

    @abstractmethod
    async def open_page(self, name: str) -> None:
        """Go to a page of the console, and wait for it."""

    @abstractmethod
    async def search(self, text: str) -> None:
        """Search in the console for this text."""

    async def _key(self, key: str) -> None:
        self._has_acted = True
        await self.page.keyboard.press(key)

    async def _type(self, control: Locator, text: str) -> None:
        if await control.input_value():
            await self._key("Control+A")
        await self.page.keyboard.type(text)

    def remark(self, text: str) -> None:
        if text not in self.remarks:
            self.remarks.append(text)


class Keyboard(Hands):
    """Tab, letters, Space, Enter, and the console's shortcuts."""

    jumps: ClassVar = [("j", _ROWS, True), ("k", _ROWS, False), ("n", _PARTS, True), ("p", _PARTS, False)]
    """Keys to the first control of the next or previous of these."""
    sends = "Control+Enter"
    """Sends the form from any of its controls."""

    async def press(self, target: Locator) -> None:
        await self._reach(target)
        await self._key("Enter")

    async def write(self, control: Locator, text: str) -> None:
        await self._reach(control)
        await self._type(control, text)

    async def choose(self, control: Locator, option: str) -> None:
        await self._reach(control)
        await self.page.keyboard.type(option)
        chosen = await control.evaluate("e => e.selectedOptions[0].textContent")
        if chosen != option:
            raise Impossible(f"typing {option} chooses {chosen}")

    async def submit(self, button: Locator) -> None:
        await expect(button).to_be_enabled()
        if not await button.evaluate(_IN_FORM):
            await self.press(button)
        elif await self.page.evaluate(_TAKES_ENTER):
            await self._key("Enter")
        else:
            await self._key(self.sends)

    async def open_page(self, name: str) -> None:
        for key in ("g", name[0].lower()):
            await self._key(key)
        await expect(self.operator.heading(name)).to_be_visible()

    async def search(self, text: str) -> None:
        await self._key("/")
        await self._type(self.operator["search"], text)
        await self._key("Enter")

    async def _is_focus_lost(self) -> bool:
        """Whether nothing has the focus, also after the page had time to set it."""
        for _ in range(_LOOKS):
            if not await self.page.evaluate(_IS_LOST):
                return False
            await asyncio.sleep(_POLL_S)
        return True

    async def _reach(self, target: Locator) -> None:
        """Press Tab, Shift+Tab or keys that jump, until the target has the focus."""
        await expect(target).to_be_enabled()
        name = await target.evaluate(_NAME)
        if self._has_acted and await self._is_focus_lost():
            self.remark(f"the focus is lost before “{name}”")
        for _ in range(_MOST_TABS):
            key = await target.evaluate(_NEXT_KEY, self.jumps)
            if not key:
                break
            await self._key(key)
        else:
            raise Impossible(f"{_MOST_TABS} keys do not reach “{name}”")
        style, width = await target.evaluate(_OUTLINE)
        if style == "none" or width == "0px":
            self.remark(f"no outline shows the focus on “{name}”")
        if not (await target.evaluate(_CENTRE))["hit"]:
            self.remark(f"“{name}” has the focus and is out of sight")


class Mouse(Hands):
    """Clicks on what can be seen; the wheel scrolls up and down alone."""

    async def press(self, target: Locator) -> None:
        at = await self._see(target)
        await self.page.mouse.click(at["x"], at["y"])

    async def write(self, control: Locator, text: str) -> None:
        if not await control.evaluate(_IS_FOCUSED):
            await self.press(control)
        await self._type(control, text)

    async def choose(self, control: Locator, option: str) -> None:
        await self._see(control)
        await control.select_option(label=option)

    async def submit(self, button: Locator) -> None:
        await self.press(button)

    async def open_page(self, name: str) -> None:
        await self.press(self.operator["nav"].get_by_role("link", name=name, exact=True))
        await expect(self.operator.heading(name)).to_be_visible()

    async def search(self, text: str) -> None:
        await self.write(self.operator["search"], text)
        await self._key("Enter")

    async def _see(self, target: Locator) -> dict[str, Any]:
        """The target's centre, once it can be clicked there."""
        await expect(target).to_be_enabled()
        deadline = time.monotonic() + PATIENCE_S
        while True:
            at = await target.evaluate(_CENTRE)
            if at["hit"]:
                return at
            name = await target.evaluate(_NAME)
            if not 0 <= at["x"] <= WIDTH:
                raise Impossible(f"“{name}” is beside the {WIDTH} pixels")
            if time.monotonic() > deadline:
                raise Impossible(f"“{name}” is cut off or covered")
            if not 0 <= at["y"] <= HEIGHT:
                await self.page.mouse.move(WIDTH / 2, HEIGHT / 2)
                await self.page.mouse.wheel(0, at["y"] - HEIGHT / 2)
                await asyncio.sleep(_SCROLL_S)
            await asyncio.sleep(_POLL_S)
