"""What an open Redis is compared and mended by: a look is of one moment, and what has moved is not mended."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, cast

import pytest

from service.engine.formats import key_names
from service.engine.formats.coupon_state import Write
from service.engine.formats.event_id import NO_EVENT
from service.engine.hot.inspection import WRONG, Item, RedisInspector, Snapshot
from service.engine.hot.redis_server import Fenced
from service.server.reconcile.examination import pair_up
from tests.harness.dump import value
from tests.harness.script_runner import EPOCH
from tests.harness.shop import Shop

A, B, C = ("{p0}:reconciling:" + name for name in "abc")


@pytest.fixture
async def inspector(shop: Shop) -> RedisInspector:
    inspector = RedisInspector(cast("Any", shop.link), 0, EPOCH, "nonce")
    await inspector.start()
    return inspector


async def _held(shop: Shop) -> tuple[Any, Any, Any]:
    """What is at A, B and C; then it is gone."""
    text, fields, scores = [await value(shop.link, *of) for of in ((A, "string"), (B, "hash"), (C, "zset"))]
    await shop.link.call("DEL", A, B, C)
    return text, fields, scores


async def _fill(shop: Shop) -> None:
    await shop.link.call("SET", A, "text")
    await shop.link.call("HSET", B, "one", "1", "two", "2")
    await shop.link.call("ZADD", C, 5, "five", 6, "six")


async def test_what_is_seen(shop: Shop, inspector: RedisInspector) -> None:
    """Each in its way, null where there is nothing, with the last event and what is here of the configuration."""
    await shop.book("CODE-1")
    await shop.redeem("CODE-1", "ann")
    await shop.projector.advance_config(0, shop.version)
    await _fill(shop)
    items = [
        Item("s", A), Item("s", "nothing"), Item("h", B, "two"), Item("h", B, "three"),
        Item("z", C, "six"), Item("z", C, "ten"), Item("Z", C), Item("n", C), Item("n", "nothing"),
    ]  # fmt: skip
    snapshot = await inspector.read_values(items)
    await _held(shop)
    values = [sorted(value) if item.kind == "Z" else value for item, value in zip(items, snapshot.values, strict=True)]
    assert values == ["text", None, "2", None, "6", None, ["5", "6", "five", "six"], 2, 0]
    last = (await shop.link.call("XREVRANGE", key_names.outbox(0), "+", "-", "COUNT", "1"))[0][0]
    assert "{}-{}".format(*snapshot.at) == last
    assert (snapshot.config, snapshot.newest) == (shop.version, shop.version)
    await shop.record()
    await shop.link.call("DEL", key_names.config(0), key_names.newest(0))
    assert await inspector.read_values([]) == Snapshot(NO_EVENT, 0, 0, [])


async def test_a_thousand_standing_redemptions_are_seen(shop: Shop, inspector: RedisInspector) -> None:
    """More than a thousand are not read."""
    members = [part for number in range(1001) for part in (number, f"e-{number:04}")]
    await shop.link.call("ZADD", C, *members)
    (scores,) = (await inspector.read_values([Item("Z", C)])).values
    await _held(shop)
    assert (len(scores), scores[-2:]) == (2000, ["e-0999", "999"])


async def test_a_full_bucket_is_read_in_parts(
    kind: str, shop: Shop, inspector: RedisInspector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 9,000 codes in one bucket no reply has more than some thousand; small hashes and lists come with them."""
    if kind == "fakeredis":
        pytest.skip("a server's own cursors")
    fields, replies = {f"CODE-{n}": "1" for n in range(9_000)}, list[int]()

    async def noted(commands: Sequence[Any]) -> list[Any]:
        answers = [await shop.link.call(*command) for command in commands]
        replies.extend(len(reply[1]) for reply in answers if isinstance(reply, list))
        return answers

    monkeypatch.setattr(inspector, "commands", noted)
    await _fill(shop)
    await shop.link.call("HSET", f"{A}full", *(part for pair in fields.items() for part in pair))
    hashes = [pair_up(flat) for flat in await inspector.read_hashes([f"{A}full", B, A, f"{A}none"])]
    await shop.link.call("DEL", f"{A}full")
    await _held(shop)
    assert hashes == [fields, HASH, {}, {}]
    assert max(replies) < 2 * 2_000


