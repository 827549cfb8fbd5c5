"""Each script agrees with its head, with its callers and with its includes."""

import hashlib
import re
import struct
from collections import defaultdict
from typing import Any, get_args
from uuid import uuid4

import lupa.lua51
import msgspec
import pytest

from service.common.resources import LUA_DIR
from service.engine.domain.configuration import BookRow, CodeRow, UserRow, WorkspaceRow
from service.engine.domain.outcomes import BY_NUMBER
from service.engine.hot.fencing import SHARED_LENGTH, Fencing, Nonce, parse_nonce
from service.engine.hot.projection import RedisProjector
from service.engine.hot.scripts import (
    COUNTING,
    ERASING,
    HEAD,
    HOT,
    JOINED,
    LIMITED,
    MENDING,
    PROJECTION,
    RECONCILING,
    RETAINING,
    STORING,
    Scripts,
    compose,
    count_arguments,
)
from service.engine.operations.base import Call
from service.engine.operations.batch import prepare_records
from service.engine.operations.caller import SCOPES, Caller
from service.engine.operations.table import ROWS
from service.server.in_redis.workspace_state import Workspace
from tests.harness.cases import filled
from tests.harness.described import descriptions

WORKERS = ["drop_wrong", "fence", "set_gate", *ERASING, *RETAINING, *STORING, *COUNTING]
SOURCES = {path.stem: path.read_text() for path in sorted(LUA_DIR.glob("*.lua"))}
PARTS = {f"{path.parent.name}/{path.stem}": path.read_text() for path in sorted(LUA_DIR.glob("*/*.lua"))}
"""The includes, and the texts of lua/fast/."""
CALLER = Caller(uuid4(), 3, uuid4(), 2, "live", frozenset(SCOPES))
ID = str(uuid4())
EVERY = pytest.mark.parametrize("name", SOURCES)


def head(name: str) -> str:
    match = re.match(r"--\[\[ (.*?)\]\]", SOURCES[name], re.DOTALL)
    assert match, name
    return match[1]


def keys_of(name: str) -> list[tuple[int, str, str]]:
    """(number, name, kind) of each key in the head."""
    part = re.search(r"^KEYS +(.*?)^ARGV", head(name), re.DOTALL | re.MULTILINE)
    assert part, name
    rows = re.findall(r"^ *(\d+) +(\w+) +(string|hash|stream)\b", part[1], re.MULTILINE)
    return [(int(number), key, kind) for number, key, kind in rows]


def args_of(name: str) -> int | None:
    """The number of arguments in the head; None where the head has so many for each row."""
    part = re.search(r"^ARGV +(.*?)^Reply", head(name), re.DOTALL | re.MULTILINE)
    assert part, name
    if "for each" in part[1]:
        return None
    numbers = [int(number) for number in re.findall(r"(?:^|  )(\d+) \w+", part[1])]
    assert numbers == list(range(1, count_arguments(name) + 1)), (name, numbers)
    return len(numbers)


def _prepared() -> dict[str, tuple[tuple[str, ...], tuple[Any, ...]]]:
    """The keys and arguments that each operation's prepare passes."""
    names = {"code": "CODE-1", "userId": "ann", "orderId": "A-1", "redemptionId": ID}
    commands = {}
    for one in descriptions():
        operation, in_path = one.row.operation, re.search(r"\{(\w+)\}", one.row.route)
        body = filled(one.body or {}, defaultdict(lambda: "CODE-1", book=ID, ann="ann"))
        request = msgspec.convert(body, operation.request, strict=False)
        command = operation.prepare(Call(CALLER, "key", "print"), in_path and names[in_path[1]], request)
        commands[command.script] = (command.keys, command.args)
    command = prepare_records(CALLER, ["1-2"])
    return commands | {command.script: (command.keys, command.args)}


