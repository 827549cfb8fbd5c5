"""Send recorded events to webhooks, as a task of partition_worker.py (decision 0026). A delivery's
state, pause and error are stored, and shown by the API."""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from functools import partial
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, NamedTuple

import asyncpg
import msgspec
import structlog

from service.common.logs import workspace_names
from service.engine.formats.event_id import NO_EVENT, EventId
from service.engine.record.pool import ERRORS, wait_out_outage
from service.engine.worker import metrics
from service.engine.worker.lease_keeper import Lease
from service.engine.worker.set_aside import SetAside, Thing
from service.engine.worker.waiting import pause
from service.server.in_postgres import delivery_rows
from service.server.in_postgres.delivery_rows import Due, EndedAttempt
from service.server.requests.webhook_attempts import Posted, make_attempt
from service.server.requests.webhook_protocol import MAX_PENDING, compute_pause_s
from service.server.webhooks.endpoint import FAILING_AFTER, Endpoint, Ready
from service.server.webhooks.payloads import render_bodies

if TYPE_CHECKING:
    from service.server.webhooks.public_http import Poster

POLL_S = 0.25
"""The pause between readings of the record, if there are webhooks."""
TURN_S = 0.02
"""The least pause between turns."""
RETRY_S = 2.0
"""The pause while Postgres is away."""
MAX_READY, MAX_READY_OF_ONE = 1024, 256
"""Deliveries of a partition, and of one workspace, that are ready or in flight."""
FACTS_AT_ONCE = 5000
GROUPS_AT_ONCE = 8
FINISH_S, LEAVE_S = 0.5, 1.0
GONE = 410

log = structlog.get_logger()


class _Result(NamedTuple):
    endpoint: Endpoint
    due: Due
    posted: Posted | None = None
    attempt: str | None = None
    """The attempt as JSON. None, as `posted`, if the delivery's subject no longer exists."""

    @property
    def delivered(self) -> bool:
        return self.posted is not None and self.posted.delivered


