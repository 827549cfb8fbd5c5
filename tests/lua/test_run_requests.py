"""One call decides the requests of a turn as if each were alone: the same replies and keys, each error its own."""

import asyncio
import math
import os
import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import hiredis
import msgspec
import pytest

from service.common.resources import LUA_DIR
from service.engine.domain.errors import Refusal
from service.engine.formats import key_names
from service.engine.formats.script_replies import expand_reply
from service.engine.hot import scripts
from service.engine.hot.decider import interpret_reply
from service.engine.operations import lock, redeem
from service.engine.operations.base import Call, Command
from tests.harness import script_runner, stocked
from tests.harness.script_runner import EPOCH
from tests.harness.shop import Shop
from tests.lua import general
from tests.lua.conftest import note_calls, shop_on
from tests.lua.requests_at_random import Requests

SEEDS, SALES, OPENINGS, GROUPS = 3, 5, 4, 30
MOST = 12
"""Requests of a call; the bounds have tests of their own."""
RULES = math.ceil(int(os.environ.get("SCRIP_MANY_EXAMPLES", "400")) / (GROUPS * MOST / 3))
"""Seeds with books of any settings, of so many requests together."""
FIRST_RULE = SEEDS + SALES + OPENINGS


def _kind(reply: Any) -> Any:
    """A reply; of an error its kind."""
    if not isinstance(reply, hiredis.ReplyError):
        return reply
    first = str(reply).split(" ", 1)[0]
    return first if first.isupper() else "ERR"


async def _alone(shop: Shop, command: Command) -> Any:
    digest = shop.decider._digests[0][command.script]
    return expand_reply(await shop.link.call("EVALSHA", digest, len(command.keys), *command.keys, *command.args, EPOCH))


async def _one_by_one(shop: Shop, commands: Sequence[Command]) -> list[Any]:
    return [await _alone(shop, command) for command in commands]


async def _together(shop: Shop, commands: Sequence[Command]) -> list[Any]:
    """The replies of one turn."""
    replies: list[asyncio.Future[Any]] = [asyncio.get_running_loop().create_future() for _ in commands]
    for command, reply in zip(commands, replies, strict=True):
        shop.decider.start(0, command.script, command.keys, command.args, reply.set_result)
    return [expand_reply(reply) for reply in await asyncio.gather(*replies)]


