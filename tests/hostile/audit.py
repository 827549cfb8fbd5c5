"""Known faults of what requirements.lock names, by pip-audit, in an environment of its own: `make audit`.

Ends with 0 where there are none, 1 where there are some, 2 where the advisories could not be read.
"""

import json
import subprocess
import sys
import tempfile
import venv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

TOOL = "pip-audit>=2.9,<3"
LOCK = Path(__file__).parents[2] / "requirements.lock"
PATIENCE_S = 600.0


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="scrip-audit-") as folder:
        venv.create(folder, with_pip=True)
        binaries = Path(folder, "bin")
        install = [binaries / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", TOOL]
        if (code := _run(install)[0]) != 0:
            return _unasked(f"{TOOL} can't be installed (pip ended with {code})")
        options = ["--requirement", LOCK, "--require-hashes", "--disable-pip", "--progress-spinner", "off"]
        _, output = _run([binaries / "pip-audit", *options, "--format", "json"])
        try:
            return _judged(json.loads(output)["dependencies"])
        except (ValueError, KeyError):
            return _unasked("the advisories can't be reached")


def _judged(packages: list[dict[str, Any]]) -> int:
    """pip-audit succeeds although it has no data on a package; so the packages that it skipped are counted here."""
    skipped = [one["name"] for one in packages if "skip_reason" in one]
    faulty = [(one["name"], one["version"], fault["id"]) for one in packages for fault in one.get("vulns", [])]
    for name, version, fault in faulty:
        print(f"{name} {version}: {fault}")
    if skipped:
        return 1 if faulty else _unasked(f"nothing is known of {len(skipped)} of {len(packages)} packages")
    print(f"{len(packages)} packages, {len(faulty)} known faults")
    return 1 if faulty else 0


def _run(command: Sequence[object]) -> tuple[int, str]:
    try:
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, timeout=PATIENCE_S)
    except subprocess.TimeoutExpired:
        return 1, ""
    return done.returncode, done.stdout


def _unasked(reason: str) -> int:
    print(f"NOT AUDITED: {reason}. Nothing is known of faults, neither good nor bad.", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
