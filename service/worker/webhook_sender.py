"""Webhooks: telling others what is recorded (docs/decisions/0026-webhooks.md)."""

import asyncio
import contextlib
import time
from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple
from uuid import uuid4

import asyncpg
import structlog

from service.domain.webhook_protocol import compute_pause_s
from service.formats.event_id import NO_EVENT, EventId
from service.record.facts import delivery_rows
from service.record.facts.delivery_rows import Due, Ended
from service.record.pool import ERRORS, is_away
from service.worker import metrics
from service.worker.webhook_endpoint import FAILING_AFTER, Endpoint, Ready
from service.worker.webhook_http import Posted, Resolve, Resolver, tls_context
from service.worker.webhook_payloads import bodies

LOOK_S, QUIET_LOOK_S = 0.25, 1.0
"""How often what is recorded is looked at, with webhooks and without any."""
TURN_S = 0.02
RETRY_S = 2.0
CLAIM_S = 60
LEAST_LEFT_S = 25.0
"""A delivery that isn't ours for as long is not begun any more: an attempt takes up to 15 s."""
MAX_READY = 1024
"""Deliveries of all webhooks of a partition that are ready or under way."""
MAX_PENDING = 2000
"""Deliveries that wait for a webhook; more are not made: what is recorded can wait where it is."""
FACTS_AT_ONCE = 5000
GROUPS_AT_ONCE = 8
FINISH_S, LEAVE_S = 0.5, 1.0
GONE = 410

log = structlog.get_logger()


class _Result(NamedTuple):
    endpoint: Endpoint
    due: Due
    posted: Posted | None
    """None where what it tells of is gone."""

    @property
    def delivered(self) -> bool:
        """Whether the receiver has it."""
        return self.posted is not None and self.posted.delivered


