"""Putting pseudonyms for users into what Redis keeps (lua/erase_user.lua), and out of it what expired locks say."""

import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import structlog

from service.common.byte_runs import SMALL_BYTES, by_bytes
from service.domain.field_types import encode_field
from service.formats import key_names
from service.formats.batch_answers import (
    LOCK_USERS,
    LOCK_WORDS,
    PLAIN,
    VIEW_USERS,
    VIEW_WORDS,
    batch_without_users,
    is_kept_batch,
)
from service.hot.projection import Run
from service.hot.redis_server import ScriptFailed, Server
from service.hot.workspace_state import packed_answer, unpacked_answer

THINGS_A_RUN = 10
KEYS_A_LOOK = 200
SWEPT_A_RUN = 20
MOST_SWEEPS = 1000

log = structlog.get_logger()

_NOTHING = "-"


class Held(NamedTuple):
    """A coupon that is, or was, a user's: since when, and the order that it was a gift for."""

    code: str
    assigned_ms: int
    order_id: str | None = None


class Spent(NamedTuple):
    """A user's redemption; `kept` where it was rolled back without restore, so that its use is spent still."""

    epoch: int
    seq: int
    book: int
    code: str
    kept: bool


class KeyChange(NamedTuple):
    """An idempotency key's entry, before and after."""

    key: str
    old: str
    new: str


class UserEraser:
    """One user's part of a workspace. Each call may be repeated: what is done is found done."""

    def __init__(self, run: Run, partition: int, workspace: int, user_id: str, pseudonym: str) -> None:
        self._run, self._partition = run, partition
        w = key_names.prefix(partition, workspace)
        self._names = (key_names.gate(partition), key_names.settings(w), key_names.outbox(partition))
        user = encode_field(user_id)
        self._who = (user, key_names.bucket(user), pseudonym, key_names.bucket(pseudonym))

    async def coupons(self, held: Iterable[Held]) -> None:
        """These coupons become the pseudonym's, where they are the user's since then."""
        await self._each(
            (
                "c",
                one.code,
                key_names.bucket(one.code),
                one.assigned_ms,
                encode_field(one.order_id),
                key_names.bucket(encode_field(one.order_id)),
            )
            for one in held
        )

    async def redemptions(self, spent: Iterable[Spent]) -> None:
        """These redemptions count for the pseudonym, and are its own for whatever is done with them."""
        await self._each(
            ("r", f"{one.epoch}-{one.seq}", one.code, key_names.bucket(one.code), one.book, int(one.kept))
            for one in spent
        )

    async def recorded(self, last: tuple[int, int], spent: Iterable[tuple[int, int]]) -> None:
        """Postgres has the pseudonym in all that was decided up to an event, these redemptions (by their events) among
        it. What the outbox says of them is read no more."""
        await self._each([("m", f"{last[0]}-{last[1]}", *[_NOTHING] * 4)])
        await self._each(("d", f"{epoch}-{seq}", *[_NOTHING] * 4) for epoch, seq in spent)

    async def entries(self, changes: Iterable[KeyChange]) -> None:
        """Entries of idempotency keys, where they are still as they were."""
        await self._each(("i", *change, _NOTHING, _NOTHING) for change in changes)

    async def finish(self, version: int) -> None:
        """Take away the cap of this version, which kept older ones away. The outbox's last entry, which stays while
        nothing else happens, is nobody's then."""
        await self._each([("u", version, *[_NOTHING] * 4)])

    async def _each(self, things: Iterable[tuple[Any, ...]]) -> None:
        args: list[Any] = []
        for thing in things:
            args += thing
            if len(args) == THINGS_A_RUN * 6:
                await self._send(args)
                args = []
        if args:
            await self._send(args)

    async def _send(self, args: list[Any]) -> None:
        await self._run(self._partition, "erase_user", self._names, (*self._who, *args))


async def kept_entries(
    server: Server, run: Run, workspace: int, unrecorded: Callable[[Sequence[str]], Awaitable[set[str]]]
) -> AsyncIterator[list[tuple[str, str]]]:
    """Idempotency keys of a workspace with their entries, of those that may name a user: some at a time, at most
    RUN_BYTES. Of the large ones those that Postgres doesn't have (`unrecorded`): what is recorded is changed from
    there."""
    async for page in server.walk_keys({"i"}, workspace):
        for start in range(0, len(page), KEYS_A_LOOK):
            some = page[start : start + KEYS_A_LOOK]
            reply = await run(server.partition, "heads", (server.gate,), (SMALL_BYTES, *(key.name for key in some)))
            heads = zip(some, reply[1::2], reply[2::2], strict=True)
            naming = [(key, length, head) for key, length, head in heads if may_name_a_user(head)]
            yield [(key.parts[0], head) for key, length, head in naming if length <= SMALL_BYTES]
            large = [(key, length) for key, length, _ in naming if length > SMALL_BYTES]
            if large:
                alone = await unrecorded([key.parts[0] for key, _ in large])
                large = [(key, length) for key, length in large if key.parts[0] in alone]
            for part in by_bytes(large, lambda one: one[1], KEYS_A_LOOK):
                entries = await server.command("MGET", *(key.name for key, _ in part))
                yield [(key.parts[0], entry) for (key, _), entry in zip(part, entries, strict=True) if entry]


