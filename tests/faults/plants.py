"""Mistakes that the faults must bring to light: each a change of the source, in a copy of the tree that is then run."""

from typing import NamedTuple

from tests.harness.trees import Change

SEEDS = 3
"""A mistake is found by then."""


class Plant(NamedTuple):
    """A mistake, and the fault under which it shows."""

    changes: tuple[Change, ...]
    fault: str


def plant(fault: str, path: str, old: str, new: str) -> Plant:
    """A mistake of one change."""
    return Plant((Change(path, old, new),), fault)


_SEND = "        connection.send(on_reply, command, requests)\n"
_APIS_DO_NOT_COUNT = Change("service/api/partition_watch.py", "LOOK_S = 1.0", "LOOK_S = 3600.0")
"""Only the worker counts then, and only the gate refuses."""
_COPY = '        await connection.copy_to_table(table, source=rows, columns=columns, format="text")\n'

PLANTS: dict[str, Plant] = {
    "the driver repeats what got no reply": plant(
        "Redis's replies lost",
        "service/hot/link.py",
        _SEND,
        """
        def again() -> None:
            there = self._connection
            there.send(on_reply, command, requests) if there else on_reply(Broken())

        def answer(reply: Reply) -> None:
            if isinstance(reply, Broken):
                asyncio.get_running_loop().call_later(0.3, again)
            else:
                on_reply(reply)

        connection.send(answer, command, requests)
""",
    ),
    "replies of a call to other requests": plant(
        "SIGKILL of Redis within calls of many requests",
        "service/hot/turns.py",
        "zip(decided, replies, strict=True)",
        "zip(decided, [*replies[1:], replies[0]], strict=True)",
    ),
    "everysec called fsynced": plant(
        "Redis's power lost, everysec",
        "service/hot/fitness.py",
        '\n        and settings.get("appendfsync") == "always"',
        "",
    ),
    "no sync while the file is rewritten": Plant(
        (
            Change("service/hot/fitness.py", '\n        and settings.get("no-appendfsync-on-rewrite") == "no"', ""),
            Change("service/hot/fitness.py", 'settings.get("no-appendfsync-on-rewrite") == "yes"', "False"),
        ),
        "CONFIG SET, then power lost",
    ),
    "synchronous_commit off": Plant(
        (
            Change(
                "service/record/pool.py",
                'server_settings={"application_name": name},\n',
                'server_settings={"application_name": name, "synchronous_commit": "off"},\n',
            ),
            Change("service/record/pool.py", '("on", "remote_apply")', '("on", "remote_apply", "off")'),
        ),
        "Postgres's power lost",
    ),
    "trimmed before the commit": plant(
        "Postgres's replies lost",
        "service/worker/write_behind.py",
        "                await self._record(seq + 1, entries[:run])\n",
        """\
                await self._outbox.trim(entries[run - 1][0], exactly=True)
                await self._record(seq + 1, entries[:run])
""",
    ),
    "trimmed by length": Plant(
        tuple(
            Change("lua/steps/append.lua", f"'NOMKSTREAM', {rest}", f"'NOMKSTREAM', 'MAXLEN', 100, {rest}")
            for rest in (
                "EPOCH .. '-*', 'd', decided, 'r', request, 'i', entry)",
                "EPOCH .. '-*', 'd', decided, 'r', request)",
            )
        ),
        "Postgres away",
    ),
    "the cursor moved in a transaction of its own": plant(
        "events that can't be recorded",
        "service/record/facts/event_writer.py",
        """\
        async with connection.transaction():
            if await connection.fetchval(query("move_cursor"), *cursor) is None:
                return False
""",
        """\
        if await connection.fetchval(query("move_cursor"), *cursor) is None:
            return False
        async with connection.transaction():
""",
    ),
    "no compare-and-set": plant(
        "the lease ended while its holder works",
        "sql/queries/partitions.sql",
        "WHERE id = $1 AND cursor_epoch = $2 AND cursor_seq = $3 AND fence = $5 AND $4 > $3",
        "WHERE id = $1 AND $2::bigint + $5::bigint IS NOT NULL AND $4::bigint > $3::bigint",
    ),
    "ON CONFLICT DO NOTHING": plant(
        "events that can't be recorded",
        "service/record/facts/event_writer.py",
        _COPY,
        """\
        names = ", ".join(columns)
        await connection.execute(f"CREATE TEMP TABLE staged AS SELECT {names} FROM {table} WITH NO DATA")
        await connection.copy_to_table("staged", source=rows, columns=columns, format="text")
        await connection.execute(f"INSERT INTO {table} ({names}) SELECT {names} FROM staged ON CONFLICT DO NOTHING")
        await connection.execute("DROP TABLE staged")
""",
    ),
    "deadlines by the caller's clock": Plant(
        (
            Change("lua/lock.lua", "local asked = now + (", "local asked = tonumber(ARGV[8]) + ("),
            Change("service/operations/lock.py", "import secrets\n", "import secrets\nimport time\n"),
            Change(
                "service/operations/lock.py",
                "_ms(request.lock_seconds), _draw_token())",
                "_ms(request.lock_seconds), _draw_token(), int(time.time() * 1000))",
            ),
        ),
        "the processes' clocks stepped",
    ),
    "idempotency kept by the API": plant(
        "Redis's replies lost",
        "lua/steps/enter.lua",
        "reply = replay(got[3], ARGV[1], now - offset_ms)",
        "reply = nil",
    ),
    "NOSCRIPT answered by loading": Plant(
        (
            Change(
                "service/hot/link.py",
                _SEND,
                """
        def answer(reply: Reply) -> None:
            if str(reply).startswith("NOSCRIPT"):
                connection.send(lambda _: None, ("SCRIPT", "LOAD", self.texts[command[1]]))
                connection.send(on_reply, command, requests)
            else:
                on_reply(reply)

        connection.send(answer, command, requests)
""",
            ),
            Change(
                "service/hot/decider.py",
                "self._digests[partition] = Scripts(partition, epoch, nonce, [*SERVING, *PROJECTION]).digests\n",
                """\
scripts = Scripts(partition, epoch, nonce, [*SERVING, *PROJECTION])
            self._digests[partition] = scripts.digests
            self.link(partition).texts = {digest: scripts.texts[name] for name, digest in scripts.digests.items()}
""",
            ),
            Change(
                "service/hot/decider.py", "return verified != here and bool(verified) and bool(here)", "return False"
            ),
        ),
        "an old dump is loaded while the worker sleeps",
    ),
    "the gate not read by lock": Plant(
        (Change("lua/lock.lua", "-- @step enter\n", "got[1] = OPEN\n-- @step enter\n"), _APIS_DO_NOT_COUNT),
        "Postgres away until the service is behind",
    ),
    "recorded answered before the commit": plant(
        "Postgres away",
        "service/api/durability.py",
        "await context.recorded.wait_recorded(caller.partition, to, wait_s * 1000, caller.workspace, scope)",
        "True",
    ),
    "how far the outbox goes asked only by who records it": Plant(
        (
            Change(
                "service/worker/partition_worker.py",
                "                flusher.observe_tail(await server.tail())\n",
                "                pass\n",
            ),
            _APIS_DO_NOT_COUNT,
        ),
        "Postgres hangs until the service is behind",
    ),
    "a lost anchor taken for recorded": plant(
        "the anchor lost",
        "service/worker/write_behind.py",
        '            raise AnchorLost(f"{self._cursor} is recorded and not in the outbox")\n',
        "            return entries\n",
    ),
    "an entry thrown away before it is recorded": plant(
        "SIGSTOP of each process",
        "lua/rollback.lua",
        "if entry then keep_entry(KEYS[3], entry, keep_ms) end\n",
        """\
if entry then keep_entry(KEYS[3], entry, keep_ms) end
redis.call('XDEL', KEYS[4], e.event)
""",
    ),
}
"""By name."""
