"""Comparing Redis with the record: what is read, what is called a difference, and what is mended."""

from tests.mutants.mutant import Mutant

_LOOK, _REPAIR, _POOLS = "lua/look.lua", "lua/repair.lua", "lua/pools.lua"
_EXAMINING, _COUPONS, _COUNTS = (
    f"service/reconcile/{name}.py" for name in ("examination", "coupon_differences", "counter_differences")
)
_DRIFT = "service/formats/coupon_state.py"
_SCRIPTS = "tests/lua/test_reconciling.py"
_JUDGED = "tests/unit/test_reconciling.py tests/unit/test_drift.py"
_NAMED = "tests/integration/test_drifts.py"
_GATE = "local no = gate_refuses(redis.call('GET', KEYS[1]), true, true)\nif no then return { no } end\n"

_OF_SCRIPTS = (
    Mutant(
        "a look says the last event before which it was",
        _LOOK,
        "redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1)",
        "redis.call('XRANGE', KEYS[2], '-', '+', 'COUNT', 1)",
        _SCRIPTS,
    ),
    Mutant("a look reads a thousand standing redemptions", _LOOK, "key, 0, 999,", "key, 0, 998,", _SCRIPTS),
    Mutant(
        "a look goes on while the record is behind",
        _LOOK,
        "gate_refuses(got[1], true, true)",
        "gate_refuses(got[1], true, false)",
        _SCRIPTS,
    ),
    Mutant(
        "what has moved since it was seen is not mended",
        _REPAIR,
        "    if kind ~= 'n' and (stored and '=' .. stored or '-') ~= seen then return { OUT.OK, 0 } end\n",
        "",
        _SCRIPTS,
    ),
    Mutant(
        "a key is removed only while it is of the wrong type that was seen",
        _REPAIR,
        "      stored = redis.call('TYPE', key).ok\n",
        "      stored = string.sub(seen, 2)\n",
        _SCRIPTS,
    ),
    Mutant(
        "a key that came to be of the wrong type changes nothing else",
        _REPAIR,
        "    if type(stored) == 'table' then return { OUT.OK, 0 } end",
        "    if type(stored) == 'table' then return { OUT.OK, 1 } end",
        _SCRIPTS,
    ),
    Mutant(
        "a look tells a key of the wrong type from one that isn't there",
        _LOOK,
        "value = { 'wrong type' }",
        "value = false",
        _SCRIPTS,
    ),
    Mutant(
        "a counter is mended by what it is off",
        _REPAIR,
        "redis.call('HINCRBY', key, member, text)",
        "redis.call('HSET', key, member, text)",
        _SCRIPTS,
    ),
    Mutant(
        "an Idempotency-Key that is put back ends by itself",
        _REPAIR,
        "redis.call('SET', key, text, 'PX', member)",
        "redis.call('SET', key, text)",
        _SCRIPTS,
    ),
    Mutant("nothing is mended in another epoch", _REPAIR, _GATE, "", _SCRIPTS),
    Mutant("no pool is mended in another epoch", _POOLS, _GATE, "", _SCRIPTS),
    Mutant(
        "a comparison that is not to mend offers no bucket",
        _POOLS,
        "if ARGV[1] == '1' then",
        "if true then",
        _SCRIPTS,
    ),
    Mutant(
        "a bucket of used codes alone is offered to nobody",
        "lua/includes/free.lua",
        "if not string.find(of, '!', 1, true) then",
        "if true then",
        _SCRIPTS,
    ),
    Mutant(
        "a bucket that has free codes stays offered",
        _POOLS,
        "book ~= '' and known > codes",
        "book ~= ''",
        _SCRIPTS,
    ),
)

