"""Where the service's half of the machine lives: Redises that are emptied for each example, and one event loop."""

import asyncio
from collections.abc import Awaitable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha1
from pathlib import Path
from typing import Any

from service.engine.hot.link import Link
from tests.harness.script_runner import STILL_CLOCK, CallingLink
from tests.harness.servers import VALKEY, started
from tests.harness.shop import Shop

Plant = tuple[str, str]
"""What of a script's text to change, and into what."""

_DATABASES = 2
_MINUTE, _DAY = "MINUTE_MS = 60000", "MINUTE_MS = 86400000"
"""No counter ends by itself: the machine's minutes end on the still clock."""
_STEADY = f"""local function steady(key, count)
  local all, chosen, second = redis.call('HKEYS', key), {{}}, redis.call('HGET', '{STILL_CLOCK}', 's')
  table.sort(all)
  for i = 1, math.min(count, #all) do chosen[i] = all[(second + i) % #all + 1] end
  return chosen
end
"""


class Altering(CallingLink):
    """A link that alters scripts as they are loaded, and loads each once. What they pick at random follows the still
    clock: hypothesis can only shorten what happens again. A plant goes into every script that has it."""

    def __init__(self, link: Any, plant: Plant | None) -> None:
        self.link, self.plant = link, plant
        self._digests: dict[str, Any] = {}

    async def call(self, *command: Any) -> Any:
        """As the link's; a script is run by the digest of its own text."""
        if command[0] == "EVALSHA":
            return await self.link.call("EVALSHA", self._digests.get(command[1], command[1]), *command[2:])
        if command[:2] != ("SCRIPT", "LOAD"):
            return await self.link.call(*command)
        text: str = command[2]
        digest = sha1(text.encode()).hexdigest()
        if digest not in self._digests:
            altered = text.replace("redis.call('HRANDFIELD', ", "steady(")
            if altered != text:
                altered = _STEADY + altered
            altered = altered.replace(_MINUTE, _DAY)
            if self.plant:
                altered = altered.replace(*self.plant)
            self._digests[digest] = await self.link.call("SCRIPT", "LOAD", altered)
        return digest


class Databases:
    """Shops on empty Redises, one after another: number 0 is the one that is played with, 1 the one to rebuild."""

    def __init__(self, loop: asyncio.AbstractEventLoop, links: Sequence[Any], plant: Plant | None) -> None:
        self._loop = loop
        self._links = [Altering(link, plant) for link in links]

    def run(self, wanted: Awaitable[Any]) -> Any:
        return self._loop.run_until_complete(wanted)

    async def shop(self, number: int) -> Shop:
        """An open shop with a still clock, and nothing in it."""
        link = self._links[number]
        await link.call("FLUSHDB")
        return await (await Shop(link).open()).freeze()


@contextmanager
def databases_on(folder: Path, plant: Plant | None = None) -> Iterator[Databases]:
    """The databases of a Valkey of its own."""
    with started(VALKEY, folder) as url, asyncio.Runner() as runner:
        loop = runner.get_loop()
        links = [Link(url.replace("/0", f"/{number}"), "tests") for number in range(_DATABASES)]
        for link in links:
            loop.run_until_complete(link.start())
        yield Databases(loop, links, plant)
        for link in links:
            loop.run_until_complete(link.stop())
