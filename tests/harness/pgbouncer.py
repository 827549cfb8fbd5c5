"""A PgBouncer with transaction pooling, in front of a Postgres that listens on a socket."""

import contextlib
import os
import socket
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.harness.plugin import require
from tests.harness.servers import free_port
from tests.harness.waiting import PATIENCE_S, until

POOL_SIZE = 3
"""Sessions of each role: fewer than each process has connections, so that these change sessions all the time."""


@contextlib.contextmanager
def pgbouncer(folder: Path, socket_folder: Path | str, passwords: Mapping[str, str]) -> Iterator[int]:
    """Start one for these roles with their passwords; yield its port."""
    program, port = require("pgbouncer"), free_port()
    users, settings = folder / "pgbouncer.users", folder / "pgbouncer.ini"
    users.write_text("".join(f'"{role}" "{password}"\n' for role, password in passwords.items()))
    settings.write_text(
        f"""[databases]
* = host={socket_folder} port=5432
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = plain
auth_file = {users}
pool_mode = transaction
default_pool_size = {POOL_SIZE}
"""
    )
    # It refuses to run as root. This account owns the socket of a Postgres that root started.
    account = ("-u", "nobody") if os.geteuid() == 0 else ()
    with (folder / "pgbouncer.log").open("wb") as log:
        process = subprocess.Popen([program, *account, settings], stdout=log, stderr=subprocess.STDOUT)
    try:
        until(lambda: process.poll() is not None or _answers(port), "PgBouncer")
        assert process.poll() is None, (folder / "pgbouncer.log").read_text()
        yield port
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        return False
    return True
