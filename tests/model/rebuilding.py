"""A Redis made again from configuration and events, as the worker makes it, and compared with the one that was lost."""

import math
import re
from collections.abc import Iterator
from typing import Any, cast

import msgspec

from service.engine.domain.configuration import CodeRow
from service.engine.formats import key_names
from service.engine.formats.bounds import parse_spent, spans_at
from service.engine.formats.events import Fact, Redeemed, RolledBack
from service.engine.formats.order_entries import split_marks
from service.engine.formats.recovery_progress import WHOLE
from service.engine.hot.redis_server import Server
from service.engine.hot.scripts import MENDING, Scripts
from service.engine.worker.opening.restorer import Restorer
from tests.harness.script_runner import EPOCH
from tests.harness.shop import Shop
from tests.lua.consistency import Coupon, Held
from tests.lua.outbox import Outbox, parse_entry, read_outbox
from tests.model.model import Model


async def rebuild(shop: Shop, other: Shop, model: Model, settings: dict[str, Any], codes: list[CodeRow]) -> None:
    """Make another Redis whole from the latest configuration and all events, while its gate is closed."""
    other.caller, other.still_ms = shop.caller, shop.still_ms
    other.outbox = await shop.read_outbox_entries()
    w = shop.caller.prefix
    await other.link.call("DEL", key_names.outbox(0), key_names.settings(w), key_names.books(w))
    await other.gate("closed")
    server, no_pool = Server(other.link, 0), cast("Any", None)
    restorer = Restorer(server, no_pool, Scripts(0, EPOCH, "nonce", MENDING, "closed"))
    restorer._next_progress_at = math.inf  # it reports its progress to Postgres
    await server.load(restorer.scripts)
    other.projector = restorer.projector
    await other.put_workspace(**settings)
    for row in model.books.values():
        await other.projector.book(row)
    await other.projector.codes(shop.workspace, 0, 1, codes, whole=True)
    for user, cap in model.caps.items():
        await other.user(user, cap)
    for fact in _recorded_facts(other.outbox):
        restorer._add(fact)
    await restorer._send_events(WHOLE)
    await restorer._wait_for_all()
    assert restorer._skipped == 0
    restorer._note_buckets(codes)
    await restorer.fill_pools()
    await other.link.call("DEL", key_names.mend(0))


def _recorded_facts(entries: list[tuple[str, dict[str, str]]]) -> Iterator[Fact]:
    """The facts of an outbox as Postgres returns them: a gift by itself, a rollback with its redemption."""
    redeemed = read_outbox(entries).by_id
    for entry in entries:
        event = parse_entry(*entry)
        if isinstance(event, Redeemed):
            yield msgspec.structs.replace(event, gift=None)
            if event.gift:
                yield event.gift
        elif isinstance(event, RolledBack):
            of = redeemed[event.redemption_id]
            counted_ms = of.at_ms if of.counted_ms is None else of.counted_ms
            yield msgspec.structs.replace(event, redeemed=of.id, discount_e4=of.discount_e4, counted_ms=counted_ms)
        elif isinstance(event, Fact):
            yield event


async def assert_same(shop: Shop, other: Shop) -> None:
    """Compare all but locks and idempotency keys. What differs by right: a code's version (it has the last one, where
    configuration came once), the limit and the mark `touched` of what was locked and never redeemed, zeros, what locks
    hold, and what is spent of budgets in past periods and under past generations."""
    ours, theirs = [Held(await each.everything(), shop.caller.prefix, Outbox(), {}) for each in (shop, other)]
    for start in ("s:", "g:", "x"):
        assert ours.under(start) == theirs.under(start)
    for start in ("w", "b:", "u:"):
        assert _strip(ours.under(start)) == _strip(theirs.under(start))
    now = await shop.now()
    for of in (_orders, _counters, _accounts):
        pair = of(ours, now), of(theirs, now)
        assert pair[0] == pair[1], pair
    assert {code: _strip_coupon(c) for code, c in ours.coupons.items()} == {
        code: _strip_coupon(c) for code, c in theirs.coupons.items()
    }
    assert not any(c.locks for c in theirs.coupons.values())


def _generation(held: Held, number: str) -> str:
    return held.books[number].bounds.partition("/")[0].rstrip("!")


def _orders(held: Held, now: int) -> dict[str, dict[str, Any]]:
    """What orders and users have, without the marks of locks, and of budgets what users have spent in the periods of
    now."""
    plain: dict[str, dict[str, Any]] = {}
    for bucket, fields in held.under("o:").items():
        kept: dict[str, Any] = {}
        for name, text in fields.items():
            if not name.endswith("/"):
                if places := split_marks(text)[0].rstrip():
                    kept[name] = places
            elif ":u:" in (bounds := held.books[name.split("/")[0]].bounds):
                generation, zone, _ = bounds.replace("!", "").split("/")
                spent, spans = parse_spent(text, int(generation)), {span.name for span in spans_at(zone, now)}
                if current := {period: some for period, some in spent.items() if period in spans and any(some)}:
                    kept[name] = current
        if kept:
            plain[bucket] = kept
    return plain


def _counters(held: Held, _: int) -> dict[str, Any]:
    """The books' counters, but for those of locks and of users' accounts, which count past ones, too."""
    return _strip(
        {
            number: {
                name: text
                for name, text in counters.items()
                if not name.startswith(("held", "lockBytes", "userAccounts"))
                and (":" not in name or name.split(":")[0] == _generation(held, number))
                and (name != "accounts" or _generation(held, number))
            }
            for number, counters in held.under("n:").items()
        }
    )  # fmt: skip


def _accounts(held: Held, _: int) -> dict[str, Any]:
    """Those of cards, but for what is held."""
    return {code: text.rsplit(" ", 1)[0] for code, text in held.accounts.items()}


def _strip_coupon(c: Coupon) -> Any:
    return c.book, c.max, c.record._replace(version="", max_uses="", lock="")


def _strip(values: dict[str, Any]) -> dict[str, Any]:
    """The values without versions, zeros and `touched`."""
    plain: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, str):
            plain[name] = value.split(" ", 1)[1]
        elif fields := {
            key: re.sub(r"^\d+ ", "", text) if key == "cap" else text
            for key, text in value.items()
            if key != "touched" and text != "0"
        }:
            plain[name] = fields
    return plain
