"""A model of size: what a number of redemptions a day needs of each part. It computes; it measures nothing.

Everything follows from one bench result, one result of `bench memory`, and the assumptions, which are options of
loadtests/scale.py. A redemption is a pair of the bench: a lock and a redeem."""

import tomllib
from collections.abc import Callable, Iterator, Mapping
from datetime import date
from math import ceil, exp
from pathlib import Path
from typing import NamedTuple

import msgspec

from loadtests.figures import Row

GIB, MIB, TIB, GB = 2**30, 2**20, 2**40, 10**9
DAY_S, MONTH_H = 86_400, 730
PAGE = 8_192
"""Bytes of a page of Postgres."""
RANDOM_INDEXES = 5
"""Indexes into which a redemption is inserted at a random place: by user, code, order, single use, Idempotency-Key."""
KEYS = 2
"""Idempotency-Keys of a redemption: of its lock and of itself. Each is kept for a day."""
OUTBOX_S = 120
"""Recorded events stay in the outbox for so long."""
INSTANCES = (2, 4, 8, 16, 32, 48, 64, 96, 192)
"""vCPU of the instances of Postgres."""
INCLUDED_READS_S = 3_000
MOST_PARTITIONS, PARTITIONS_EACH = 1_024, 4
"""Partitions of a database, and how many of them a primary has at least, so that they spread evenly."""


class Assumptions(msgspec.Struct, frozen=True):
    """What the model can't know. Each is an option."""

    peak: float = 20.0
    """the busiest second has so many times the redemptions of a mean second"""
    refused: float = 5.0
    """refused requests for each redemption in that second"""
    busy: float = 0.6
    """share of a core, and of a disk, that may be busy in that second"""
    full: float = 0.6
    """share of a server's memory that Redis's data, and Postgres's indexes, may take"""
    core: float = 1.0
    """how many times as fast a rented core is as the measured one"""
    codes: float = 2.0
    """codes in Redis for each redeemed one"""
    redis_days: float = 30.0
    """days for which Redis holds a book's codes, and Postgres its orders: the book's life and SCRIP_RETIRE_DAYS"""
    postgres_days: float = 400.0
    """days for which Postgres holds facts"""
    checkpoint_s: float = 900.0
    """seconds between checkpoints of Postgres"""


class Measured(NamedTuple):
    """What one redemption, one refused request and one code cost, as measured."""

    machine: Mapping[str, str | int]
    pair_us: dict[str, float]
    """CPU of each process for a redemption at full load, on as many connections as the bench uses."""
    refused_us: dict[str, float]
    """CPU for a request of an opening, of which 19 in 20 are refused."""
    bytes: dict[str, float]
    """What a redemption adds (loadtests/sizes.py)."""
    code_bytes: dict[str, float]
    redeemed_bytes: float
    """In Redis: a redeemed code, its order and user."""
    idle_bytes: float
    key_bytes: float


class Price(msgspec.Struct, frozen=True):
    """A row of prices.toml."""

    part: str
    vendor: str
    product: str
    region: str
    usd: float
    unit: str
    read: date
    source: str
    memory_gib: float = 0
    vcpu: int = 0


class _Limit(msgspec.Struct):
    name: str
    value: float
    what: str
    source: str


class _Vendors(msgspec.Struct):
    price: list[Price]
    limit: list[_Limit]


class Vendors(NamedTuple):
    """Prices by part, and limits by name."""

    prices: list[Price]
    limits: dict[str, float]

    def of(self, part: str) -> list[Price]:
        """The products of a part, the cheapest first."""
        return sorted((price for price in self.prices if price.part == part), key=lambda price: price.usd)


class Need(NamedTuple):
    """What a number of redemptions a day needs in its busiest second, or holds."""

    redemptions_s: float
    requests_s: float
    cores: dict[str, float]
    """Busy cores of each process."""
    redis_bytes: float
    redis_bytes_s: float
    """Bytes that Redis receives and sends."""
    index_bytes: float
    """Of Postgres: the indexes that are written at random places."""
    wal_bytes_s: float
    disk_bytes: float


def read_measured(bench: Path, memory: Path) -> Measured:
    """Read a bench result and a result of `bench memory --keep`. LookupError if a row is missing."""
    result = msgspec.json.decode(bench.read_bytes())
    rows = [msgspec.convert(row, Row) for row in result["rows"]]

    def find(part: str) -> Row:
        for row in rows:
            if row.part == part and "plain" not in row.what:
                return row
        raise LookupError(f"{bench} has no row of {part}: run make bench ARGS='--only pairs sustained opening --full'.")

    costs = {cost["name"].split()[0]: cost["bytes"] for cost in msgspec.json.decode(memory.read_bytes())}
    sustained = find("sustained")
    return Measured(
        result["machine"],
        sustained.redemption_us,
        find("opening").request_us,
        sustained.redemption_bytes,
        find("pairs").code_bytes,
        costs["recorded"],
        costs["idle"],
        costs["Idempotency-Key"],
    )


