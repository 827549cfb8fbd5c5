"""The samples of /schema: each operation's request for curl, the Python client and Node, run on the service."""

import io
import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

import pytest
from playwright.async_api import Browser, expect

from scrip_client import Refused, refusals
from tests.browser.watched import Watched
from tests.harness.cases import WorkspaceSetup, filled
from tests.harness.routes.setup import make_quarantined, make_setup
from tests.harness.routes.table import ROUTES
from tests.harness.service_fixture import Service, new_code, new_id
from tests.harness.waiting import PATIENCE_S

pytestmark = pytest.mark.asyncio(loop_scope="session")
_WRITE = """async ([language, requests]) => {
  const { write } = await import("/schema/assets/samples.js");
  const { listOperations } = await import("/schema/assets/document.js");
  const all = new Map(listOperations().flatMap((one) => [one, ...one.also]).map((one) => [one.id, one]));
  return requests.map(([id, request]) => write(language, { operation: all.get(id), ...request }));
}"""
_SHOWN = """async (language) => {
  const texts = [];
  for (const one of document.querySelectorAll(".operation")) {
    one.open = true;
    const find = () => one.querySelector(`[aria-label="Language"] [value="${language}"]`);
    while (!find()) await new Promise(requestAnimationFrame);
    find().click();
    texts.push(one.querySelector('[aria-label="The request"]').textContent);
  }
  return texts;
}"""
_BODILESS: dict[str, Any] = {"body": None, "type": None, "headers": {}}


