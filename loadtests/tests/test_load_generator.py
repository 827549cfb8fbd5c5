"""The load generator in C and what is made of its word, without a service."""

import asyncio
import os
import random
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, closing
from math import ceil
from pathlib import Path

import msgspec
import pytest

from loadtests import generator
from loadtests.generator import GeneratorError, Histogram
from tests.harness.plugin import require
from tests.harness.servers import free_port

PAIRS = {"prefix": "B-", "codes": 100, "count": 20, "connections": 4}
_Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture
def program() -> Path:
    require(os.environ.get("CC") or "cc")
    return generator.build()


@asynccontextmanager
async def server(serve: _Serve) -> AsyncIterator[str]:
    """The address of a server that does this with each connection."""
    with closing(await asyncio.start_server(serve, "127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"


def answering(status: str, body: bytes) -> _Serve:
    """A server that has one answer for everything."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.read(1 << 16):
            for _ in range(head.count(b"POST ")):
                writer.write(f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        writer.close()

    return serve


async def hung_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def lengthless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A server that doesn't say where its answer ends."""
    await reader.read(1 << 16)
    writer.write(b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
    await reader.read()
    writer.close()


async def other_words(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A server of something else, which speaks first."""
    writer.write(b"SSH-2.0-OpenSSH_9.2\r\n")
    await reader.read()
    writer.close()


async def ran(program: Path, *words: str) -> tuple[int | None, str]:
    environment, pipe = os.environ | {generator.TOKEN: "key"}, subprocess.PIPE
    process = await asyncio.create_subprocess_exec(program, *words, env=environment, stdout=pipe, stderr=pipe)
    _, complaint = await process.communicate()
    return process.returncode, complaint.decode()


def histogram_of(program: Path, latencies: Iterable[int]) -> Histogram:
    """What the generator makes of latencies."""
    text = "\n".join(map(str, latencies))
    result = subprocess.run([program, "histogram"], input=text, capture_output=True, text=True, check=True)
    return msgspec.json.decode(result.stdout, type=dict[str, Histogram])["all"]


@pytest.mark.parametrize("seed", range(4))
def test_percentiles_are_those_of_the_sorted_latencies(program: Path, seed: int) -> None:
    """From none to a second: never less than the true one, and at most 1/64 more; the count and the most exactly."""
    chance = random.Random(seed)
    latencies = [int(chance.expovariate(1 / 10 ** chance.randrange(1, 6))) for _ in range(5_000)]
    found = histogram_of(program, latencies)
    assert (found.count, found.max) == (5_000, max(latencies))
    for share in (0.0002, 0.1, 0.5, 0.9, 0.99, 0.999, 1.0):
        true = sorted(latencies)[max(0, ceil(round(len(latencies) * share, 6)) - 1)]
        assert true <= found.at_us(share) <= true + true // 64, share


def test_a_bucket_ends_where_the_next_begins(program: Path) -> None:
    """Around every power of two: the most that a bucket stands for is in it, and one more is in the next."""
    for latency in (number for power in range(31) for number in (2**power - 1, 2**power, 2**power + 1)):
        (most, many), _ = histogram_of(program, [latency, 2**32 - 1]).buckets
        assert (many, latency <= most <= latency + latency // 64) == (1, True)
        assert [found[1] for found in histogram_of(program, [latency, most, most + 1]).buckets] == [2, 1]


async def test_a_dead_server_is_told_as_such(program: Path) -> None:
    """Nothing listens: one line, and exit code 1."""
    with pytest.raises(GeneratorError, match=r"^generator: 127\.0\.0\.1:\d+ takes no connection: Connection refused$"):
        await generator.drive(f"http://127.0.0.1:{free_port()}", "key", "pairs", seconds=1, **PAIRS)
    code, complaint = await ran(program, "pairs", "--port", str(free_port()), "--codes", "10")
    assert (code, complaint.count("\n")) == (1, 1)


WRONG = {
    "another answer": (answering("404 Not Found", b'{"code":"coupon_not_found"}'), {"lock 404 coupon_not_found": 20}),
    "a refusal without a code": (answering("500 Oops", b"oops"), {"lock 500": 20}),
    "another coupon": (answering("201 Created", b'{"lockToken":"t","code":"OTHER"}'), {"lock 201 of_another": 20}),
    "a success of another kind": (answering("204 No Content", b""), {"lock 204": 20}),
    "an answer too long": (answering("201 Created", b" " * 20_000), {}),
    "an answer of no length": (lengthless, {}),
    "the connection's end": (hung_up, {}),
    "another protocol": (other_words, {}),
}


@pytest.mark.parametrize("what", WRONG)
async def test_a_wrong_server_is_told_as_such(program: Path, what: str) -> None:
    """Every answer is counted under what it was; nothing of it counts as a pair, and it ends with 1."""
    serve, answers = WRONG[what]
    async with server(serve) as url:
        load = await generator.drive(url, "key", "pairs", seconds=5, **PAIRS)
        again = await ran(program, "pairs", "--port", url.rpartition(":")[2], "--seconds", "5", "--codes", "10")
        assert again[0] == 1
    assert (load.good, load.finished, load.answers) == (False, 0, answers)
    assert load.wrong
    assert load.unexpected == sum(answers.values())
    if not answers:
        assert load.connections_lost == PAIRS["connections"]


@pytest.mark.parametrize(("connections", "within_ms", "unanswered"), [(2, 1, 1), (1, 1000, 0)])
async def test_an_answer_that_never_comes_is_wrong(
    program: Path, connections: int, within_ms: int, unanswered: int
) -> None:
    """Of two buyers one is answered; the other's connection ends, or none is left to ask on."""
    heard = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal heard
        heard += 1
        is_last = heard == connections
        await reader.read(1 << 16)
        if is_last:
            writer.write(b'HTTP/1.1 201 Created\r\nContent-Length: 14\r\n\r\n{"code":"HOT"}')
        writer.close()

    buyers = {"count": 2, "connections": connections, "within_ms": within_ms, "code": "HOT"}
    async with server(serve) as url:
        load = await generator.drive(url, "key", "opening", seconds=5, **buyers)
    assert (load.good, load.answers) == (False, {"redeem 201": 1})
    assert (load.unexpected, load.unanswered, load.unasked) == (0, unanswered, 1 - unanswered)


@pytest.mark.parametrize(("mode", "first"), [("pairs", "lock"), ("redeem", "redeem")])
async def test_they_keep_to_a_rate(program: Path, mode: str, first: str) -> None:
    """Pairs, and redemptions alone, begin no faster than they are wanted, though the server would answer more."""
    async with server(answering("409 Conflict", b'{"code":"coupon_locked"}')) as url:
        load = await generator.drive(url, "key", mode, seconds=5, rate=100, **PAIRS)
    assert load.answers == {f"{first} 409 coupon_locked": PAIRS["count"]}
    assert load.seconds >= 19 / 100 * 0.9


async def test_options_that_make_no_sense_are_refused(program: Path) -> None:
    """Exit code 2 and what is wrong, before a connection is opened."""
    for words, complaint in (
        (["pairs"], "--port and SCRIP_LOAD_TOKEN are needed"),
        (["pairs", "--port", "1"], "--codes is above --first"),
        (["pairs", "--port", "1", "--codes", "7919"], "--codes is no multiple of 7919"),
        (["opening", "--port", "1"], "an opening has --count, and --code or --book"),
        (["pairs", "--port", "70000"], "--port is 1 to 65535, and not 70000"),
        (["pairs", "--connections", "many"], "--connections is 1 to 10000, and not many"),
        (["elsewhere"], "say pairs, redeem, opening or histogram"),
    ):
        assert await ran(program, *words) == (2, f"generator: {complaint}\n"), words
