"""How long each script holds Redis at the contract's bounds: `python -m loadtests.bounds`.

It starts the embedded Valkey without the append-only file, makes a shop as large as the contract lets it become
(tests/worst), runs one script on it, and reads from the server how long that took and how many commands it ran. Each
case is repeated, on an emptied server."""

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from loadtests.scripts import Wire
from loadtests.worst.ground import Ground
from loadtests.worst.measuring import commands, cpu_ms, script_ms
from loadtests.worst.table import CASES, Case
from service.embedded.valkey import Valkey
from service.hot.connection import connect
from service.hot.redis_server import Server

SIZE, ROUNDS = 100_000, 3


async def measure(cases: list[Case], size: int, rounds: int) -> None:
    """The table, a line for each case."""
    with tempfile.TemporaryDirectory() as folder:
        valkey = Valkey(Path(folder))
        await valkey.start()
        try:
            connection = await connect(valkey.url, "bounds")
            server = Server(connection, 0)
            await server.command("CONFIG", "SET", "appendonly", "no")
            print("| script | bound | commands | CPU ms | ms | longest |\n|---|---|---|---|---|---|")
            for case in cases:
                print(await _line(server, Wire(connection), case, size, rounds), flush=True)
            connection.close()
        finally:
            await valkey.stop()


async def _line(server: Server, wire: Wire, case: Case, size: int, rounds: int) -> str:
    times, cpus = list[float](), list[float]()
    ran = 0
    for number in range(rounds):
        print(f"{case.script} {number + 1}", file=sys.stderr)
        await server.command("FLUSHALL")
        ground = await Ground(wire).open()
        run = await case.prepare(ground, size)
        await ground.ready(run)
        before = await commands(ground), await script_ms(ground), await cpu_ms(ground)
        reply = await ground.carry_out(run)
        if not isinstance(reply, list) or reply[0] not in case.replies:
            raise RuntimeError(f"{case.script}: {reply!r}")
        cpus.append(await cpu_ms(ground) - before[2])
        ran = await commands(ground) - before[0]
        times.append(await script_ms(ground) - before[1])
    times.sort()
    cpus.sort()
    bound = case.bound.format(size=f"{size:,}")
    figures = (cpus[len(cpus) // 2], times[len(times) // 2], times[-1])
    return f"| {case.script} | {bound} | {ran:,} | " + " | ".join(f"{figure:.1f}" for figure in figures) + " |"


def main() -> None:
    """The command."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--size", type=int, default=SIZE, help=f"of what nothing bounds ({SIZE:,})")
    options.add_argument("--rounds", type=int, default=ROUNDS, help=f"({ROUNDS})")
    options.add_argument("--only", default="", help="scripts, by their names")
    chosen = options.parse_args()
    cases = [case for case in CASES if not chosen.only or case.script in chosen.only.split(",")]
    asyncio.run(measure(cases, chosen.size, chosen.rounds))


if __name__ == "__main__":
    main()
