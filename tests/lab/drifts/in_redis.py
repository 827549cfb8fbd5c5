"""How Redis comes to differ: it is changed by hand, or was restored from an old file."""

import shlex
import time
from collections.abc import Callable
from typing import Any

from service.engine.formats.bounds import spans_at
from tests.harness.drifts import Kind, Subject
from tests.harness.stored_book import parse_settings


def _set_field(redis: Any, subject: Subject, index: int, field: str) -> None:
    """Another word in the first coupon's record."""
    key = subject.workspace.key(f"c:{subject.codes[0]}")
    fields = redis.get(key).split(" ")
    fields[index] = field
    redis.set(key, " ".join(fields))


def _setting(redis: Any, subject: Subject) -> None:
    key = subject.workspace.key(f"b:{subject.book}")
    redis.set(key, redis.get(key).replace(" 300000 ", " 299000 "))


def _to_another_order(redis: Any, subject: Subject) -> None:
    one, other = subject.orders[:2]
    places = redis.hget(subject.uses(one), one)
    redis.hdel(subject.uses(one), one)
    redis.hset(subject.uses(other), other, places)


def _to_another_coupon(redis: Any, subject: Subject) -> None:
    """The use of the first coupon is the second's."""
    one, other = subject.codes[:2]
    was = redis.hget(subject.entry(one), one)
    redis.hset(subject.entry(one), one, str(subject.book))
    redis.hset(subject.entry(other), other, was)


def _list(state: str, key: str, what: str, usual: str) -> Kind:
    """The key is a list, which none of ours is."""

    def replace(redis: Any, subject: Subject) -> None:
        name = subject.workspace.key(key.format(**subject.values))
        assert redis.delete(name) == 1
        redis.lpush(name, "1", "2")

    return Kind(state, {f"{what}: a list, not a {usual}": "wrong_type"}, replace)


_OF_ANOTHER_TYPE: dict[str, Kind] = {
    "a record is a list": _list("owned", "c:{code0}", "the record of code {code0}", "string"),
    "a used record is a list": _list("several", "c:{code0}", "the record of code {code0}", "string"),
    "a directory's bucket is a list": _list("used", "d:{bucket0}", "the directory's bucket {bucket0}", "hash"),
    "an orders' bucket is a list": _list("used", "o:{orders0}", "the orders' bucket {orders0}", "hash"),
    "an orders' bucket of a budget's user is a list": _list(
        "bounded", "o:{uses0}", "the orders' bucket {uses0}", "hash"
    ),
    "a gifts' bucket is a list": _list("given", "g:{orders0}", "the gifts' bucket {orders0}", "hash"),
    "an accounts' bucket is a list": _list("card", "m:{bucket0}", "the accounts' bucket {bucket0}", "hash"),
    "a user is a list": _list("owned", "u:{user0}", "user {user0}", "hash"),
    "counters are a list": _list("used", "n:{book}", "the counters of book {book}", "hash"),
    "settings are a list": _list("idle", "b:{book}", "the settings of book {book}", "string"),
    "standing redemptions are a list": _list(
        "several", "s:{code0}", "the standing redemptions of code {code0}", "zset"
    ),
    "a key is a list": _list("used", "i:{key0}", "key {key0}", "string"),
    "a pool is a list": _list("idle", "f:{book}", "the pool of book {book}", "hash"),
    "a user's ends are a list": _list("owned_ending", "ue:{book}:{user0}", "the ends of user {user0}", "zset"),
    "free codes with an end are a list": _list("ending", "l:{book}:x", "the set x of book {book}", "zset"),
}


def _run(*commands: str) -> Callable[[Any, Subject], None]:
    """Run commands, with the subject's values for the names in braces."""

    def run(redis: Any, subject: Subject) -> None:
        for command in commands:
            redis.execute_command(*(part.format(**subject.values) for part in shlex.split(command)))

    return run


