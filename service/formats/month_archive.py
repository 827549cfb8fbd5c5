"""The files of an archived month: gzipped CSV, one for each table, and `manifest.json` with their checksums.

A month is a directory, `2025-01`; while it is being written, its name ends with `.partial-` and a random text. A CSV
file is what Postgres's COPY writes: UTF-8, a header, `""` for an empty text, nothing for null, times in UTC.
"""

import gzip
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO
from uuid import uuid4

import msgspec

NUMBER = 1
"""The number of this format. A reader refuses other numbers."""
MANIFEST = "manifest.json"
CHUNK_BYTES = 1 << 18
_LEVEL = 6
_MONTH = re.compile(r"[0-9]{4}-(0[1-9]|1[0-2])")
_PARTIAL = ".partial-"


class DamagedArchive(Exception):
    """A directory or file is not what `scrip archive` wrote. The message says which, and why."""


class ArchivedFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file, and the table that it has a month of; `books` is for readers, and no restore reads it."""

    name: str
    table: str
    columns: list[str]
    rows: int
    bytes: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a month's directory contains."""

    format: int
    month: str
    written_at: str
    files: list[ArchivedFile]


def month_name(month: date) -> str:
    return f"{month:%Y-%m}"


def parse_month(text: str) -> date:
    """The first day of a month. Raises ValueError."""
    if not _MONTH.fullmatch(text):
        raise ValueError(f"{text} is not a month like 2025-01")
    return date.fromisoformat(f"{text}-01")


def partial_folder(folder: Path, month: date) -> Path:
    """A new name for a month's directory that is being written."""
    return folder / f"{month_name(month)}{_PARTIAL}{uuid4().hex[:8]}"


def list_months(folder: Path) -> list[Path]:
    """The finished directories of months in this one, in order; or only this one, if it is one."""
    if (folder / MANIFEST).is_file():
        return [folder]
    return sorted(path for path in folder.iterdir() if _MONTH.fullmatch(path.name) and path.is_dir())


def list_partials(folder: Path) -> list[Path]:
    """The directories of months that a command left before they had their names, in order. Makes the directory, if it
    does not exist."""
    folder.mkdir(parents=True, exist_ok=True)
    return sorted(path for path in folder.glob(f"*{_PARTIAL}*") if _MONTH.fullmatch(path.name.split(".")[0]))


def write_manifest(folder: Path, manifest: Manifest) -> bytes:
    """Write the manifest last of all files, force all to the disk, and return its digest."""
    text = msgspec.json.format(msgspec.json.encode(manifest), indent=2)
    with (folder / MANIFEST).open("xb") as file:
        file.write(text)
        _sync(file)
    sync_folder(folder)
    return sha256(text).digest()


def read_manifest(folder: Path) -> tuple[Manifest, bytes]:
    """A directory's manifest and its digest. Raises DamagedArchive."""
    try:
        text = (folder / MANIFEST).read_bytes()
        manifest = msgspec.json.decode(text, type=Manifest)
        parse_month(manifest.month)
    except OSError as error:
        raise DamagedArchive(f"{folder / MANIFEST} can't be read: {error.strerror}") from None
    except (msgspec.DecodeError, ValueError):
        raise DamagedArchive(f"{folder / MANIFEST} is not a manifest of scrip archive") from None
    if manifest.format != NUMBER:
        raise DamagedArchive(f"{folder} has format {manifest.format}; this version reads {NUMBER}")
    return manifest, sha256(text).digest()


def check_file(folder: Path, file: ArchivedFile, progress: Callable[[int], None]) -> None:
    """Read a file, and report its bytes. Raises DamagedArchive if it is not the manifest's."""
    digest, size = sha256(), 0
    try:
        with (folder / file.name).open("rb") as source:
            while chunk := source.read(CHUNK_BYTES):
                digest.update(chunk)
                size += len(chunk)
                progress(len(chunk))
    except OSError as error:
        raise DamagedArchive(f"{folder / file.name} can't be read: {error.strerror}") from None
    if (size, digest.hexdigest()) != (file.bytes, file.sha256):
        raise DamagedArchive(f"{folder / file.name} is damaged: its checksum is not the manifest's")


def read_chunks(folder: Path, file: ArchivedFile) -> Iterator[bytes]:
    """A file's CSV. Raises DamagedArchive, at the end if the file is not the manifest's."""
    path = folder / file.name
    try:
        with path.open("rb") as raw:
            source = _Digesting(raw)
            with gzip.GzipFile(fileobj=source) as text:
                while chunk := text.read(CHUNK_BYTES):
                    yield chunk
    except (OSError, EOFError, ValueError) as error:
        raise DamagedArchive(f"{path} can't be read: {type(error).__name__}") from None
    if source.digest.hexdigest() != file.sha256:
        raise DamagedArchive(f"{path} is damaged: its checksum is not the manifest's")


class Writing:
    """A file that is being written; `sha256` and `bytes` are final once it is closed."""

    def __init__(self, out: "_Digesting", text: gzip.GzipFile) -> None:
        self._out, self.write = out, text.write

    @property
    def sha256(self) -> str:
        return self._out.digest.hexdigest()

    @property
    def bytes(self) -> int:
        return self._out.bytes


@contextmanager
def open_file(path: Path) -> Iterator[Writing]:
    """Write a new file, and force it to the disk at the end."""
    with path.open("xb") as raw:
        out = _Digesting(raw)
        with gzip.GzipFile("", "wb", _LEVEL, out, mtime=0) as text:  # type: ignore[arg-type]
            yield (writing := Writing(out, text))
        _sync(raw)
    if writing.bytes != path.stat().st_size:
        raise DamagedArchive(f"{path} was changed while it was written")


def sync_folder(folder: Path) -> None:
    """Force a directory's names to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


class _Digesting:
    """A file, and the digest of the bytes that were read from it or written to it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.digest, self.bytes = file, sha256(), 0

    def read(self, size: int = -1) -> bytes:
        return self._note(self._file.read(size))

    def write(self, data: Any) -> int:
        return self._file.write(self._note(bytes(data)))

    def flush(self) -> None:
        self._file.flush()

    def _note(self, data: bytes) -> bytes:
        self.digest.update(data)
        self.bytes += len(data)
        return data
