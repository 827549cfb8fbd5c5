"""What the model starts from: measured costs, list prices on demand, and vendors' limits.

To use your own, measure on the machine that you would rent, and change the figures here:
- CPU, and all bytes but three: `bench.json` of `make bench ARGS="--only pairs sustained opening --full"`.
- Redis's bytes of a code and of an Idempotency-Key: `make bench PART=memory`."""

from typing import NamedTuple

MEASURED_ON = "2026-11-22 17:45 UTC, 2 × Intel(R) Xeon(R) Processor"

PAIR_US = {"api": 112.6, "redis": 139.9, "worker": 32.45, "postgres": 44.42}
"""CPU of a redemption, which is a lock and a redeem, at full load: `redemptionUs` of the row `sustained`."""
REFUSED_US = {"api": 52.5, "redis": 10.5, "worker": 1.5, "postgres": 3.0}
"""CPU of a request of an opening, of which 19 in 20 are refused: `requestUs` of the row `opening`. Measured on
2026-11-22 21:22 UTC, 2 × AMD EPYC, busy with other work."""

# Bytes of a redemption: `redemptionBytes` of the row `sustained`.
OUTBOX_BYTES, NETWORK_BYTES = 229.1, 1_254.0
POSTGRES_BYTES, INDEX_BYTES, WAL_BYTES = 962.6, 483.6, 1_251.0
CODE_POSTGRES_BYTES = 213.2
"""Of an uploaded code: `codeBytes` of the row `pairs`."""
IDLE_BYTES, REDEEMED_BYTES, KEY_BYTES = 33.66, 63.35, 87.84
"""In Redis (`make bench PART=memory`): an idle code; what order and user of a redeemed one add; an Idempotency-Key."""


class Price(NamedTuple):
    """A product of AWS in us-east-1, on demand."""

    product: str
    usd: float
    unit: str
    read: str
    """The date of the source."""
    source: str
    memory_gib: float = 0
    vcpu: int = 0


# Nobody keeps prices and limits current: check each at its vendor's page before you decide anything. Those of
# ElastiCache were read from the AWS Price List API by another program on that day.
_NODE = ("node and hour", "2026-10-02", "https://aws.amazon.com/elasticache/pricing/")
_EC2 = "https://www.factualminds.com/blog/amazon-ec2-on-demand-pricing-instance-families-2026/"
_RDS = (
    "vCPU and hour, one zone",
    "2026-06-30",
    "https://www.usage.ai/blogs/aws/reserved-instances/rds/postgresql/read-replicas/",
)
_DISK = ("2026-06-30", "https://www.usage.ai/blogs/aws/reserved-instances/rds/pricing-calculator/")
NODES = (
    Price("ElastiCache for Valkey, cache.r7g.large", 0.1752, *_NODE, memory_gib=13.07),
    Price("ElastiCache for Valkey, cache.r7g.xlarge", 0.3496, *_NODE, memory_gib=26.32),
    Price("ElastiCache for Valkey, cache.r7g.2xlarge", 0.6984, *_NODE, memory_gib=52.82),
    Price("ElastiCache for Valkey, cache.r7g.4xlarge", 1.396, *_NODE, memory_gib=105.81),
)
MACHINE = Price("EC2 m7g.large, 2 vCPU", 0.0816, "machine and hour", "2026-06-17", _EC2, vcpu=2)
POSTGRES = Price("RDS for PostgreSQL db.r8g, each vCPU and 8 GiB (db.r8g.xlarge: 0.478)", 0.1195, *_RDS, memory_gib=8)
DISK = Price("RDS gp3", 0.115, "GB and month, one zone", *_DISK)
READS = Price("RDS gp3, operations a second beyond 3,000", 0.02, "month, one zone", *_DISK)
PRICES = (*NODES, MACHINE, POSTGRES, DISK, READS)

REDIS_NODES = 500
"""Of a cluster of ElastiCache or MemoryDB, on request: docs.aws.amazon.com/AmazonElastiCache/latest/dg/Clusters.html"""
REDIS_GIB = 419
"""Of the largest node, r7g.16xlarge: docs.aws.amazon.com/AmazonElastiCache/latest/dg/CacheNodes.SupportedTypes.html"""
POSTGRES_VCPU = 192
"""Of the largest instance of RDS, db.r8g.48xlarge: aws.amazon.com/rds/instance-types/"""
DISK_TIB, DISK_MIB_S, DISK_IOPS = 64, 4_000, 64_000
"""Of an instance of RDS with gp3: docs.aws.amazon.com/AmazonRDS/latest/UserGuide/CHAP_Storage.html"""
VCPU_IOPS, VCPU_MIB_S = 1_250, 37
"""Of each vCPU of a db.r8g, all the time: docs.aws.amazon.com/AWSEC2/latest/UserGuide/ebs-optimized.html"""