class Shop(NamedTuple):
    """A workspace, and what its requests need."""

    service: Service
    setup: WorkspaceSetup

    def list_requests(self, document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
        """A request that works for each operation, by its id, as the page's form has it; and an upload of a file."""
        for route in ROUTES:
            template = route.name.split(" ")[1]
            operation = document["paths"][template][route.method.lower()]
            address, body = filled(route.working, self.setup)
            at = urlsplit(address)
            pattern = re.sub(r"{(\w+)}", r"(?P<\1>[^/]+)", template)
            found = re.fullmatch(pattern, at.path)
            assert found, address
            request = _BODILESS | {"values": found.groupdict(), "query": dict(parse_qsl(at.query))}
            if "requestBody" in operation:
                request |= {"body": json.dumps(body or {}), "type": "application/json"}
            if any(one["name"] == "Idempotency-Key" for one in operation["parameters"]):
                request["headers"] = {"Idempotency-Key": new_id("key"), "X-Request-Id": "sample"}
            yield operation["operationId"], request
        for media in ("text/csv", "text/plain"):
            request = _BODILESS | {"values": {"bookId": self.setup["book"]}, "query": {}, "type": media}
            yield "uploadCodes", request | {"query": {"dryRun": "true"}}
            yield "checkCodes", request


@pytest.fixture
def shop(service: Service) -> Shop:
    own = service.make_workspace(new_id("shop"), "test")
    return Shop(own, make_setup(own) | {"event": make_quarantined(own)})


def _list_files(folder: Path) -> list[Path]:
    return list(folder.iterdir())


def _run_python(name: str, sample: str) -> None:
    with redirect_stdout(io.TextIOWrapper(io.BytesIO())):
        exec(compile(sample, name, "exec"), {})


def _run_curl(name: str, sample: str) -> None:
    assert sample.startswith("curl -sS --fail-with-body "), "it would succeed where the service refuses"
    _run(name, "bash", "-c", sample)


def _run_node(name: str, sample: str) -> None:
    _run(name, "node", "--input-type=module", "-e", sample)


def _run(name: str, *command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    if done.returncode:  # as a whole: an assert would cut it
        pytest.fail("\n".join((name, command[-1], done.stdout, done.stderr)))


_HOSTILE = (
    "../redeem/{}",
    "{}/../../redeem/{}",
    "{}?a=b",
    "{}#",
    "%2e%2e",
    "\\..\\{}",
    "'; touch hurt; '",
    "$(touch hurt)",
    '"',
)
_OF_A_CODE = ("lockCoupon", "redeemCoupon", "getCoupon")
_RUNS = {"Python": _run_python, "curl": _run_curl, "Node": _run_node}


@pytest.mark.parametrize("language", _RUNS)
async def test_each_request_succeeds(
    language: str,
    shop: Shop,
    browser: Browser,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """For each operation, a request that works succeeds as code, too: with a body, a query, headers, or a file."""
    watched = Watched(page := await browser.new_page(), shop.service.run.url)
    await page.goto(f"{watched.url}/schema")
    await expect(page.locator(".operation").first).to_be_visible()
    requests = list(shop.list_requests(shop.service.anonymous.get("/schema/openapi.json").json()))
    samples = await page.evaluate(_WRITE, [language, requests])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SCRIP_KEY", f"{shop.service.workspace}_admin")
    (tmp_path / "codes.csv").write_text(f"{new_code()}\n{new_code()}\n")
    for (name, _), sample in zip(requests, samples, strict=True):
        _RUNS[language](name, sample)


async def test_each_example_is_well_formed(service: Service, browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an operation shows when it is opened has no blank to fill in: the service refuses it only for what it
    lacks, such as the coupon of the example."""
    own = service.make_workspace(new_id("examples"), "test")
    watched = Watched(page := await browser.new_page(), service.run.url)
    await page.goto(f"{watched.url}/schema")
    await expect(page.locator(".operation").first).to_be_visible()
    monkeypatch.setenv("SCRIP_KEY", f"{own.workspace}_admin")
    samples = await page.evaluate(_SHOWN, "Python")
    assert len(samples) > 60
    for sample in samples:
        if "codes.csv" in sample:
            continue
        try:
            _run_python("an example", sample)
        except (refusals.Malformed, refusals.Invalid) as refused:
            pytest.fail(f"{refused}\n{sample}")
        except Refused:
            pass
    for language in ("curl", "Node"):
        assert not [text for text in await page.evaluate(_SHOWN, language) if re.search(r"<\w+>", text)]
    watched.assert_no_errors()


@pytest.mark.parametrize("language", _RUNS)
async def test_a_hostile_code_stays_a_code(
    language: str, shop: Shop, browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sample for a code that would lead elsewhere is not found, and changes nothing. For one that a URL loses there
    is no sample."""
    watched = Watched(page := await browser.new_page(), shop.service.run.url)
    await page.goto(f"{watched.url}/schema")
    await expect(page.locator(".operation").first).to_be_visible()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SCRIP_KEY", f"{shop.service.workspace}_admin")
    free = shop.setup["free7"]
    usable = dict(shop.list_requests(shop.service.anonymous.get("/schema/openapi.json").json()))
    codes = [one.replace("{}", free) for one in _HOSTILE]
    before = shop.service.held()
    for code in codes:
        requests = [(name, usable[name] | {"values": {"code": code}, "headers": {}}) for name in _OF_A_CODE]
        for sample in await page.evaluate(_WRITE, [language, requests]):
            with pytest.raises((Refused, pytest.fail.Exception), match="not_found"):
                _RUNS[language](code, sample)
    lost = [("lockCoupon", usable["lockCoupon"] | {"values": {"code": code}}) for code in (".", "..", "")]
    assert set(await page.evaluate(_WRITE, [language, lost])) == {"# The request is not valid yet."}
    assert shop.service.held() == before
    assert _list_files(tmp_path) == []


async def test_samples_under_locks_and_orders(shop: Shop, browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    """The samples of a sale say what happened: under an expired lock, after a lost answer, and after a rollback."""
    watched = Watched(page := await browser.new_page(), shop.service.run.url)
    await page.goto(f"{watched.url}/schema")
    await expect(page.locator(".operation").first).to_be_visible()
    monkeypatch.setenv("SCRIP_KEY", f"{shop.service.workspace}_admin")
    book = shop.service.book(code := new_code())
    order = {"userId": "ann", "orderId": new_id("order")}

    async def run(name: str, body: dict[str, Any], key: str = "") -> None:
        request = _BODILESS | {
            "values": {"code": code, "orderId": order["orderId"]},
            "query": {},
            "body": json.dumps(body),
        }
        request |= {"type": "application/json", "headers": {"Idempotency-Key": key} if key else {}}
        (sample,) = await page.evaluate(_WRITE, ["Python", [(name, request)]])
        _run_python(name, sample)

    token = shop.service.checkout.post(f"/v1/coupons/lock/{code}", json=order).json()["lockToken"]
    await run("extendLock", {"lockToken": token})
    shop.service.operate.post("/v1/test/clock", json={"now": "2036-11-27T00:00:00Z"})
    with pytest.raises(refusals.LockLost):
        await run("extendLock", {"lockToken": token})
    with pytest.raises(refusals.LockLost):
        await run("redeemCoupon", order | {"lockToken": token})
    key = new_id("key")
    for _ in range(2):  # the answer to the first was lost
        await run("redeemCoupon", order, key)
    assert shop.service.manage.get(f"/v1/books/{book}/stats").json()["redemptions"] == 1
    await run("rollbackOrder", {})
    with pytest.raises(refusals.AlreadyRolledBack):
        await run("rollbackOrder", {})
    assert shop.service.manage.get(f"/v1/books/{book}/stats").json()["redemptions"] == 0
