"""All that a Redis stores, as Python values; replies may be flat or parsed."""

from collections.abc import Iterator
from itertools import groupby
from typing import Any

_VALUES = """
local values, read = {}, {string = {'GET'}, hash = {'HGETALL'}, zset = {'ZRANGE', 0, -1, 'WITHSCORES'}}
for i, key in ipairs(KEYS) do
  local type = redis.call('TYPE', key).ok
  local how = read[type]
  values[i] = {type, how and redis.call(how[1], key, unpack(how, 2)) or false}
end
return values"""
"""Types and values of keys in one command: a command for each takes many times as long."""
_PAGE = 500


async def everything(link: Any, *but: str) -> dict[str, Any]:
    """All keys except `but`, with values."""
    names = sorted(name for name in await link.call("KEYS", "*") if name not in but)
    found: dict[str, Any] = {}
    for page in _pages(names):
        for name, (kind, held) in zip(page, await link.call("EVAL", _VALUES, len(page), *page), strict=True):
            match kind:
                case "string":
                    found[name] = held
                case "hash":
                    found[name] = _fields(held)
                case "zset":
                    found[name] = _pairs(held)
                case _:
                    found[name] = await value(link, name, kind)
    return found


def _pages(names: list[str]) -> Iterator[list[str]]:
    """Sorted names in runs of one hash tag: a cluster's node runs a script on keys of one slot."""
    for _, some in groupby(names, lambda name: name.partition("}")[0]):
        run = list(some)
        yield from (run[start : start + _PAGE] for start in range(0, len(run), _PAGE))


async def value(link: Any, key: str, kind: str) -> Any:
    match kind:
        case "string":
            return await link.call("GET", key)
        case "hash":
            return _fields(await link.call("HGETALL", key))
        case "zset":
            return _pairs(await link.call("ZRANGE", key, 0, -1, "WITHSCORES"))
        case "none":  # it expired since its name was read
            return None
        case "list":  # Scrip has no lists
            return await link.call("LRANGE", key, 0, -1)
        case _:
            return [(entry[0], _fields(entry[1])) for entry in await link.call("XRANGE", key, "-", "+")]


def _pairs(reply: list[Any]) -> dict[str, int]:
    """A sorted set: member → score."""
    if reply and isinstance(reply[0], tuple | list):
        return {member: int(float(score)) for member, score in reply}
    return {member: int(float(score)) for member, score in zip(reply[::2], reply[1::2], strict=True)}


def _fields(reply: Any) -> dict[str, str]:
    return reply if isinstance(reply, dict) else dict(zip(reply[::2], reply[1::2], strict=True))
