"""Collect notes of locks and releases, for workspaces with `lockHistory` (docs/decisions/0071-past-holds.md):
transports add them, wiring.py writes them each second. A lock's note has the fields of LOCK_VIEW, a release's the
three that lock.py writes: their number tells them apart."""

import time
from collections import deque
from collections.abc import Sequence

import structlog

from service.access.caller import Caller
from service.domain.field_types import decode_field, decode_id
from service.operations.base import Rendered
from service.record.lock_history import LockNote, digest_token

MAX_NOTES = 10_000
"""Notes that a process keeps until it writes them, once a second. Of more, the oldest are dropped."""

log = structlog.get_logger()


_Note = tuple[int, float, str]
"""The workspace, the time by time.monotonic, and the response's note."""


class LockNotes:
    """Collects the notes of responses. A request only appends a text; `take` parses all of a second."""

    def __init__(self) -> None:
        self._notes: deque[_Note] = deque(maxlen=MAX_NOTES)
        self._dropped = 0
        self._is_dropping = False

    def add(self, caller: Caller, rendered: Rendered) -> None:
        """Keep the response's note, if it has one and the workspace has a history of locks."""
        if not (rendered.note and caller.notes_locks):
            return
        if len(self._notes) == MAX_NOTES:
            self._dropped += 1
        self._notes.append((caller.workspace, time.monotonic(), rendered.note))

    def take(self) -> Sequence[LockNote]:
        """The notes since the last call."""
        taken, self._notes = self._notes, deque(maxlen=MAX_NOTES)
        return [_parse(*note) for note in taken]

    def drop(self, notes: Sequence[LockNote]) -> None:
        """Count notes that were taken and won't be written."""
        self._dropped += len(notes)

    def take_dropped(self) -> int:
        """How many notes were dropped since the last call. Logs when that begins."""
        dropped, self._dropped = self._dropped, 0
        if dropped and not self._is_dropping:
            log.warning("lock_notes_dropped", count=dropped)
        self._is_dropping = dropped > 0
        return dropped


def _parse(workspace: int, noted_s: float, text: str) -> LockNote:
    """Parse a note: a lock's payload, as lua/lock.lua replies it, or a release's code, token, and the only user who may
    release the lock, '-' for anyone. A release is noted even if it released nothing: its reply is the same."""
    fields = text.split(" ")
    if len(fields) == 3:
        code, token, user = fields
        return LockNote(workspace, code, digest_token(token), decode_field(user), None, None, noted_s)
    _, code, user, order, token, until, _ = fields
    return LockNote(workspace, code, digest_token(token), decode_id(user), decode_field(order), int(until), noted_s)


lock_notes = LockNotes()