class _Listener:
    """Records the scripts that run, and replies OK to each."""

    def __init__(self) -> None:
        self.calls: dict[str, tuple[tuple[str, ...], tuple[Any, ...]]] = {}

    async def run(self, partition: int, script: str, names: Any, args: Any) -> list[Any]:
        assert partition == 2
        self.calls[script] = (tuple(names), tuple(args))
        replies: dict[str, list[Any]] = {
            "advance_config": [0, "1", "1"],
            "user_coupons": [0, 1, "0"],
            "coupon_locks": [0, 0],
        }
        replies["sweep_locks"] = [0, 0, 0]
        return (replies | {"book_stats": [0, *["0"] * 15, "USD", "-"]}).get(script, [0])


async def _projected() -> dict[str, tuple[tuple[str, ...], tuple[Any, ...]]]:
    """The keys and arguments that the projector and Workspace pass."""
    listener = _Listener()
    projector, workspace = RedisProjector(listener.run), Workspace(listener)  # type: ignore[arg-type]
    await projector.workspace(_row(WorkspaceRow))
    await projector.book(_row(BookRow))
    await projector.codes(3, 2, 1, [_row(CodeRow), _row(CodeRow, owner_id="ann")])
    await projector.user(_row(UserRow))
    await projector.confirm_version(2, 5)
    await workspace.book_counts(CALLER, ID)
    await workspace.user_coupons(CALLER, "ann")
    await workspace.coupon_locks(CALLER, "CODE-1")
    await workspace.order_locks(CALLER, "A-1")
    await workspace.claim_key(CALLER, "key", "print")
    await workspace.store_answer(CALLER, "key", "print", 200, b"{}", "")
    return listener.calls


def _row(kind: Any, **fields: Any) -> Any:
    """A row with a value in each of its fields."""
    fields = dict.fromkeys(["discount", "owner_id", "max_redemptions", "expires_ms", "limits"]) | fields
    fields |= {"budgets": (), "use_limits": (), "code": "CODE-1", "partition": 2, "workspace": 3}
    return kind(**{field.name: fields.get(field.name, 1) for field in msgspec.structs.fields(kind)})


KIND_OF = {
    "gate": r"\{p2\}:gate",
    "config": r"\{p2\}:config",
    "newest": r"\{p2\}:newest",
    "outbox": r"\{p2\}:outbox",
    "workspace": r"\{p2\}:w3:w",
    "idempotency": r"\{p2\}:w3:i:(key)?",
    "bucket": r"\{p2\}:w3:d:\d+",
    "coupon": r"\{p2\}:w3:c:CODE-1",
    "marks": r"\{p2\}:w3:lo:A-1",
    "orders": r"\{p2\}:w3:o:\d+",
    "gifts": r"\{p2\}:w3:g:\d+",
    "books": r"\{p2\}:w3:x",
    "kept": r"\{p2\}:w3:y",
    "book": r"\{p2\}:w3:b:1",
    "users": r"\{p2\}:w3:o:\d+",
    "user": r"\{p2\}:w3:u:1",
}


async def test_callers_pass_the_keys_and_arguments_that_heads_name() -> None:
    """Each caller passes the keys of the script's head in their order, and as many arguments."""
    passed = _prepared() | await _projected()
    assert set(passed) == {*HOT, *PROJECTION}
    for name, (names, args) in passed.items():
        expected = keys_of(name)
        assert len(names) == len(expected), name
        for (number, key, _), passed_name in zip(expected, names, strict=True):
            assert re.fullmatch(KIND_OF[key], passed_name), (name, number, key, passed_name)
        count = args_of(name)
        assert count is None or len(args) == count, (name, args)
    assert (len(passed["put_codes"][1]) - 3) % 3 == 0


def test_a_read_takes_no_idempotency_key() -> None:
    """A row that reads passes neither the request's Idempotency-Key nor its fingerprint; each other row passes both."""
    prepared = _prepared()
    for one in descriptions():
        names, args = prepared[one.row.script]
        passed = "{p2}:w3:i:key" in names, args[0] == "print"
        assert passed == (not one.row.reads, not one.row.reads), one.row.operation_id


