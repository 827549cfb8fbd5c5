"""What docs/deploy.md calls on a machine with systemd and Debian's packages, in a folder that stands for `/`.

`python -P machine.py ROOT NAME …` is the program NAME. `pip` builds and installs the files that pyproject.toml puts
into the wheel, without the index: third-party packages are those of this Python. `systemctl` runs a unit's
ExecStart with the variables of its EnvironmentFile alone, in `/`, and keeps the ids of processes in ROOT/pids, as
`systemd-run` does; Postgres runs already, and reads its files again. What needs the packages of Debian, or another
account, does nothing.
"""

import os
import re
import select
import signal
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

NAMES = ("apt-get", "install", "python3", "redis-cli", "runuser", "systemctl", "systemd-run", "useradd")
_ACCOUNT = {"-o", "-g"}


def add_program(root: Path, folder: Path, name: str, *words: str) -> None:
    """Write a program into a folder; it gets these words before its own."""
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / name
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -P {__file__} {root} {" ".join((name, *words))} "$@"\n')
    program.chmod(0o755)


def _wheel_files() -> Iterator[tuple[Path, str]]:
    """Each file of the wheel, and its name there."""
    wheel = tomllib.loads(Path("pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    for source, target in {**{one: one for one in wheel["packages"]}, **wheel["force-include"]}.items():
        place = Path(source)
        paths = [place] if place.is_file() else (path for path in place.rglob("*") if path.is_file())
        for path in paths:
            if "__pycache__" not in path.parts:
                yield path, os.path.normpath(Path(target, path.relative_to(place)))


def _pip(root: Path, venv: str, *words: str) -> None:
    place = Path(venv)
    match words:
        case "install", "--require-hashes", "-r", lock:
            assert Path(lock).is_file()
        case "wheel", "--no-deps", "--wheel-dir", folder, ".":
            Path(folder).mkdir()
            version = tomllib.loads(Path("pyproject.toml").read_text())["project"]["version"]
            with zipfile.ZipFile(Path(folder, f"scrip-{version}-py3-none-any.whl"), "w") as wheel:
                for path, name in _wheel_files():
                    wheel.write(path, name)
        case "install", "--no-deps", wheel_path:
            zipfile.ZipFile(wheel_path).extractall(place / "lib")
            program = place / "bin" / "scrip"
            program.write_text(f'#!/bin/sh\nPYTHONPATH={place}/lib exec {sys.executable} -P -m service "$@"\n')
            program.chmod(0o755)
        case _:
            raise NotImplementedError(words)


def _venv(root: Path, *words: str) -> None:
    assert words[:2] == ("-m", "venv")
    add_program(root, Path(words[2], "bin"), "pip", words[2])


def _install(root: Path, *words: str) -> None:
    """Copy, or make a folder, as this account."""
    kept = [word for before, word in zip(("", *words), words, strict=False) if not {before, word} & _ACCOUNT]
    subprocess.run(["/usr/bin/install", *kept], check=True)


def _redis_cli(root: Path, *words: str) -> None:
    """Send a command, or those of the standard input, one a line."""
    import redis  # the other programs start faster without it

    assert words[0::2][:2] == ("-p", "--user")
    client = redis.Redis(port=int(words[1]), username=words[3], password=os.environ["REDISCLI_AUTH"])
    for line in [" ".join(words[4:])] if words[4:] else sys.stdin:
        print(client.execute_command(*line.split()))


def _runuser(root: Path, *words: str) -> None:
    command = words[words.index("--") + 1 :]
    os.execvp(command[0], command)


def _systemctl(root: Path, *words: str) -> None:
    verb, *units = [word for word in words if word != "--now"]
    for unit in units:
        if unit == "postgresql":
            subprocess.run(["psql", "--quiet", "--output=/dev/null", "--command=SELECT pg_reload_conf()"], check=True)
        if unit in {"postgresql", "prometheus"}:
            continue
        if verb in {"stop", "restart"}:
            _stop(root / "pids" / unit)
        if verb in {"enable", "restart", "start"}:
            _start(root, unit)


def _stop(pids: Path) -> None:
    """End a process, and wait for it; it is no child of this program."""
    process = os.pidfd_open(int(pids.read_text()))
    pids.unlink()
    signal.pidfd_send_signal(process, signal.SIGTERM)
    select.select([process], [], [])


def _systemd_run(root: Path, *words: str) -> None:
    """Run a command, whose last words begin with /usr/bin/env, with the variables of a file."""
    at = words.index("/usr/bin/env")
    (variables,) = (word.partition("=")[2] for word in words[:at] if word.startswith("EnvironmentFile="))
    _run(root, words[words.index("--unit") + 1], [*words[at:]], _read_variables(variables))


def _start(root: Path, unit: str) -> None:
    name, _, instance = unit.partition("@")
    if name == "redis-server":
        command, env = [os.environ["REDIS_SERVER"], str(root / f"etc/redis/redis-{instance}.conf")], {}
    else:
        lines = (root / "etc/systemd/system" / f"{unit}.service").read_text().splitlines()
        service = dict(line.split("=", 1) for line in lines if re.match(r"\w+=", line))
        command = service["ExecStart"].split()
        env = _read_variables(service["EnvironmentFile"])
    _run(root, unit, command, env)


def _read_variables(path: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in Path(path).read_text().splitlines()) | {"PATH": os.defpath}


def _run(root: Path, unit: str, command: list[str], env: dict[str, str]) -> None:
    (root / "pids").mkdir(exist_ok=True)
    with (root / f"{unit}.log").open("ab") as log:
        process = subprocess.Popen(command, cwd="/", env=env, stdout=log, stderr=log, start_new_session=True)
    (root / "pids" / unit).write_text(str(process.pid))


def _nothing(root: Path, *words: str) -> None: ...


PROGRAMS: dict[str, Callable[..., None]] = {
    "apt-get": _nothing,
    "install": _install,
    "pip": _pip,
    "python3": _venv,
    "redis-cli": _redis_cli,
    "runuser": _runuser,
    "systemctl": _systemctl,
    "systemd-run": _systemd_run,
    "useradd": _nothing,
}

if __name__ == "__main__":
    PROGRAMS[sys.argv[2]](Path(sys.argv[1]), *sys.argv[3:])
