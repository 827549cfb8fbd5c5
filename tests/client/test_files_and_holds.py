"""Exports, held coupons and webhooks of both clients."""

import inspect
import json
import time
from typing import Any

import httpx2
import pytest
from standardwebhooks import Webhook

from scrip_client import OutcomeUnknown, Unreachable, hold, operations, refusals, webhooks
from service.engine.operations.document_parts import REDEMPTION
from service.server.requests.webhook_protocol import format_secret, sign_event
from tests.client.conftest import Shell, refuse
from tests.client.test_attempts import LOCKED, LOST
from tests.harness.waiting import until, wait_until

REDEEMED = httpx2.Response(201, json=REDEMPTION | {"durability": "fsynced"})
RELEASED = httpx2.Response(204)


class _Broken(httpx2.SyncByteStream, httpx2.AsyncByteStream):
    def __iter__(self) -> Any:
        yield b"code\n"
        raise httpx2.ReadError("reset")

    async def __aiter__(self) -> Any:
        yield b"code\n"
        raise httpx2.ReadError("reset")


def export(shell: Shell, *replies: Any) -> bytes:
    """What arrives of an export."""
    parts: list[bytes] = []
    if not shell.is_async:

        def read(client: Any) -> None:
            with client.export_codes("b") as chunks:
                parts.extend(chunks)

        shell.do(read, *replies)
    else:

        async def read_async(client: Any) -> None:
            async with client.export_codes("b") as chunks:
                parts.extend([part async for part in chunks])

        shell.do(read_async, *replies)
    return b"".join(parts)


def test_an_export(shell: Shell) -> None:
    """An export arrives in parts, after refusals that say to wait; one that breaks off is Unreachable."""
    assert export(shell, refuse("unavailable", 503, 1), httpx2.Response(200, text="code\nA-1\n")) == b"code\nA-1\n"
    with pytest.raises(refusals.BookNotFound):
        export(shell, refuse("book_not_found", 404))
    shell._answer = lambda _request: httpx2.Response(200, stream=_Broken())  # type: ignore[method-assign]
    with pytest.raises(Unreachable, match="broke off"):
        export(shell)


def hold_and(shell: Shell, then: str, *replies: Any, seconds: int = 60) -> hold.Hold:
    """Hold a coupon, and then nothing, redeem, or wait for a refusal."""
    if not shell.is_async:

        def use(client: Any) -> hold.Hold:
            with client.hold_coupon("A-1", user_id="ann", lock_seconds=seconds) as held:
                if then == "redeem":
                    held.redeem(order_value="25.00")
                elif then == "wait":
                    until(lambda: held.refusal)
            return held

        return shell.do(use, *replies, deadline_s=5)

    async def use_async(client: Any) -> hold.Hold:
        async with client.hold_coupon("A-1", user_id="ann", lock_seconds=seconds) as held:
            if then == "redeem":
                await held.redeem(order_value="25.00")
            elif then == "wait":
                await wait_until(lambda: held.refusal)
        return held

    return shell.do(use_async, *replies, deadline_s=5)


def sent(shell: Shell) -> list[str]:
    """The operations that were requested."""
    return [request.url.path.split("/")[3] for request in shell.requests]


def test_a_hold(shell: Shell) -> None:
    """A coupon that is not redeemed in the block is released at its end, by the token of its lock."""
    assert not hold_and(shell, "nothing", LOCKED, RELEASED).is_over
    assert sent(shell) == ["lock", "unlock"]
    assert shell.requests[1].content == b'{"lockToken":"t"}'


def test_a_hold_that_redeems(shell: Shell) -> None:
    """A coupon that was redeemed under its lock is not released; a lock that can't be released ends by itself."""
    assert hold_and(shell, "redeem", LOCKED, REDEEMED).is_over
    assert sent(shell) == ["lock", "redeem"]
    assert json.loads(shell.requests[1].content) == {"userId": "ann", "orderValue": "25.00", "lockToken": "t"}
    hold_and(shell, "nothing", LOCKED, httpx2.ConnectError("refused"))


def test_a_hold_whose_redemption_is_unknown(shell: Shell) -> None:
    """If the redemption may have been made, the lock stays: the caller goes on with the key."""
    with pytest.raises(OutcomeUnknown):
        hold_and(shell, "redeem", LOCKED, LOST[0])
    assert set(sent(shell)) == {"lock", "redeem"}


def test_a_hold_is_extended(shell: Shell) -> None:
    """While the block runs the lock is extended, in spite of lost answers, until that is refused."""
    replies = LOCKED, LOCKED, httpx2.ConnectError("refused"), refuse("lock_lost", 409), RELEASED
    held = hold_and(shell, "wait", *replies, seconds=0)
    assert isinstance(held.refusal, refusals.LockLost)
    assert sent(shell)[:3] == ["lock", "extend", "extend"]
    assert sent(shell)[-1] == "unlock"


def test_the_fields_of_a_hold() -> None:
    """`redeem` of a held coupon takes all fields of the operation but those of the lock."""
    parameters = inspect.signature(operations.redeem_coupon).parameters.keys()
    assert hold.RedeemFields.__annotations__.keys() == parameters - {"code", "user_id", "order_id", "lock_token"}


def test_a_webhook() -> None:
    """What the service signs is verified, as by the standard's own library; anything else is not."""
    secret, body, at_s = (
        b"s" * 32,
        b'{"type":"coupon.redeemed","timestamp":"2026-11-20T09:14:00Z","data":{"code":"A"}}',
        int(time.time()),
    )
    headers = {
        "Webhook-Id": "evt_1",
        "webhook-timestamp": str(at_s),
        "webhook-signature": sign_event([b"o" * 32, secret], "evt_1", at_s, body),
    }
    text = format_secret(secret)
    event = webhooks.verify(body, headers, text)
    assert (event.id, event.type, event.data, event.timestamp.year) == ("evt_1", "coupon.redeemed", {"code": "A"}, 2026)
    Webhook(text).verify(body, {name.lower(): value for name, value in headers.items()})
    wrong = [
        (body + b" ", headers, text),
        (body, headers | {"Webhook-Id": "evt_2"}, text),
        (body, headers | {"webhook-timestamp": str(at_s - 301)}, text),
        (body, {}, text),
        (body, headers, format_secret(b"x" * 32)),
    ]
    for args in wrong:
        with pytest.raises(webhooks.InvalidSignature):
            webhooks.verify(*args)