def read_vendors(path: Path) -> Vendors:
    """Read prices.toml."""
    vendors = msgspec.convert(tomllib.loads(path.read_text("utf-8")), _Vendors)
    return Vendors(vendors.price, {limit.name: limit.value for limit in vendors.limit})


def compute_need(day: float, measured: Measured, given: Assumptions) -> Need:
    """What so many redemptions a day need."""
    mean_s = day / DAY_S
    peak_s = mean_s * given.peak
    cores = {
        part: peak_s * (us + given.refused * measured.refused_us[part]) / 1e6 / given.core
        for part, us in measured.pair_us.items()
    }
    in_redis = day * given.redis_days
    index_bytes = measured.bytes["indexes"] * in_redis
    return Need(
        redemptions_s=peak_s,
        requests_s=peak_s * (2 + given.refused),
        cores=cores,
        redis_bytes=in_redis * (measured.redeemed_bytes + given.codes * measured.idle_bytes)
        + day * KEYS * measured.key_bytes
        + peak_s * OUTBOX_S * measured.bytes["outbox"],
        redis_bytes_s=peak_s * measured.bytes["network"],
        index_bytes=index_bytes,
        wal_bytes_s=peak_s * measured.bytes["wal"] + _page_images_s(peak_s, index_bytes, given.checkpoint_s),
        disk_bytes=day
        * given.postgres_days
        * (measured.bytes["postgres"] + given.codes * measured.code_bytes["postgres"]),
    )


def _page_images_s(peak_s: float, index_bytes: float, checkpoint_s: float) -> float:
    """Bytes a second of the log for whole pages: Postgres logs a page as a whole when it is first changed after a
    checkpoint. The bench's tables are too small to show this."""
    pages = index_bytes / PAGE
    changes = peak_s * checkpoint_s * RANDOM_INDEXES
    return pages * (1 - exp(-changes / pages)) * PAGE / checkpoint_s


class Servers(NamedTuple):
    """Servers for a need."""

    node: Price
    by_cpu: int
    """Primaries that the busiest second needs."""
    by_memory: int
    """Primaries that the data needs."""
    primaries: int
    partitions: int
    api: int
    workers: int
    machines: int
    databases: int
    """Installations, each with its own Postgres and its own share of the workspaces."""
    vcpu: int
    """Of each instance of Postgres."""
    usd: dict[str, float]
    """A month, by part."""


def choose_servers(day: float, measured: Measured, given: Assumptions, vendors: Vendors) -> Servers:
    """Servers for so many redemptions a day: the cheapest nodes of Redis and the fewest databases, each primary with a
    replica and each database with a standby."""
    needed = compute_need(day, measured, given)
    by_cpu = max(1, ceil(needed.cores["redis"] / given.busy))

    def primaries_by_memory(node: Price) -> int:
        return max(1, ceil(needed.redis_bytes / (node.memory_gib * GIB * given.full)))

    node = min(vendors.of("redis"), key=lambda node: node.usd * max(by_cpu, primaries_by_memory(node)))
    by_memory = primaries_by_memory(node)
    primaries = max(by_cpu, by_memory)
    api, workers = (max(2, ceil(needed.cores[part] / given.busy)) for part in ("api", "worker"))
    (machine,), (postgres,), (disk,), (read,) = (vendors.of(part) for part in ("machine", "postgres", "disk", "reads"))
    machines = max(2, ceil((api + workers) / machine.vcpu))
    databases = max(1, ceil(max(one.use(day) for one in find_ceilings(measured, given, vendors) if one.divides)))
    vcpu = _instance(needed, databases, given, vendors)
    reads_s = _reads_s(needed, databases * vcpu * postgres.memory_gib * GIB * given.full)
    usd = {
        "Redis": 2 * primaries * node.usd * MONTH_H,
        "API and workers": machines * machine.usd * MONTH_H,
        "Postgres": 2 * databases * vcpu * postgres.usd * MONTH_H,
        "Postgres's disk": 2 * (needed.disk_bytes / GB * disk.usd + max(0, reads_s - INCLUDED_READS_S) * read.usd),
    }
    partitions = max(16, 2 ** (ceil(primaries * PARTITIONS_EACH / databases) - 1).bit_length())
    return Servers(node, by_cpu, by_memory, primaries, partitions, api, workers, machines, databases, vcpu, usd)


