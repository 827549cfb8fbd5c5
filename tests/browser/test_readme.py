"""The first look of docs/browser.md, from a fresh clone to a redeemed gift card, in a browser."""

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, expect

from tests.browser.watched import Watched
from tests.harness.running import data_folder, is_ready
from tests.harness.servers import free_port
from tests.harness.waiting import PATIENCE_S, until

pytestmark = pytest.mark.asyncio(loop_scope="session")
_ROOT = Path(__file__).parents[2]
README = (_ROOT / "README.md").read_text()
PAGE = (_ROOT / "docs" / "browser.md").read_text()


def _clone(clone: Path) -> Path:
    """Copy the tree as a clone has it, with a link to the programs of .venv, which takes minutes to make. `.runtime`
    is the newest file, so that `make` does not install the clone into .venv."""
    ignored = [line.rstrip("/") for line in (_ROOT / ".gitignore").read_text().split()]
    shutil.copytree(_ROOT, clone, ignore=shutil.ignore_patterns(".git", *ignored))
    (clone / ".venv").mkdir()
    (clone / ".venv" / "bin").symlink_to((_ROOT / ".venv" / "bin").resolve())
    (clone / ".venv" / ".runtime").touch()
    return clone


@pytest.fixture
def url() -> Iterator[str]:
    """The URL of the service that README's first command starts in a clone; Ctrl-C ends it."""
    (command,) = re.findall(r"^(make run) +# Valkey, Postgres, API and worker", README, re.MULTILINE)
    unset = ("REDIS_URL", "DATABASE_URL")
    with data_folder() as folder:
        port, clone = free_port(), _clone(folder / "clone")
        env = {name: value for name, value in os.environ.items() if name not in unset}
        env |= {"SCRIP_PORT": str(port), "SCRIP_DATA_DIR": str(folder / "data"), "PYTHONPATH": str(clone)}
        with (folder / "output").open("wb") as output:
            run = subprocess.Popen(
                ["bash", "-c", f"exec {command}"], cwd=clone, env=env, stdout=output, stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip
        url = f"http://127.0.0.1:{port}"
        try:
            until(lambda: run.poll() is not None or is_ready(url), "make run")
            assert run.poll() is None, (folder / "output").read_text()
            yield url
        finally:
            if run.poll() is None:
                os.killpg(run.pid, signal.SIGINT)
            run.wait(PATIENCE_S)


async def test_from_make_run_to_a_redeemed_gift_card(browser: Browser, url: str) -> None:
    """The page's steps have its results: a held code, a gift card, the next order paid with it, and its timeline in
    the console."""
    first_look = PAGE.partition("## A first look")[2].partition("\n## ")[0]
    (address,) = re.findall(r"<http://127\.0\.0\.1:8000(/\w+)> is a mock shop", first_look)
    (code,) = re.findall(r"apply `([A-Z0-9-]+)`", first_look)
    pay, use_it = re.findall(r"press\s+\"([^\"]+)\"", first_look)
    watched = Watched(page := await browser.new_page(viewport={"width": 1180, "height": 900}), url)
    await page.goto(f"{url}{address}")
    for label in re.findall(r"\"([^\"]+)\"", first_look):
        await expect(page.locator("button, summary").filter(has_text=label).first).to_be_attached()
    await page.get_by_label("Coupon or gift card").fill(code)
    await page.get_by_role("button", name="Apply").click()
    await expect(page.locator("#held")).to_contain_text("held for you")
    await expect(page.locator("#discount")).to_have_text("−26.38 USD")
    await page.get_by_role("button", name=re.compile(f"^{pay} ")).click()
    await expect(page.locator("#gift-code")).to_have_text(re.compile("^GIFT-"))
    gift = await page.locator("#gift-code").inner_text()
    await page.get_by_role("button", name=use_it).click()
    await expect(page.locator("#discount")).to_have_text("−10.00 USD")
    await page.get_by_role("button", name=re.compile(f"^{pay} ")).click()
    await expect(page.locator("#receipt-code")).to_have_text(gift)
    await expect(page.locator("#receipt-total")).to_have_text("121.90 USD")

    console = PAGE.partition("## The console")[2].partition("\n## ")[0]
    (address,) = re.findall(r"<http://127\.0\.0\.1:8000(/\w+)> is for operators", console)
    (key,) = re.findall(r"Sign in\s+with `(\w+)`", console)
    await page.goto(f"{url}{address}")
    await page.get_by_label("API key").fill(key)
    await page.get_by_role("button", name="Sign in").click()
    await page.get_by_role("searchbox").fill(gift)
    await page.get_by_role("searchbox").press("Enter")
    await expect(page.locator(".timeline li").first).to_contain_text("Redeemed")
    await expect(page.get_by_text("Redis and Postgres agree.")).to_be_visible()
    assert watched.errors == []
    watched.assert_no_errors()
