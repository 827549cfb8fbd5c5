"""Scrip as compose.yaml and deploy/kubernetes run it, as plain processes on this machine.

1. The `prepare` service of compose.yaml makes certificates and Valkey's users, in a folder that stands for its volumes.
2. Valkey and Postgres get the options of their services. The wheels' servers lack TLS, so `door` ends it before them,
   with the certificates of the first step; Postgres's owner is no superuser, as at vendors.
3. Processes get the commands and variables that are written there. Host names, ports and paths of containers become
   those of this machine.
"""

import asyncio
import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import asyncpg
import yaml

from service.server.embedded.postgres import Postgres
from tests.harness.plugin import require
from tests.harness.running import data_folder
from tests.harness.servers import VALKEY, free_port, started, started_postgres
from tests.harness.tls import Certificate, door
from tests.harness.waiting import PATIENCE_S

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
PASSWORDS = {
    "POSTGRES_PASSWORD": "owner", "SCRIP_API_PASSWORD": "apisecret", "SCRIP_WORKER_PASSWORD": "workersecret",
    "REDIS_ADMIN_PASSWORD": "adminsecret",
}  # fmt: skip
_variable = re.compile(r"\$\{(\w+):([?-])([^}]*)\}")


def manifests() -> dict[tuple[str, str], dict[str, Any]]:
    """The objects of deploy/kubernetes by kind and name."""
    texts = [path.read_text() for path in sorted((ROOT / "deploy" / "kubernetes").glob("*.yaml"))]
    objects = [one for text in texts for one in yaml.safe_load_all(text)]
    return {(one["kind"], one["metadata"]["name"]): one for one in objects}


