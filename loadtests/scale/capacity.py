"""A model of size: what a number of redemptions a day needs of each part."""

from collections.abc import Callable, Iterator
from math import ceil, exp
from typing import NamedTuple

import msgspec

from loadtests.scale import constants

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


def compute_need(day: float, given: Assumptions) -> Need:
    peak_s = day / DAY_S * given.peak
    in_redis = day * given.redis_days
    index_bytes = constants.INDEX_BYTES * in_redis
    return Need(
        redemptions_s=peak_s,
        requests_s=peak_s * (2 + given.refused),
        cores={
            part: peak_s * (us + given.refused * constants.REFUSED_US[part]) / 1e6 / given.core
            for part, us in constants.PAIR_US.items()
        },
        redis_bytes=in_redis * (constants.REDEEMED_BYTES + given.codes * constants.IDLE_BYTES)
        + day * KEYS * constants.KEY_BYTES
        + peak_s * OUTBOX_S * constants.OUTBOX_BYTES,
        redis_bytes_s=peak_s * constants.NETWORK_BYTES,
        index_bytes=index_bytes,
        wal_bytes_s=peak_s * constants.WAL_BYTES + _page_images_s(peak_s, index_bytes, given.checkpoint_s),
        disk_bytes=day * given.postgres_days * (constants.POSTGRES_BYTES + given.codes * constants.CODE_POSTGRES_BYTES),
    )


def _page_images_s(peak_s: float, index_bytes: float, checkpoint_s: float) -> float:
    """Bytes a second of the log for whole pages: Postgres logs a page as a whole when it is first changed after a
    checkpoint. The bench's tables are too small to show this."""
    pages = index_bytes / PAGE
    changes = peak_s * checkpoint_s * RANDOM_INDEXES
    return pages * (1 - exp(-changes / pages)) * PAGE / checkpoint_s


def _reads_s(needed: Need, vcpu: float, given: Assumptions) -> float:
    """Pages that Postgres reads a second, because its indexes exceed the memory of so many vCPU."""
    memory_bytes = vcpu * constants.POSTGRES.memory_gib * GIB * given.full
    return needed.redemptions_s * RANDOM_INDEXES * max(0.0, 1 - memory_bytes / needed.index_bytes)


class Servers(NamedTuple):
    node: constants.Price
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


def choose_servers(day: float, given: Assumptions) -> Servers:
    """Servers for so many redemptions a day: the cheapest nodes and fewest databases, with replicas, standbys."""
    needed = compute_need(day, given)
    by_cpu = max(1, ceil(needed.cores["redis"] / given.busy))

    def primaries_by_memory(node: constants.Price) -> int:
        return max(1, ceil(needed.redis_bytes / (node.memory_gib * GIB * given.full)))

    node = min(constants.NODES, key=lambda node: node.usd * max(by_cpu, primaries_by_memory(node)))
    by_memory = primaries_by_memory(node)
    primaries = max(by_cpu, by_memory)
    api, workers = (max(2, ceil(needed.cores[part] / given.busy)) for part in ("api", "worker"))
    machines = max(2, ceil((api + workers) / constants.MACHINE.vcpu))
    databases = max(1, ceil(max(one.use(day) for one in find_ceilings(given) if one.divides)))
    vcpu = _choose_vcpu(needed, databases, given)
    reads_s = max(0, _reads_s(needed, databases * vcpu, given) - INCLUDED_READS_S)
    usd = {
        "Redis": 2 * primaries * node.usd * MONTH_H,
        "API and workers": machines * constants.MACHINE.usd * MONTH_H,
        "Postgres": 2 * databases * vcpu * constants.POSTGRES.usd * MONTH_H,
        "Postgres's disk": 2 * (needed.disk_bytes / GB * constants.DISK.usd + reads_s * constants.READS.usd),
    }
    partitions = max(16, 2 ** (ceil(primaries * PARTITIONS_EACH / databases) - 1).bit_length())
    return Servers(node, by_cpu, by_memory, primaries, partitions, api, workers, machines, databases, vcpu, usd)


def _choose_vcpu(needed: Need, databases: int, given: Assumptions) -> int:
    """The vCPU of the smallest instance of Postgres that does what each of so many databases needs."""
    for vcpu in INSTANCES:
        used = (
            needed.cores["postgres"] / databases / vcpu,
            _reads_s(needed, databases * vcpu, given)
            / databases
            / min(constants.DISK_IOPS, vcpu * constants.VCPU_IOPS),
            needed.wal_bytes_s / databases / MIB / min(constants.DISK_MIB_S, vcpu * constants.VCPU_MIB_S),
        )
        if max(used) <= given.busy:
            return vcpu
    return INSTANCES[-1]


class Ceiling(NamedTuple):
    """What ends at some size: its limit as a text, which part of it a size uses, whether more installations end it."""

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


def find_ceilings(given: Assumptions) -> list[Ceiling]:
    """All, the lowest first."""
    return sorted(_each_ceiling(given), key=Ceiling.reached)


def _each_ceiling(given: Assumptions) -> Iterator[Ceiling]:
    busy, full = given.busy, given.full

    def of(figure: Callable[[Need], float], limit: float) -> Callable[[float], float]:
        return lambda day: figure(compute_need(day, given)) / limit

    core, redis = f"{busy:.0%} of a core", of(lambda n: n.cores["redis"], busy)
    yield Ceiling("one workspace: a core of Redis", core, redis)
    yield Ceiling("one workspace: its worker", core, of(lambda n: n.cores["worker"], busy))
    node = of(lambda n: n.redis_bytes, constants.REDIS_GIB * GIB * full)
    yield Ceiling("one workspace: memory of a node", f"{full:.0%} of {constants.REDIS_GIB:,} GiB", node)
    cpu = of(lambda n: n.cores["postgres"], constants.POSTGRES_VCPU * busy)
    yield Ceiling("Postgres: CPU", f"{busy:.0%} of {constants.POSTGRES_VCPU:,} vCPU", cpu, True)
    memory_gib = constants.POSTGRES_VCPU * constants.POSTGRES.memory_gib
    indexes = of(lambda n: n.index_bytes, memory_gib * GIB * full)
    yield Ceiling("Postgres: indexes in memory", f"{full:.0%} of {memory_gib:,.0f} GiB", indexes)
    reads = of(lambda n: _reads_s(n, constants.POSTGRES_VCPU, given), constants.DISK_IOPS * busy)
    yield Ceiling("Postgres: random reads", f"{busy:.0%} of {constants.DISK_IOPS:,} a second", reads, True)
    log = of(lambda n: n.wal_bytes_s, constants.DISK_MIB_S * MIB * busy)
    yield Ceiling("Postgres: log", f"{busy:.0%} of {constants.DISK_MIB_S:,} MiB/s", log, True)
    yield Ceiling(
        "Postgres: disk", f"{constants.DISK_TIB:,} TiB", of(lambda n: n.disk_bytes, constants.DISK_TIB * TIB), True
    )
    limits = (
        ("Redis: nodes of a cluster", constants.REDIS_NODES // 2),
        ("partitions", MOST_PARTITIONS // PARTITIONS_EACH),
    )
    for name, primaries in limits:
        cores = of(lambda n: n.cores["redis"], primaries * busy)
        yield Ceiling(name, f"{primaries:,} primaries", cores, True)