class _Story:
    """Groups of requests with their replies, and what happened between them."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self.groups: list[tuple[list[Command], list[Any]]] = []
        self.between: list[tuple[str, Any]] = []
        self.states: list[dict[str, Any]] = []

    async def tell(self, shop: Shop, requests: Requests) -> None:
        """Draw groups, and run their requests one by one."""
        chosen = self._random
        for number in range(GROUPS):
            commands, replies = list[Command](), list[Any]()
            while len(commands) < chosen.randint(1, MOST):
                command = requests.draw()
                while command:
                    commands.append(command)
                    replies.append(await _alone(shop, command))
                    command = await requests.note(command, replies[-1])
            self.groups.append((commands, replies))
            broken = key_names.coupon(shop.caller.prefix, f"C{number % 6}-0")
            self.between.append(
                chosen.choice(
                    [
                        ("wait", 1),
                        ("wait", 70_000),
                        ("record", None),
                        ("gate", "full"),
                        ("break", broken),
                        ("end", number),
                    ]
                )
            )
            await self.pass_between(shop, number)

    async def pass_between(self, shop: Shop, number: int) -> None:
        """What happens after a group."""
        self.states.append({name: held for name, held in (await shop.everything()).items() if ":lo:" not in name})
        what, of = self.between[number]
        await shop.gate("full" if what == "gate" else "open")
        match what:
            case "wait":
                await shop.wait(of)
            case "record":
                await shop.record()
            case "end":
                at = of % len(shop.books)
                shop.books[at] = await shop.change(shop.books[at], end_locks=True)
            case "break":
                await shop.link.call("DEL", of)
                await shop.link.call("LPUSH", of, "x")


async def _open(shop: Shop, monkeypatch: pytest.MonkeyPatch, seed: int) -> Requests:
    """A stocked shop with the ids of this seed."""
    ids = random.Random(seed)
    for module in (script_runner, stocked):
        monkeypatch.setattr(module, "uuid4", lambda: UUID(int=ids.getrandbits(128), version=4))
    shop.caller = script_runner.replace(shop.caller, workspace_id=UUID(int=seed + 1))
    opening = SEEDS + SALES <= seed < FIRST_RULE
    await shop.put_workspace(
        coupons_per_order=2,
        limits={"books": {"locksPerUser": 2}} if seed == SEEDS else None,
        max_coupons=2 if seed == SEEDS + SALES else None,
    )
    await shop.freeze()
    sale, rules = SEEDS <= seed < SEEDS + SALES, seed >= FIRST_RULE
    requests = Requests(shop, seed, sale=sale, opening=opening, rules=rules)
    await requests.stock()
    return requests


async def _compare(
    kind: str, url: str, seed: int, monkeypatch: pytest.MonkeyPatch, asks: Sequence[Callable[..., Any]]
) -> Counter[Any]:
    """Run a story by general texts, then in each way by usual texts: replies and all keys are the same. Returns how
    many requests had which outcome."""
    story = _Story(seed)
    async with shop_on(kind, url, texts="general") as shop:
        await story.tell(shop, await _open(shop, monkeypatch, seed))
    outcomes = Counter[Any]()
    for ask in asks:
        async with shop_on(kind, url, texts="usual") as shop:
            await _open(shop, monkeypatch, seed)
            states, story.states = story.states, []
            for number, (commands, replies) in enumerate(story.groups):
                got = await ask(shop, commands)
                for command, expected, reply in zip(commands, replies, got, strict=True):
                    assert _kind(reply) == _kind(expected), (number, command)
                    outcomes[command.script, expected[0] if isinstance(expected, list) else _kind(expected)] += 1
                await story.pass_between(shop, number)
                assert story.states[-1] == states[number], number
    return outcomes


@pytest.mark.parametrize("seed", range(FIRST_RULE + RULES))
async def test_usual_texts_and_calls_decide_as_general_texts(
    kind: str, url: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Random requests have the same replies and keys by general texts, by usual texts, and in calls."""
    outcomes = await _compare(kind, url, seed, monkeypatch, (_one_by_one, _together))
    assert {"lock", "redeem"} <= {script for script, outcome in outcomes if outcome == 0}
    assert len(outcomes) > 15


PLANTED = [
    "book.from", "book.till", "book.per_user", "book.low", "book.gift_book", "book.discount == 'percentage'",
    "book.discount == 'fixed'", "book.discount == 'tiered'", "book.discount == 'buyXGetY'", "book.cap", "book.least",
    "book.currency", "book.codes_per_user", "book.lock_ms == '20000'", "book.max_lock_ms == '400000'", "own",
    "own and own.counted == 'u.'", "book.ended ~= ''", "ask.order ~= '-'", "tonumber(ask.value)", "ask.currency",
    "ask.items and ask.items ~= '-'", "token", "user == 'u1'", "ask.spent",
]  # fmt: skip
"""What a rule of the general text may depend on, in cases that the usual texts decide."""


