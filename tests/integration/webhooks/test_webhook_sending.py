"""Webhooks get every recorded event, in order for each coupon, also while receivers fail."""

import asyncio
import json
import math
import random
from collections import Counter, defaultdict
from functools import partial
from typing import Any
from uuid import uuid4

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from service.engine.domain.times import from_ms
from service.engine.formats.event_id import EventId
from service.engine.formats.events import Fact, Redeemed, StockNotice
from service.engine.record.partitions.failing_tasks import read_failing
from service.server.in_postgres import delivery_rows
from service.server.in_postgres.job_rows import end_job, jobs_by_id
from service.server.in_postgres.webhook_rows import (
    create_webhook,
    notify_webhooks,
    patch_webhook,
    read_delivery,
    redeliver,
    rotate_secret,
    send_test_event,
)
from service.server.in_postgres.workspace_rows import create_workspace
from service.server.requests.webhook_protocol import EVENTS, MAX_PENDING, MAX_TESTS, format_secret, generate_secret
from service.server.webhooks import public_http as webhook_http
from service.server.webhooks import sender as webhook_sender
from service.server.webhooks.endpoint import AT_ONCE
from tests.harness.waiting import wait_until
from tests.integration.opening.opening_fixtures import refusal_of
from tests.integration.recording.record_fixtures import (
    EVENT_MS,
    assigned,
    redeemed,
    rolled_back,
    take_partition,
    unassigned,
)
from tests.integration.webhooks.webhook_fixtures import Got, Office, Receiver

DAY_S = 86_400


def _used_and_back(code: str) -> list[Any]:
    use = redeemed(code)
    return [use, rolled_back(use)]


