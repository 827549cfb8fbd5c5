"""Locks as Redis stores them."""

from typing import NamedTuple

from service.formats.lock_record import LockRecord, parse_lock_of_several


class Lock(NamedTuple):
    """A lock as it is stored."""

    token: str
    user: str
    order: str
    deadline: int
    started: int
    counted: str

    @classmethod
    def of(cls, lock: LockRecord) -> "Lock":
        """The stored lock with its numbers."""
        return cls(*lock[:3], int(lock.deadline), int(lock.started), lock.counted)


def locks_of(stored: dict[str, str]) -> list[Lock]:
    """The locks of a code with several uses; each has an entry by holder and one by token."""
    locks, tokens = [], {}
    for name, text in stored.items():
        if name.startswith("=") and " " not in name:
            tokens[name[1:]] = text
        else:
            locks.append(Lock.of(parse_lock_of_several(name, text)))
    assert tokens == {lock.token: f"{lock.user} {lock.order}" for lock in locks}
    return locks
