"""Compose scripts for Redis: includes, outcomes as numbers, and a nonce in the text. decider.py, redis_server.py and
workers run them by digest; redis_server.py runs fence, set_gate and drop_wrong by their texts, without a nonce.

Each start of a server has a nonce of its own, so no other server, and no later start, has scripts of the same digests.
All partitions and epochs share the texts; a call's last argument is the epoch (decision 0052). `version` is the
digest of the texts that API processes call, and of LAYOUT: any change of these makes another version.
"""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache, lru_cache
from typing import Any

from service.common.resources import LUA_DIR
from service.engine.domain import outcomes
from service.engine.formats.events import REDEEMED_IN_LUA
from service.engine.formats.key_names import LAYOUT
from service.engine.formats.stored_settings import fill_settings
from service.engine.hot.fencing import parse_nonce

_marks = {
    path.stem: re.findall(r"^-- @(limits|joined)$", path.read_text(), re.MULTILINE)
    for path in sorted(LUA_DIR.glob("*.lua"))
}
HOLD_VERBS = {
    "needs_amount": "whether a lock of the book has to name the order's value",
    "judge_held": "the refusal where live locks hold what the request wants, which comes before `lock_required`",
    "judge_left": "the refusal where nothing is left, which comes with the code's uses",
    "judge_amount": "the refusals of an amount, which come after the book's total",
    "judge_number": "in how many ms a user may lock again who has too many locks",
    "saving": "what the request saves of an order of this value, in place of the discount's own terms",
    "note": "add to `ask` what the event of a redemption says of it",
    "note_back": "the same to a redemption that is rolled back",
    "can_give_back": "whether there is as much as a rollback gives back",
    "hold": "a lock is stored, or holds something else from now on; `was`: what it held, nil for a new one",
    "release": "locks end",
    "release_rest": "all locks of a code that are left end, unread",
    "spend": "a redemption is applied, whose lock has ended",
    "give_back": "a redemption is rolled back and given back",
    "save": "the last write of a coupon",
    "watch": "after all writes: append notices",
    "left": "what is left of a coupon",
    "stored": "a coupon's account as it is stored",
    "added_to_view": "what the view of a lock's amounts says more",
    "view": "what a coupon's view says of it",
    "sums": "the sums of a book",
    "lines": "what a book's answer lists",
    "move": "a redemption gets another user",
    "open": "a new code",
    "begin": "a new book",
}
"""What callers ask of each kind of what a lock holds and a redemption spends, by `-- @holds`: an include with `@kind`
has a function `<kind>_<verb>` for each verb that concerns it. Callers don't know the kinds."""
LIMITED = [f"{name}+" for name, marks in _marks.items() if "limits" in marks]
"""Scripts with the line `-- @limits`, as `<name>+`: within lua/includes/limits.lua, for callers with limits."""
JOINED = [name for name, marks in _marks.items() if "joined" in marks]
"""Scripts with the line `-- @joined`, which lua/run_requests.lua runs, too."""
HOT = [
    *(name.removesuffix("+") for name in LIMITED if name != "count_request+"),
    *"book_stats coupon_locks order_locks user_coupons claim_key store_answer read_records".split(),
]
"""Scripts of requests; count runs within limits alone."""
_gates = re.compile(r"(?:\bpasses_full, passes_behind = |\bopen_request\()(true|false), (true|false)\b")
_PASSES = {path.stem: match for path in LUA_DIR.glob("*.lua") if (match := _gates.search(path.read_text()))}
REFUSED_BY_STATE: dict[str, frozenset[str]] = {
    "open": frozenset(),
    "full": frozenset(name for name, match in _PASSES.items() if match[1] == "false"),
    "behind": frozenset(name for name, match in _PASSES.items() if match[2] == "false"),
}
"""The scripts of requests that a gate's state refuses, by the line that says passes_full and passes_behind."""
SERVING = [*HOT, *LIMITED, "run_requests"]
ERASING = "erase_user read_prefixes sweep_locks".split()
"""Scripts that delete users and expired locks from an open Redis."""
PROJECTION = "put_workspace put_book put_codes put_user advance_config sweep_locks".split()
"""Scripts that write configuration, and remove the locks that a change of a book ended."""
MENDING = [
    *PROJECTION,
    "apply_events",
    "block_codes",
    "complete_recovery",
    "fill_pool",
    "record_progress",
    "remove_keys",
    "restore_keys",
]
"""Scripts that recover or rebuild a closed Redis."""

RETAINING = "book_stats drop_book drop_codes drop_gifts drop_uses".split()
"""Scripts that count a book and remove it from an open Redis."""

COUNTING = ["count_before"]
"""Scripts that count, in an open Redis, what was redeemed of a book before it had budgets."""

STORING = "count_storage put_storage sweep_locks".split()
"""Scripts that count what workspaces have in an open Redis."""

RECONCILING = "read_values repair compare_pools sweep_locks".split()
"""Scripts that compare an open Redis with Postgres."""