def container(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The only container of a Deployment or a Job."""
    (one,) = manifest["spec"]["template"]["spec"]["containers"]
    return one


def compose_env(service: str) -> dict[str, str]:
    """The variables of a service of compose.yaml, with the passwords of these tests."""

    def value(match: re.Match[str]) -> str:
        return PASSWORDS[match[1]] if match[2] == "?" else match[3]

    env = COMPOSE["services"][service].get("environment", {})
    return {name: _variable.sub(value, str(text)) for name, text in env.items()}


def kubernetes_env(manifest: Mapping[str, Any], secrets: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """The variables of a container, with these Secrets."""
    env: dict[str, str] = {}
    for one in container(manifest)["env"]:
        reference = one.get("valueFrom", {}).get("secretKeyRef")
        env[one["name"]] = secrets[reference["name"]][reference["key"]] if reference else one["value"]
    return env


class Deployed:
    """Servers that run, and processes to start."""

    def __init__(self, folder: Path, stack: contextlib.ExitStack) -> None:
        self._folder, self._stack = folder, stack
        self.processes: list[subprocess.Popen[bytes]] = []
        self._hosts: dict[str, str] = {}
        self._volumes: dict[str, Path] = {}
        self._prepare()
        self._start_valkey()
        self._start_postgres()

    @property
    def authority(self) -> Path:
        return self._volumes["authority"] / "ca.pem"

    def localize(self, text: str, mounts: Mapping[str, Path]) -> str:
        """Replace hosts with their ports, and the paths of a container."""
        for host, here in self._hosts.items():
            text = re.sub(rf"(?<![\w.]){host}\b", here, text)
        for inside, here in mounts.items():
            text = re.sub(rf"(?<![\w.]){inside}(?=/|$)", str(here), text)
        return text

    def mounts(self, service: str) -> dict[str, Path]:
        """Where the mounted paths of a service of compose.yaml are here."""
        found: dict[str, Path] = {}
        for text in COMPOSE["services"][service].get("volumes", []):
            source, inside = text.split(":")[:2]
            found[inside] = ROOT / source if source.startswith(".") else self._volumes[source]
        return found

    def of_compose(self, service: str, **changes: str) -> tuple[list[str], dict[str, str]]:
        """The command and variables of a service."""
        mounts = self.mounts(service)
        env = {name: self.localize(text, mounts) for name, text in compose_env(service).items()}
        return COMPOSE["services"][service]["command"], env | changes

    def of_kubernetes(self, manifest: Mapping[str, Any], **changes: str) -> tuple[list[str], dict[str, str]]:
        """The arguments and variables of a manifest's container. Secrets hold what compose.yaml has for the process."""
        secrets = {f"scrip-{name}": compose_env(name) for name in ("api", "worker", "migrate")}
        (mount,) = container(manifest)["volumeMounts"]
        mounts = {mount["mountPath"]: self._volumes["authority"]}
        env = {name: self.localize(text, mounts) for name, text in kubernetes_env(manifest, secrets).items()}
        return container(manifest)["args"], env | changes

    def start(self, command: list[str], env: Mapping[str, str]) -> subprocess.Popen[bytes]:
        """Start `scrip` with this command, and these variables alone."""
        python = [sys.executable, "-m", "service"]
        more = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
        return self._start([*python, *command], more | dict(env))

    def start_proxy(self, api_port: int) -> int:
        """Start HAProxy with deploy/haproxy.cfg before an API; return its port."""
        program, port = require("haproxy"), free_port()
        self._hosts["api:8000"] = f"127.0.0.1:{api_port}"
        text = self.localize((ROOT / "deploy" / "haproxy.cfg").read_text(), self.mounts("proxy"))
        settings = self._folder / "haproxy.cfg"
        settings.write_text(text.replace("bind :8443", f"bind 127.0.0.1:{port}"))
        self._start([program, "-db", "-f", str(settings)], {})
        return port

    def output(self) -> str:
        return "\n".join(path.read_text() for path in sorted(self._folder.glob("output-*")))

    def _start(self, command: list[str], env: Mapping[str, str]) -> subprocess.Popen[bytes]:
        with (self._folder / f"output-{len(self.processes)}").open("wb") as output:
            process = subprocess.Popen(command, cwd=self._folder, env=env, stdout=output, stderr=subprocess.STDOUT)
        self.processes.append(process)
        self._stack.callback(_end, process)
        return process

    def _prepare(self) -> None:
        """Run the service `prepare`, whose volumes are in the folder under their paths in its container."""
        require("openssl")
        service = COMPOSE["services"]["prepare"]
        for text in service["volumes"]:
            source, inside = text.split(":")[:2]
            here = self._folder / inside.removeprefix("/")
            if source.startswith("."):
                here.write_bytes((ROOT / source).read_bytes())
            else:
                here.mkdir(parents=True)
                self._volumes[source] = here
        script = self._folder / service["entrypoint"][-1].removeprefix("/")
        env = compose_env("prepare") | {"PATH": os.environ["PATH"], "ROOT": str(self._folder)}
        for _ in range(2):  # as at a second start
            subprocess.run([*service["entrypoint"][:-1], script, *service["command"]], env=env, check=True)
        self._volumes |= {name: self._folder / name for name in ("valkey", "postgres")}

    def _start_valkey(self) -> None:
        mounts = self.mounts("valkey")
        words = [self.localize(word, mounts) for word in COMPOSE["services"]["valkey"]["command"][1:]]
        options = dict(zip(words[::2], words[1::2], strict=True))
        assert options.pop("--port") == "0", "Valkey must not listen without TLS"
        port = options.pop("--tls-port")
        plain = [word for item in options.items() if not item[0].startswith("--tls-") for word in item]
        mounts["/data"].mkdir()
        url = self._stack.enter_context(started(VALKEY, mounts["/data"], *plain))
        inner = int(url.rpartition(":")[2].partition("/")[0])
        outer = self._stack.enter_context(door(Certificate(mounts["/tls"]), inner))
        self._hosts[f"valkey:{port}"] = f"localhost:{outer}"

    def _start_postgres(self) -> None:
        mounts = self.mounts("postgres")
        words = [self.localize(word, mounts) for word in COMPOSE["services"]["postgres"]["command"][1:]]
        settings = dict(word.split("=", 1) for word in words if word != "-c")
        assert settings.pop("ssl") == "on"
        # The door ends TLS and connects by the socket, so the rules for TLS become rules for the socket.
        rules = re.findall(r"^hostssl +(\S+) +(\S+) +\S+ +(\S+)$", Path(settings["hba_file"]).read_text(), re.MULTILINE)
        hba = self._folder / "hba.conf"
        hba.write_text("local all postgres trust\n" + "".join(f"local {' '.join(rule)}\n" for rule in rules))
        hba.chmod(0o644)
        plain = {name: text for name, text in settings.items() if not name.startswith("ssl")} | {"hba_file": str(hba)}
        postgres = Postgres(self._folder)
        postgres.child.argv += [word for name, text in plain.items() for word in ("-c", f"{name}={text}")]
        self._stack.enter_context(started_postgres(postgres))
        asyncio.run(_create_database(postgres.url, compose_env("postgres")))
        inner = f"{postgres._socket_folder}/.s.PGSQL.5432"
        outer = self._stack.enter_context(door(Certificate(mounts["/tls"]), inner, postgres=True))
        self._hosts["postgres:5432"] = f"localhost:{outer}"


@contextlib.contextmanager
def deployed() -> Iterator[Deployed]:
    """Start the servers; end everything."""
    with data_folder() as folder, contextlib.ExitStack() as stack:
        yield Deployed(folder, stack)


async def _create_database(url: str, env: Mapping[str, str]) -> None:
    """Create the owner and its database."""
    connection = await asyncpg.connect(url)
    owner, database = env["POSTGRES_USER"], env["POSTGRES_DB"]
    await connection.execute(f"CREATE ROLE {owner} LOGIN CREATEROLE PASSWORD '{env['POSTGRES_PASSWORD']}'")
    await connection.execute(f"CREATE DATABASE {database} OWNER {owner}")
    await connection.close()


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait(PATIENCE_S)
