"""The load generator in C: compiled when it is first wanted, run, and its word read."""

import asyncio
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from itertools import accumulate
from math import ceil
from pathlib import Path
from typing import Self

import msgspec

from loadtests.plan import TOKEN

SOURCE = Path(__file__).with_suffix(".c")
FLAGS = ("-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror")
STRIDE = 7919
"""As in the source: the number of codes is not a multiple of it."""
PATIENCE_S = 40.0
"""How much longer than its seconds it may take."""


class GeneratorError(Exception):
    """It can't be compiled, or it ended without a word; what is wrong, and what to do."""


class Histogram(msgspec.Struct, frozen=True):
    """Latencies: the most of each bucket and how many, in µs, in order. A bucket is 1.6 % wide."""

    count: int
    max: int
    buckets: list[tuple[int, int]]

    @classmethod
    def of(cls, counts: Mapping[int, int]) -> Self:
        """Of latencies that were counted in Python, by their µs."""
        return cls(sum(counts.values()), max(counts, default=0), sorted(counts.items()))

    def at_us(self, share: float) -> int:
        """What this share of all is not above; never less than the true latency. 0 where there is none."""
        rank = ceil(round(self.count * share, 6))
        counts = accumulate(many for _, many in self.buckets)
        reached = (most for (most, _), seen in zip(self.buckets, counts, strict=True) if seen >= rank)
        return min(next(reached, 0), self.max)


class Load(msgspec.Struct, frozen=True, rename="camel"):
    """What came of a load. `finished` are pairs, or buyers who got something."""

    good: bool
    """Whether each request had an answer, and one that should be."""
    seconds: float
    cpu_seconds: float
    finished: int
    asked: int
    answered: int
    unanswered: int
    unasked: int
    unexpected: int
    connections_lost: int
    answers: dict[str, int]
    latency_us: dict[str, Histogram]

    @property
    def wrong(self) -> str:
        """What should not have been, in words; empty where all is well."""
        if self.good:
            return ""
        return (
            f"{self.unexpected} answers that should not be, {self.unanswered} requests without one, "
            f"{self.unasked} never sent, {self.connections_lost} connections lost: {self.answers}"
        )


def build() -> Path:
    """The generator, compiled from this source by this compiler, once. GeneratorError without one."""
    compiler = shutil.which(os.environ.get("CC") or "cc")
    if compiler is None:
        raise GeneratorError("no C compiler: install one (Debian: apt-get install gcc libc6-dev), or name it in CC")
    inputs = [SOURCE.read_text(), compiler, *FLAGS, platform.machine()]
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "scrip"
    built = folder / f"generator-{hashlib.sha256(chr(0).join(inputs).encode()).hexdigest()[:16]}"
    if built.exists():
        return built
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as fresh:
        made = Path(fresh) / "generator"
        done = subprocess.run([compiler, *FLAGS, "-o", made, SOURCE], capture_output=True, text=True, check=False)
        if done.returncode:
            raise GeneratorError(f"{compiler} can't compile {SOURCE.name}:\n{done.stderr}")
        made.replace(built)
    return built


async def drive(url: str, key: str, mode: str, *, seconds: int, full: bool = False, **options: str | int) -> Load:
    """Load the service at a loopback address. GeneratorError where it can't be loaded at all."""
    words = [mode, "--port", url.rpartition(":")[2], "--seconds", str(seconds), *(["--full"] if full else [])]
    for name, value in options.items():
        words += [f"--{name.replace('_', '-')}", str(value)]
    program = await asyncio.to_thread(build)
    environment = os.environ | {TOKEN: key}
    pipe = subprocess.PIPE
    process = await asyncio.create_subprocess_exec(program, *words, env=environment, stdout=pipe, stderr=pipe)
    try:
        async with asyncio.timeout(seconds + PATIENCE_S):
            output, complaint = await process.communicate()
    except TimeoutError:
        raise GeneratorError(f"the generator didn't end {PATIENCE_S:.0f} s after its time") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if not output:
        raise GeneratorError(complaint.decode().strip() or f"the generator ended with {process.returncode}")
    return msgspec.json.decode(output, type=Load)
