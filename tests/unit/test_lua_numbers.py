"""No script makes text of a number but by `whole`: Lua keeps 14 digits, and a time has 15 from the year 5138 on."""

import pytest

from service.common.resources import LUA_DIR
from tests.unit import lua_text
from tests.unit.lua_text import numbers_as_text

FILES = {str(path.relative_to(LUA_DIR)): path.read_text() for path in sorted(LUA_DIR.rglob("*.lua"))}


@pytest.mark.parametrize("name", FILES)
def test_numbers_become_text_by_whole_alone(name: str) -> None:
    """Whatever is joined, listed or handed to Redis is a literal, `whole(…)`, or by a reviewed name text."""
    assert numbers_as_text(FILES[name]) == []


@pytest.mark.parametrize(
    "line",
    [
        "local key = W .. now",
        "local key = now .. W",
        "local key = 'x' .. r.c.uses",
        "local key = 'x' .. (r.deadline or '-')",
        "local key = 'x' .. (c.user and c.uses or '-')",
        "local key = 'x' .. #list .. 'y'",
        "local key = 'x' .. code + 1",
        "local key = 1 + code .. 'x'",
        "local key = 'x' .. code * 2",
        "local key = 'x' .. tonumber(code)",
        "local key = 'x' .. math.max(1, 2)",
        "local key = 'x' .. 15.5",
        "local key = 'x' .. deadlines[1]",
        "local key = 'x' .. clock(workspace) .. 'y'",
        "redis.call('ZADD', key, score, code)",
        "redis.call('ZADD', key, l.deadline + 1, code)",
        "redis.call('SET', key, code, 'PX', 1e15)",
        "redis.pcall('XADD', outbox, 'd', now)",
        "local text = table.concat(numbers, ' ')",
        "local text = table.concat({ now, 1 }, ' ')",
        "code = tonumber(code)",
        "local e = { user = user, at = tonumber(at) }",
        "c.assigned_at = math.floor(at / 1000)",
        "local order = #list",
        "local run = redis.call",
        "local call = redis.pcall",
    ],
)
def test_a_number_is_seen(line: str) -> None:
    """Each way in which a number became text, or a name that counts as text became a number, is refused with advice."""
    problems = numbers_as_text(line)
    assert problems
    for problem in problems:
        assert problem.startswith("line 1: ")
        assert "whole(…)" in problem or "here it is a number" in problem


@pytest.mark.parametrize(
    "line",
    [
        "local key = W .. 'c:' .. code",
        "local key = 'x' .. whole(c.uses) .. (c.user or '-') .. (c.max and whole(c.max) or '-')",
        "local key = ARGV[1] .. OUT.OK .. KEYS[i + 1]",
        "redis.call('ZRANGEBYSCORE', W .. 'kd:' .. c.code, '(' .. whole(now), '+inf', 'LIMIT', 0, 20)",
        "redis.call('ZRANGE', key, -1, -1)",
        "redis.call('DEL', unpack(names))",
        "redis = { call = redis.pcall, pcall = redis.pcall }",
        "-- 'x' .. now",
    ],
)
def test_text_passes(line: str) -> None:
    """What is text is let through."""
    assert numbers_as_text(line) == []


@pytest.mark.parametrize("words", ["TEXT", "TEXT_CALLS", "TEXT_LISTS"])
def test_the_reviewed_names_are_those_in_use(words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that no script needs any more is none of the list, so that nothing comes back under it unseen."""
    reviewed = set(getattr(lua_text, words))
    for name in reviewed:
        monkeypatch.setattr(lua_text, words, reviewed - {name})
        assert any(numbers_as_text(source) for source in FILES.values()), name