_OF_JUDGING = (
    Mutant(
        "a difference is what differs at two cuts",
        _EXAMINING,
        "if found == LATER or erasing or suspected.get(thing) != found.classes:",
        "if found == LATER or erasing:",
        _JUDGED,
    ),
    Mutant(
        "what differs while a user is deleted counts for nothing",
        _EXAMINING,
        "if found != LATER and not erasing:",
        "if found != LATER:",
        _JUDGED,
    ),
    Mutant(
        "what is locked is not mended", _EXAMINING, "if self.repair and not found.unsafe:", "if self.repair:", _JUDGED
    ),
    Mutant(
        "what has moved meanwhile is not called mended",
        _EXAMINING,
        "            if not await self.looker.repair(found.writes):\n                return False\n",
        "            await self.looker.repair(found.writes)\n",
        _JUDGED,
    ),
    Mutant(
        "nothing is judged before the record has come to the cut",
        _EXAMINING,
        "self.partition)).cursor < at:",
        "self.partition)).cursor < (0, 0):",
        _JUDGED,
    ),
    Mutant(
        "a code whose last change is here is judged",
        _COUPONS,
        "if one.version > seen.config:",
        "if one.version >= seen.config:",
        _JUDGED,
    ),
    Mutant(
        "standing redemptions that the record doesn't tell are none that differ",
        _COUPONS,
        "return not said.tells_standing or stands == _standing(said)",
        "return stands == _standing(said)",
        _JUDGED,
    ),
    Mutant(
        "standing redemptions that the record doesn't tell are not removed",
        _COUPONS,
        "standing = _standing(one) if one.tells_standing else stands",
        "standing = _standing(one)",
        _JUDGED,
    ),
    Mutant(
        "of very many standing redemptions, too, one is the last",
        _DRIFT,
        '(last != expected[7], "redemptions")',
        '(said.tells_standing and last != expected[7], "redemptions")',
        _JUDGED,
    ),
    Mutant(
        "a code that was used more often than it may be is written down as it is",
        _DRIFT,
        "if said.uses == 1 == said.max and said.last:",
        "if said.used_up and said.max == 1 and said.last:",
        _JUDGED,
    ),
    Mutant(
        "a lock takes a code out of the pool",
        _DRIFT,
        "locked = locked or is_locked(record)",
        "locked = False",
        _JUDGED,
    ),
    Mutant(
        "a code with locks of its own is not mended",
        _COUPONS,
        'return "it is locked" if locks or is_locked(text) else ""',
        'return "it is locked" if is_locked(text) else ""',
        _JUDGED,
    ),
    Mutant(
        "a user's count of nothing says nothing",
        "service/reconcile/user_differences.py",
        'for name, said in fields.items() if said != "0"}',
        "for name, said in fields.items()}",
        _JUDGED,
    ),
    Mutant(
        "a gift whose coupon was taken back is as good as none",
        "service/reconcile/use_differences.py",
        "        if thing.code and expected is None and not _stands(found, values[1]):\n            return None\n",
        "",
        _JUDGED,
    ),
    Mutant(
        "a book isn't counted while its codes change",
        _COUNTS,
        "if not seen.config == seen.newest == said[1]:",
        "if not seen.config == seen.newest:",
        _JUDGED,
    ),
    Mutant(
        "settings that are on their way are no difference", _COUNTS, "if version > seen.config:", "if False:", _JUDGED
    ),
)

_OF_THE_RECORD = (
    Mutant(
        "who has given all coupons back is a stranger",
        "sql/queries/reconciling.sql",
        "user_id = ANY ($2) AND unassigned_at IS NULL\n",
        "user_id = ANY ($2)\n",
        _NAMED,
    ),
    Mutant(
        "a place in an order is found by its redemption, too",
        "service/reconcile/use_differences.py",
        "suspects.append(Field(kind, bucket, field, said))",
        "suspects.append(Field(kind, bucket, field))",
        _NAMED,
    ),
    Mutant(
        "codes are offered that are put into a bucket that was not there",
        _COUPONS,
        "                    self._there.update(buckets)",
        "                    pass",
        _NAMED,
    ),
    Mutant(
        "webhooks hear of a comparison that finds something, and of no other",
        "service/record/partitions/comparisons.py",
        "        if found:\n            drift = ",
        "        if True:\n            drift = ",
        "tests/integration/test_reconcile_turns.py",
    ),
)

MUTANTS = (*_OF_SCRIPTS, *_OF_JUDGING, *_OF_THE_RECORD)