@EVERY
def test_a_head_names_keys_arguments_reply_event_and_cost(name: str) -> None:
    """A head begins with the script's name, names callers, has five parts, and numbers keys from 1, the gate first."""
    assert head(name).startswith(f"{name}: ")
    (called,) = re.findall(r"^Called by (.+?)^KEYS ", head(name), re.DOTALL | re.MULTILINE)
    callers = re.findall(r"[\w/]+\.py", called.partition(";")[0])
    assert callers
    for caller in callers:
        assert f'"{name}"' in (LUA_DIR.parent / caller).read_text(), caller
    assert ("lua/run_requests.lua" in called, "lua/includes/limits.lua" in called) == (
        name in JOINED,
        f"{name}+" in LIMITED,
    )
    for part in ("KEYS", "ARGV", "Reply", "Event", "Cost"):
        assert re.search(rf"^{part} ", head(name), re.MULTILINE), part
    numbers = [number for number, _, _ in keys_of(name)]
    assert numbers == list(range(1, len(numbers) + 1))
    assert keys_of(name)[0][1:] == ("gate", "string")


@EVERY
def test_a_script_uses_the_keys_and_arguments_of_its_head(name: str) -> None:
    """A script reads each key of its head, and no other key or argument."""
    own = SOURCES[name].split("]]", 1)[1]
    text = HEAD + own if name == "run_requests" else compose(name, "n")
    keys = len(keys_of(name))
    used = {int(number) for number in re.findall(r"KEYS\[(\d+)\]", text)}
    assert max(used) <= max(keys, 2)
    assert set(range(1, keys + 1)) <= used
    if (count := args_of(name)) is not None:
        assert max([0, *(int(number) for number in re.findall(r"ARGV\[(\d+)\]", own))]) <= count


def test_files_that_comments_name_exist() -> None:
    """Each file that a text of lua/ names exists."""
    root = LUA_DIR.parent
    for name, text in (SOURCES | PARTS).items():
        for path in re.findall(r"[\w/]+\.(?:py|lua|sql)\b", text):
            folders = (root, LUA_DIR, LUA_DIR / "includes")
            found = any((folder / path).exists() for folder in folders) or any(root.glob(f"service/**/{path}"))
            assert found, (name, path)


@pytest.mark.parametrize("name", sorted(SOURCES.keys() - {"run_requests"}))
def test_the_first_command_reads_the_gate(name: str) -> None:
    """The first command of a composed script reads KEYS[1]."""
    own = SOURCES[name].split("]]", 1)[1].replace("open_request(", PARTS["includes/request"])
    own = re.sub(r"^-- @fast (\w+)$", lambda line: PARTS[f"fast/{line[1]}"], own, flags=re.MULTILINE)
    first = re.search(r"redis\.call\((.*)", own)
    assert first
    assert re.match(r"redis\.call\('M?GET', KEYS\[1\]", first[0]), first


def test_a_call_of_many_runs_every_joined_script() -> None:
    """Each script of `JOINED` has its branch in run_requests.lua, with its own text; nothing is read before. Reads and
    unlock run without memory."""
    text = compose("run_requests", "n")
    branches = re.split(
        r"\n  (?:if|elseif) name == '(\w+)'( and may_write)? then\n", text.partition("\nlocal replies")[0]
    )
    assert branches[1::3] == JOINED
    free = {name for name, condition in zip(branches[1::3], branches[2::3], strict=True) if not condition}
    assert free == {"unlock"} | {row.script for row in ROWS if row.reads} & set(JOINED)
    for name, branch in zip(branches[1::3], branches[3::3], strict=True):
        own = compose(name, "n").split("\n", 4)[4]
        assert "\n".join(line[4:] for line in branch.partition("\n  end\nend\n")[0].splitlines()) == own.rstrip("\n")
    commands = re.findall(r"redis\.\w+\((.*)", branches[0])
    assert commands == ["'SET', KEYS[1] .. '?', '', 'XX')"]


@EVERY
def test_outcomes_are_known(name: str) -> None:
    """Each outcome that a script or an include names has a number."""
    known = {"OK", "REPEATED", "RECALL"} | {row.code for row in BY_NUMBER.values()}
    text = SOURCES[name] + "".join(PARTS[part] for part in _parts(SOURCES[name]))
    assert set(re.findall(r"\bOUT\.(\w+)", text)) <= known
    assert "OUT." not in compose(name, "n")