class Sender:
    """One for each partition that a worker keeps.

    1. Look which webhooks are switched on, how far each has come in what is recorded, and what waits for it.
    2. Make deliveries of the next facts, for all webhooks that have come equally far at once; for one for which 2,000
       wait, later.
    3. Take what is due for a minute, of each coupon only what comes first: its next event waits until this one is
       delivered or given up.
    4. Send up to eight at once to each webhook, and one to one that fails, so that none holds up another.
    5. Keep how it went: delivered, or to be tried again after a pause, or given up after three days. If nothing at all
       got through to a webhook in these, it is switched off instead, and what waits for it waits until it is on again.

    Killed anywhere, what was taken is the next sender's when its minute is over: sent at least once.
    """

    def __init__(
        self, pool: asyncpg.Pool, partition: int, fence: int, to_loopback: bool, resolve: Resolve | None = None
    ) -> None:
        self._pool, self._partition, self._fence, self._to_loopback = pool, partition, fence, to_loopback
        self._resolver = Resolver()
        self._resolve = resolve or self._resolver
        self._tls = tls_context()
        self._token = uuid4()
        self._endpoints: dict[int, Endpoint] = {}
        self._recorded: EventId = NO_EVENT
        self._results: list[_Result] = []
        self._woken = asyncio.Event()
        self._look_at = 0.0
        self._metrics = metrics.Webhooks(partition)
        self._log = log.bind(partition=partition)

    async def run(self) -> None:
        """Work until cancelled; while Postgres is away, wait."""
        try:
            while True:
                try:
                    await self.turn()
                    await self._rest()
                except ERRORS as error:
                    if not is_away(error):
                        raise
                    self._log.warning("postgres_away", error=type(error).__name__)
                    await asyncio.sleep(RETRY_S)
        finally:
            await self._leave()

    async def turn(self) -> None:
        """Do what there is to do just now."""
        if time.monotonic() >= self._look_at:
            await self._look()
            self._look_at = time.monotonic() + (LOOK_S if self._endpoints else QUIET_LOOK_S)
        if self._results:
            await self._settle()
        await self._tell()
        await self._take()

    async def _rest(self) -> None:
        await asyncio.sleep(TURN_S)
        if not any(endpoint.hungry and endpoint.room for endpoint in self._endpoints.values()):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, self._look_at - time.monotonic())):
                    await self._woken.wait()
        self._woken.clear()

    async def _look(self) -> None:
        """Step 1."""
        found = await delivery_rows.listeners(self._pool, self._partition, self._fence, MAX_PENDING)
        for listener in found:
            endpoint = self._endpoints.get(listener.webhook)
            if endpoint is None:
                made = Endpoint(listener, self._resolve, self._to_loopback, self._tls)
                self._endpoints[listener.webhook] = made
            else:
                endpoint.follow(listener)
            self._recorded = EventId(listener.cursor_epoch, listener.cursor_seq)
        for webhook in self._endpoints.keys() - {listener.webhook for listener in found}:
            await self._drop(self._endpoints.pop(webhook))
        self._metrics.waiting(
            sum(listener.pending for listener in found), max((listener.oldest_s for listener in found), default=0.0)
        )

    async def _drop(self, endpoint: Endpoint) -> None:
        endpoint.close()
        if endpoint.ready:
            positions = [ready.due.position for ready in endpoint.ready]
            endpoint.ready.clear()
            await delivery_rows.release(self._pool, self._token, positions)

    async def _tell(self) -> None:
        """Step 2."""
        groups: dict[EventId, list[Endpoint]] = {}
        for endpoint in self._endpoints.values():
            if endpoint.at < self._recorded and endpoint.pending < MAX_PENDING:
                groups.setdefault(endpoint.at, []).append(endpoint)
        for at, endpoints in sorted(groups.items())[:GROUPS_AT_ONCE]:
            whose = [endpoint.webhook for endpoint in endpoints]
            passed = await delivery_rows.tell_facts(
                *(self._pool, self._partition, self._fence, whose, at, self._recorded, FACTS_AT_ONCE)
            )
            for webhook in passed.webhooks:
                self._endpoints[webhook].at = passed.at
            if passed.made or passed.at < self._recorded or len(passed.webhooks) < len(whose):
                self._look_at = 0.0

    async def _take(self) -> None:
        """Step 3."""
        held = len(self._held())
        rooms: dict[int, int] = {}
        for endpoint in self._endpoints.values():
            room = min(endpoint.room, MAX_READY - held)
            if endpoint.hungry and room > 0:
                rooms[endpoint.webhook] = room
                held += room
        if not rooms:
            return
        until_s = time.monotonic() + CLAIM_S
        dues = await delivery_rows.claim(self._pool, self._partition, self._fence, rooms, self._token, CLAIM_S)
        told = await bodies(self._pool, self._partition, dues)
        ours = self._held()
        for due in dues:
            endpoint = self._endpoints[due.webhook]
            rooms[due.webhook] -= 1
            if due.position in ours:
                pass  # Postgres was away for so long that it had ceased to be
            elif due.position in told:
                endpoint.ready.append(Ready(due, told[due.position], until_s))
            else:
                self._results.append(_Result(endpoint, due, None))
        for webhook, left in rooms.items():
            endpoint = self._endpoints[webhook]
            endpoint.hungry = left == 0
            self._begin(endpoint)

    def _held(self) -> set[int]:
        """Deliveries that are taken, and not kept as ended."""
        taken = chain.from_iterable(_taken(endpoint) for endpoint in self._endpoints.values())
        return {*taken, *(result.due.position for result in self._results)}

    def _begin(self, endpoint: Endpoint) -> None:
        """Step 4: begin what may be begun."""
        while endpoint.ready and endpoint.may_begin:
            due, body, until_s = endpoint.ready.popleft()
            if until_s - time.monotonic() < LEAST_LEFT_S:
                continue  # it is anybody's soon
            task = asyncio.create_task(self._send(endpoint, due, body))
            endpoint.under_way[task] = due
            task.add_done_callback(lambda done: self._ended(endpoint, done))

    def _ended(self, endpoint: Endpoint, task: asyncio.Task[None]) -> None:
        endpoint.under_way.pop(task, None)
        self._woken.set()
        if endpoint.webhook in self._endpoints:
            self._begin(endpoint)

    async def _send(self, endpoint: Endpoint, due: Due, body: bytes) -> None:
        try:
            posted = await endpoint.send(due, body)
        except Exception as error:  # noqa: BLE001, uvloop raises RuntimeError; whatever it is, it is no delivery
            self._log.error("webhook_attempt_failed", webhook_id=str(endpoint.webhook_id), exc_info=error)
            posted = Posted(None, "it could not be sent")
        self._results.append(_Result(endpoint, due, posted))
        self._metrics.attempted(posted.delivered)
        if endpoint.turned(posted.delivered):
            say = self._log.warning if endpoint.is_failing else self._log.info
            why = posted.error or f"status {posted.status}"
            event = "webhook_failing" if endpoint.is_failing else "webhook_works_again"
            say(event, webhook_id=str(endpoint.webhook_id), attempts=FAILING_AFTER, reason=why)

    async def _settle(self) -> None:
        """Step 5. What can't be kept now is kept later: it happened."""
        results, self._results = self._results, []
        try:
            working = {result.endpoint.webhook for result in results if result.delivered}
            failing = {result.endpoint.webhook for result in results if result.posted} - working
            ended = [await self._judged(result, result.endpoint.webhook in working) for result in results]
            await delivery_rows.settle(self._pool, self._token, ended, sorted(working), sorted(failing))
        except BaseException:
            self._results = results + self._results
            raise
        for endpoint in {result.endpoint.webhook for result in results} & self._endpoints.keys():
            self._endpoints[endpoint].hungry = True  # the next of the same coupons

    async def _judged(self, result: _Result, works: bool) -> Ended:
        endpoint, due, posted = result
        if posted is None:
            return Ended(due.position, "failed", 0, None, "what it tells of is gone")
        if posted.delivered:
            return Ended(due.position, "delivered", 0, posted.status, None)
        error = posted.error or f"status {posted.status}"
        pause = compute_pause_s(due.attempts + 1, due.age_s, posted.asked_s)
        gone = posted.status == GONE
        is_over = gone or (pause is None and not works)
        if is_over and await delivery_rows.switch_off(self._pool, endpoint.webhook, gone):
            self._metrics.switched_off()
            self._log.error("webhook_switched_off", webhook_id=str(endpoint.webhook_id), reason=error)
            self._look_at = 0.0
            return Ended(due.position, "pending", 0, posted.status, error)
        if pause is None:
            self._log.warning("webhook_given_up", webhook_id=str(endpoint.webhook_id), event_id=due.event_id)
            return Ended(due.position, "failed", 0, posted.status, error)
        return Ended(due.position, "pending", round(pause * 1000), posted.status, error)

    async def _leave(self) -> None:
        """Let the next sender begin at once with what isn't sent."""
        endpoints = list(self._endpoints.values())
        self._endpoints.clear()
        self._metrics.waiting(0, 0.0)
        try:
            async with asyncio.timeout(FINISH_S + LEAVE_S):
                tasks = [task for endpoint in endpoints for task in endpoint.under_way]
                if tasks:
                    await asyncio.wait(tasks, timeout=FINISH_S)
                left = [*chain.from_iterable(_taken(endpoint) for endpoint in endpoints)]
                for task in tasks:
                    task.cancel()
                if self._results:
                    await self._settle()
                if left:
                    await delivery_rows.release(self._pool, self._token, left)
        except ERRORS as error:
            self._log.warning("webhooks_not_left", error=type(error).__name__)
        finally:
            for endpoint in endpoints:
                endpoint.close()
            self._resolver.close()


def _taken(endpoint: Endpoint) -> Sequence[int]:
    """Deliveries that are taken and not sent."""
    return [*(ready.due.position for ready in endpoint.ready), *(due.position for due in endpoint.under_way.values())]