def _spend(*commands: str) -> Callable[[Any, Subject], None]:
    """As _run, of a book with budgets: also with its `generation`, and the `day` and `month` of now."""

    def run(redis: Any, subject: Subject) -> None:
        bounds = parse_settings(redis.get(subject.workspace.key(f"b:{subject.book}")))["bounds"]
        generation, zone = bounds.replace("!", "").split("/")[:2]
        _, day, month = (span.name for span in spans_at(zone, time.time_ns() // 1_000_000))
        values = subject.values | {"generation": generation, "day": day, "month": month}
        for command in commands:
            redis.execute_command(*(part.format(**values) for part in shlex.split(command)))

    return run


_BUDGETS: dict[str, Kind] = {
    "more is spent of a budget": Kind(
        "bounded", {"book": "book_counts"}, _spend("HINCRBY {w}n:{book} {generation}:l 10000")
    ),
    "less is spent of a day's budget": Kind(
        "bounded", {"book": "book_counts"}, _spend("HINCRBY {w}n:{book} {generation}:{day} -10000")
    ),
    "more uses in a month": Kind(
        "bounded", {"book": "book_counts"}, _spend("HINCRBY {w}n:{book} {generation}:{month}Uses 1")
    ),
    "what is spent of a budget is gone": Kind(
        "bounded", {"book": "book_counts"}, _spend("HDEL {w}n:{book} {generation}:{day} {generation}:{day}Uses")
    ),
    "a user spent more of a budget": Kind(
        "bounded",
        {"use0": "user_counts"},
        _spend("HSET {w}o:{uses0} {book}/{user0}/ '{generation} l:20000:1 {day}:20000:1 {month}:30000:1'"),
    ),
    "what a user spent of a budget is gone": Kind(
        "bounded", {"use0": "user_counts"}, _spend("HDEL {w}o:{uses0} {book}/{user0}/")
    ),
    "what a user spent of a budget can't be read": Kind(
        "bounded", {"use0": "user_counts"}, _spend("HSET {w}o:{uses0} {book}/{user0}/ x")
    ),
    "a user spent of a budget under another generation": Kind(
        "bounded", {"use0": "user_counts"}, _spend("HSET {w}o:{uses0} {book}/{user0}/ '1 l:20000:1'")
    ),
    "a stranger spent of a budget": Kind(
        "bounded", {"use3": "user_counts"}, _spend("HSET {w}o:{uses3} {book}/{user3}/ '{generation} l:50000:1'")
    ),
    "what locks hold of a book's budgets is a list": Kind(
        "bounded",
        {"what locks hold of book {book}: a list, not a zset": "wrong_type"},
        _run("LPUSH {w}bl:{book} 1 2"),
    ),
    "the sums of what locks hold are a list": Kind(
        "bounded",
        {"the sums of what locks hold of book {book}: a list, not a hash": "wrong_type"},
        _run("LPUSH {w}bh:{book} 1 2"),
    ),
    "what a user's locks hold is a list": Kind(
        "bounded",
        {"what the locks of user {user0} hold: a list, not a zset": "wrong_type"},
        _run("LPUSH {w}bu:{book}:{user0} 1 2"),
    ),
}
KINDS: dict[str, Kind] = (
    _OF_ANOTHER_TYPE
    | _BUDGETS
    | {
        "a code is gone": Kind(
            "idle", {"code0": "code_missing", "bucket0": "free_surplus"}, _run("HDEL {w}d:{bucket0} {code0}")
        ),
        "a used code is gone": Kind("used", {"code0": "code_missing"}, _run("HDEL {w}d:{bucket0} {code0}")),
        "a code too much": Kind(
            "idle", {"code3": "code_surplus", "bucket3": "free_missing"}, _run("HSET {w}d:{bucket3} {code3} {book}")
        ),
        "a code of another book": Kind(
            "idle",
            {"code0": "book", "bucket0": "free_surplus", "book {refuge}, bucket {bucket0}": "free_missing"},
            _run("HSET {w}d:{bucket0} {code0} {refuge}"),
        ),
        "a use forgotten": Kind(
            "used",
            {"code0": "uses redemptions free_surplus", "bucket0": "free_missing"},
            _run("HSET {w}d:{bucket0} {code0} {book}"),
        ),
        "a use of several forgotten": Kind("several", {"code0": "uses"}, lambda r, s: _set_field(r, s, 3, "1")),
        "a use moved to another coupon": Kind(
            "used",
            {
                "code0": "uses redemptions free_surplus",
                "code1": "uses redemptions",
                "bucket0": "free_missing",
                "bucket1": "free_surplus",
            },
            _to_another_coupon,
        ),
        "another's coupon": Kind("owned", {"code0": "assignee"}, lambda r, s: _set_field(r, s, 1, s.users[1])),
        "switched on": Kind("off", {"code0": "state"}, lambda r, s: _set_field(r, s, 5, "-")),
        "another end": Kind("ending", {"code0": "state"}, lambda r, s: _set_field(r, s, 6, "4102444800000")),
        "a standing redemption gone": Kind(
            "several", {"code0": "redemptions"}, _run("ZREMRANGEBYRANK {w}s:{code0} 0 0")
        ),
        "a standing redemption doubled": Kind(
            "several", {"code0": "redemptions"}, _run("ZADD {w}s:{code0} 1800000000000 1-3")
        ),
        "a user used more": Kind("used", {"use0": "user_counts"}, _run("HSET {w}o:{uses0} {book}/{user0} 7")),
        "a use moved to another user": Kind(
            "used",
            {"use0": "user_counts", "use1": "user_counts"},
            _run("HDEL {w}o:{uses0} {book}/{user0}", "HSET {w}o:{uses1} {book}/{user1} 1"),
        ),
        "a user has more": Kind("owned", {"user0": "user_counts"}, _run("HINCRBY {w}u:{user0} a{book} 2")),
        "a stranger has something": Kind("idle", {"user3": "user_counts"}, _run("HSET {w}u:{user3} a{book} 3")),
        "an end of a user's coupon gone": Kind(
            "owned_ending", {"code0": "user_counts"}, _run("ZREM {w}ue:{book}:{user0} {code0}")
        ),
        "an end too much": Kind("owned_ending", {"user0": "user_counts"}, _run("ZADD {w}ue:{book}:{user0} 7 {code3}")),
        "another cap": Kind("capped", {"user0": "user_cap"}, _run("HSET {w}u:{user0} cap '1 9'")),
        "a book counts more": Kind("idle", {"book": "book_counts"}, _run("HINCRBY {w}n:{book} redeemed 3")),
        "a book counts more while it is sold": Kind(
            "sold", {"book": "book_counts"}, _run("HINCRBY {w}n:{book} redemptions 2")
        ),
        "a book's users": Kind("several", {"book": "book_counts"}, _run("HINCRBY {w}n:{book} users -1")),
        "an order gone": Kind("used", {"order0": "orders"}, _run("HDEL {w}o:{orders0} {order0}")),
        "an order too much": Kind("idle", {"order3": "orders"}, _run("HSET {w}o:{orders3} {order3} 1-7")),
        "a place moved to another order": Kind("used", {"order0": "orders", "order1": "orders"}, _to_another_order),
        "a gift gone": Kind("given", {"order0": "gifts"}, _run("HDEL {w}g:{orders0} {order0}")),
        "not offered": Kind(
            "idle", {"code0": "free_missing", "bucket0": "free_surplus"}, _run("HSET {w}d:{bucket0} {code0} {book}!")
        ),
        "a bucket not offered": Kind("idle", {"bucket0": "free_missing"}, _run("HDEL {w}f:{book} {bucket0}")),
        "a bucket offered in vain": Kind("idle", {"bucket3": "free_surplus"}, _run("HSET {w}f:{book} {bucket3} 1")),
        "never to end": Kind("ending", {"code0": "free_missing"}, _run("ZREM {w}l:{book}:x '{bucket0} {code0}'")),
        "a key forgotten": Kind("used", {"key0": "idempotency_keys"}, _run("DEL {w}i:{key0}")),
        "a card has more": Kind("card", {"code0": "balance"}, _run("HSET {w}m:{bucket0} {code0} '500000 50000 0 0 0'")),
        "a card's account is gone": Kind("card", {"code0": "balance"}, _run("HDEL {w}m:{bucket0} {code0}")),
        "a card's account can't be read": Kind("card", {"code0": "balance"}, _run("HSET {w}m:{bucket0} {code0} x")),
        "a card holds what no lock holds": Kind(
            "card", {"code0": "balance"}, _run("HSET {w}m:{bucket0} {code0} '500000 50000 200000 0 100000'")
        ),
        "a book holds what no card holds": Kind("card", {"book": "balance"}, _run("HINCRBY {w}n:{book} heldHigh -3")),
        "a card and its book hold what no lock holds": Kind(
            "card",
            {"code0": "balance", "book": "balance"},
            _run("HSET {w}m:{bucket0} {code0} '500000 50000 200000 0 100000'", "HINCRBY {w}n:{book} held 100000"),
        ),
        "another setting": Kind("idle", {"book": "configuration"}, _setting),
    }
)
"""By name."""