async def sweep_locks(server: Server, run: Run) -> int:
    """Forget expired locks that nobody has touched since, of all coupons of the partition; of how many."""
    swept = 0
    async for page in server.walk_keys({"l"}):
        for key in page:
            book, which = key.parts
            if which == "x":  # no locks: free codes by their own end
                continue
            names = (server.gate, key_names.settings(key_names.prefix(key.partition, key.workspace)))
            try:
                for _ in range(MOST_SWEEPS):
                    found = (await run(server.partition, "sweep_locks", names, (book, which)))[1]
                    swept += found
                    if found < SWEPT_A_RUN:
                        break
            except ScriptFailed:  # of the set, or of what it leads to: the other sets are swept all the same
                log.error("not_swept", workspace=key.workspace, book=book, next="scrip reconcile --repair")
    return swept


def may_name_a_user(head: str) -> bool:
    """Whether an idempotency key's entry that begins so may name one, but for the user whom its request names."""
    _, _, payload = [*head.split(" ", 2), "", ""][:3]
    if payload.startswith("@"):
        return " " in payload  # a checkout's gift
    status, _, rest = payload.partition(" ")
    if len(status) == 3 and status.isdecimal():
        return not rest.partition(" ")[2].startswith(PLAIN)
    return " " in payload


def without_users(entry: str, pseudonyms: Mapping[str, str]) -> str:
    """An idempotency key's entry with pseudonyms for these users, and no address or agent of theirs."""
    if not may_name_a_user(entry):
        return entry
    head, payload = _split(entry)
    if payload.startswith("@"):  # redemptions by their events, and of a checkout the gift's view
        events, _, more = payload.partition(" ")
        digits, _, gift = more.partition(" ")
        return f"{head} {events} {digits} {_in_words(gift, pseudonyms)}" if gift else entry
    first, _, rest = payload.partition(" ")
    if len(first) == 3 and first.isdecimal():
        try:
            return f"{head} {first} {_in_answer(rest, pseudonyms)}"
        except (ValueError, zlib.error, msgspec.DecodeError) as error:  # nobody can be answered this either
            log.error("kept_answer_unreadable", error=type(error).__name__)
            return entry
    return f"{head} {_in_words(payload, pseudonyms)}"


def _split(entry: str) -> tuple[str, str]:
    fingerprint, outcome, payload = entry.split(" ", 2)
    return f"{fingerprint} {outcome}", payload


def _in_words(payload: str, pseudonyms: Mapping[str, str]) -> str:
    words = payload.split(" ")
    places: Sequence[int] = {VIEW_WORDS: VIEW_USERS, LOCK_WORDS: LOCK_USERS}.get(len(words), ())
    by_word = {encode_field(user): pseudonym for user, pseudonym in pseudonyms.items()}
    for place in places:
        words[place] = by_word.get(words[place], words[place])
    return " ".join(words)


def _in_answer(payload: str, pseudonyms: Mapping[str, str]) -> str:
    """Of an answer outside the hot path: where it points to, and JSON, packed where it was."""
    location, _, body = payload.partition(" ")
    user = location.removeprefix("/v1/users/")
    location = f"/v1/users/{pseudonyms[user]}" if user in pseudonyms else location
    if is_kept_batch(body):
        return f"{location} {batch_without_users(body, pseudonyms)}"
    text = unpacked_answer(body)
    if text.startswith((b"{", b"[")) and any(_quoted(user) in text for user in pseudonyms):
        body = packed_answer(msgspec.json.encode(_told(msgspec.json.decode(text), pseudonyms)))
    return f"{location} {body}"


def _quoted(user: str) -> bytes:
    return b'"userId":' + msgspec.json.encode(user)


def _told(told: Any, pseudonyms: Mapping[str, str]) -> Any:
    if isinstance(told, list):
        return [_told(one, pseudonyms) for one in told]
    if not isinstance(told, dict):
        return told
    found = {name: _told(value, pseudonyms) for name, value in told.items()}
    user = told.get("userId")
    if isinstance(user, str) and user in pseudonyms:
        found["userId"] = pseudonyms[user]
        found |= {name: None for name in ("ipAddress", "userAgent") if name in found}
    return found
