"""Bulk changes of codes: their number, progress, Resume and Cancel."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from playwright.async_api import expect
from uuid_utils.compat import uuid7

from tests.browser.operator import Operator
from tests.harness.routes.setup import PAUSED_CHANGE
from tests.harness.service_fixture import Service, new_code, new_id, ok
from tests.harness.serving import own_workspace

pytestmark = pytest.mark.asyncio(loop_scope="session")
CODES = 60


service = own_workspace("live")
"""A workspace of this file's own, whose list of jobs it reads."""


def _read_codes(service: Service, book: str) -> dict[str, dict[str, Any]]:
    rows = ok(service.manage.get(f"/v1/books/{book}/codes", params={"limit": 1000}))["items"]
    return {row["code"]: row for row in rows}


async def test_all_that_a_filter_shows(operator: Operator, service: Service) -> None:
    """A bulk change changes every code of the filter and no other; its question and its result have the number."""
    codes, used = [new_code() for _ in range(CODES)], new_code()
    book = service.book(*codes, used, name="Changed at once")
    ok(service.checkout.post(f"/v1/coupons/redeem/{used}", json={"userId": "bulk"}), 201)
    untouched = _read_codes(service, book)[used]
    await operator.open_page(f"book/{book}", "Changed at once")
    dialog = operator.page.get_by_role("dialog")
    now = datetime.now(UTC)
    for status, action, label, message, expected in (
        ("available", "off", "Switch off", "switched off", "inactive"),
        ("inactive", "on", "Switch on", "switched on", "available"),
        ("available", "until", "Set the end of", "given an end", "available"),
        ("available", "expire", "Expire", "expired", "expired"),
        ("expired", "endless", "Take the end from", "without an end of their own", "available"),
    ):
        await operator.page.get_by_label("Status").select_option(status)
        await operator.button("Change codes").click()
        if action not in {"off", "on"}:
            await dialog.get_by_label("What to do").select_option(action)
        if action == "until":
            await dialog.get_by_label("They end").fill(f"{now + timedelta(days=90):%Y-%m-%dT%H:%M:%S}")
        if action == "expire":
            await expect(dialog).to_contain_text("still counts them as available")
        question = f"{label} {CODES} codes"
        await operator.confirm(question, f"{CODES} codes of Changed at once match", question)
        await operator.expect_message(f"{CODES} codes are {message}.")
        after = _read_codes(service, book)
        assert after.pop(used) == untouched
        assert {row["status"] for row in after.values()} == {expected}
        ends = [row["expiresAt"] for row in after.values()]
        if action == "until":
            assert all(end > now.isoformat() for end in ends)
        elif action != "expire":
            assert set(ends) == {None}


async def test_how_codes_are_chosen(operator: Operator, service: Service) -> None:
    """Codes are chosen by prefix, time, several statuses and a pasted list, or picked: one, up to another with Shift,
    or all that are shown. Heading and button count them first; a mistake is shown beside its field."""
    tag = new_code()[:12]
    codes = [f"{tag}-{number:02}" for number in range(30)]
    book = service.book(*codes, name="Chosen")
    ok(service.checkout.post(f"/v1/coupons/assign/{codes[0]}", json={"userId": new_id()}), 201)
    page, dialog = operator.page, operator.page.get_by_role("dialog")
    await operator.open_page(f"book/{book}", "Chosen")
    await operator.button("Change codes").click()
    prefix = dialog.get_by_label("Begin with")
    for control, value, count in (
        (prefix, "no code", 0), (prefix, f"{tag.lower()}-1", 10), (prefix, "", 30),
        (dialog.get_by_label("Added from"), "2030-01-01T00:00:00", 0), (dialog.get_by_label("Added from"), "", 30),
        (dialog.get_by_label("Added until"), "2020-01-01T00:00:00", 0), (dialog.get_by_label("Added until"), "", 30),
    ):  # fmt: skip
        await control.fill(value)
        if value == "no code":
            await expect(prefix).to_have_attribute("aria-invalid", "true")
            await expect(operator.button("Switch off")).to_be_disabled()
        else:
            await expect(dialog.get_by_role("heading")).to_have_text(f"Switch off {count} codes")
            await expect(prefix).not_to_have_attribute("aria-invalid", "true")
    await dialog.get_by_label("assigned").check()
    await expect(operator.button("Switch off 1 code")).to_be_enabled()
    await dialog.get_by_label("available").check()
    await expect(operator.button("Switch off 30 codes")).to_be_enabled()
    await dialog.get_by_label("Which codes").select_option("Those in a list")
    await dialog.get_by_role("textbox", name="Codes").fill(f"{codes[3]}, {codes[4].lower()};{codes[4]}\nNO-SUCH-CODE")
    await expect(operator.button("Switch off 2 codes")).to_be_enabled()
    await expect(dialog.get_by_role("status")).to_contain_text("1 of the list does not.")
    await operator.button("Cancel").click()

    every = page.get_by_label("Pick all that are shown")
    await every.check()
    await expect(operator.button("Change 30 picked codes")).to_be_visible()
    await every.uncheck()
    await page.get_by_label(f"Pick {codes[20]}").check()
    await page.get_by_label(f"Pick {codes[17]}").click(modifiers=["Shift"])
    await page.get_by_label(f"Pick {codes[18]}").uncheck()
    await operator.button("Change 3 picked codes").click()
    await operator.confirm("Switch off 3 codes", "3 codes of Chosen match", "Switch off 3 codes")
    await operator.expect_message("3 codes are switched off.")
    await expect(operator.button("Change codes")).to_be_focused()
    off = {code for code, row in _read_codes(service, book).items() if row["status"] == "inactive"}
    assert off == {codes[20], codes[19], codes[17]}