TEXT, HASH, SCORES = "text", {"one": "1", "two": "2"}, {"five": 5, "six": 6}
"""What `_fill` puts at A, B and C."""
CHANGES: dict[str, tuple[Sequence[Write], tuple[Any, Any, Any]]] = {
    "a text": ([Write("s", A, "", "text", "other")], ("other", HASH, SCORES)),
    "a text that was not there": ([Write("s", f"{A}{A}", "", None, "other")], (TEXT, HASH, SCORES)),
    "a text that goes": ([Write("s", A, "", "text", None)], (None, HASH, SCORES)),
    "a field": ([Write("h", B, "one", "1", "3")], (TEXT, HASH | {"one": "3"}, SCORES)),
    "a field that was not there": ([Write("h", B, "three", None, "3")], (TEXT, HASH | {"three": "3"}, SCORES)),
    "a field that goes": ([Write("h", B, "one", "1", None)], (TEXT, {"two": "2"}, SCORES)),
    "a score": ([Write("z", C, "five", "5", "7")], (TEXT, HASH, SCORES | {"five": 7})),
    "a member that was not there": ([Write("z", C, "seven", None, "7")], (TEXT, HASH, SCORES | {"seven": 7})),
    "a member that goes": ([Write("z", C, "five", "5", None)], (TEXT, HASH, {"six": 6})),
    "a counter": ([Write("n", B, "one", None, "-4")], (TEXT, HASH | {"one": "-3"}, SCORES)),
    "all of it": (
        [Write("s", A, "", "text", None), Write("h", B, "two", "2", "5"), Write("z", C, "six", "6", None)],
        (None, {"one": "1", "two": "5"}, {"five": 5}),
    ),
}
"""What to write where all is as it was filled, and what is at A, B and C after it."""


@pytest.mark.parametrize("name", CHANGES)
async def test_what_is_as_it_was_seen_is_mended(shop: Shop, inspector: RedisInspector, name: str) -> None:
    """It is written, and nothing else."""
    writes, after = CHANGES[name]
    await _fill(shop)
    assert await inspector.repair(writes)
    if name == "a text that was not there":
        assert await shop.link.call("GETDEL", f"{A}{A}") == "other"
    assert await _held(shop) == after


@pytest.mark.parametrize("name", [name for name, (writes, _) in CHANGES.items() if writes[0].kind != "n"])
async def test_what_has_moved_is_left(shop: Shop, inspector: RedisInspector, name: str) -> None:
    """Where one thing is no longer as it was seen, or is there where nothing was, or gone, nothing is written."""
    for seen in ("moved", None):
        writes = list(CHANGES[name][0])
        if writes[-1].seen is not None or seen is not None:
            writes[-1] = writes[-1]._replace(seen=seen)
            await _fill(shop)
            assert not await inspector.repair(writes)
            assert await _held(shop) == (TEXT, HASH, SCORES)


@pytest.mark.parametrize("way", ["h", "s", "z", "Z", "n"])
async def test_a_look_reports_keys_of_the_wrong_type(shop: Shop, inspector: RedisInspector, way: str) -> None:
    """However a key is read, a list is reported as `wrong type`, and the rest of the look is read."""
    await _fill(shop)
    wrong = f"{A}list"
    await shop.link.call("RPUSH", wrong, "x")
    snapshot = await inspector.read_values(
        [Item(way, wrong, "one"), Item("t", wrong), Item("t", f"{A}none"), Item("h", B, "one")]
    )
    await shop.link.call("DEL", wrong)
    await _held(shop)
    assert snapshot.values == [WRONG, "list", "none", "1"]


async def test_a_key_of_the_wrong_type_is_written_anew(shop: Shop, inspector: RedisInspector) -> None:
    """It is removed and written in one, where it is of that type still; else nothing of it is, nor of the rest."""
    writes = [Write("t", B, "", "list", None), Write("h", B, "one", None, "5"), Write("s", A, "", "text", "other")]
    await _fill(shop)
    assert not await inspector.repair(writes)
    assert await _held(shop) == (TEXT, HASH, SCORES)
    await _fill(shop)
    await shop.link.call("DEL", B)
    await shop.link.call("RPUSH", B, "x")
    assert not await inspector.repair([writes[0]._replace(seen="string"), *writes[1:]])
    assert not await inspector.repair([writes[2], Write("h", B, "one", None, "5")])
    assert not await inspector.repair([writes[2], Write("n", B, "one", None, "5")])
    assert await inspector.repair(writes)
    assert await _held(shop) == ("other", {"one": "5"}, SCORES)


async def test_a_key_lives_as_long_as_it_may(shop: Shop, inspector: RedisInspector) -> None:
    """An idempotency key that is put back ends by itself."""
    assert await inspector.repair([Write("i", A, "60000", None, "text")])
    assert 50_000 < await shop.link.call("PTTL", A) <= 60_000
    assert (await _held(shop))[0] == "text"


