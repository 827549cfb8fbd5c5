"""The base of a shop for tests: one workspace on one Redis, its scripts, clock, gate and outbox."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any, Self
from uuid import uuid4

import hiredis
import msgspec
import redis.exceptions

from service.engine.deciding.recall import AS_OF, MAX_RUNS
from service.engine.domain.configuration import BookRow
from service.engine.domain.errors import Refusal
from service.engine.domain.limits import KeyLimits, encode_key_limits
from service.engine.domain.outcomes import RECALL
from service.engine.formats import key_names
from service.engine.formats.event_id import parse_event_id
from service.engine.formats.events import (
    Assigned,
    Redeemed,
    RolledBack,
    Unassigned,
    parse,
    record_text,
    split_entry,
)
from service.engine.hot.decider import Decider
from service.engine.hot.link import LinkToAll
from service.engine.hot.projection import RedisProjector
from service.engine.hot.scripts import PROJECTION, SERVING, Scripts
from service.engine.operations.base import Command
from service.engine.operations.caller import SCOPES, Caller
from tests.harness import dump

EPOCH = 7
NOW_MS = 1_800_000_000_000
"""When a still clock starts."""
STILL_CLOCK = "test:now"


def read_lines(fields: dict[str, str]) -> dict[str, str]:
    """The lines of an outbox's entry by their letters; without `i` if it has none."""
    lines = split_entry([text.encode() for pair in fields.items() for text in pair])
    return {letter: line.decode() for letter, line in zip("dri", lines, strict=True) if line is not None}


class CallingLink(LinkToAll):
    """What a decider sends, over `call` alone."""

    waiting = calls = 0
    lost = False
    history = ""
    generation = 0

    async def call(self, *command: Any) -> Any:
        raise NotImplementedError

    @property
    def connection(self) -> Self:
        """The one that takes requests."""
        return self

    def before_flush(self, add: Callable[[], None]) -> None:
        """Call it at the end of this turn."""
        asyncio.get_running_loop().call_soon(add)

    def send(self, on_reply: Callable[[Any], None], command: tuple[Any, ...], requests: int = 1) -> None:
        """As the product's connection."""
        calling = asyncio.ensure_future(self.call(*command))
        calling.add_done_callback(lambda done: on_reply(done.exception() or done.result()))


class FakeLink(CallingLink):
    """fakeredis behind the calls of the product's own connection."""

    def __init__(self, client: Any) -> None:
        self.client = client

    async def call(self, *command: Any) -> Any:
        """A reply, or hiredis's error for one of redis-py's."""
        try:
            return _with_errors(await self.client.execute_command(*command))
        except redis.exceptions.ResponseError as error:
            return _with_errors(error)


def _with_errors(reply: Any) -> Any:
    """A reply with hiredis's errors for redis-py's."""
    if isinstance(reply, list):
        return [_with_errors(one) for one in reply]
    if isinstance(reply, redis.exceptions.NoScriptError):
        return hiredis.ReplyError(f"NOSCRIPT {reply}")
    return hiredis.ReplyError(str(reply)) if isinstance(reply, redis.exceptions.ResponseError) else reply


