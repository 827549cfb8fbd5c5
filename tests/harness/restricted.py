"""Scrip's processes as installed: each with its own user at Redis and role at Postgres, by TLS and with passwords."""

import asyncio
import contextlib
import hashlib
import json
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import asyncpg

from service.engine.record.login_roles import ensure_role, grant_privileges
from service.server.embedded import demo_data
from service.server.embedded.postgres import Postgres
from tests.harness.pgbouncer import pgbouncer
from tests.harness.running import Run, data_folder, migrate
from tests.harness.servers import VALKEY, free_port, started, started_postgres
from tests.harness.tls import Authority, door
from tests.harness.waiting import PATIENCE_S

VENDORS = {
    "elasticache": "bgrewriteaof bgsave config debug migrate replicaof save slaveof shutdown sync",
    "memorydb": "acl|deluser acl|load acl|save acl|setuser bgrewriteaof bgsave cluster|addslots cluster|delslots "
    "cluster|setslot config debug migrate module psync replicaof save shutdown slaveof sync",
    "memorystore": "acl asking bgrewriteaof bgsave client|kill client|pause client|unpause client|unblock "
    "client|no-evict config cluster debug failover migrate module monitor psync replicaof save shutdown slaveof sync",
    "aiven": "bgrewriteaof cluster command debug failover migrate slaveof acl bgsave config lastsave monitor replicaof "
    "save shutdown",
    "oci": "acl bgrewriteaof bgsave cluster config|set debug migrate module psync replicaof save shutdown sync",
}
"""The commands that each vendor's documentation names as blocked: "Restricted commands - Amazon ElastiCache",
"Restricted commands - Amazon MemoryDB", "Supported and blocked commands" of Memorystore for Valkey (a list of what is
allowed: these are not in it), "Restricted commands in Aiven for Valkey", "Unsupported Valkey and Redis Commands" of OCI
Cache, which allows CONFIG GET."""


def vendor_rights(vendor: str) -> list[str]:
    """The rights of a user at a vendor, for ACL SETUSER."""
    return ["~*", "&*", "+@all", *(f"-{command}" for command in VENDORS[vendor].split())]


ROOT = Path(__file__).parents[2]
PASSWORDS = {name: secrets.token_hex(16) for name in ("api", "worker", "admin", "replica", "sentinel", "tests")}


def acl_lines() -> list[str]:
    """Read the users of deploy/redis-acl, with this run's passwords, and add one with all rights."""
    text = (ROOT / "deploy" / "redis-acl").read_text()
    for name, password in PASSWORDS.items():
        text = text.replace(f"#{name.upper()}_PASSWORD_SHA256", f"#{_digest(password)}")
    lines = [line for line in text.splitlines() if line.startswith("user ")]
    return [*lines, f"user tests on #{_digest(PASSWORDS['tests'])} ~* &* +@all"]


def _digest(password: str) -> str:
    return hashlib.sha256(password.encode()).hexdigest()


class Restricted(Run):
    """Processes of the API and the worker, with the interface of a `scrip run`."""

    def __init__(self, folder: Path, redis: str, database: str, env: dict[str, dict[str, str]]) -> None:
        self.data_dir, self.output = folder, folder / "output"
        port = free_port()
        self.urls = env
        self.url = f"http://127.0.0.1:{port}"
        settings = {"SCRIP_PORT": str(port), "SCRIP_DATA_DIR": str(folder)}
        with self.output.open("wb") as output:
            self.processes = {
                name: subprocess.Popen(
                    [sys.executable, "-m", "service", name],
                    cwd=ROOT, env=os.environ | settings | urls, stdout=output, stderr=subprocess.STDOUT,
                )
                for name, urls in env.items()
            }  # fmt: skip
        self.process = self.processes["api"]
        pids = {name: [process.pid] for name, process in self.processes.items()}
        facts = {"url": self.url, "redisUrl": redis, "databaseUrl": database, "pids": pids}
        (folder / "run.json").write_text(json.dumps(facts))

    def end_all(self) -> None:
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            process.wait(PATIENCE_S)


@contextlib.contextmanager
def restricted(*, pooled: bool = False) -> Iterator[Restricted]:
    """Start servers with users and roles, the demo's data, and the processes. `pooled`: by PgBouncer, without TLS."""
    with data_folder() as folder, contextlib.ExitStack() as stack:
        authority = Authority(folder / "tls")
        acl = folder / "users.acl"
        acl.write_text("\n".join(acl_lines()) + "\n")
        options = ("--aclfile", str(acl), "--appendonly", "yes", "--appendfsync", "always", "--acllog-max-len", "0")
        # What is off by default is to be refused for want of the right, too.
        options += ("--enable-debug-command", "yes", "--enable-module-command", "yes")
        redis_port = int(stack.enter_context(started(VALKEY, folder, *options)).rpartition(":")[2].partition("/")[0])
        postgres = Postgres(folder)
        stack.enter_context(started_postgres(postgres))
        asyncio.run(_prepare(postgres.url, folder / "postgres" / "pg_hba.conf"))
        redis_tls = stack.enter_context(door(authority, redis_port))
        ca = quote(str(authority.file))
        if pooled:
            passwords = {f"scrip_{name}": PASSWORDS[name] for name in ("api", "worker")}
            port = stack.enter_context(pgbouncer(folder, postgres._socket_folder, passwords))
            database = f"127.0.0.1:{port}/postgres?pgbouncer=true"
        else:
            port = stack.enter_context(door(authority, f"{postgres._socket_folder}/.s.PGSQL.5432", postgres=True))
            database = f"localhost:{port}/postgres?sslmode=verify-full&sslrootcert={ca}"
        env = {
            name: {
                "REDIS_URL": f"rediss://scrip-{name}:{PASSWORDS[name]}@localhost:{redis_tls}/0?ssl_ca_certs={ca}",
                "DATABASE_URL": f"postgresql://scrip_{name}:{PASSWORDS[name]}@{database}",
            }
            for name in ("worker", "api")
        }
        tests = f"redis://tests:{PASSWORDS['tests']}@127.0.0.1:{redis_port}/0"
        run = Restricted(folder, tests, postgres.url, env)
        stack.callback(run.end_all)
        run.until_ready()
        yield run


async def _prepare(url: str, hba: Path) -> None:
    """Make tables, roles and the demo's data, as the owner; then the roles need their passwords."""
    connection = await asyncpg.connect(url)
    for name in ("api", "worker"):
        await ensure_role(connection, f"scrip_{name}", PASSWORDS[name])
    await migrate(url)
    for _ in range(2):  # it may be repeated
        await grant_privileges(connection)
    await demo_data.seed(url)
    await asyncio.to_thread(hba.write_text, "local all postgres trust\nlocal all all scram-sha-256\n")
    await connection.execute("SELECT pg_reload_conf()")
    await connection.close()
