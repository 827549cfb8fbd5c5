"""The ledger of a load: a line for each request that was sent, in files that only grow, and read back into SQLite."""

import os
import sqlite3
import time
from collections.abc import Iterable, Iterator
from datetime import datetime
from hashlib import blake2b
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

_COLUMNS = (
    "kind op key user_id order_id book_id code status refusal retry_after replayed digest wanted redemption_id got "
    "gift amount until_ms sent_ms took_ms"
).split()


class Entry(msgspec.Struct):
    """A request, and what it was answered; '' is none."""

    kind: str
    """Who sent it."""
    op: str
    key: str
    user_id: str
    order_id: str
    book_id: str
    """The book of the code, or the one that a code was asked of."""
    code: str
    """The code that was asked for."""
    status: int = 0
    """0 where no answer came."""
    refusal: str = ""
    """A refusal's code, or why no answer came."""
    retry_after: str = ""
    replayed: bool = False
    digest: str = ""
    """Of status and body."""
    wanted: bool = True
    """Whether it may be answered so."""
    redemption_id: str = ""
    got: str = ""
    """The coupon that was assigned, locked or redeemed."""
    gift: str = ""
    amount: str = ""
    """The redemption's final amount."""
    until_ms: int = 0
    """A lock's deadline, on the service's clock."""
    sent_ms: int = 0
    took_ms: float = 0.0

    def answered(self, status: int, content: bytes, retry_after: str, replayed: bool) -> None:
        """Enter the answer. What isn't a JSON object is entered as the refusal `unreadable`, and one that doesn't say
        why as `nameless`."""
        self.status, self.retry_after, self.replayed = status, retry_after, replayed
        self.digest = blake2b(b"%d " % status + content, digest_size=8).hexdigest()
        try:
            said = msgspec.json.decode(content, type=dict[str, Any])
        except (msgspec.DecodeError, UnicodeDecodeError):
            self.refusal = "unreadable"
            return
        if status >= 400:
            self.refusal = str(said.get("code") or "nameless")
        else:
            self._enter(said)

    def _enter(self, said: dict[str, Any]) -> None:
        redemption = said.get("redemption") or said
        self.redemption_id = redemption.get("redemptionId", "")
        self.amount = redemption.get("finalAmount") or ""
        self.got = redemption.get("code", "")
        self.gift = (said.get("gift") or {}).get("code", "")
        if "lockToken" in said:
            self.until_ms = _ms(said["expiresAt"])


class Ledger:
    """A process's file of a ledger, in a load's folder."""

    def __init__(self, folder: Path) -> None:
        self._file: BinaryIO = (folder / f"ledger-{os.getpid()}.jsonl").open("ab")

    def write(self, entry: Entry) -> None:
        """Append an entry."""
        self._file.write(msgspec.json.encode(entry) + b"\n")

    def close(self) -> None:
        """Write out what is left."""
        self._file.close()


def now_ms() -> int:
    """This machine's clock."""
    return time.time_ns() // 1_000_000


def entries(folder: Path) -> Iterator[Entry]:
    """All entries of a load. msgspec.DecodeError where a line is broken."""
    for path in sorted(folder.glob("ledger-*.jsonl")):
        with path.open("rb") as lines:
            for line in lines:
                yield msgspec.json.decode(line, type=Entry)


def fill(database: sqlite3.Connection, found: Iterable[Entry]) -> int:
    """Make the table `answers` of entries; how many there are."""
    database.execute(f"CREATE TABLE answers ({', '.join(_COLUMNS)})")
    many = insert(database, "answers", len(_COLUMNS), (tuple(getattr(one, name) for name in _COLUMNS) for one in found))
    for name in ("key", "redemption_id", "order_id", "got", "gift"):
        database.execute(f"CREATE INDEX answers_{name} ON answers ({name}) WHERE {name} <> ''")
    return many


def insert(database: sqlite3.Connection, table: str, width: int, rows: Iterable[tuple[Any, ...]]) -> int:
    """Insert rows; how many there were."""
    before = database.total_changes
    database.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * width)})", rows)
    database.commit()
    return database.total_changes - before


def _ms(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)