class ScriptRunner:
    """Workspace 1, and how a script's answer comes about in it."""

    nonce = "nonce"
    """Of its scripts, which find a server with its defaults."""

    def __init__(self, link: Any, workspace: int = 1) -> None:
        self.link = link
        self.decider = Decider(link)
        self.workspace = workspace
        self.caller = Caller(uuid4(), workspace, uuid4(), 0, "live", frozenset(SCOPES))
        self.projector = RedisProjector(self.decider.run)
        self.books: list[BookRow] = []
        self.version = 0
        self.still_ms: int | None = None
        """What a still clock says; None where the server's own runs."""
        self.offset_ms = 0
        self.refusal: Refusal | None = None
        """The last one."""
        self.address = "192.0.2.1"
        """Where requests come from."""
        self.rates = ""
        """What the last answer said is left."""
        self.limits_changed = False
        """Whether a book's limits may be below what was given already."""
        self.recorded: dict[str, str] = {}
        """Redemptions' records, by event and by id: what Postgres has."""
        self.outbox: list[tuple[str, dict[str, str]]] = []
        """Entries that were recorded and trimmed."""
        self.pseudonyms: dict[str, str] = {}
        """By a redemption's event, where its user was erased."""
        self.meanwhile: Callable[[], Awaitable[None]] | None = None
        """What happens once, after facts were read in Postgres and before the script that asked has them."""
        self.recalled = 0
        """How often scripts asked for facts."""
        self.erased = False
        """Whether the outbox names users who were erased since."""

    def limit(self, of_books: bool = False, scopes: Sequence[str] = SCOPES, **limits: int) -> Self:
        """From now on requests are another key's, with these limits; `of_books` where a book may limit misses."""
        key_id = uuid4()
        words = encode_key_limits(KeyLimits(**limits), None, None, of_books=of_books)
        self.caller = replace(self.caller, key_id=key_id, scopes=frozenset(scopes), limits=words)
        return self

    async def freeze(self) -> Self:
        """From now on scripts take the time from a key, which only `at` and `wait` move."""
        await self.load(EPOCH, self.nonce)
        await self.at(NOW_MS)
        return self

    async def load(self, epoch: int, nonce: str) -> None:
        """Run this opening's scripts from now on, by the still clock."""
        self.decider.learn(0, epoch, nonce)
        digests: dict[str, str] = {}
        for name, text in Scripts(0, epoch, nonce, [*SERVING, *PROJECTION]).texts.items():
            still = text.replace("redis.call('TIME')", f"redis.call('HMGET', '{STILL_CLOCK}', 's', 'us')")
            digests[name] = await self.link.call("SCRIPT", "LOAD", still)
        self.decider._digests[0] = digests

    async def at(self, ms: int) -> None:
        """Set the still clock."""
        self.still_ms = ms
        await self.link.call("HSET", STILL_CLOCK, "s", ms // 1000, "us", ms % 1000 * 1000 + 999)

    async def wait(self, ms: int) -> None:
        """Move the still clock on."""
        await self.at((self.still_ms or 0) + ms)

    async def now(self) -> int:
        """What scripts take for the time, in ms."""
        if self.still_ms is not None:
            return self.still_ms + self.offset_ms
        seconds, micros = await self.link.call("TIME")
        return int(seconds) * 1000 + int(micros) // 1000 + self.offset_ms

    async def set_offset(self, ms: int) -> None:
        """Move the workspace's clock away from the server's, as a test workspace may."""
        self.offset_ms = ms
        key = f"{self.caller.prefix}w"
        settings = (await self.link.call("GET", key)).rpartition(" ")[0]
        await self.link.call("SET", key, f"{settings} {ms}")

    async def gate(self, state: str | None, epoch: int = EPOCH) -> None:
        """Set the gate; None takes it away."""
        if state is None:
            await self.link.call("DEL", key_names.gate(0))
        else:
            await self.link.call("SET", key_names.gate(0), f"{epoch} {state}")

    def next_version(self) -> int:
        """As Postgres counts them."""
        self.version += 1
        return self.version

    async def run(self, command: Command) -> Any:
        answer = command.render(await self.decide(command), "accepted")
        self.rates = answer.rates
        body = msgspec.json.decode(answer.body) if answer.body else None
        if answer.replayed:
            body = {**(body or {}), "replayed": True}
        return answer.status, body

    async def decide(self, command: Command) -> Any:
        """A command's reply, with the facts that it asks for, as the API has it."""
        facts, as_of = list[str](), list[str]()
        for _ in range(MAX_RUNS):
            reply = await self.decider.run(0, command.script, command.keys, (*command.args, *facts))
            if reply[0] != RECALL:
                return reply
            self.recalled += 1
            names = reply[1].split(" ")
            if reply[2:] != as_of:
                as_of, facts = reply[2:], [AS_OF, *reply[2:]]
            facts += [text for name in names for text in (name, await self._answer(name))]
            if meanwhile := self.meanwhile:
                self.meanwhile = None
                await meanwhile()
        raise AssertionError(f"{command.script} asks for facts again and again")

    async def _answer(self, name: str) -> str:
        """What Postgres answers, once all is recorded."""
        prefix, colon, thing = name.partition(":")
        if not colon:
            return self.recorded.get(name, "")
        if prefix == "rolled":
            return await self._rolled_back_at(thing)
        return "1" if any(words[0] == "B" and words[5] == thing for _, words in await self._outbox()) else ""

    async def _rolled_back_at(self, thing: str) -> str:
        """When a redemption, or a gift (`<code>/<assigned at>`), was rolled back; '' for never."""
        assigned: dict[str, int] = {}
        for entry_id, fields in await self.read_outbox_entries():
            event = parse(*parse_event_id(entry_id), fields["d"].encode(), fields["r"].encode() or b"{}")
            given = event.gift if isinstance(event, Redeemed) else event
            if isinstance(given, Assigned):
                assigned[given.code] = given.at_ms
            if isinstance(event, RolledBack):
                ended = event.redemption_id
            elif isinstance(event, Unassigned) and event.order:
                ended = f"{event.code}/{assigned.get(event.code)}"
            else:
                continue
            if ended == thing:
                return str(event.at_ms)
        return ""

    async def record(self) -> None:
        """As the worker: what the outbox says of redemptions is recorded, and trimmed."""
        entries = await self._read_outbox()
        self.outbox += entries
        for event_id, fields in entries:
            event = parse(*parse_event_id(event_id), fields["d"].encode(), fields["r"].encode() or b"{}")
            if isinstance(event, Redeemed):
                text = record_text(event)
                self.recorded |= {event_id: text, event.redemption_id: text}
        if entries:
            last = parse_event_id(entries[-1][0])
            await self.link.call("XTRIM", key_names.outbox(0), "MINID", str(last._replace(seq=last.seq + 1)))

    async def read_outbox_entries(self) -> list[tuple[str, dict[str, str]]]:
        """All entries of the outbox, also those that were trimmed."""
        return self.outbox + await self._read_outbox()

    async def _read_outbox(self) -> list[tuple[str, dict[str, str]]]:
        return [
            (event_id, read_lines(fields))
            for event_id, fields in await dump.value(self.link, key_names.outbox(0), "stream")
        ]

    async def events(self) -> list[tuple[str, list[str]]]:
        """The outbox without notices: (id, words of `d`)."""
        return [(event_id, words) for event_id, words in await self._outbox() if words[0] != "S"]

    async def notices(self, book: BookRow) -> list[str]:
        """What was said of the book's stock, in order: `low codes 2`."""
        return [
            " ".join(words[3:6]) for _, words in await self._outbox() if words[0] == "S" and words[2] == str(book.book)
        ]

    async def _outbox(self) -> list[tuple[str, list[str]]]:
        entries = await self.read_outbox_entries()
        return [(event_id, fields["d"].split(" ")) for event_id, fields in entries]

    async def last_event(self) -> dict[str, str]:
        """The lines of the outbox's last entry but notices."""
        entries = await self.read_outbox_entries()
        return [fields for _, fields in entries if not fields["d"].startswith("S ")][-1]

    async def everything(self) -> dict[str, Any]:
        """All that this Redis holds, but for the still clock."""
        return await dump.everything(self.link, STILL_CLOCK)
