"""Programs in the wheels of the extra `embedded`: postgres.py and valkey.py find theirs."""

import importlib.util
from pathlib import Path

from service.common.child_processes import StartError


def find_in_wheel(wheel: str, pattern: str, server: str, setting: str) -> Path:
    """Return the path of a program in a wheel, without importing the wheel. Raises StartError if there is none."""
    spec = importlib.util.find_spec(wheel.replace("-", "_"))
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        for program in Path(folder).glob(pattern):
            return program
    raise StartError(
        f"No embedded {server} on this machine. Install `scrip[embedded]` (it brings {wheel}), or set {setting}."
    )
