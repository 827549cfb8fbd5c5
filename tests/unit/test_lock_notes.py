"""The history of locks: notes in a bounded buffer, and what they tell of past locks."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast
from uuid import UUID

import pytest

from service.access.caller import Caller
from service.operations.base import Call, Rendered
from service.operations.lock_notes import MAX_NOTES, LockNotes
from service.operations.run import begin_decoded, finish
from service.operations.table import EXTEND, LOCK, UNASSIGN, UNLOCK, Row
from service.record import lock_history
from service.record.lock_history import (
    LockHistory,
    LockNote,
    NotedLock,
    PastLock,
    StoredNote,
    combine,
    digest_token,
    find_past,
)
from service.record.samples import Sampler

_CALLER = Caller(UUID(int=1), 7, UUID(int=7), 0, "live", frozenset({"checkout"}), notes_locks=True)
_BOOK = str(UUID(int=2))


def _note(notes: LockNotes, payload: str) -> None:
    notes.add(_CALLER, Rendered(201, b"", note=payload))


def test_responses_are_noted() -> None:
    """A note has what a lock or a release says, without the token: ids are decoded, and '-' is none. A workspace
    without a history of locks has no notes, and other responses have none."""
    notes, user_caller = LockNotes(), replace(_CALLER, user="ann")
    locked = lambda user, times: [0, f"{_BOOK} CODE-1 {user} secret {times}", "", 0]  # noqa: E731
    asked: list[tuple[Caller, Row, dict[str, Any], list[Any]]] = [
        (_CALLER, LOCK, {"user_id": "-"}, locked("%- -", "5000 1000")),
        (_CALLER, EXTEND, {"lock_token": "secret"}, locked("ann A-1", "9000 1000")),
        (_CALLER, UNLOCK, {"lock_token": "secret"}, [0, "", "", 0]),
        (user_caller, UNLOCK, {"lock_token": "secret"}, [0, "", "", 0]),
        (_CALLER, UNASSIGN, {}, [0, f"{_BOOK} CODE-1 available 0 1 - - - - - - - - - -", "", 0]),
    ]
    for caller, row, body, reply in asked:
        command = begin_decoded(row, Call(caller), "code-1", row.operation.request(**body))
        notes.add(caller, finish(command, reply, "fsynced"))
        notes.add(replace(caller, notes_locks=False), finish(command, reply, "fsynced"))
    taken = notes.take()
    digest = digest_token("secret")
    assert [note[:-1] for note in taken] == [
        (7, "CODE-1", digest, "-", None, 5000),
        (7, "CODE-1", digest, "ann", "A-1", 9000),
        (7, "CODE-1", digest, None, None, None),
        (7, "CODE-1", digest, "ann", None, None),
    ]
    assert notes.take() == []
    assert "secret" not in str(taken)
    assert -(2**63) <= digest < 2**63


def test_a_full_buffer_drops_the_oldest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of more than MAX_NOTES in a second the newest stay; what is dropped is counted, and logged when that begins."""
    logged: list[Any] = []
    monkeypatch.setattr(
        "service.operations.lock_notes.log.warning", lambda name, **fields: logged.append((name, fields["count"]))
    )
    notes = LockNotes()
    for _ in range(2):
        for number in range(MAX_NOTES + 3):
            _note(notes, f"book CODE-{number} ann - secret 5000 1000")
        assert notes.take_dropped() == 3
        assert [note.code for note in notes.take()][:: MAX_NOTES - 1] == ["CODE-3", f"CODE-{MAX_NOTES + 2}"]
    assert logged == [("lock_notes_dropped", 3)]
    assert notes.take_dropped() == 0
    notes.drop([cast("LockNote", None)] * 4)
    assert notes.take_dropped() == 4
    assert len(logged) == 2


async def test_notes_wait_for_postgres_and_are_written_at_the_end() -> None:
    """While Postgres is away the last MAX_STEPS steps wait; then each is written in order, to its own step."""
    notes, written, is_away = LockNotes(), list[tuple[int, str]](), True

    async def write(_: Any, at_s: int, some: Sequence[LockNote]) -> None:
        if is_away:
            raise OSError
        written.extend((at_s, note.code) for note in some)

    bounds = (lock_history.STEP_S, lock_history.MAX_STEPS)
    sampler = Sampler(cast("Any", None), notes.take, write, *bounds, notes.drop)
    for step in range(lock_history.MAX_STEPS + 2):
        _note(notes, f"book CODE-{step} ann - secret 5000 1000")
        await sampler.sample(step)
    assert (notes.take_dropped(), written) == (2, [])
    is_away = False
    _note(notes, "book LAST-1 ann - secret 5000 1000")
    await sampler.end()
    assert notes.take_dropped() == 1  # the last step is one more
    assert written[:-1] == [(step, f"CODE-{step}") for step in range(3, lock_history.MAX_STEPS + 2)]
    assert written[-1][1] == "LAST-1"


def test_notes_of_a_lock_are_combined() -> None:
    """A lock begins with its first note, ends at its latest deadline, and is released by the first release that may do
    it; notes may be there twice, in any order. A release alone tells nothing."""
    notes = [
        StoredNote(1, None, None, 70, None, 100),
        StoredNote(1, "eve", None, 50, None, 100),  # of a user's own token: not hers
        StoredNote(1, "ann", "A-1", 20, 900, 100),
        StoredNote(1, None, None, 60, None, 100),
        StoredNote(1, "ann", "A-1", 10, 500, 100),
        StoredNote(1, "ann", "A-1", 10, 500, 100),
        StoredNote(2, None, None, 80, None, 100),
        StoredNote(3, "bob", None, 30, 90, 100),
    ]
    expected = [NotedLock("bob", None, 30, 90, None), NotedLock("ann", "A-1", 10, 900, 60)]
    assert combine(notes) == combine(reversed(notes)) == expected


@pytest.mark.parametrize(
    ("released", "redeemed", "ended", "at"),
    [
        (None, None, "expired", 50_000),
        (40_000, None, "released", 40_000),
        (60_000, None, "expired", 50_000),  # releases nothing
        (None, 30_000, "redeemed", 30_000),
        (40_000, 30_000, "redeemed", 30_000),
        (29_100, 30_000, "redeemed", 30_000),  # clocks differ
        (20_000, 30_000, "released", 20_000),
    ],
)
def test_how_a_lock_ended(released: int | None, redeemed: int | None, ended: Any, at: int) -> None:
    """The earliest of redemption, release and deadline ended a lock; a redemption, if a release is at the same time."""
    lock = NotedLock("ann", None, 10_000, 50_000, released, redeemed)
    past = PastLock("ann", None, 10_000, 50_000, ended, at)
    assert find_past(LockHistory([lock], 100_000), []) == [past]


def test_live_locks_are_not_past() -> None:
    """A holder's newest lock before its deadline is live; without Redis none such is listed."""
    newest, older = NotedLock("ann", "A-1", 30, 900, None), NotedLock("ann", "A-1", 10, 800, None)
    history = LockHistory([newest, older, NotedLock("bob", None, 5, 50, None)], 100)
    gone = [PastLock("ann", "A-1", at, until, "unknown", None) for at, until in ((30, 900), (10, 800))]
    expired = PastLock("bob", None, 5, 50, "expired", 50)
    assert find_past(history, []) == [*gone, expired]
    assert find_past(history, [("ann", "A-1"), ("bob", None)]) == [gone[1], expired]
    assert find_past(history, None) == [expired]