UNLOGGED, LOGGED = "redis.REPL_REPLICA", "redis.REPL_ALL"
"""Where a rebuild's writes go (lua/includes/unlogged.lua), and where they go if the file can't be rewritten."""

HEAD = """local NONCE, REPLID, STATE, ENTRY_BYTES, HOLDER, HOLDS, MISSED, named, WORK = {}
local EPOCH = table.remove(ARGV)
local OPEN = EPOCH .. STATE
local W = string.sub(KEYS[2] or '', 1, -2)
"""
"""How a script's text begins: see lua/includes/gate.lua. WORK, for lua/run_requests.lua: what was read of a number that
requests choose, nil for nothing, in units of 20 µs."""

BLANKS = "'{nonce}', {replid}, ' {state}', {entry_bytes}"
"""In a template, the place of a nonce's words. Other versions' workers fill it, too: see number.py."""

_NUMBERS = {"OK": outcomes.OK, "REPEATED": outcomes.REPEATED, "RECALL": outcomes.RECALL} | {
    row.code: number for number, row in outcomes.BY_NUMBER.items()
}
_directive = re.compile(r"( *)-- @(?:(include|step|fast|holds) (.+)|scripts)")
_call = re.compile(r"(\w+) (.+?)(?: -> (\w+))?")
_kind = re.compile(r"^-- @kind (\w+) where (.+?)(?:; includes ([\w ]+))?$", re.MULTILINE)
_outcome = re.compile(r"OUT\.(\w+)")
_count = re.compile(r"ARGS\.(\w+)")
_argv = re.compile(r"^ARGV +(.*?)^Reply", re.DOTALL | re.MULTILINE)
_argument = re.compile(r"(?:^|  )(\d+) \w+", re.MULTILINE)
_request_argument = re.compile(r"(?:^|  )(\d+) request\b", re.MULTILINE).search
_function = re.compile(r"^local function (\w+)\((?:.* end|.*\n(?:.*\n)*?end)$", re.MULTILINE)
"""A function of an include: from the margin on, to an `end` at the margin or in the same line."""
_word = re.compile(r"\w+")
_kept = r"@(?:include |step |fast |holds |scripts$)"
_comment = re.compile(rf"--\[\[.*?\]\]|^\s*--(?! {_kept})[^\n]*$|\s-- (?!{_kept})[^\n]*$", re.DOTALL | re.MULTILINE)


@cache
def _body(name: str) -> str:
    """A script with includes and steps, outcomes and ARGS as numbers, without comments and unused functions."""
    text = _expand(_read("", name.removesuffix("+")))
    if name.endswith("+"):
        before, after = _read("includes", "limits").split("-- @script\n")
        text = "\n".join([_expand(before), text, _expand(after)])
    text = _count.sub(lambda match: str(count_arguments(match[1])), text)
    return _outcome.sub(lambda match: str(_NUMBERS[match[1]]), _without_unused(text))


@cache
def count_arguments(name: str) -> int:
    """The number of arguments in a script's head, without requested facts: ARGS.<name> in Lua."""
    match = _argv.search(_read("", name))
    assert match, name  # noqa: S101, each script has a head
    return len(_argument.findall(match[1]))


@cache
def find_request_part(name: str) -> int | None:
    """The index, among a script's arguments, of the request's part of its event; None without."""
    argv = _argv.search(_read("", name.removesuffix("+")))
    match = _request_argument(argv[1]) if argv else None
    return int(match[1]) - 1 + name.endswith("+") if match else None  # the limits come first


@cache
def _read(folder: str, name: str) -> str:
    return fill_settings((LUA_DIR / folder / f"{name}.lua").read_text().replace("{R}", REDEEMED_IN_LUA))


@cache
def _expand(source: str) -> str:
    """Replace each line `-- @include <names>` by the functions of lua/includes/ that the rest of the block calls,
    `-- @fast <name>`, and in lua/fast/ `-- @step <name>`, by the statements of lua/fast/, `-- @scripts` by JOINED's."""
    lines: list[str] = []
    for line in reversed(_strip(source).splitlines()):
        if not (match := _directive.fullmatch(line)):
            lines.insert(0, line)
            continue
        indent, kind, names = match.groups()
        if kind == "holds":
            part = _expand(_call_kinds(names)).splitlines()
        elif kind:
            folder = "includes" if kind == "include" else "fast"
            part = "\n".join(_expand(_read("" if "/" in name else folder, name)) for name in names.split()).splitlines()
        else:
            part = _branches()
        if kind == "include":
            while lines[:1] and lines[0].startswith(indent):
                part.append(lines.pop(0).removeprefix(indent))
            part = _without_unused("\n".join(part)).splitlines()
        lines[:0] = [indent + text for text in part]
    return "\n".join(lines)


@cache
def kinds_of_holds() -> list[tuple[str, str, str, str]]:
    """The kinds of what a lock holds and a redemption spends: each with its include, when a book has it, and what its
    functions call. A kind is an include with a line `-- @kind <name> where <condition>; includes <others>`."""
    texts = {path.stem: path.read_text() for path in sorted((LUA_DIR / "includes").glob("*.lua"))}
    return [(match[1], stem, match[2], match[3] or "") for stem, text in texts.items() if (match := _kind.search(text))]


