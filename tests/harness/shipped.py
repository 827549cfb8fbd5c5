"""The configuration files of Redis in deploy/, for servers on this machine."""

from collections.abc import Mapping
from pathlib import Path

from tests.harness.restricted import PASSWORDS
from tests.harness.trees import ROOT

SERVER = ("systemd/redis-scrip.conf", "redis/replica.conf")
SENTINEL = ("redis/sentinel.conf",)
NODE = ("redis/cluster.conf",)
"""Of a node only what a cluster adds."""


def write_shipped(config: Path, files: tuple[str, ...], changes: Mapping[str, str | None]) -> Path:
    """Write the lines of these files, with this machine's address, and with other values of settings; None removes
    them. Each setting that is changed must be there."""
    text = "".join((ROOT / "deploy" / file).read_text() for file in files)
    for name, password in PASSWORDS.items():
        text = text.replace(f"{name.upper()}_PASSWORD", password)
    lines = [line for line in text.replace("OWN_ADDRESS", "127.0.0.1").splitlines() if line and line[0] != "#"]
    for name, value in changes.items():
        (at,) = (at for at, line in enumerate(lines) if line.startswith(f"{name} "))
        lines[at : at + 1] = [] if value is None else [f"{name} {value}"]
    config.write_text("\n".join([*lines, ""]))
    return config
