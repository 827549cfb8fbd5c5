"""Mistakes that the faults must bring to light: each a change of the source, in a copy of the tree that is then run."""

from typing import NamedTuple

from loadtests.harness.trees import Change

SEEDS = 3
"""A mistake is found by then."""


class Plant(NamedTuple):
    """A mistake, and the fault under which it shows."""

    changes: tuple[Change, ...]
    fault: str


_SEND = "        connection.send(on_reply, command)\n"
_TOTAL = "taken = taken + redis.call('ZCOUNT', W .. 'lb:' .. book.number, '(' .. whole(now), '+inf')"
_COPY = '        await connection.copy_to_table(table, source=rows, columns=columns, format="text")\n'

PLANTS: dict[str, Plant] = {
    "the driver repeats what got no reply": Plant(
        (
            Change(
                "service/hot/connection.py",
                _SEND,
                """
        def again() -> None:
            there = self._connection
            there.send(on_reply, command) if there else on_reply(Broken())

        def answer(reply: Reply) -> None:
            if isinstance(reply, Broken):
                asyncio.get_running_loop().call_later(0.3, again)
            else:
                on_reply(reply)

        connection.send(answer, command)
""",
            ),
        ),
        "Redis's replies lost",
    ),
    "everysec called fsynced": Plant(
        (Change("service/hot/fitness.py", '\n        and settings.get("appendfsync") == "always"', ""),),
        "Redis's power lost, everysec",
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
                '"statement_timeout": "30s"}',
                '"statement_timeout": "30s", "synchronous_commit": "off"}',
            ),
            Change("service/record/pool.py", '("on", "remote_apply")', '("on", "remote_apply", "off")'),
        ),
        "Postgres's power lost",
    ),
    "trimmed before the commit": Plant(
        (
            Change(
                "service/worker/write_behind.py",
                "                await self._record(seq + 1, entries[:run])\n",
                """\
                await self._outbox.trim(entries[run - 1][0], exactly=True)
                await self._record(seq + 1, entries[:run])
""",
            ),
        ),
        "Postgres's replies lost",
    ),
    "trimmed by length": Plant(
        tuple(
            Change("lua/includes/outbox.lua", f"'NOMKSTREAM', {rest}", f"'NOMKSTREAM', 'MAXLEN', 100, {rest}")
            for rest in (
                "EPOCH .. '-*', 'd', decided, 'r', request, 'i', entry)",
                "EPOCH .. '-*', 'd', decided, 'r', request)",
            )
        ),
        "Postgres away",
    ),
    "the cursor moved in a transaction of its own": Plant(
        (
            Change(
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
        ),
        "events that can't be recorded",
    ),
    "no compare-and-set": Plant(
        (
            Change(
                "sql/queries/partitions.sql",
                "WHERE id = $1 AND cursor_epoch = $2 AND cursor_seq = $3 AND fence = $5 AND $4 > $3",
                "WHERE id = $1 AND $2::bigint + $5::bigint IS NOT NULL AND $4::bigint > $3::bigint",
            ),
        ),
        "the lease ended while its holder works",
    ),
    "ON CONFLICT DO NOTHING": Plant(
        (
            Change(
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
        ),
        "events that can't be recorded",
    ),
    "a use counted before it is known to be there": Plant(
        (
            Change(
                "lua/redeem.lua",
                "if refusal then return refusal end",
                "if refusal then redis.call('HINCRBY', W .. 'n:' .. r.book.number, 'taken', 1) return refusal end",
            ),
        ),
        "SCRIPT FLUSH",
    ),
    "no event for a rollback": Plant(
        (
            Change(
                "lua/includes/rolling.lua",
                "local event = append(outbox, rolled_back_event(",
                "local event = (function() return '0-0' end)(outbox, rolled_back_event(",
            ),
        ),
        "SCRIPT FLUSH",
    ),
    "rolled back whether it stands or not": Plant(
        (Change("lua/rollback.lua", "if not stands(c, e.event) then return { OUT.already_rolled_back } end\n", ""),),
        "SCRIPT FLUSH",
    ),
    "locks not counted for the book": Plant(
        (Change("lua/includes/judge.lua", _TOTAL, "taken = taken + 0"),),
        "Redis's replies lost",
    ),
    "locks counted that have ended": Plant(
        (Change("lua/includes/judge.lua", _TOTAL, _TOTAL.replace("'(' .. whole(now)", "'-inf'")),),
        "SCRIPT FLUSH",
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
    "idempotency kept by the API": Plant(
        (
            Change(
                "lua/includes/idempotency.lua",
                "return got[3] and replay(got[3], ARGV[1], now - workspace.offset_ms), workspace, now",
                "return nil, workspace, now",
            ),
        ),
        "Redis's replies lost",
    ),
    "NOSCRIPT answered by loading": Plant(
        (
            Change(
                "service/hot/connection.py",
                _SEND,
                """
        def answer(reply: Reply) -> None:
            if str(reply).startswith("NOSCRIPT"):
                connection.send(lambda _: None, ("SCRIPT", "LOAD", self.texts[command[1]]))
                connection.send(on_reply, command)
            else:
                on_reply(reply)

        connection.send(answer, command)
""",
            ),
            Change(
                "service/hot/decider.py",
                "self._digests[partition] = Scripts(partition, epoch, nonce, [*SERVING, *PROJECTION]).digests\n",
                """\
scripts = Scripts(partition, epoch, nonce, [*SERVING, *PROJECTION])
            self._digests[partition] = scripts.digests
            self.link.texts = {digest: scripts.texts[name] for name, digest in scripts.digests.items()}
""",
            ),
            Change(
                "service/hot/decider.py", "return verified != here and bool(verified) and bool(here)", "return False"
            ),
        ),
        "an old dump is loaded while the worker sleeps",
    ),
    "the gate not read by lock": Plant(
        (
            Change(
                "lua/lock.lua",
                "local r, reply = start(false, false)\n",
                "gate_refuses = function() return nil end\nlocal r, reply = start(false, false)\n",
            ),
        ),
        "Postgres away until the service is behind",
    ),
    "recorded answered before the commit": Plant(
        (
            Change(
                "service/api/durability.py",
                "    return await context.recorded.wait(caller.partition, tail_epoch, seq, wait_s * 1000)\n",
                "    return True\n",
            ),
        ),
        "Postgres away",
    ),
    "how far the outbox goes asked only by who records it": Plant(
        (Change("service/worker/process.py", "            flusher.observe_tail(await server.tail())\n", ""),),
        "Postgres hangs until the service is behind",
    ),
    "an entry thrown away before it is recorded": Plant(
        (
            Change(
                "lua/rollback.lua",
                "if entry then keep_entry(KEYS[3], entry, workspace) end\n",
                """\
if entry then keep_entry(KEYS[3], entry, workspace) end
redis.call('XDEL', KEYS[4], e.event)
""",
            ),
        ),
        "SIGSTOP of each process",
    ),
}
"""By name."""