class Sender:
    """One for each open partition.

    1. Read the active webhooks, each one's position in the record, and its pending deliveries.
    2. Make deliveries of the next facts, at once for all webhooks at the same position; later for a webhook with 2,000
       pending deliveries. Of more than eight positions workspaces take turns.
    3. Take due deliveries. Of each coupon only the first is due: its next event waits until that one is delivered or
       given up.
    4. Send up to eight at once to each webhook, and one to a failing one, so that no webhook delays another. A
       workspace has at most a quarter of what is ready or in flight. No attempt starts once this worker may have lost
       its lease.
    5. Store each result: delivered, retry after a pause, or given up after three days. If every attempt of three days
       failed, or the receiver replied 410, switch the webhook off instead; its deliveries wait until it is on again.

    A step is for all webhooks at once; if it fails, for each alone, and a webhook at which it fails is set aside.

    If the sender dies, the next holder of the partition's lease takes what has no result: each is sent at least once.
    """

    def __init__(self, pool: asyncpg.Pool, partition: int, fence: int, make_poster: Callable[[], "Poster"]) -> None:
        self._pool, self._partition, self._fence, self._make_poster = pool, partition, fence, make_poster
        self._poster: Poster | None = None
        self._endpoints: dict[int, Endpoint] = {}
        self._recorded: EventId = NO_EVENT
        self._last_turn = 0
        """The last workspace that had a turn at step 2."""
        self._results: list[_Result] = []
        self._taken: set[int] = set()
        """The positions of deliveries without a stored result: ready, in flight, or attempted."""
        self._has_result = asyncio.Event()
        self._next_read_at = 0.0
        self._metrics = metrics.Webhooks(partition)
        self._aside = SetAside(pool, partition, "sending")
        self._log = log.bind(partition=partition)

    async def run(self, lease: Lease) -> None:
        self._lease = lease
        try:
            while True:
                if not (self._endpoints or self._results or "sending" in lease.due):
                    await lease.wait_until_due("sending")
                is_away = True
                with wait_out_outage(self._log):
                    await self.turn()
                    await self._wait_for_work()
                    is_away = False
                if is_away:
                    await asyncio.sleep(RETRY_S)
        finally:
            await self._leave()

    async def turn(self) -> None:
        if time.monotonic() >= self._next_read_at:
            await self._read_webhooks()
            self._next_read_at = time.monotonic() + POLL_S
        if self._results:
            await self._store_results()
        await self._make_deliveries()
        await self._take_due()
        for endpoint in list(self._endpoints.values()):
            self._begin(endpoint)
            await self._aside.forget(_name(endpoint))

    async def _together(
        self, endpoints: Sequence[Endpoint], work: Callable[[Sequence[Endpoint]], Awaitable[None]]
    ) -> None:
        """Work on these; drop those at which it fails."""
        done = await self._aside.together(endpoints, _name, work)
        for endpoint in endpoints:
            if endpoint not in done:
                self._drop(endpoint)

    async def _wait_for_work(self) -> None:
        await asyncio.sleep(TURN_S)
        if not any(endpoint.may_have_due and endpoint.room for endpoint in self._endpoints.values()):
            await pause(self._next_read_at - time.monotonic(), self._has_result)
        self._has_result.clear()

    async def _read_webhooks(self) -> None:
        """Step 1."""
        rows = await delivery_rows.listeners(self._pool, self._partition, self._fence, MAX_PENDING)
        for row in rows:
            if row.webhook in self._endpoints:
                self._endpoints[row.webhook].follow(row)
            else:
                self._poster = self._poster or self._make_poster()
                async with self._aside.contain(Thing(f"webhook {row.webhook_id}", row.workspace), is_last=False):
                    self._endpoints[row.webhook] = Endpoint(row, self._poster)
            self._recorded = EventId(row.cursor_epoch, row.cursor_seq)
        for webhook in self._endpoints.keys() - {row.webhook for row in rows}:
            self._drop(self._endpoints[webhook])
        oldest_s, owner = max(((row.oldest_s, row.workspace) for row in rows), default=(0.0, 0))
        self._metrics.set_pending(sum(row.pending for row in rows), oldest_s, _name_of(owner) if oldest_s else "")

    def _drop(self, endpoint: Endpoint) -> None:
        """Send nothing more to a webhook that is switched off, deleted or set aside."""
        self._endpoints.pop(endpoint.webhook, None)
        self._taken.difference_update(ready.due.position for ready in endpoint.ready)
        endpoint.ready.clear()

    async def _make_deliveries(self) -> None:
        """Step 2."""
        groups: dict[EventId, list[Endpoint]] = {}
        behind: dict[int, set[EventId]] = {}
        for endpoint in self._endpoints.values():
            if endpoint.position < self._recorded and endpoint.pending < MAX_PENDING:
                groups.setdefault(endpoint.position, []).append(endpoint)
                behind.setdefault(endpoint.workspace, set()).add(endpoint.position)
        for position in self._choose_positions(behind):
            await self._together(groups[position], self._make_deliveries_of)

    def _choose_positions(self, behind: Mapping[int, Collection[EventId]]) -> list[EventId]:
        """The positions of this turn, of all positions by workspace. Each workspace's oldest come first."""
        turns = sorted(behind, key=lambda workspace: (workspace <= self._last_turn, workspace))
        self._last_turn = turns[:GROUPS_AT_ONCE][-1] if turns else 0
        rounds = zip_longest(*(sorted(behind[workspace]) for workspace in turns))
        positions = dict.fromkeys(position for one in rounds for position in one if position is not None)
        return [*positions][:GROUPS_AT_ONCE]

    async def _make_deliveries_of(self, endpoints: Sequence[Endpoint]) -> None:
        """Of webhooks at the same position."""
        webhooks, at = [endpoint.webhook for endpoint in endpoints], endpoints[0].position
        passed = await delivery_rows.make_deliveries(
            *(self._pool, self._partition, self._fence, webhooks, at, self._recorded, FACTS_AT_ONCE)
        )
        for webhook in passed.webhooks:
            self._endpoints[webhook].position = passed.at
        if passed.made or passed.at < self._recorded or len(passed.webhooks) < len(webhooks):
            self._next_read_at = 0.0

    async def _take_due(self) -> None:
        """Step 3."""
        count, of_workspace = len(self._taken), Counter[int]()
        for endpoint in self._endpoints.values():
            of_workspace[endpoint.workspace] += len(endpoint.ready) + len(endpoint.in_flight)
        rooms: dict[int, int] = {}
        for endpoint in self._endpoints.values():
            room = min(endpoint.room, MAX_READY - count, MAX_READY_OF_ONE - of_workspace[endpoint.workspace])
            if endpoint.may_have_due and room > 0:
                rooms[endpoint.webhook] = room
                count += room
                of_workspace[endpoint.workspace] += room
        if rooms:
            await self._together([self._endpoints[webhook] for webhook in rooms], partial(self._take_due_of, rooms))

    async def _take_due_of(self, rooms_by_webhook: Mapping[int, int], endpoints: Sequence[Endpoint]) -> None:
        rooms = {endpoint.webhook: rooms_by_webhook[endpoint.webhook] for endpoint in endpoints}
        dues = await delivery_rows.due_deliveries(self._pool, self._partition, self._fence, rooms, self._taken)
        bodies = await render_bodies(self._pool, self._partition, dues)
        for due in dues:
            endpoint = self._endpoints[due.webhook]
            rooms[due.webhook] -= 1
            self._taken.add(due.position)
            if due.position in bodies:
                endpoint.ready.append(Ready(due, bodies[due.position]))
            else:
                self._results.append(_Result(endpoint, due))
        for webhook, left in rooms.items():
            self._endpoints[webhook].may_have_due = left == 0

    def _begin(self, endpoint: Endpoint) -> None:
        """Step 4."""
        while endpoint.ready and endpoint.may_begin and time.monotonic() < self._lease.lives_until:
            due, body = endpoint.ready.popleft()
            task = asyncio.create_task(self._send(endpoint, due, body))
            endpoint.in_flight[task] = due
            task.add_done_callback(lambda done: self._finish_attempt(endpoint, done))

    def _finish_attempt(self, endpoint: Endpoint, task: asyncio.Task[None]) -> None:
        endpoint.in_flight.pop(task, None)
        self._has_result.set()
        if endpoint.webhook in self._endpoints:
            self._begin(endpoint)

    async def _send(self, endpoint: Endpoint, due: Due, body: bytes) -> None:
        at_s, began = time.time(), time.monotonic()
        try:
            posted = await endpoint.send(due, body)
        except Exception as error:  # noqa: BLE001, uvloop raises RuntimeError
            self._log.error("webhook_attempt_failed", exc_info=error, **_describe(endpoint))
            posted = Posted(None, "it could not be sent")
        took_s = time.monotonic() - began
        attempt = make_attempt(at_s, took_s, posted.status, posted.error, posted.body, body)
        self._results.append(_Result(endpoint, due, posted, msgspec.json.encode(attempt).decode()))
        self._metrics.count_attempt(posted.delivered)
        if endpoint.count_attempt(posted.delivered):
            reason = posted.error or f"status {posted.status}"
            fields = {"attempts": FAILING_AFTER, "reason": reason, **_describe(endpoint)}
            if endpoint.is_failing:
                self._log.warning("webhook_failing", **fields)
            else:
                self._log.info("webhook_works_again", **fields)

    async def _store_results(self) -> None:
        """Step 5. Results that can't be stored now are stored later."""
        results, self._results = self._results, []
        endpoints = list({result.endpoint.webhook: result.endpoint for result in results}.values())
        try:
            await self._together(endpoints, partial(self._store_results_of, results))
        except BaseException:
            self._results = results + self._results
            raise
        self._taken.difference_update(result.due.position for result in results)
        for endpoint in {result.endpoint.webhook for result in results} & self._endpoints.keys():
            self._endpoints[endpoint].may_have_due = True  # the same coupons' next events

    async def _store_results_of(self, results: Sequence[_Result], endpoints: Sequence[Endpoint]) -> None:
        webhooks = {endpoint.webhook for endpoint in endpoints}
        results = [result for result in results if result.endpoint.webhook in webhooks]
        working = {result.endpoint.webhook for result in results if result.delivered}
        failing = {result.endpoint.webhook for result in results if result.posted} - working
        ended = [await self._decide(result, result.endpoint.webhook in working) for result in results]
        await delivery_rows.store_results(
            *(self._pool, self._partition, self._fence, ended, sorted(working), sorted(failing))
        )

    async def _decide(self, result: _Result, works: bool) -> EndedAttempt:
        endpoint, due, posted, attempt = result
        if posted is None:
            return EndedAttempt(due.position, "failed", 0, None, "what it tells of is gone", None)
        if posted.delivered:
            return EndedAttempt(due.position, "delivered", 0, posted.status, None, attempt)
        error = posted.error or f"status {posted.status}"
        pause = compute_pause_s(due.attempts + 1, due.age_s, posted.retry_after_s)
        gone = posted.status == GONE
        is_over = gone or (pause is None and not works)
        if is_over and await delivery_rows.switch_off(self._pool, endpoint.webhook, gone):
            self._metrics.count_switched_off(_name_of(endpoint.workspace))
            self._log.error("webhook_switched_off", reason=error, **_describe(endpoint))
            self._next_read_at = 0.0
            return EndedAttempt(due.position, "pending", 0, posted.status, error, attempt)
        if pause is None:
            self._log.warning("webhook_given_up", event_id=due.event_id, **_describe(endpoint))
            return EndedAttempt(due.position, "failed", 0, posted.status, error, attempt)
        return EndedAttempt(due.position, "pending", round(pause * 1000), posted.status, error, attempt)

    async def _leave(self) -> None:
        """Wait a moment for attempts in flight, and store the results for the next sender."""
        tasks = [task for endpoint in self._endpoints.values() for task in endpoint.in_flight]
        self._endpoints.clear()
        try:
            async with asyncio.timeout(FINISH_S + LEAVE_S):
                if tasks:
                    await asyncio.wait(tasks, timeout=FINISH_S)
                for task in tasks:
                    task.cancel()
                if self._results:
                    await self._store_results()
        except ERRORS as error:
            self._log.warning("deliveries_not_stored", error=type(error).__name__)
        finally:
            if self._poster:
                await self._poster.aclose()


def _name(endpoint: Endpoint) -> Thing:
    return Thing(f"webhook {endpoint.webhook_id}", endpoint.workspace)


def _name_of(workspace: int) -> str:
    """A workspace's name, or its number until this process knows it."""
    return workspace_names.get(workspace, (str(workspace), ""))[0]


def _describe(endpoint: Endpoint) -> dict[str, Any]:
    """What the log says of a webhook; it adds the workspace's name."""
    return {"webhook_id": str(endpoint.webhook_id), "workspace": endpoint.workspace}