@pytest.mark.parametrize("name", [*SOURCES, *LIMITED])
def test_a_script_reads_no_other_globals(name: str) -> None:
    """A composed script, under limits too, compiles in Lua 5.1 and reads only the globals of Redis and Lua."""
    text = compose(name, "n")
    read, written = globals_of(text)
    allowed = "redis cmsgpack KEYS ARGV tonumber tostring string math table ipairs next pairs type unpack pcall error"
    assert read <= set(allowed.split())
    assert not written


@pytest.mark.parametrize("name", LIMITED)
def test_limited_scripts_read_the_gate_first(name: str) -> None:
    """A script under limits names known outcomes only, and reads the gate before it counts."""
    text = compose(name, "n")
    assert "OUT." not in text
    begun = text.split("local function begin()")[1].split("local function decide()")[0]
    assert begun[begun.index("redis.call(") :].startswith("redis.call('MGET', KEYS[1], ")


def test_every_file_is_used() -> None:
    """Requests, projection, recovery, reconciling or the worker run each script; some script uses each part."""
    assert {name.removesuffix("+") for name in LIMITED} <= {*HOT, "count_request"}
    assert set(SOURCES) == {*HOT, *PROJECTION, *MENDING, *RECONCILING, *WORKERS, "count_request", "run_requests"}
    assert set(PARTS) == {part for name in SOURCES for part in _parts(SOURCES[name])} | {"includes/limits"}


@EVERY
def test_no_script_makes_code_of_text(name: str) -> None:
    """No script loads text as code, and no comment is left in a composed text."""
    text = compose(name, "n")
    assert not re.search(r"\b(loadstring|dofile|setfenv|cjson|EVAL|EVALSHA|SCRIPT)\b", text)
    assert "--" not in re.sub(r"'[^'\n]*'", "", text)


@EVERY
def test_nonce_and_state_are_in_the_text(name: str) -> None:
    """Each of nonce, history and state changes a script's text, and so its digest; all else is the call's."""
    random, other = "0123456789abcdef" * 2, "fedcba9876543210" * 2
    first = Nonce(random, "", "feed")
    some = (first, Nonce(other, "", "feed"), Nonce(random, "postgres", "feed"), Nonce(random, "", "beef"))
    nonces = [str(nonce) for nonce in some]
    texts = [*(compose(name, nonce) for nonce in nonces), Scripts(0, 1, nonces[0], [name], "closed").texts[name]]
    assert len(set(texts)) == 5
    assert texts[0].startswith(HEAD.format(f"'{first.shared}', nil, ' open', 64"))


def test_epochs_of_a_server_share_texts() -> None:
    """Epochs whose nonces begin with the same characters have the same texts."""
    first = Nonce("0123456789abcdef" * 2, "postgres", "feed")
    second = first._replace(random=first.random[:SHARED_LENGTH] + "fedcba9876543210")
    assert compose("lock", str(first)) == compose("lock", str(second))
    assert parse_nonce(str(second)) == second


def test_a_history_is_checked_where_it_may_change() -> None:
    """A nonce contains the server's history, which a script compares only where it may change."""
    for fencing in get_args(Fencing):
        nonce = Nonce("0123456789abcdef" * 2, fencing, "feed")
        replid = "'feed'" if fencing else "nil"
        assert f"'{nonce.shared}', {replid}, ' open', 64\n" in compose("lock", str(nonce))


def test_the_longest_entry_is_in_the_text() -> None:
    """A nonce begins with the bytes that an entry of the directory may have; 64, the server's default, without."""
    for random, entry_bytes in (("256x0123456789abcdef", 256), ("0123456789abcdef", 64), ("nonce", 64)):
        nonce = Nonce(random)
        assert parse_nonce(nonce.shared).entry_bytes == entry_bytes
        assert f" ' open', {entry_bytes}\n" in compose("lock", str(nonce))