@pytest.fixture
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Adds a rule to the general text alone: it refuses each redemption and lock where this holds."""

    def forget() -> None:
        for cached in (scripts._read, scripts._expand, scripts._body, scripts._fill_all, general._changed_body):
            cached.cache_clear()

    def plant(condition: str) -> None:
        shutil.copytree(LUA_DIR, tmp_path / "lua")
        rules = tmp_path / "lua" / "includes" / "judging.lua"
        before, place, after = rules.read_text().rpartition("  return ask.refusal\n")
        assert place
        rule = f"""  local own, user, token = ask.own, ask.user, ask.token
  if not ask.refusal and ({condition}) then fail(ask, OUT.book_inactive) end\n"""
        rules.write_text(before + rule + place + after)
        monkeypatch.setattr(scripts, "LUA_DIR", tmp_path / "lua")
        forget()

    yield plant
    monkeypatch.undo()
    forget()


@pytest.mark.parametrize("condition", PLANTED)
async def test_a_rule_of_the_general_text_alone_is_noticed(
    valkey_for_scripts: str, condition: str, planted: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a rule is added to includes/judging.lua, and the usual texts decide as before, the comparison is red."""
    planted(condition)
    with pytest.raises(AssertionError):
        await _compare_some(valkey_for_scripts, monkeypatch)


