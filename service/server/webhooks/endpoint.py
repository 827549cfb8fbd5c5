"""A webhook as its sender (sender.py) sees it: queue, attempts and failures. Receivers verify the three headers and the
signature."""

import asyncio
import time
from collections import deque
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

from service.engine.formats.event_id import NO_EVENT, EventId
from service.server.in_postgres.delivery_rows import Due, Listener
from service.server.requests.webhook_attempts import Posted
from service.server.requests.webhook_protocol import sign_event

if TYPE_CHECKING:
    from service.server.webhooks.public_http import Poster

AT_ONCE, AT_ONCE_FAILING = 8, 1
WAITING = 24
"""Ready deliveries beyond those in flight."""
FAILING_AFTER = 5
"""Failed attempts in a row."""


class Ready(NamedTuple):
    due: Due
    body: bytes


class Endpoint:
    """A webhook's ready deliveries, attempts in flight and failures."""

    def __init__(self, listener: Listener, poster: "Poster") -> None:
        self._poster = poster
        self.webhook_id: UUID = listener.webhook_id
        self.webhook, self.workspace = listener.webhook, listener.workspace
        self.position: EventId = NO_EVENT
        """The last event of which deliveries were made."""
        self.ready: deque[Ready] = deque()
        self.in_flight: dict[asyncio.Task[None], Due] = {}
        self._failures_in_a_row = 0
        self.follow(listener)

    def follow(self, listener: Listener) -> None:
        """Take over the settings that Postgres has now."""
        self._url = listener.url
        self._signing = [secret for secret in (listener.secret, listener.old_secret) if secret is not None]
        self.position = max(self.position, EventId(listener.epoch, listener.seq))
        self.pending = listener.pending
        self.may_have_due = listener.due > len(self.ready) + len(self.in_flight)
        """Whether more deliveries may be due."""

    @property
    def is_failing(self) -> bool:
        return self._failures_in_a_row >= FAILING_AFTER

    @property
    def may_begin(self) -> bool:
        """Whether one more attempt may start. A failing webhook gets one at a time, which tests whether it works
        again."""
        return len(self.in_flight) < (AT_ONCE_FAILING if self.is_failing else AT_ONCE)

    @property
    def room(self) -> int:
        most = AT_ONCE_FAILING if self.is_failing else AT_ONCE + WAITING
        return max(0, most - len(self.in_flight) - len(self.ready))

    async def send(self, due: Due, body: bytes) -> Posted:
        at_s = int(time.time())
        signed = sign_event(self._signing, due.event_id, at_s, body)
        headers = {"webhook-id": due.event_id, "webhook-timestamp": str(at_s), "webhook-signature": signed}
        return await self._poster.post(self.workspace, self._url, headers, body)

    def count_attempt(self, delivered: bool) -> bool:
        """Count an attempt; return whether the webhook thereby began to fail, or to work again."""
        before = self.is_failing
        self._failures_in_a_row = 0 if delivered else self._failures_in_a_row + 1
        return self.is_failing != before