def test_digests_are_of_the_texts() -> None:
    """A digest is the SHA-1 of the text, as SCRIPT LOAD returns it; two nonces share none."""
    first, second = Scripts(0, 1, "n", [*HOT, *PROJECTION]), Scripts(0, 1, "m", [*HOT, *PROJECTION])
    assert first.digests == {name: hashlib.sha1(text.encode()).hexdigest() for name, text in first.texts.items()}
    assert not set(first.digests.values()) & set(second.digests.values())


def test_partitions_share_their_texts() -> None:
    """A process makes the texts and digests once for all partitions and epochs since a server's start."""
    first, second = (Scripts(n, n, "0123456789abcdef" + str(n) * 16 + "!feed", [*HOT, *PROJECTION]) for n in (1, 2))
    assert first.texts is second.texts
    assert first.digests is second.digests


def _parts(text: str) -> set[str]:
    """The includes and texts of lua/fast/ of a text, and theirs."""
    lines: list[tuple[str, str]] = re.findall(r"^ *-- @(include|step|fast) (.+)$", text, re.MULTILINE)
    named = [(name, "includes" if kind == "include" else "fast") for kind, names in lines for name in names.split(" ")]
    parts = {name if "/" in name else f"{folder}/{name}" for name, folder in named}
    return parts.union(*(_parts(PARTS[part]) for part in parts))


def globals_of(text: str) -> tuple[set[str], set[str]]:
    """The globals that a text reads and writes, from its bytecode."""
    lua: Any = lupa.lua51.LuaRuntime(encoding=None)  # type: ignore[arg-type]
    dumped = lua.eval(b"function(text) return string.dump(assert(loadstring(text))) end")(text.encode())
    assert isinstance(dumped, bytes)
    read, written = set[str](), set[str]()
    _Bytecode(dumped).function(read, written)
    return read, written


class _Bytecode:
    """Lua 5.1's, little-endian, with 4-byte instructions and 8-byte sizes and numbers."""

    GETGLOBAL, SETGLOBAL = 5, 7

    def __init__(self, data: bytes) -> None:
        assert data[:12] == b"\x1bLuaQ\x00\x01\x04\x08\x04\x08\x00"
        self.data, self.at = data, 12

    def take(self, form: str) -> Any:
        (value,) = struct.unpack_from("<" + form, self.data, self.at)
        self.at += struct.calcsize("<" + form)
        return value

    def text(self) -> str:
        size = self.take("Q")
        self.at += size
        return self.data[self.at - size : self.at - 1].decode() if size else ""

    def function(self, read: set[str], written: set[str]) -> None:
        """Walk a function and those within it."""
        self.text()
        self.at += 4 + 4 + 4
        code = [self.take("I") for _ in range(self.take("i"))]
        constants = [self.constant() for _ in range(self.take("i"))]
        for instruction in code:
            if instruction & 63 == self.GETGLOBAL:
                read.add(constants[instruction >> 14])
            elif instruction & 63 == self.SETGLOBAL:
                written.add(constants[instruction >> 14])
        for _ in range(self.take("i")):
            self.function(read, written)
        lines = self.take("i")
        self.at += 4 * lines
        for _ in range(self.take("i")):
            self.text()
            self.at += 8
        for _ in range(self.take("i")):
            self.text()

    def constant(self) -> Any:
        kind = self.take("B")
        return {0: lambda: None, 1: lambda: self.take("B"), 3: lambda: self.take("d"), 4: self.text}[kind]()


def test_globals_are_reported() -> None:
    """The check reports a global that is read, one that is written, and one inside a function."""
    read, written = globals_of("local a = b; c = a; return function() return d(a, 1.5, nil, true, 'x') end")
    assert (read, written) == ({"b", "d"}, {"c"})


@EVERY
def test_every_function_is_called(name: str) -> None:
    """Lua makes each function again whenever a script runs, so a composed text calls each of its functions."""
    text = compose(name, "n")
    for function in re.findall(r"^local function (\w+)", text, re.MULTILINE):
        assert len(re.findall(rf"\b{function}\b", text)) > 1, function