def _call_kinds(call: str) -> str:
    """`-- @holds <verb> <arguments>`: for each kind with `<kind>_<verb>`, its call where a book has the kind. With
    `-> <name>` that variable gets what the first kind returns."""
    match = _call.fullmatch(call)
    if not match or match[1] not in HOLD_VERBS:
        raise ValueError(f"@holds {call}: its verb is not in HOLD_VERBS")
    verb, arguments, name = match.groups()
    lines: list[str] = []
    for kind, stem, condition, others in kinds_of_holds():
        if f"local function {kind}_{verb}(" in _read("includes", stem):
            called = f"{kind}_{verb}({arguments})"
            lines += [f"if {condition}{f' and {name} == nil' if name else ''} then"]
            lines += [f"  -- @include {' '.join([*others.split(), stem])}"]
            lines += [f"  {name} = {called}" if name else f"  {called}", "end"]
    return "\n".join(lines)


def _branches() -> list[str]:
    """A branch of lua/run_requests.lua for each of JOINED. Without memory those run that `behind` does not refuse."""
    lines: list[str] = []
    for name in JOINED:
        condition = " and may_write" if name in REFUSED_BY_STATE["behind"] else ""
        lines.append(f"{'elseif' if lines else 'if'} name == '{name}'{condition} then")
        lines += [f"  {line}" for line in _without_unused(_expand(_read("", name))).splitlines()]
    return [*lines, "end"]


def _without_unused(text: str) -> str:
    """Remove functions that the text doesn't call, by others or itself: Lua creates every function in each run."""
    functions = list(_function.finditer(text))
    named = {function[1]: _words(function[0]) for function in functions}
    used, reached = set[str](), named.keys() & _word.findall(_function.sub("", text))
    while reached:
        used |= reached
        reached = named.keys() & frozenset[str]().union(*(named[name] for name in reached)) - used
    for function in reversed(functions):
        if function[1] not in used:
            text = text[: function.start()] + text[function.end() + 1 :]
    return text


@cache
def _words(function: str) -> frozenset[str]:
    """The words of a function, which many scripts have."""
    return frozenset(_word.findall(function))


def _strip(source: str) -> str:
    return "\n".join(line for line in _comment.sub("", source).splitlines() if line.strip())


def compose(name: str, nonce: str) -> str:
    """The text of a script for a nonce and an open gate."""
    return _fill(template(name), nonce, "open", logged=False)


def template(name: str) -> str:
    """A script's text with BLANKS."""
    return f"{HEAD.format(BLANKS)}{_body(name)}\n"


def _fill(text: str, nonce: str, state: str, *, logged: bool) -> str:
    """The text of a template, of this version or another, for a nonce, which runs while the gate has this state. With
    `logged` a rebuild's writes go to the append-only file, too."""
    parsed = parse_nonce(nonce)
    replid = f"'{parsed.history}'" if parsed.fencing else "nil"  # without fencing it can't change
    filled = text.replace(BLANKS, f"'{parsed.shared}', {replid}, ' {state}', {parsed.entry_bytes}", 1)
    return filled.replace(UNLOGGED, LOGGED) if logged else filled


def templates() -> dict[str, str]:
    """The templates of the scripts that API processes call, by name."""
    return {name: template(name) for name in [*SERVING, *PROJECTION]}


@cache
def version() -> str:
    """This version's name among processes: a digest of its templates, so two builds with the same scripts are one."""
    text = "\0".join([LAYOUT, *(f"{name}\0{text}" for name, text in sorted(templates().items()))])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@lru_cache(maxsize=8)
def _fill_all(
    names: tuple[str, ...], template_of: Callable[[str], str], shared: str, state: str, logged: bool
) -> tuple[Mapping[str, str], Mapping[str, str]]:
    """The texts and digests of scripts. All partitions and epochs since a server's start use the same."""
    texts = {name: _fill(template_of(name), shared, state, logged=logged) for name in names}
    digests = {name: hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest() for name, text in texts.items()}
    return texts, digests


class Scripts:
    """The texts and digests of scripts, for one epoch of a partition; `template_of` returns templates by name."""

    def __init__(
        self,
        partition: int,
        epoch: int,
        nonce: str,
        names: Sequence[str],
        state: str = "open",
        template_of: Callable[[str], str] = template,
        *,
        logged: bool = False,
    ) -> None:
        self.partition, self.epoch, self.nonce = partition, epoch, nonce
        self.texts, self.digests = _fill_all(tuple(names), template_of, parse_nonce(nonce).shared, state, logged)

    def call(self, script: str, names: Sequence[str], args: Sequence[Any]) -> tuple[Any, ...]:
        """The command that runs a loaded script in this epoch."""
        return ("EVALSHA", self.digests[script], len(names), *names, *args, self.epoch)
