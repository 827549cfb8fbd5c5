"""The laboratory breaks a service on purpose, and judges what comes of it: `make lab PART=…`."""

import importlib
import sys
from typing import NamedTuple


class Part(NamedTuple):
    """Modules whose `main` runs one after the other, and what they do."""

    modules: tuple[str, ...]
    about: str


PARTS = {
    "faults": Part(
        ("faults.drills",), "faults of processes, servers, disks, clocks and connections: about a minute each"
    ),
    "alarms": Part(("faults.alarms",), "failures that Prometheus watches: which alert fires: one to ten minutes each"),
    "client": Part(("faults.client",), "the clients in Python and Node, on connections that lose replies: minutes"),
    "attack": Part(("attacks.attack",), "guessed codes, a sale that is locked empty, raced redeems: minutes"),
    "stalled": Part(("hostile.stalled",), "thousands of connections that stall: two minutes"),
    "canaries": Part(("hostile.canaries",), "codes and keys that are looked for in all that is written: minutes"),
    "poison": Part(("hostile.poison",), "names like those of Redis's keys: minutes"),
    "hostile": Part(("hostile.stalled", "hostile.canaries", "hostile.poison"), "the last three"),
    "mutants": Part(("mutants.program",), "each rule broken once: a test must turn red: hours"),
    "drifts": Part(
        ("drifts.program",), "differences between Redis and Postgres, which a comparison must find: a minute"
    ),
}


def main() -> int:
    """Run a part with its options; 1 if it finds something wrong."""
    name, *options = sys.argv[1:] or [""]
    if name not in PARTS:
        lines = [f"  {part:<9} {PARTS[part].about}" for part in PARTS]
        print('Choose a part: make lab PART=… (ARGS="--help" says what it can do)', *lines, sep="\n")
        return 0 if name in ("", "--help") else 2
    sys.argv = [f"make lab PART={name}", *options]
    return max([int(importlib.import_module(f"tests.lab.{module}").main()) for module in PARTS[name].modules])


if __name__ == "__main__":
    sys.exit(main())
