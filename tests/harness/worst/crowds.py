"""More of everything that a tenant can put beside what a script works on, in its buckets, hashes and sets. Each kind of
key (service/engine/formats/key_names.py) is a variable; `crowd` raises it."""

from collections.abc import Iterable

from service.engine.formats import key_names
from service.engine.formats.key_names import Key
from tests.harness.worst.large_shop import LargeShop, Run

CROWDS: dict[str, tuple[str, str]] = {
    "d": ("CROWD-#", "9!7-1"),
    "o": ("CROWD-#", "6-1"),
    "g": ("CROWD-#", "CROWD-# 1 crowd 1"),
    "m": ("CROWD-#", "1 0 0 0 0"),
    "x": ("crowd-#", "9"),
    "f": ("9#", "1"),
    "u": ("a9#", "1"),
    "e": ("6-#", "crowd 1"),
    "k": ("crowd# -", "crowd# @ 1 ."),
    "kd": ("crowd# -", "@"),
    "lb": ("crowd#", "@"),
    "lu": ("crowd#", "@"),
    "lk": ("crowd#", "@"),
    "bl": ("9 crowd# 1 d9# m9#", "@"),
    "bh": ("9:d#", "1"),
    "bu": ("9 crowd# 1 d9# m9#", "@"),
    "l": ("9 CROWD-#", "later"),
    "s": ("6-#", "past"),
    "ue": ("CROWD-#", "past"),
}
"""By kind: a hash's field and its value, or a set's member and its time. # is a number, @ the deadline of locks."""
LOCKS = {kind for kind, (_, value) in CROWDS.items() if "@" in value}
BOUNDED = {
    "lo": "a hundred locks of an order",
    "w": "a text of numbers and ids", "b": "a text of at most 20 tiers", "c": "a text of ids and at most 1,000 lines",
    "q": "a number",
    "n": "the fields of a fixed list", "i": "at most half a MiB, or 64 redemptions", "y": "two for each hour of a year",
}  # fmt: skip
"""Kinds of which a tenant can't raise the size, or within a bound at which a case of the table is."""
ARGUMENTS = {
    "a number, an id or a word of ours": "amount_e4 asks becomes book book_id bucket bytes claim_ms "
    "currency cursor digits epoch "
    "event fingerprint from generation gift_book_id layout limit_mib lock_ms max_coupons next_state nonce number "
    "order_bucket pseudonym_bucket redemption_id renew repair restore sees_reasons set state the to token "
    "used_mib user_bucket value_e4 version was whose",
    "64 characters": "code",
    "100 characters of a client's": "order pseudonym user",
    "1,000 lines, in a body of 64 KiB": "items price",
    "1 KiB of metadata, and what comes with it": "request",
    "20 tiers": "settings",
    "half a MiB": "payload",
    "64 names": "events",
    "20,000 characters": "mark",
    "64 requests of 256 KiB": "keys",
}
"""The most that a named argument of a script has. What comes `for each` is bounded in the Cost of the script's head."""
FAR_MS = 2**36
"""From now: two years."""

_ADD = """
local verb, member, value, first, last, past, later, locks = unpack(ARGV)
local function fill(text, n, at) return (string.gsub(string.gsub(text, '#', n), '@', at)) end
for n = tonumber(first), tonumber(last) do
  local is_past = value == 'past' or locks == 'past' and value ~= 'later'
  local at = string.format('%d', (is_past and past or later) + n)
  if verb == 'ZADD' then redis.call('ZADD', KEYS[1], at, fill(member, n, at))
  else redis.call('HSET', KEYS[1], fill(member, n, at), fill(value, n, at)) end
end"""


async def keys_to_crowd(shop: LargeShop, run: Run) -> dict[str, Key]:
    """By kind a key that the run names, or else one that is there; of each of a book's sets."""
    keys: dict[str, Key] = {}
    for name in sorted(
        {*await shop.link.call("KEYS", "*"), *run.names}, key=lambda name: (name not in run.names, name)
    ):
        key = key_names.parse_key(name)
        if key and key.kind in CROWDS:
            keys.setdefault(key.kind + (key.parts[-1] if key.kind == "l" else ""), key)
    return keys


async def crowd(shop: LargeShop, keys: Iterable[Key], size: int, *, locks: str) -> None:
    """Put so many more into each of these keys; locks are `past` or `later`."""
    now = await shop.now()
    for key in keys:
        verb = "ZADD" if key.type == "zset" else "HSET"
        for first in range(1, size + 1, 10_000):
            numbers = (first, min(size, first + 9_999), now - FAR_MS, now + FAR_MS)
            await shop.link.call("EVAL", _ADD, 1, key.name, verb, *CROWDS[key.kind], *numbers, locks)