def _instance(needed: Need, databases: int, given: Assumptions, vendors: Vendors) -> int:
    """The vCPU of the smallest instance of Postgres that does what each of so many databases needs."""
    (postgres,), limits = vendors.of("postgres"), vendors.limits
    for vcpu in INSTANCES:
        reads_s = _reads_s(needed, databases * vcpu * postgres.memory_gib * GIB * given.full) / databases
        used = (
            needed.cores["postgres"] / databases / vcpu,
            reads_s / min(limits["disk_iops"], vcpu * limits["vcpu_iops"]),
            needed.wal_bytes_s / databases / MIB / min(limits["disk_mib_s"], vcpu * limits["vcpu_mib_s"]),
        )
        if max(used) <= given.busy:
            return vcpu
    return INSTANCES[-1]


class Ceiling(NamedTuple):
    """Something that ends at some size: what, its limit as a text, which part of it a size uses, and whether more
    installations end it."""

    name: str
    limit: str
    use: Callable[[float], float]
    divides: bool = False

    def reached(self) -> float:
        """Redemptions a day at which it is used up."""
        low, high = 1.0, 1e15
        while high / low > 1.0001:
            middle = (low * high) ** 0.5
            low, high = (middle, high) if self.use(middle) < 1 else (low, middle)
        return high


def find_ceilings(measured: Measured, given: Assumptions, vendors: Vendors) -> list[Ceiling]:
    """All, the lowest first."""
    return sorted(_each_ceiling(measured, given, vendors), key=Ceiling.reached)


def _each_ceiling(measured: Measured, given: Assumptions, vendors: Vendors) -> Iterator[Ceiling]:
    limits = vendors.limits

    def of(figure: Callable[[Need], float], limit: float) -> Callable[[float], float]:
        return lambda day: figure(compute_need(day, measured, given)) / limit

    (postgres,) = vendors.of("postgres")
    memory_bytes = limits["postgres_vcpu"] * postgres.memory_gib * GIB * given.full
    busy = f"{given.busy:.0%} of a core"
    yield Ceiling("one workspace: a core of Redis", busy, of(lambda n: n.cores["redis"], given.busy))
    yield Ceiling("one workspace: its worker", busy, of(lambda n: n.cores["worker"], given.busy))
    node_bytes = limits["redis_gib"] * GIB * given.full
    yield Ceiling(
        "one workspace: memory of a node",
        f"{given.full:.0%} of {limits['redis_gib']:,.0f} GiB",
        of(lambda n: n.redis_bytes, node_bytes),
    )
    vcpu = limits["postgres_vcpu"]
    yield Ceiling(
        "Postgres: CPU",
        f"{given.busy:.0%} of {vcpu:,.0f} vCPU",
        of(lambda n: n.cores["postgres"], vcpu * given.busy),
        True,
    )
    yield Ceiling(
        "Postgres: indexes in memory",
        f"{given.full:.0%} of {memory_bytes / given.full / GIB:,.0f} GiB",
        of(lambda n: n.index_bytes, memory_bytes),
    )
    yield Ceiling(
        "Postgres: random reads",
        f"{given.busy:.0%} of {limits['disk_iops']:,.0f} a second",
        of(lambda n: _reads_s(n, memory_bytes), limits["disk_iops"] * given.busy),
        True,
    )
    log_bytes_s = limits["disk_mib_s"] * MIB * given.busy
    log_limit = f"{given.busy:.0%} of {limits['disk_mib_s']:,.0f} MiB/s"
    yield Ceiling("Postgres: log", log_limit, of(lambda n: n.wal_bytes_s, log_bytes_s), True)
    yield Ceiling(
        "Postgres: disk", f"{limits['disk_tib']:,.0f} TiB", of(lambda n: n.disk_bytes, limits["disk_tib"] * TIB), True
    )
    primaries = limits["redis_nodes"] / 2
    yield Ceiling(
        "Redis: nodes of a cluster",
        f"{primaries:,.0f} primaries",
        of(lambda n: n.cores["redis"] / given.busy, primaries),
        True,
    )
    most = MOST_PARTITIONS / PARTITIONS_EACH
    yield Ceiling("partitions", f"{most:,.0f} primaries", of(lambda n: n.cores["redis"] / given.busy, most), True)


def _reads_s(needed: Need, memory_bytes: float) -> float:
    """Pages that Postgres reads a second, because its indexes exceed its memory."""
    return needed.redemptions_s * RANDOM_INDEXES * max(0.0, 1 - memory_bytes / needed.index_bytes)