async def test_a_rule_that_never_refuses_is_not_noticed(
    valkey_for_scripts: str, planted: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """To plant a rule changes nothing by itself: what turns the comparison red is what the rule refuses."""
    planted("false")
    await _compare_some(valkey_for_scripts, monkeypatch)


async def _compare_some(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(FIRST_RULE, FIRST_RULE + 8):
        await _compare("valkey", url, seed, monkeypatch, [_one_by_one])


def _call(shop: Shop, key: str, code: str) -> Call:
    return Call(shop.caller, key, f"of-{code}" if key else "-")


def _lock(shop: Shop, code: str, user: str = "ann", key: str = "", seconds: int | None = None) -> Command:
    return lock.LOCK.prepare(_call(shop, key, code), code, lock.LockRequest(user_id=user, lock_seconds=seconds))


def _redeem(shop: Shop, code: str, user: str = "ann", key: str = "", order: str | None = None) -> Command:
    return redeem.REDEEM.prepare(_call(shop, key, code), code, redeem.RedeemRequest(user_id=user, order_id=order))


def _answers(replies: Sequence[Any]) -> list[Any]:
    """Outcomes, or the codes of refusals."""
    answers: list[Any] = []
    for reply in replies:
        try:
            answers.append(interpret_reply(reply)[0])
        except Refusal as refusal:
            answers.append(refusal.code)
    return answers


@pytest.mark.parametrize(("value", "kind_of_error", "answer"), [
    (("LPUSH", "x"), "WRONGTYPE", "unavailable"),
    (("SET", "no record"), "ERR", "outcome_unknown"),
])  # fmt: skip
async def test_an_error_is_one_requests_own(
    still: Shop, kind: str, value: tuple[str, str], kind_of_error: str, answer: str
) -> None:
    """The second of four requests meets a key that it can't read: it fails with the kind that it would have alone."""
    await still.book("CODE-1", "CODE-2", "CODE-3", "CODE-4", max_redemptions_per_code=2)
    await still.lock("CODE-2", "ann")
    name = key_names.coupon(still.caller.prefix, "CODE-2")
    await still.link.call("RENAME", name, "aside")
    await still.link.call(value[0], name, value[1])
    commands = [_redeem(still, f"CODE-{n}") for n in (1, 2, 3, 4)]
    replies = await _together(still, commands)
    assert _answers(replies) == [0, *_answers([await _alone(still, commands[1])]), 0, 0]
    assert kind == "fakeredis" or _answers(replies)[1] == answer  # which leaves `ERR` out
    assert _kind(replies[1]) == kind_of_error == _kind(await _alone(still, commands[1]))
    await still.link.call("RENAME", "aside", name)


@pytest.mark.parametrize("ask", [_lock, _redeem])
async def test_a_key_that_comes_twice_in_a_call_is_known(still: Shop, ask: Callable[..., Command]) -> None:
    """A call's second request under an Idempotency-Key is refused if it is another, and replayed if it is the same."""
    await still.book("CODE-1", "CODE-2")
    commands = [ask(still, code, key="one") for code in ("CODE-1", "CODE-2", "CODE-1")]
    first, second, third = await _together(still, commands)
    assert _answers([first, second, third]) == [0, "idempotency_key_reused", 0]
    assert (third[1:3], first[3], third[3]) == (first[1:3], 0, 1)


async def test_locks_of_a_call_live_as_long_as_each_asks(still: Shop) -> None:
    """One that names no time lives as its book says, whatever others of the call name; none outlives its book."""
    await still.book(*(f"CODE-{n}" for n in range(5)), lock_seconds=300, max_lock_seconds=900)
    await still.book("LAST-1", "LAST-2", valid_until_ms=await still.now() + 60_000)
    asked = [None, 20, None, 5000, None]
    locks = [_lock(still, f"CODE-{n}", seconds=seconds) for n, seconds in enumerate(asked)]
    locks += [_lock(still, "LAST-1"), _lock(still, "LAST-2", seconds=20)]
    replies = await _together(still, locks)
    lives_s = [int(reply[1].split(" ")[6]) // 1000 for reply in replies]
    assert lives_s == [300, 20, 300, 900, 300, 60, 20]


async def test_a_locked_coupon_is_redeemed_once_in_a_call(still: Shop) -> None:
    """Of two redemptions of a coupon in a call by the user of its lock, the second is refused."""
    await still.book("CODE-1")
    await still.lock("CODE-1", "ann")
    assert _answers(await _together(still, [_redeem(still, "CODE-1")] * 2)) == [0, "coupon_redeemed"]


@pytest.mark.parametrize("texts", ["usual", "general"])
async def test_redemptions_of_a_call_count_each_other(kind: str, url: str, texts: str) -> None:
    """The stock that one redemption leaves is known to the next in the same call, whichever text decides it."""
    async with shop_on(kind, url, texts=texts) as shop:
        book = await shop.book(*(f"CODE-{n}" for n in range(6)), low_stock_threshold=4)
        await shop.add(book, "CODE-OWN", max_redemptions=1)
        codes = ("CODE-0", "CODE-OWN", "CODE-1", "CODE-2")
        await _together(shop, [_redeem(shop, code, user=code) for code in codes])
        entries = await shop.read_outbox_entries()
        assert [fields["d"][0] for _, fields in entries] == ["O", "R", "R", "R", "R", "S"]


async def test_a_full_memory_refuses_as_for_requests_alone(still: Shop, kind: str) -> None:
    """With a full memory nothing is stored by a call, although Redis looks at it only before the call's first write:
    what frees memory still does, and lets nothing else pass."""
    if kind == "fakeredis":
        pytest.skip("it has no limit of memory")
    await still.book("CODE-1", "CODE-2")
    await still.book("CODE-3", max_redemptions_per_code=2)
    token = (await still.lock("CODE-3", "ann"))[1]["lockToken"]
    free = lock.UNLOCK.prepare(Call(still.caller), "CODE-3", lock.UnlockRequest(lock_token=token))
    valid = redeem.VALIDATE.prepare(Call(still.caller), None, redeem.ValidateRequest(code="CODE-3"))
    await still.link.call("CONFIG", "SET", "maxmemory", "1")
    replies = await _together(
        still, [_lock(still, "CODE-1"), free, _lock(still, "CODE-2"), valid, _redeem(still, "CODE-1")]
    )
    await still.link.call("CONFIG", "SET", "maxmemory", "0")
    assert [_kind(reply) for reply in replies[::2]] == ["OOM"] * 3
    assert _answers(replies) == ["unavailable", 0, "unavailable", 0, "unavailable"]
    assert _answers(await _together(still, [_lock(still, "CODE-1"), _lock(still, "CODE-2")])) == [0, 0]


async def test_a_gate_of_another_epoch_stops_all(still: Shop) -> None:
    """Without its gate each request of a call answers recovering; without its text the call as a whole does."""
    await still.book("CODE-1", "CODE-2")
    commands = [_lock(still, "CODE-1"), _redeem(still, "CODE-2")]
    for state, epoch in (("open", EPOCH + 1), ("closed", EPOCH), (None, EPOCH)):
        await still.gate(state, epoch)
        assert _answers(await _together(still, commands)) == ["recovering"] * 2
    await still.gate("open")
    await still.link.call("SCRIPT", "FLUSH")
    replies = await _together(still, commands)
    assert [_kind(reply) for reply in replies] == ["NOSCRIPT"] * 2
    assert _answers(replies) == ["recovering"] * 2
    await still.load(EPOCH, "nonce")
    assert _answers(await _together(still, commands)) == [0, 0]


async def _calls(still: Shop, monkeypatch: pytest.MonkeyPatch, commands: Sequence[Command]) -> list[int]:
    """Run them in one turn; the requests of each call."""
    sizes = note_calls(still, monkeypatch)
    assert _answers(await _together(still, commands)) == [0] * len(commands)
    return sizes


async def test_a_call_is_bounded_in_requests(still: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call has at most 64 requests; one that is left over goes out as its own script."""
    codes = [f"CODE-{n}" for n in range(129)]
    await still.book(*codes)
    assert await _calls(still, monkeypatch, [_lock(still, code) for code in codes]) == [64, 64, 1]


async def test_a_call_is_bounded_in_work(still: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call ends when its requests have read too much: places of orders, locks that ended, or items. The others
    go out in another."""
    await still.put_workspace(coupons_per_order=100)
    await still.book("CODE-1", max_redemptions_per_code=None)
    orders = [f"order-{n}" for n in range(12)]
    for user in range(99):
        await _together(still, [_redeem(still, "CODE-1", user=f"user-{user}", order=order) for order in orders])
    commands = [_redeem(still, "CODE-1", user="last", order=order) for order in orders]
    body = {"code": "CODE-1", "userId": "last", "orderId": orders[0]}
    counted = redeem.VALIDATE.prepare(Call(still.caller), None, msgspec.convert(body, redeem.ValidateRequest))
    assert await _calls(still, monkeypatch, [counted] * 30 + commands) == [42, 10, 7, 4, 1]
    await still.book("CODE-2", max_redemptions_per_code=None)
    for user in range(600):
        await still.lock("CODE-2", f"user-{user}", lockSeconds=1)
    await still.lock("CODE-2", "bob")
    await still.wait(2_000)
    assert await _calls(still, monkeypatch, [_lock(still, "CODE-2", user=f"new-{n}") for n in range(30)]) == [30, 17, 4]
    await still.book("CODE-3", discount={"type": "buyXGetY", "value_e4": None, "buy": 1, "get": 1})
    items = [{"sku": f"sku-{n}", "quantity": 1_000_000, "unitPrice": 9} for n in range(600)]
    body = {"code": "CODE-3", "userId": "ann", "orderValue": 10**10, "currency": "USD", "items": items}
    command = redeem.VALIDATE.prepare(Call(still.caller), None, msgspec.convert(body, redeem.ValidateRequest))
    assert await _calls(still, monkeypatch, [command] * 12) == [12, 7, 2]


async def test_a_call_is_bounded_in_size(still: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests with more than 256 Ki characters together are shared out among calls."""
    codes = [f"CODE-{n}" for n in range(30)]
    await still.book(*codes)
    items = [{"sku": f"sku-{n}", "quantity": 1_000_000, "unitPrice": 9} for n in range(600)]
    body = {"userId": "ann", "orderValue": 10**10, "currency": "USD", "items": items}
    asked = msgspec.convert(body, redeem.RedeemRequest)
    commands = [redeem.REDEEM.prepare(Call(still.caller), code, asked) for code in codes]
    each = len("".join(commands[0].args))
    assert 256 * 1024 // 30 < each < 256 * 1024 // 16
    assert await _calls(still, monkeypatch, commands) == [15, 15]
