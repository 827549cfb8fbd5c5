"""What Scrip can do and what it costs: `python -m loadtests.bench [PART] [options]`, which is `make bench`.

Without a part it runs `table` (loadtests/parts/table.py). PART --help says what a part measures."""

import argparse
import importlib
import sys

from loadtests.figures import interpreter, say

PARTS = "table bulk memory calls lane timing recovery bounds tenants reports".split()


def main(arguments: list[str] | None = None) -> int:
    """Run a part; 1 if it fails."""
    words = sys.argv[1:] if arguments is None else arguments
    named = words[:1] if words and not words[0].startswith("-") else []
    name = named[0] if named else PARTS[0]
    if name not in PARTS:
        print(f"No part is named {name}: {', '.join(PARTS)}", file=sys.stderr)
        return 2
    part = importlib.import_module(f"loadtests.parts.{name}")
    options = argparse.ArgumentParser(
        prog=f"python -m loadtests.bench {name}",
        description=part.__doc__,
        epilog=f"Parts: {', '.join(PARTS)}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    part.add_options(options)
    chosen = options.parse_args(words[len(named) :])
    say(interpreter())
    return int(part.run(chosen) or 0)


if __name__ == "__main__":
    sys.exit(main())