@pytest.mark.parametrize("gate", ["8 open", "7 closed", None])
async def test_another_epoch_is_left_alone(shop: Shop, inspector: RedisInspector, gate: str | None) -> None:
    """Nothing is read, mended or compared where the gate doesn't fit."""
    await _fill(shop)
    await (shop.link.call("SET", key_names.gate(0), gate) if gate else shop.link.call("DEL", key_names.gate(0)))
    for asked in (
        lambda: inspector.read_values([]),
        lambda: inspector.repair(CHANGES["a text"][0]),
        lambda: inspector.correct_free_counts(1, "", ["1"], True),
    ):
        with pytest.raises(Fenced):
            await asked()
    await shop.gate("open")
    assert (await _held(shop))[0] == "text"


@pytest.mark.parametrize("gate", ["7 full", "7 behind"])
async def test_behind_it_goes_on(shop: Shop, inspector: RedisInspector, gate: str) -> None:
    """A comparison takes nothing that back-pressure is there for."""
    await shop.link.call("SET", key_names.gate(0), gate)
    try:
        await inspector.read_values([])
        assert await inspector.repair([Write("s", A, "", None, None)])
        assert await inspector.correct_free_counts(1, "", ["1"], True) == []
    except Fenced as fenced:
        pytest.fail(f"{gate} is none that stops it: {fenced}")
    await shop.gate("open")


async def test_pools_are_as_the_directory_says(shop: Shop, inspector: RedisInspector) -> None:
    """A bucket of which too few free codes are counted is named, or too many; mended where that is asked for."""
    await shop.book("CODE-1", "CODE-2", "CODE-3")
    await shop.redeem("CODE-3", "ann")
    free, used = (str(key_names.bucket(code)) for code in ("CODE-1", "CODE-3"))
    pool, every = key_names.prefix(0, 1) + "f:1", [str(key_names.bucket(f"CODE-{at}")) for at in (1, 2, 3)]
    counted = await value(shop.link, pool, "hash")
    assert counted == {
        bucket: str(codes) for bucket, codes in Counter(str(key_names.bucket(f"CODE-{at}")) for at in (1, 2)).items()
    }
    for repair in (False, True):
        assert await inspector.correct_free_counts(1, "", every, repair) == []
        assert await inspector.correct_free_counts(1, "1", list(counted), repair) == []
    await shop.link.call("HDEL", pool, free)
    await shop.link.call("HSET", pool, used, 1)
    for repair in (False, True):
        assert await inspector.correct_free_counts(1, "", every, repair) == [f"{free} 1"]
        assert await inspector.correct_free_counts(1, "1", every, repair) == [f"{used} 1"]
    await shop.link.call("HINCRBY", pool, free, 1)
    for repair in (False, True):
        assert await inspector.correct_free_counts(1, "", every, repair) == []
        assert await inspector.correct_free_counts(1, "1", every, repair) == [f"{free} 1"]
    assert await value(shop.link, pool, "hash") == counted
    assert [await inspector.correct_free_counts(1, book, every, False) for book in ("", "1")] == [[], []]


async def test_a_run_compares_no_more_than_it_may(shop: Shop) -> None:
    """A run ends at 1,000 codes; a bucket of more than 2,000, or of the wrong type, is left alone."""
    w, names = shop.caller.prefix, (shop.caller.gate, key_names.settings(shop.caller.prefix))

    async def fill(bucket: int, codes: int) -> str:
        name = key_names.directory(w, bucket)
        await shop.link.call("DEL", name)
        await shop.link.call("HSET", name, *(part for n in range(codes) for part in (f"CODE-{n}", "1")))
        return name

    filled = [await fill(bucket, codes) for bucket, codes in ((1, 999), (2, 1), (3, 1), (4, 2000))]
    assert await shop.work("compare_pools", names, "", "", 1, 2, 3) == [0, 2, "1 1", "2 1"]
    assert await shop.work("compare_pools", names, "", "", 4) == [0, 1, "4 1"]
    await fill(4, 2001)
    assert await shop.work("compare_pools", names, "", "", 4, 3) == [0, 2, "3 1"]
    await shop.link.call("DEL", filled[1])
    await shop.link.call("LPUSH", filled[1], "x")
    assert await shop.work("compare_pools", names, "", "", 2, 3) == [0, 2, "3 1"]
    await shop.link.call("LPUSH", key_names.pool(w, 1), "x")
    assert await shop.work("compare_pools", names, "1", "", 3) == [0, 1]
    await shop.link.call("DEL", key_names.pool(w, 1), *filled)
