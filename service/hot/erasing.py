"""Putting pseudonyms for users into what Redis keeps (lua/erase_user.lua), and out of it what expired locks say."""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from service.domain import keys
from service.domain.words import word
from service.hot.projection import Run
from service.hot.server import Server
from service.hot.workspace import packed_answer, unpacked_answer

THINGS_A_RUN = 10
KEYS_A_LOOK = 200
SWEPT_A_RUN = 20
MOST_SWEEPS = 1000

_NOTHING = "-"
_VIEW_USERS = (5, 8, 12)
"""Places of users in a coupon's view (lua/includes/view.lua): whose it is, who holds its lock, who redeemed it last."""
_VIEW_WORDS = 15
_LOCK_USERS = (2,)
_LOCK_WORDS = 6


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
        w = keys.prefix(partition, workspace)
        self._names = (keys.gate(partition), f"{w}w", keys.outbox(partition))
        user = word(user_id)
        self._who = (user, keys.bucket(user), pseudonym, keys.bucket(pseudonym))

    async def coupons(self, held: Iterable[Held]) -> None:
        """These coupons become the pseudonym's, where they are the user's since then."""
        await self._each(
            ("c", one.code, keys.bucket(one.code), one.assigned_ms, word(one.order_id), keys.bucket(word(one.order_id)))
            for one in held
        )

    async def redemptions(self, spent: Iterable[Spent]) -> None:
        """These redemptions count for the pseudonym, and are its own for whatever is done with them."""
        await self._each(
            ("r", f"{one.epoch}-{one.seq}", one.code, keys.bucket(one.code), one.book, int(one.kept)) for one in spent
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


async def kept_entries(server: Server, workspace: int) -> AsyncIterator[list[tuple[str, str]]]:
    """Idempotency keys of a workspace with their entries, some at a time."""
    prefix = f"{keys.prefix(server.partition, workspace)}i:"
    async for names in _found(server, f"{prefix}*"):
        entries = await server.command("MGET", *names)
        yield [(name.removeprefix(prefix), entry) for name, entry in zip(names, entries, strict=True) if entry]


async def sweep_locks(server: Server, run: Run) -> int:
    """Forget expired locks that nobody has touched since, of all coupons of the partition; of how many."""
    swept = 0
    async for names in _found(server, f"{{p{server.partition}}}:w*:l:*"):
        for name in names:
            w, _, rest = name.partition("l:")
            book, _, which = rest.partition(":")
            if which == "x":  # no locks: free codes by their own end
                continue
            for _ in range(MOST_SWEEPS):
                found = (await run(server.partition, "sweep_locks", (server.gate, f"{w}w"), (book, which)))[1]
                swept += found
                if found < SWEPT_A_RUN:
                    break
    return swept


async def _found(server: Server, pattern: str) -> AsyncIterator[list[str]]:
    """Names of keys, a bounded number at a time; one may come twice."""
    at = "0"
    while True:
        at, page = await server.command("SCAN", at, "MATCH", pattern, "COUNT", KEYS_A_LOOK)
        for start in range(0, len(page), KEYS_A_LOOK):
            yield page[start : start + KEYS_A_LOOK]
        if int(at) == 0:
            return


def without_users(entry: str, pseudonyms: Mapping[str, str]) -> str:
    """An idempotency key's entry with pseudonyms for these users, and no address or agent of theirs."""
    head, payload = _split(entry)
    if payload.startswith("@"):  # redemptions by their events, and of a checkout the gift's view
        events, _, more = payload.partition(" ")
        digits, _, gift = more.partition(" ")
        return f"{head} {events} {digits} {_in_words(gift, pseudonyms)}" if gift else entry
    first, _, rest = payload.partition(" ")
    if len(first) == 3 and first.isdecimal():
        return f"{head} {first} {_in_answer(rest, pseudonyms)}"
    return f"{head} {_in_words(payload, pseudonyms)}"


def _split(entry: str) -> tuple[str, str]:
    fingerprint, outcome, payload = entry.split(" ", 2)
    return f"{fingerprint} {outcome}", payload


def _in_words(payload: str, pseudonyms: Mapping[str, str]) -> str:
    words = payload.split(" ")
    places: Sequence[int] = {_VIEW_WORDS: _VIEW_USERS, _LOCK_WORDS: _LOCK_USERS}.get(len(words), ())
    by_word = {word(user): pseudonym for user, pseudonym in pseudonyms.items()}
    for place in places:
        words[place] = by_word.get(words[place], words[place])
    return " ".join(words)


def _in_answer(payload: str, pseudonyms: Mapping[str, str]) -> str:
    """Of an answer outside the hot path: where it points to, and JSON, packed where it was."""
    location, _, body = payload.partition(" ")
    user = location.removeprefix("/v1/users/")
    location = f"/v1/users/{pseudonyms[user]}" if user in pseudonyms else location
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
