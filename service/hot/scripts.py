"""Scripts as Redis gets them: includes put before, outcomes' names replaced by numbers, and partition, epoch and nonce
written into the text, so that no loading of another epoch's or partition's scripts brings them back."""

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from functools import cache

from service.common.resources import LUA_DIR
from service.domain import outcomes

_has_limits = re.compile(r"^-- @limits$", re.MULTILINE).search
LIMITED = [f"{path.stem}+" for path in sorted(LUA_DIR.glob("*.lua")) if _has_limits(path.read_text())]
"""Scripts within lua/includes/limits.lua, for callers with limits: those that have the line `-- @limits`."""
HOT = [
    *(name.removesuffix("+") for name in LIMITED if name != "count+"),
    *"book_stats user_coupons claim answered records".split(),
]
"""What requests run."""
SERVING = [*HOT, *LIMITED]
ERASING = "erase_user heads sweep_locks".split()
"""What the worker takes users out of an open Redis with."""
PROJECTION = "put_workspace put_book put_codes put_user seen".split()
"""What configuration is written with."""
MENDING = [*PROJECTION, "block_codes", "clear", "fill_pool", "mark", "mended", "redo", "restore_keys"]
"""What a closed Redis is made whole with."""

RECONCILING = "look repair pools".split()
"""What an open Redis is compared with the record by."""

NONCE_LENGTH = 16
"""Characters of a nonce that are random; what follows names the server's history."""

_NUMBERS = {"OK": outcomes.OK, "REPEATED": outcomes.REPEATED, "RECALL": outcomes.RECALL} | {
    row.code: number for number, row in outcomes.BY_NUMBER.items()
}
_include = re.compile(r"^-- @include (.+)$", re.MULTILINE)
_outcome = re.compile(r"\bOUT\.(\w+)")
_function = re.compile(r"^local function (\w+)\((?:.* end|.*\n(?:.*\n)*?end)$", re.MULTILINE)
_word = re.compile(r"\w+")
_comment = re.compile(r"--\[\[.*?\]\]|^\s*--[^\n]*$|\s--\s[^\n]*$", re.DOTALL | re.MULTILINE)


@cache
def _body(name: str) -> str:
    """A script with its includes, without comments, outcomes as numbers."""
    source = (LUA_DIR / f"{name.removesuffix('+')}.lua").read_text()
    included = " ".join(_include.findall(source)).split()
    parts = [_included(part) for part in included]
    if name.endswith("+"):
        before, after = _included("limits").split("-- @script\n")
        parts, source = [before, *parts, source], after
    text = _used("\n".join(_strip(part) for part in [*parts, source]))
    return _outcome.sub(lambda found: str(_NUMBERS[found[1]]), text)


def _included(name: str) -> str:
    return (LUA_DIR / "includes" / f"{name}.lua").read_text()


def _used(text: str) -> str:
    """The text without the functions that nothing in it calls: Lua makes each one anew whenever the script runs."""
    functions = list(_function.finditer(text))
    own = {function: Counter(_word.findall(function[0])) for function in functions}
    words, used = Counter(_word.findall(text)), functions
    while unused := [function for function in used if words[function[1]] == own[function][function[1]]]:
        used = [function for function in used if function not in unused]
        for function in unused:
            words.subtract(own[function])
    for function in reversed(functions):
        if function not in used:
            text = text[: function.start()] + text[function.end() + 1 :]
    return text


def _strip(source: str) -> str:
    return "\n".join(line for line in _comment.sub("", source).splitlines() if line.strip())


def compose(name: str, partition: int, epoch: int, nonce: str, state: str = "open") -> str:
    """The text of a script for one epoch; `state` is what the gate must say for it to run."""
    words = f"'{partition}', '{epoch}', '{epoch} {state}', '{nonce}', {_checked_history(nonce)}"
    return f"local PARTITION, EPOCH, OPEN, NONCE, REPLID, HOLDER, HOLDS, MISSED = {words}\n{_body(name)}\n"


def nonce_of(random: str, history: str, followed: bool) -> str:
    """An epoch's nonce: what tells its texts from all others, and the server's history (`master_replid`) that was
    verified; `followed` where that may change while it runs."""
    return f"{random}{'!' if followed else '.'}{history}"


def history_of(nonce: str) -> str:
    """The history that was verified; '' where the nonce names none."""
    return re.split("[.!]", nonce, maxsplit=1)[1] if re.search("[.!]", nonce) else ""


def is_followed(nonce: str) -> bool:
    """Whether there were replicas, so that scripts have to look at the history each time."""
    return "!" in nonce


def follows(nonce: str, history: str, followed: bool) -> bool:
    """Whether a server's data is of the history that was verified, and its scripts look at that where they have to."""
    return nonce == nonce_of(nonce[:NONCE_LENGTH], history, followed)


def _checked_history(nonce: str) -> str:
    return f"'{history_of(nonce)}'" if is_followed(nonce) else "nil"


class Scripts:
    """One epoch's scripts for one partition: their texts and digests."""

    def __init__(self, partition: int, epoch: int, nonce: str, names: Sequence[str], state: str = "open") -> None:
        self.partition, self.epoch, self.nonce = partition, epoch, nonce
        self.texts = {name: compose(name, partition, epoch, nonce, state) for name in names}
        self.digests = {
            name: hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest() for name, text in self.texts.items()
        }
