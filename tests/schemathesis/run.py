"""Schemathesis against a service of its own: `python -m tests.schemathesis.run`, which is `make fuzz`."""

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.harness.running import Run
from tests.harness.servers import free_port
from tests.harness.trees import ROOT

CONFIG = Path(__file__).with_name("schemathesis.toml")
ALL_PHASES = ("examples", "coverage", "fuzzing", "stateful")
PATIENCE_S = 3600.0


@dataclass(frozen=True)
class FuzzResult:
    """A run's result; `exit_code` 0 is success."""

    exit_code: int
    cases: int
    operations: int
    tested: int


def fuzz(
    url: str, seed: int, examples: int, report: Path, phases: Sequence[str] = ALL_PHASES, mode: str = "all"
) -> FuzzResult:
    """Run schemathesis on a service with `scrip run`'s keys: at most so many examples per operation and phase.

    `mode` is `positive` for requests that the document calls good, `negative` for bad ones."""
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIG), "run"]
    command += [f"{url}/schema/openapi.json", "--seed", str(seed), "--max-examples", str(examples)]
    command += ["--phases", ",".join(phases), "--mode", mode, "--report", "json", "--report-json-path", str(report)]
    completed = subprocess.run(command, cwd=ROOT, check=False, timeout=PATIENCE_S)
    results = json.loads(report.read_text())
    operations = results["operations"]
    return FuzzResult(
        completed.returncode, results["test_cases"]["generated"], operations["selected"], operations["tested"]
    )


def main() -> int:
    """Run all phases; fail on too few cases."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=20_000, help="fail where there were fewer")
    parser.add_argument("--examples", type=int, default=320, help="for each operation and phase")
    parser.add_argument("--seed", type=int, default=random.randrange(2**31), help="one that an earlier run printed")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="scrip-fuzz-", ignore_cleanup_errors=True) as folder:
        run = Run(Path(folder) / "data", free_port())
        try:
            outcome = fuzz(run.until_ready().url, options.seed, options.examples, Path(folder) / "report.json")
        finally:
            run.end(signal.SIGTERM)
    print(f"{outcome.cases} cases, seed {options.seed}")
    if outcome.cases < options.cases:
        print(f"fewer than {options.cases}: raise --examples", file=sys.stderr)
        return 1
    return outcome.exit_code


if __name__ == "__main__":
    sys.exit(main())