@pytest.mark.parametrize("fails", ["_make_deliveries_of", "_take_due_of", "_store_results_of"])
async def test_a_webhook_that_fails_stops_no_other(
    office: Office, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    """At whatever step the sender fails for a webhook: it is set aside, others get all, and later it does, too."""
    broken = await office.webhook(receiver.url("/broken"))
    await office.webhook(receiver.url("/other"))
    step = getattr(webhook_sender.Sender, fails)

    async def fail_for_one(its: Any, *args: Any) -> None:
        if any(endpoint.webhook_id == broken.webhook_id for endpoint in args[-1]):
            raise KeyError("body")
        await step(its, *args)

    monkeypatch.setattr(webhook_sender.Sender, fails, fail_for_one)
    await office.kept.write(redeemed("CODE-1"), redeemed("CODE-2"))
    office.send()
    await wait_until(lambda: len([got for got in receiver.got if got.path == "/other"]) == 2)
    failing = await wait_until(lambda: read_failing(office.pool, 0))
    assert {(one.task, one.thing) for one in failing} == {("sending", f"webhook {broken.webhook_id}")}
    monkeypatch.setattr(webhook_sender.Sender, fails, step)
    await office.pool.execute("UPDATE failing_tasks SET next_try_at = clock_timestamp()")
    await wait_until(lambda: office.statuses_are(delivered=4))

    async def is_forgotten() -> bool:
        return not await read_failing(office.pool, 0)

    await wait_until(is_forgotten)


async def test_what_is_told(office: Office, receiver: Receiver) -> None:
    """Each fact's event has the contract's name and the fields that the API shows, and the signature verifies."""
    secret = b"s" * 32
    await office.webhook(receiver.url("/a?b=c"), secret=secret)
    use = redeemed("CODE-1", order="A-1")
    await office.kept.write(assigned("CODE-1", order="A-0"), use, rolled_back(use), unassigned("CODE-1"))
    office.send()
    await wait_until(lambda: office.statuses_are(delivered=4))
    events = [got.event for got in receiver.got]
    assert [event["type"] for event in events] == [
        "coupon.assigned", "coupon.redeemed", "redemption.rolled_back", "coupon.unassigned",
    ]  # fmt: skip
    given, used, back, taken = (event["data"] for event in events)
    coupon = {"code": "CODE-1", "bookId": office.book_id, "userId": "user"}
    assert given == coupon | {"orderId": "A-0", "assignedAt": given["assignedAt"]}
    assert taken == coupon | {"unassignedAt": taken["unassignedAt"]}
    assert used["redemptionId"] == office.kept.id_of(use)
    assert (used["orderValue"], used["finalAmount"], used["rolledBackAt"]) == ("100.00", "75.00", None)
    assert back["rolledBackAt"]
    assert back == used | {"rolledBackAt": back["rolledBackAt"]}
    for got in receiver.got:
        assert got.path == "/a?b=c"
        assert Webhook(format_secret(secret)).verify(got.body, got.headers)
        assert got.headers["host"] == f"127.0.0.1:{receiver.port}"
    assert len({got.headers["webhook-id"] for got in receiver.got}) == 4


async def test_books_jobs_and_others(office: Office, receiver: Receiver) -> None:
    """Stock notices, ended jobs and events of a committed transaction are sent; those of a rolled back one are not."""
    await office.webhook(receiver.url())
    notice: dict[str, Any] = {"epoch": 0, "seq": 0, "workspace": 1, "book": 2, "what": "codes", "at_ms": EVENT_MS}
    await office.kept.write(
        StockNotice(notice="low", left=3, **notice),
        StockNotice(notice="out", left=0, **notice),
        StockNotice(notice="low", left=19_000, **notice | {"what": f"budget:d:100000:{EVENT_MS + 5}"}),
    )
    job_id = uuid4()
    await office.pool.execute(
        """INSERT INTO jobs (job_id, workspace, kind, book, parameters, requested)
        VALUES ($1, 1, 'generate', 2, '{"code_pattern": "#", "charset": "AB"}', 5)""",
        job_id,
    )
    job = (await jobs_by_id(office.pool, [job_id]))[job_id]
    await end_job(office.pool, job, office.kept.fence, ["no more"])
    async with office.pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        assert await notify_webhooks(connection, 1, "reconcile.drift", {"never": 1}) == 1
        await transaction.rollback()
        assert await notify_webhooks(connection, 1, "reconcile.drift", {"lost_code": 2}) == 1
        assert await notify_webhooks(connection, 2, "reconcile.drift", {"lost_code": 2}) == 0
    office.send()
    await wait_until(lambda: len(receiver.got) == 5)
    data = {got.type: got.event["data"] for got in receiver.got}
    low = data["book.low_stock"]
    assert low == {"bookId": office.book_id, "of": "codes", "left": 3, "at": low["at"]}
    assert data["book.exhausted"]["left"] == 0
    budget = {"amount": "10.00", "per": "book", "period": "day"}
    of_book = {"bookId": office.book_id, "percent": 80, "budget": budget, "left": "1.90", "currency": "USD"}
    assert data["book.budget_low"] == of_book | {"renewsAt": from_ms(EVENT_MS + 5), "at": low["at"]}
    assert (data["job.finished"]["jobId"], data["job.finished"]["status"]) == (str(job_id), "failed")
    assert data["reconcile.drift"] == {"lost_code": 2}


MOST_REJECTED = 4
"""The pauses after more attempts take hours, and so many turns of the test."""


class Picky:
    """Rejects half of all attempts, of one event at most MOST_REJECTED, and stores events that come out of order."""

    def __init__(self, facts: list[Fact]) -> None:
        self.order: dict[str, list[tuple[str, str]]] = defaultdict(list)
        self.taken: dict[str, list[tuple[str, str]]] = defaultdict(list)
        self.wrong: list[Any] = []
        self._rng, self._rejected = random.Random(7), Counter[tuple[str, str]]()
        for fact in facts:
            kind = "coupon.redeemed" if isinstance(fact, Redeemed) else "redemption.rolled_back"
            self.order[fact.code].append((kind, fact.redemption_id))  # type: ignore[attr-defined]

    def __call__(self, got: Got) -> int:
        event, taken = (got.type, got.event["data"]["redemptionId"]), self.taken[got.code]
        if len(taken) == 6 or event != self.order[got.code][len(taken)]:
            self.wrong.append(event)
        if self._rejected[event] < MOST_REJECTED and self._rng.random() < 0.5:
            self._rejected[event] += 1
            return self._rng.choice([0, 500, 302, 404, 429])
        taken.append(event)
        return 200


async def test_in_order_whatever_fails(office: Office, receiver: Receiver) -> None:
    """A coupon's event is sent once the receiver accepted the one before it, though half of all attempts fail."""
    await office.webhook(receiver.url())
    facts = [fact for number in range(30) for _ in range(3) for fact in _used_and_back(f"CODE-{number}")]
    for fact in facts:
        await office.kept.write(fact)
    receiver.judge = picky = Picky(await office.kept.facts())
    office.send()

    async def are_delivered() -> bool:
        await office.pass_s(300)
        await office.until_idle()
        return await office.statuses_are(delivered=len(facts))

    await wait_until(are_delivered)
    assert not picky.wrong
    assert picky.taken == picky.order


async def test_a_slow_receiver_holds_up_nobody(
    office: Office, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While one receiver answers nothing, another gets all events; each gets at most eight at once."""
    monkeypatch.setattr(webhook_http, "RESPONSE_S", 3600)
    await office.webhook(receiver.url())
    receiver.delay_s = lambda got: 0.01
    async with Receiver().listening() as slow:
        slow.delay_s = lambda got: 3600
        await office.webhook(slow.url())
        await office.kept.write(*(redeemed(f"CODE-{number}") for number in range(200)))
        office.send()
        await wait_until(lambda: len({got.code for got in receiver.got}) == 200)
        assert len(slow.got) == slow.most_under_way == AT_ONCE
        assert receiver.most_under_way <= AT_ONCE
        assert receiver.connections <= AT_ONCE * 2


async def test_slow_receivers_of_a_workspace(
    office: Office, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While many receivers of one workspace answer nothing, another workspace's gets its events."""
    for name, most in (("MAX_READY", 16), ("MAX_READY_OF_ONE", 8)):
        monkeypatch.setattr(webhook_sender, name, most)
    monkeypatch.setattr(webhook_http, "RESPONSE_S", 3600)
    async with Receiver().listening() as slow:
        slow.delay_s = lambda got: 3600
        for number in range(5):
            await office.webhook(slow.url(f"/{number}"))
        async with office.pool.acquire() as connection, connection.transaction():
            other = (await create_workspace(connection, "other")).workspace
            for number in range(20):
                assert await notify_webhooks(connection, 1, "reconcile.drift", {"lost_code": number + 1}) == 5
        await create_webhook(office.pool, other, receiver.url(), EVENTS, "", generate_secret())
        office.send()
        await wait_until(lambda: slow.under_way == 8)
        async with office.pool.acquire() as connection:
            assert await notify_webhooks(connection, other, "reconcile.drift", {"lost_code": 2}) == 1
        await wait_until(lambda: len(receiver.got) == 1)
        assert slow.most_under_way == 8
        await office.stop()


async def test_webhooks_that_are_behind(office: Office, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a workspace's 20 webhooks are at 20 old positions in the record, another's gets its events."""
    monkeypatch.setattr(webhook_sender, "FACTS_AT_ONCE", 1)
    kept = office.kept
    for number in range(20):
        await office.webhook(receiver.url("/behind"))
        await kept.write(redeemed(f"CODE-{number}"))
    facts = [redeemed(f"CODE-{number}") for number in range(20, 60)]
    await kept.write(*facts)
    async with office.pool.acquire() as connection:
        other = (await create_workspace(connection, "other")).workspace
    await create_webhook(office.pool, other, receiver.url("/other"), EVENTS, "", generate_secret())
    await kept.write(redeemed("THEIRS", workspace=other))
    turns: list[int] = []
    make = webhook_sender.Sender._make_deliveries

    async def count(its: Any) -> None:
        turns.append(len([got for got in receiver.got if got.path == "/other"]))
        await make(its)

    monkeypatch.setattr(webhook_sender.Sender, "_make_deliveries", count)
    office.send()
    await wait_until(lambda: len(receiver.got) == 20 * 40 + sum(range(1, 21)) + 1)
    assert turns.index(1) < 20


async def test_three_days(office: Office, receiver: Receiver) -> None:
    """Failed events are retried after growing pauses for three days; then the webhook is switched off, and another
    webhook gets an event of it. Switched on again, it gets everything, also events from meanwhile."""
    down = await office.webhook(receiver.url("/down"), "coupon.redeemed")
    other = await office.webhook(receiver.url("/other"), "webhook.disabled")
    receiver.judge = lambda got: 503 if got.path == "/down" else 200
    await office.kept.write(redeemed("CODE-1"))
    office.send()
    pauses = []
    for attempt in range(1, 60):
        await wait_until(lambda: len(receiver.got) == attempt)  # noqa: B023
        await wait_until(lambda: office.attempts_are(attempt))  # noqa: B023
        state = await office.state(down)
        if state.status == "inactive":
            break
        assert state.failing_since
        (left_s,) = await office.pool.fetchrow(
            "SELECT extract(epoch FROM next_attempt_at - now())::float8 FROM webhook_deliveries WHERE event LIKE 'c%'"
        )
        pauses.append(left_s)
        await office.pass_s(left_s + 0.01)
    assert 70 * 3600 < sum(pauses) < 72.1 * 3600
    assert 12 < len(pauses) < 25
    assert pauses[0] < 6.1
    assert max(pauses) > 6 * 3600
    assert ((await office.state(down)).reason, (await office.state(other)).status) == ("failing", "active")
    await wait_until(lambda: [got.type for got in receiver.got if got.path == "/other"] == ["webhook.disabled"])
    assert receiver.got[-1].event["data"] == {
        "webhookId": str(down.webhook_id), "url": down.url, "reason": "failing",
    }  # fmt: skip
    await office.kept.write(redeemed("CODE-2"))
    await office.until_idle()
    assert len([got for got in receiver.got if got.path == "/down"]) == len(pauses) + 1
    receiver.judge = lambda got: 200
    await patch_webhook(office.pool, 1, down.webhook_id, status="active")
    # Events of different coupons are sent at once.
    await wait_until(
        lambda: sorted([got.code for got in receiver.got if got.path == "/down"][-2:]) == ["CODE-1", "CODE-2"]
    )
    state = await office.state(down)
    assert (state.status, state.reason, state.inactive_since) == ("active", None, None)


async def test_one_that_is_never_taken(office: Office, receiver: Receiver) -> None:
    """An event that a working receiver rejects for three days fails, and the coupon's next event is sent; the webhook
    stays on. The failed event can be sent again. Its 20 newest attempts are kept, without the user."""
    row = await office.webhook(receiver.url())
    use = redeemed("BAD-1")
    receiver.judge = lambda got: 500 if (got.code, got.type) == ("BAD-1", "coupon.redeemed") else 200
    receiver.answer = b"no \x00 user"
    await office.kept.write(use, rolled_back(use), redeemed("GOOD-1"))
    office.send()
    await wait_until(lambda: {"GOOD-1"} == {got.code for got in receiver.got if receiver.judge(got) == 200})
    for number in range(2, 40):
        await office.pass_s(4 * 3600)
        await office.kept.write(redeemed(f"GOOD-{number}"))
        await wait_until(lambda: any(got.code == f"GOOD-{number}" for got in receiver.got))  # noqa: B023
        if any(got.type == "redemption.rolled_back" for got in receiver.got):
            break
    await wait_until(lambda: any(got.type == "redemption.rolled_back" for got in receiver.got))
    (bad,) = [delivery for delivery in await office.deliveries() if delivery["status"] == "failed"]
    assert (bad["event"], bad["last_status"], bad["last_error"]) == ("coupon.redeemed", 500, "status 500")
    assert (await office.state(row)).status == "active"
    attempts = json.loads(bad["attempt_log"])
    assert len(attempts) == min(20, bad["attempts"])
    assert {(one["status"], one["error"], one["response"]) for one in attempts} == {(500, None, "no \\x00 {userId}")}
    assert sorted(one["at"] for one in attempts) == [one["at"] for one in attempts]
    assert min(one["milliseconds"] for one in attempts) >= 0
    full = "UPDATE webhook_deliveries SET attempt_log = $2 WHERE delivery_id = $1"
    await office.pool.execute(full, bad["delivery_id"], json.dumps([*range(20)]))
    receiver.judge = lambda got: 200
    again = await redeliver(office.pool, 1, row.webhook, bad["delivery_id"])
    assert (again.status, again.attempts, again.event_id) == ("pending", 0, bad["event_id"])
    await wait_until(lambda: receiver.got[-1].headers["webhook-id"] == bad["event_id"])

    async def is_delivered() -> bool:
        return (await read_delivery(office.pool, row.webhook, bad["delivery_id"])).status == "delivered"

    await wait_until(is_delivered)
    *others, last = json.loads((await read_delivery(office.pool, row.webhook, bad["delivery_id"])).attempt_log)
    assert (others, last["status"]) == ([*range(1, 20)], 200)


async def test_gone(office: Office, receiver: Receiver) -> None:
    """A receiver that answers 410 gets no more requests, and its webhook is switched off."""
    row = await office.webhook(receiver.url())
    receiver.judge = lambda got: 410
    await office.kept.write(redeemed("CODE-1"))
    office.send()
    await wait_until(lambda: office.is_off(row))
    await office.until_idle()
    assert ((await office.state(row)).reason, len(receiver.got)) == ("gone", 1)


async def test_two_secrets_for_a_while(office: Office, receiver: Receiver) -> None:
    """After a rotation both secrets verify until the overlap ends, then the new one alone."""
    old, new = b"o" * 32, b"n" * 32
    row = await office.webhook(receiver.url(), secret=old)
    await rotate_secret(office.pool, 1, row.webhook_id, new, DAY_S)
    office.send()
    await office.kept.write(redeemed("CODE-1"))
    await wait_until(lambda: len(receiver.got) == 1)
    for secret in (old, new):
        assert Webhook(format_secret(secret)).verify(receiver.got[0].body, receiver.got[0].headers)
    await office.pass_s(DAY_S)
    await office.until_idle()
    await office.kept.write(redeemed("CODE-2"))
    await wait_until(lambda: len(receiver.got) == 2)
    assert Webhook(format_secret(new)).verify(receiver.got[1].body, receiver.got[1].headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(format_secret(old)).verify(receiver.got[1].body, receiver.got[1].headers)


async def test_without_the_lease_nothing_is_sent(office: Office, receiver: Receiver) -> None:
    """A sender with another fence sends nothing. One whose lease may have ended starts no attempt until it is renewed;
    then each event is sent once."""
    await office.webhook(receiver.url())
    stale = office.send(fence=office.kept.fence + 1)
    await office.kept.write(*(redeemed(f"CODE-{number}") for number in range(50)))
    await office.until_idle()
    assert not receiver.got
    sender = office.send(lives_until=0.0)
    await wait_until(lambda: office.is_ready)
    await office.until_read()
    assert not receiver.got
    office.lease.lives_until = math.inf
    for start in range(50, 400, 50):
        await office.kept.write(*(redeemed(f"CODE-{number}") for number in range(start, start + 50)))
    await wait_until(lambda: office.statuses_are(delivered=400))
    assert Counter(Counter(got.code for got in receiver.got).values()) == {1: 400}
    assert not stale.done()
    assert not sender.done()


async def test_the_next_holder_sends_what_has_no_result(office: Office, receiver: Receiver) -> None:
    """The next holder of the lease sends at once what the last one has not delivered, though that one still waits for
    responses. Only its own results count."""
    await office.webhook(receiver.url())
    await office.kept.write(*(redeemed(f"CODE-{number}") for number in range(20)))
    receiver.delay_s = lambda got: 5.0
    office.send()
    await wait_until(lambda: len(receiver.got) == AT_ONCE)
    receiver.delay_s = lambda got: 0.0
    receiver.judge = lambda got: 500 if got.code == "CODE-0" else 204
    office.send(fence=await take_partition(office.pool))
    await wait_until(lambda: office.statuses_are(delivered=19, pending=1))
    await wait_until(lambda: receiver.under_way == 0)
    await office.until_idle()
    refused, *others = await office.deliveries()
    assert (refused["subject"], refused["status"]) == ("CODE-0", "pending")
    assert {delivery["attempts"] for delivery in others} == {1}
    times = Counter(got.code for got in receiver.got if got.code != "CODE-0")
    assert Counter(times.values()) == {2: AT_ONCE - 1, 1: 20 - AT_ONCE}


async def test_from_when_on(office: Office, receiver: Receiver) -> None:
    """A webhook gets events that are recorded after its creation; without a listener no delivery is written."""
    await office.kept.write(redeemed("CODE-1"))
    office.send()
    await office.until_idle()
    first = await office.webhook(receiver.url("/1"), "redemption.rolled_back")
    use = redeemed("CODE-2")
    await office.kept.write(use)
    await office.until_idle()
    assert not await office.deliveries()
    (at,) = await office.pool.fetchrow("SELECT seq FROM webhooks")
    assert at == 1
    await office.webhook(receiver.url("/2"))
    await office.kept.write(rolled_back(use))
    await wait_until(lambda: len(receiver.got) == 2)
    assert {(got.path, got.type) for got in receiver.got} == {(f"/{n}", "redemption.rolled_back") for n in (1, 2)}
    await patch_webhook(office.pool, 1, first.webhook_id, status="inactive")
    await office.pass_s(15 * DAY_S)
    await office.kept.write(*_used_and_back("CODE-3"))
    await patch_webhook(office.pool, 1, first.webhook_id, status="active")
    await office.kept.write(*_used_and_back("CODE-4"))
    await wait_until(lambda: [got.code for got in receiver.got if got.path == "/1"] == ["CODE-2", "CODE-4"])


async def test_facts_in_parts(office: Office, receiver: Receiver) -> None:
    """Read in parts of any size, each fact makes one delivery, and a checkout with a gift makes two."""
    row = await office.webhook(receiver.url())
    kept = office.kept
    for number in range(7):
        gift = assigned(f"GIFT-{number}", order=f"A-{number}")
        await kept.write(redeemed(f"CODE-{number}", order=f"A-{number}", gift=gift), assigned(f"OTHER-{number}"))
    partition, at = (office.pool, 0, kept.fence), EventId(kept.epoch, 0)
    for limit in (1, 2, 3, 50):
        passed = await delivery_rows.make_deliveries(
            *partition, [row.webhook], at, EventId(kept.epoch, kept.seq), limit
        )
        assert passed.at > at
        at = passed.at
    assert at == (kept.epoch, kept.seq)
    kinds = (("coupon.redeemed", "CODE"), ("coupon.assigned", "GIFT"), ("coupon.assigned", "OTHER"))
    deliveries = [(delivery["event"], delivery["subject"]) for delivery in await office.deliveries()]
    assert deliveries == [(event, f"{kind}-{number}") for number in range(7) for event, kind in kinds]
    late = await delivery_rows.make_deliveries(*partition, [row.webhook], EventId(kept.epoch, 0), at, 50)
    assert (late.made, late.webhooks) == (0, [])


async def test_pending_test_events_are_bounded(office: Office, receiver: Receiver) -> None:
    """Of 20 test events at once ten are accepted while none is delivered; then others are."""
    row = await office.webhook(receiver.url())
    send = partial(send_test_event, office.pool, 1, row)
    refused = await asyncio.gather(*(refusal_of(send()) for _ in range(20)))
    assert Counter(refused) == {"": MAX_TESTS, "rate_limited": 20 - MAX_TESTS}
    assert await office.statuses_are(pending=MAX_TESTS)
    office.send()
    await wait_until(lambda: office.statuses_are(delivered=MAX_TESTS))
    assert (await send()).event == "webhook.test"


async def test_pending_redeliveries_are_bounded(office: Office, receiver: Receiver) -> None:
    """Of 20 redeliveries at once those up to the bound of pending deliveries are accepted; a pending one always is."""
    row = await office.webhook(receiver.url())
    make = """INSERT INTO webhook_deliveries (webhook, event_id, event, happened_at, status)
        SELECT $1, 'evt_' || n, 'webhook.test', now(), CASE WHEN n > 20 THEN 'pending' ELSE 'delivered' END
        FROM generate_series(1, $2) AS n RETURNING delivery_id"""
    ids = [made["delivery_id"] for made in await office.pool.fetch(make, row.webhook, MAX_PENDING + 10)]
    again = partial(redeliver, office.pool, 1, row.webhook)
    refused = await asyncio.gather(*(refusal_of(again(one)) for one in ids[:20]))
    assert Counter(refused) == {"": 10, "rate_limited": 10}
    assert await office.statuses_are(pending=MAX_PENDING, delivered=10)
    assert (await again(ids[-1])).status == "pending"
    assert await refusal_of(again(row.webhook_id)) == "not_found"
