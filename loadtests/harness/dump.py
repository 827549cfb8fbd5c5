"""All that a Redis stores, as Python values; replies may be flat or parsed."""

import asyncio
from typing import Any


async def everything(link: Any, *but: str) -> dict[str, Any]:
    """All keys except `but`, with values."""
    names = sorted(name for name in await link.call("KEYS", "*") if name not in but)
    kinds = await asyncio.gather(*(link.call("TYPE", name) for name in names))
    values = await asyncio.gather(*(value(link, name, kind) for name, kind in zip(names, kinds, strict=True)))
    return dict(zip(names, values, strict=True))


async def value(link: Any, key: str, kind: str) -> Any:
    """The value of a key of this type."""
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
