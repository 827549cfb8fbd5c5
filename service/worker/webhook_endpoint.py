"""A webhook as its sender sees it."""

import asyncio
import ssl
import time
from collections import deque
from typing import NamedTuple
from uuid import UUID

from service.domain.webhook_protocol import sign_event
from service.formats.event_id import NO_EVENT, EventId
from service.record.facts.delivery_rows import Due, Listener
from service.worker.webhook_http import Posted, Poster, Resolve

AT_ONCE, AT_ONCE_FAILING = 8, 1
WAITING = 24
"""Deliveries that are ready beyond those under way."""
FAILING_AFTER = 5


class Ready(NamedTuple):
    """A delivery to be sent, and until when it is ours, by this machine's steady clock."""

    due: Due
    body: bytes
    until_s: float


class Endpoint:
    """What is ready for a webhook, what is under way to it, and how that goes."""

    def __init__(self, listener: Listener, resolve: Resolve, to_loopback: bool, tls: ssl.SSLContext) -> None:
        self._made = resolve, to_loopback, tls
        self._poster = Poster(listener.url, *self._made)
        self._url = listener.url
        self._signing: list[bytes] = []
        self.webhook_id: UUID = listener.webhook_id
        self.webhook = listener.webhook
        self.at: EventId = NO_EVENT
        """How far it has come in what is recorded."""
        self.pending = 0
        self.hungry = False
        """Whether there may be more that is due."""
        self.ready: deque[Ready] = deque()
        self.under_way: dict[asyncio.Task[None], Due] = {}
        self._failures_in_a_row = 0
        self.follow(listener)

    def follow(self, listener: Listener) -> None:
        """What Postgres says of it by now."""
        if listener.url != self._url:
            self._poster.close()
            self._poster, self._url = Poster(listener.url, *self._made), listener.url
        self._signing = [secret for secret in (listener.secret, listener.old_secret) if secret is not None]
        self.at = max(self.at, EventId(listener.epoch, listener.seq))
        self.pending = listener.pending
        self.hungry = listener.due > 0

    def close(self) -> None:
        """Close its connections, those in use once they are not."""
        self._poster.close()

    @property
    def is_failing(self) -> bool:
        """Whether the last attempts all failed."""
        return self._failures_in_a_row >= FAILING_AFTER

    @property
    def may_begin(self) -> bool:
        """Whether one more may be under way; to one that fails, one at a time shows when it works again."""
        return len(self.under_way) < (AT_ONCE_FAILING if self.is_failing else AT_ONCE)

    @property
    def room(self) -> int:
        """How many deliveries more it can take."""
        most = AT_ONCE_FAILING if self.is_failing else AT_ONCE + WAITING
        return max(0, most - len(self.under_way) - len(self.ready))

    async def send(self, due: Due, body: bytes) -> Posted:
        """One attempt."""
        at_s = int(time.time())
        signed = sign_event(self._signing, due.event_id, at_s, body)
        headers = {"webhook-id": due.event_id, "webhook-timestamp": str(at_s), "webhook-signature": signed}
        return await self._poster.post(headers, body)

    def turned(self, delivered: bool) -> bool:
        """Count an attempt; whether that made it one that fails, or works again."""
        before = self.is_failing
        self._failures_in_a_row = 0 if delivered else self._failures_in_a_row + 1
        return self.is_failing != before