async def test_codes_are_assigned_to_a_list_of_users(operator: Operator, service: Service) -> None:
    """Each line is a user, who gets a code; heading and button count the users, and name those without one before."""
    code, user = new_code(), new_id()
    book = service.book(code, name="Given at once")
    await operator.open_page(f"book/{book}", "Given at once")
    await operator.button("Change codes").click()
    dialog = operator.page.get_by_role("dialog")
    await dialog.get_by_label("What to do").select_option("assign")
    await dialog.get_by_role("textbox", name="Users").fill(f"{user}\n{new_id()}\n{user}\n")
    question = "Assign a code to 1 of 2 users"
    await operator.confirm(question, "1 code of Given at once matches", question)
    await operator.expect_message("1 code is assigned. 1 refused.")
    assert ok(service.checkout.get(f"/v1/coupons/{code}"))["userId"] == user


async def test_codes_are_assigned_to_a_file_of_users(operator: Operator, service: Service) -> None:
    """A file names more users than a list may; its mistakes are shown beside it, and how many get none."""
    codes, users = [new_code() for _ in range(3)], [new_id() for _ in range(1_200)]
    book = service.book(*codes, name="Given by file")
    await operator.open_page(f"book/{book}", "Given by file")
    await operator.button("Change codes").click()
    dialog = operator.page.get_by_role("dialog")
    await dialog.get_by_label("What to do").select_option("assign")
    control = dialog.get_by_label("Or a file of users")
    for text, expected in (("E-mail\nann\n", "has no column"), ("userId\nno user\n", "Line 2")):
        await control.set_input_files({"name": "users.csv", "mimeType": "text/csv", "buffer": text.encode()})
        await expect(dialog).to_contain_text(expected)
    text = "Kundennummer;Name\r\n" + "".join(f"{user};A\r\n" for user in users)
    await control.set_input_files({"name": "users.csv", "mimeType": "text/csv", "buffer": text.encode()})
    await dialog.get_by_label("User column").fill("Kundennummer")
    question = "Assign a code to 3 of 1,200 users"
    await operator.confirm(question, "1,197 users will get none", question)
    await operator.expect_message("3 codes are assigned. 1,197 refused.")
    assert {row["status"] for row in _read_codes(service, book).values()} == {"assigned"}


async def test_it_is_paused_and_cancelled(operator: Operator, service: Service) -> None:
    """A job that changes codes is cancelled on its book's page, or resumed under Jobs, which says what it has done. The
    live list of jobs leaves the focus in its row, and the key j goes to what a row is for."""
    book = service.book(new_code(), name="Stopped midway")
    first, second = str(uuid7()), str(uuid7())
    for job in (first, second):
        await service.fetch(PAUSED_CHANGE, book, job)
    await operator.open_page("jobs", "Jobs")
    resume = operator.row("paused").nth(1).get_by_role("button", name="Resume")
    await expect(resume).to_be_visible()
    for _ in range(2):
        await operator.page.keyboard.press("j")
    await expect(resume).to_be_focused()
    await operator.assert_keeps_focus(resume)
    await operator.open_page(f"book/{book}?job={first}", "Stopped midway")
    card = operator.page.get_by_role("group", name="Changing codes")
    await expect(card.get_by_role("progressbar", name="Examined")).to_be_visible()
    await expect(card).to_contain_text("paused")
    await operator.picture("console-bulk")
    await card.get_by_role("button", name="Cancel").click()
    await expect(card).to_contain_text("cancelled")
    await expect(card.get_by_role("button")).to_have_count(0)
    await operator.open_page("jobs", "Jobs")
    await operator.row("paused").first.get_by_role("button", name="Resume").click()
    newest = operator.row("change").first
    await expect(newest).to_contain_text("0 codes are switched off. 1 refused.")
    async with operator.page.expect_download() as saving:
        await newest.get_by_role("link", name="Results").click()
    assert (await saving.value).suggested_filename == f"results-{second}.csv"
    assert ok(service.manage.get(f"/v1/jobs/{first}"))["status"] == "cancelled"
