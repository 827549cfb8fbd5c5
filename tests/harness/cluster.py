"""A cluster of Redis or Valkey for tests, by deploy/redis/cluster.conf, with nodes that die and slots that move."""

import contextlib
import itertools
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from service.engine.hot.cluster import SLOTS, slot_of
from tests.harness.servers import free_port
from tests.harness.shipped import NODE, write_shipped
from tests.harness.waiting import PATIENCE_S, until

PRIMARIES = 3
CLUSTERED_PARTITIONS = 4
"""Of a service on it: each primary has one at least."""
NODE_TIMEOUT_MS = 1000
"""A primary that is silent for so long is replaced by its replica."""
_AWAY = (RedisError, LookupError)
"""What a node answers, or does not, while it starts or fails over."""


class ClusterNode:
    """A node, which can be killed and started again."""

    def __init__(
        self, binary: Path, folder: Path, *options: str, user: str | None = None, password: str | None = None
    ) -> None:
        self.port, self.bus_port = free_port(), free_port()
        self._folder = folder / str(self.port)
        self._folder.mkdir()
        shipped = write_shipped(self._folder / "node.conf", NODE, {"cluster-node-timeout": str(NODE_TIMEOUT_MS)})
        settings = f"""--port {self.port} --cluster-port {self.bus_port} --bind 127.0.0.1 --dir {self._folder}
            --save --cluster-replica-validity-factor 0 --repl-diskless-sync-delay 0
            --repl-ping-replica-period 1 --maxmemory-policy noeviction --logfile log""".split()
        settings.insert(settings.index("--save") + 1, "")
        self._command = [binary, shipped, *settings, *options]
        self.process: subprocess.Popen[bytes] | None = None
        self.client = redis.Redis(
            port=self.port,
            username=user,
            password=password,
            retry=Retry(NoBackoff(), 0),
            decode_responses=True,
            socket_timeout=5,
        )
        self.client.response_callbacks.clear()

    def start(self) -> None:
        self.process = subprocess.Popen(self._command)
        until(lambda: self.run("PING") == "PONG", "a node", away=_AWAY)

    def kill(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait(PATIENCE_S)
        self.client.close()

    def signal(self, which: signal.Signals) -> None:
        if self.process:
            self.process.send_signal(which)

    def run(self, *command: Any) -> Any:
        reply: Any = self.client.execute_command(*command)
        return reply

    def info(self, section: str) -> dict[str, str]:
        lines = self.run("CLUSTER", "INFO") if section == "cluster" else self.run("INFO", section)
        return dict(line.split(":", 1) for line in lines.splitlines() if ":" in line)

    @property
    def runs(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def node_id(self) -> str:
        return self.run("CLUSTER", "MYID")

    def own_slots(self) -> set[int]:
        """The slots that it leads, as it says itself."""
        ranges = [row for row in self.run("CLUSTER", "SLOTS") if row[2][1] == self.port]
        return {slot for first, last, *_ in ranges for slot in range(first, last + 1)}

    @property
    def leads(self) -> bool:
        return self.info("replication")["role"] == "master"


class Cluster:
    """Three primaries with as many slots each, and a replica of each."""

    def __init__(self, nodes: list[ClusterNode]) -> None:
        self.nodes = nodes

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes[:PRIMARIES])

    def form(self) -> None:
        """Make a cluster of the nodes, and wait until all of them agree."""
        first, *others = self.nodes
        primaries, replicas = self.nodes[:PRIMARIES], self.nodes[PRIMARIES:]
        bounds = [SLOTS * at // PRIMARIES for at in range(PRIMARIES + 1)]
        for epoch, node in enumerate(self.nodes, 1):
            node.run("CLUSTER", "SET-CONFIG-EPOCH", epoch)
        for node, (begin, end) in zip(primaries, itertools.pairwise(bounds), strict=True):
            node.run("CLUSTER", "ADDSLOTSRANGE", begin, end - 1)
        for node in others:
            first.run("CLUSTER", "MEET", "127.0.0.1", node.port, node.bus_port)
        until(
            lambda: all(one.info("cluster")["cluster_known_nodes"] == str(len(self.nodes)) for one in self.nodes),
            "nodes that know each other",
            away=_AWAY,
        )
        for replica, primary in zip(replicas, primaries, strict=True):
            until(lambda r=replica, p=primary: r.run("CLUSTER", "REPLICATE", p.node_id) == "OK", "replicas", away=_AWAY)
        self.wait_for_health()

    def wait_for_health(self) -> None:
        """Wait until each node runs, agrees on who leads, and replicas have everything."""

        def is_healthy(node: ClusterNode) -> bool:
            lines = [line.split(" ") for line in node.run("CLUSTER", "NODES").splitlines()]
            led = [line for line in lines if "master" in line[2] and "fail" not in line[2] and line[8:]]
            info = node.info("replication")
            return (
                node.info("cluster")["cluster_state"] == "ok"
                and len(led) == PRIMARIES
                and info.get("master_link_status", "up") == "up"
                and not any("fail" in line[2] or "handshake" in line[2] for line in lines)
            )

        def all_agree() -> bool:
            return sum(node.leads for node in self.nodes) == PRIMARIES and all(map(is_healthy, self.nodes))

        until(all_agree, "a healthy cluster", away=_AWAY)

    def heal(self) -> None:
        """Start nodes that died; those that were replaced become replicas."""
        for node in self.nodes:
            if not node.runs:
                node.start()
        self.wait_for_health()

    def primary_of(self, partition: int) -> ClusterNode:
        """The running primary of a partition's slot."""
        slot = slot_of(partition)
        for node in self.nodes:
            with contextlib.suppress(RedisError):
                if node.runs and slot in node.own_slots():
                    return node
        raise LookupError(f"no node has partition {partition}")

    def other_primary(self, node: ClusterNode) -> ClusterNode:
        return next(one for one in self.nodes if one is not node and one.runs and one.leads)

    def move_whole(self, partition: int, to: ClusterNode) -> None:
        """Move a partition's slot by CLUSTER MIGRATESLOTS of Valkey 9, and wait until it has moved."""
        slot = slot_of(partition)
        self.primary_of(partition).run("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", slot, slot, "NODE", to.node_id)
        until(lambda: self.primary_of(partition) is to, "a slot that moves", away=_AWAY)

    def begin_move(self, partition: int, to: ClusterNode) -> ClusterNode:
        """Begin to move a partition's slot key by key; the node that has it."""
        slot, source = slot_of(partition), self.primary_of(partition)
        to.run("CLUSTER", "SETSLOT", slot, "IMPORTING", source.node_id)
        source.run("CLUSTER", "SETSLOT", slot, "MIGRATING", to.node_id)
        return source

    def move_keys(self, partition: int, source: ClusterNode, to: ClusterNode, at_most: int) -> int:
        """Move some keys of a slot that moves key by key; how many."""
        keys = source.run("CLUSTER", "GETKEYSINSLOT", slot_of(partition), at_most)
        if keys:
            source.run("MIGRATE", "127.0.0.1", to.port, "", 0, 5000, "KEYS", *keys)
        return len(keys)

    def end_move(self, partition: int, source: ClusterNode, to: ClusterNode) -> None:
        for node in (to, source):
            node.run("CLUSTER", "SETSLOT", slot_of(partition), "NODE", to.node_id)
        until(lambda: self.primary_of(partition) is to, "a slot that moves", away=_AWAY)

    def empty(self) -> None:
        """Remove all keys and scripts."""
        for node in self.nodes:
            if node.leads:
                node.run("FLUSHALL")
                node.run("SCRIPT", "FLUSH")


@contextlib.contextmanager
def start_cluster(
    binary: Path, folder: Path, *options: str, user: str | None = None, password: str | None = None
) -> Iterator[Cluster]:
    """A cluster that is healthy, with a user where it has users; it ends with the block."""
    cluster = Cluster(
        [ClusterNode(binary, folder, *options, user=user, password=password) for _ in range(2 * PRIMARIES)]
    )
    try:
        for node in cluster.nodes:
            node.start()
        cluster.form()
        yield cluster
    finally:
        for node in cluster.nodes:
            node.kill()
