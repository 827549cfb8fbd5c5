"""`scrip demo`: the demo data of `scrip run`. main.py loads it. It uses the API alone, with the demo's keys."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, NamedTuple

import click
from aiohttp import ClientError, ClientResponseError

from service.common import config
from service.common.http_client import open_session, read_body, send
from service.common.plurals import count_noun
from service.common.running_service import Unusable, find_service
from service.server.embedded.demo_data import IDS, list_seeded_books

RETRY_DEADLINE_S = 5.0
RECONNECT_PAUSE_S = 0.5
RESPONSE_TIMEOUT_S = 30.0
MAX_BODY_BYTES = 16 << 20


class Unreachable(Exception):
    """The service did not answer a request, in spite of retries."""


class Response(NamedTuple):
    """A response, and its JSON object; {} if the body is none."""

    status: int
    json: dict[str, Any]
    retry_after: str


class Client:
    """A client of one service. After a 503 with Retry-After or a lost connection it sends the request again."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        self._session = open_session(RESPONSE_TIMEOUT_S, RESPONSE_TIMEOUT_S, MAX_BODY_BYTES)

    async def request(self, method: str, path: str, key: str, body: bytes | None = None) -> Response:
        """Raises Unreachable if the connection still fails at the deadline, or the response is not HTTP/1.1."""
        deadline = time.monotonic() + RETRY_DEADLINE_S
        while True:
            try:
                response = await self._send(method, path, key, body)
            except (ClientResponseError, ValueError) as error:
                raise Unreachable(f"{method} {path}: the response is not usable: {error}") from error
            except (ClientError, TimeoutError) as error:
                if time.monotonic() > deadline:
                    raise Unreachable(f"{method} {path}: {type(error).__name__} {error}") from error
                await asyncio.sleep(RECONNECT_PAUSE_S)
                continue
            if response.status != 503 or not response.retry_after.isdecimal() or time.monotonic() > deadline:
                return response
            await asyncio.sleep(float(response.retry_after))

    async def _send(self, method: str, path: str, key: str, body: bytes | None) -> Response:
        headers = {"User-Agent": "scrip-demo", "Authorization": f"Bearer {key}"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        async with send(self._session, method, self._url + path, headers, body) as response:
            text = await read_body(response, MAX_BODY_BYTES)
        try:
            content = json.loads(text)
        except ValueError:
            content = {}
        found = content if isinstance(content, dict) else {}
        return Response(response.status, found, response.headers.get("Retry-After", ""))

    async def aclose(self) -> None:
        await self._session.close()


@click.group(epilog="Example: scrip demo reset")
def demo() -> None:
    """Restore the demo data of `scrip run`."""


@demo.command("reset", epilog="Example: scrip demo reset")
def reset_demo() -> None:
    """Make the demo's used codes usable again.

    Rolls back the redemptions of the demo's books, and takes their codes back from users. Books and codes that you have
    added stay as they are. A code that a checkout holds is free again when its lock expires.
    """
    service = find_service(config.load(), "REDIS_URL", "DATABASE_URL")
    if not service.url:
        raise Unusable("unset: REDIS_URL and DATABASE_URL are not those of a `scrip run`. Unset them, and retry.")
    try:
        asyncio.run(_reset(service.url))
    except Unreachable as error:
        raise Unusable(f"unavailable: {service.url} does not answer: {error}. Start `scrip run` again.") from error


async def _reset(url: str) -> None:
    """Reset all demo workspaces, and print what was done. Raises Unreachable, Unusable."""
    done = {"redemptions": 0, "assignments": 0, "held": 0}
    refused: list[str] = []
    async with aclosing(Client(url)) as client:
        for workspace in IDS:
            books, key = list_seeded_books(workspace), f"{workspace}_manage"
            ids = {one["name"]: one["bookId"] async for one in _page(client, key, "/v1/books?") if one["name"] in books}
            for book in [name for name in books if name in ids]:  # gift cards first: a purchase may have given one
                path = f"/v1/books/{ids[book]}"
                async for one in _page(client, key, f"{path}/redemptions?"):
                    if one["rolledBackAt"] is None:
                        rollback = f"/v1/redemptions/{one['redemptionId']}/rollback"
                        done["redemptions"] += await _post(client, key, rollback, refused, reason="demo reset")
                async for one in _page(client, key, f"{path}/codes?status=assigned&"):
                    if one["code"] not in books[book]:
                        done["assignments"] += await _post(client, key, f"/v1/coupons/unassign/{one['code']}", refused)
                stats = await client.request("GET", f"{path}/stats", key)
                done["held"] += stats.json.get("locked", 0)
    click.echo(f"Redemptions rolled back: {done['redemptions']}. Codes taken back from users: {done['assignments']}.")
    if done["held"]:
        click.echo(f"Held by checkouts: {done['held']}. Run this again in some minutes, when the locks have expired.")
    if refused:
        raise click.ClickException(
            f"{count_noun(len(refused), 'code')} could not be restored ({', '.join(sorted(set(refused)))}). "
            "Retry in a minute."
        )


async def _page(client: Client, key: str, path: str) -> AsyncIterator[dict[str, Any]]:
    """Yield the items of all pages of a list; `path` ends with ? or &. Raises Unusable, Unreachable."""
    cursor = ""
    while True:
        page = await client.request("GET", f"{path}limit=100{cursor}", key)
        if page.status != 200:
            outcome = f"{page.status} {page.json.get('code', '')}".rstrip()
            raise Unusable(
                f"refused: the service answers {outcome} to the key {key}. Only a service with its demo data can "
                "be reset; `scrip doctor` names other faults."
            )
        items, following = page.json["items"], page.json["nextCursor"]
        for item in items:
            yield item
        if following is None:
            return
        cursor = f"&cursor={following}"


async def _post(client: Client, key: str, path: str, refused: list[str], **body: str) -> bool:
    """Send the request; whether it succeeded. If not, add the refusal's code to `refused`, unless a checkout holds the
    code. Raises Unreachable."""
    answer = await client.request("POST", path, key, json.dumps(body).encode())
    if answer.status != 200 and (code := str(answer.json.get("code", answer.status))) != "coupon_locked":
        refused.append(code)
    return answer.status == 200
