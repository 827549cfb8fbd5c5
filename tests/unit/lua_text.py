"""Where Lua makes text of what may be a number. `..` and table.concat keep 14 digits, Redis's own conversion 17, so a
time of 15 digits or an amount loses some: numbers become text by `whole` alone.

What is text is decided by tokens: literals, calls of TEXT_CALLS, and names of TEXT. A name is in that list only after a
review of all that is assigned to it; what is plainly a number can't be assigned to such a name any more."""

import re
from typing import NamedTuple

TEXT_CALLS = {"whole", "string.format", "string.match", "string.sub", "string.rep", "table.concat", "workspace_number"}
TEXT_CALLS |= {"entry_text", "given", "gift_text", "id_of", "unpack", "without_named"}
TEXT = set(
    """a assigned_at at book book_number bucket by c code counted counters currency decided digits discount
    due_by entry EPOCH erased event field fingerprint full gift_view had head held HOLDER holder id keep_ms kept
    key last lock lock_ms mark max_lock_ms member name names new_bucket new_key NONCE notice number of off
    old_key order order_bucket orders outbox outcome owner PARTITION payload place prefix pseudonym redeemed
    REPLID request rest set slot started status stored text token UNLOCKED user user_bucket users value
    verb W w wanted was_set why workspace""".split()
)
TEXT_LISTS = set("parts lacking events records books reasons set_aside".split())
ARITHMETIC = {"+", "-", "*", "/", "%", "^", "#"}
_ADVICE = "put whole(…) around it, or, where it is always text, its name into TEXT"
_token = re.compile(
    r"""--\[\[.*?\]\]|--[^\n]*|(?P<string>'(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*")|(?P<number>\d[\w.]*)|(?P<name>[A-Za-z_]\w*)"""
    r"""|(?P<symbol>\.\.\.|\.\.|==|~=|<=|>=|\S)""",
    re.DOTALL,
)
_OPEN, _CLOSE = {"(": ")", "[": "]", "{": "}"}, {")": "(", "]": "[", "}": "{"}


class Token(NamedTuple):
    """One, with the line that it is in."""

    kind: str
    text: str
    line: int


def tokens_of(source: str) -> list[Token]:
    """Without comments."""
    return [
        Token(match.lastgroup, match[0], source.count("\n", 0, match.start()) + 1)
        for match in _token.finditer(source)
        if match.lastgroup
    ]


def numbers_as_text(source: str) -> list[str]:
    """Each place at which a number may become text otherwise than by `whole`, and what to write."""
    return _Reader(tokens_of(source)).problems()


class _Reader:
    def __init__(self, tokens: list[Token]) -> None:
        self.tokens = tokens

    def problems(self) -> list[str]:
        found: list[str] = []
        for at, token in enumerate(self.tokens):
            if token.text == "..":
                found += self._operand(self._before(at), at) + self._operand(self._after(at + 1), at)
            elif token.text in ("call", "pcall") and self._is(at - 2, "redis") and not self._is(at + 1, "("):
                found += self._alias(at)
            elif token.text in ("call", "pcall") and self._is(at - 2, "redis"):
                for start, end in self._parts(at + 2, ","):
                    found += self._value(start, end, at)
            elif token.text == "concat" and self._is(at - 2, "table"):
                (start, end), *_ = self._parts(at + 2, ",")
                listed = self.tokens[start].text
                if end - start != 1 or listed not in TEXT_LISTS:
                    found.append(self._say(at, f"table.concat of {self._text(start, end)}"))
            elif token.text == "=" and self._name_before(at) in TEXT:
                found += self._assigned(at)
        return found

    def _alias(self, at: int) -> list[str]:
        """What is called `call` or `pcall` of a table is still seen; under any other name it would not be."""
        named = self.tokens[at - 4].text in ("call", "pcall") and self._is(at - 3, "=") and self._inside_table(at)
        return [] if named else [self._say(at, "what goes through another name of redis.call")]

    def _is(self, at: int, text: str) -> bool:
        return 0 <= at < len(self.tokens) and self.tokens[at].text == text

    def _say(self, at: int, what: str) -> str:
        return f"line {self.tokens[at].line}: {what} may be a number: {_ADVICE}"

    def _text(self, start: int, end: int) -> str:
        return " ".join(token.text for token in self.tokens[start:end])

    def _name_before(self, at: int) -> str:
        """Of an assignment of one value to one name."""
        if self.tokens[at - 1].kind != "name":
            return ""
        several = self.tokens[self._before(at)[0] - 1].text == ","
        inside = self._inside_table(at)
        return "" if several and not inside else self.tokens[at - 1].text

    def _inside_table(self, at: int) -> bool:
        """Whether the innermost bracket around it is a table's."""
        depth = 0
        for token in reversed(self.tokens[:at]):
            if token.kind == "symbol":
                depth += (token.text in _CLOSE) - (token.text in _OPEN)
                if depth < 0:
                    return token.text == "{"
        return False

    def _assigned(self, at: int) -> list[str]:
        """What plainly is a number, given to a name that is text."""
        first = self.tokens[at + 1]
        called = self._text(at + 1, at + 4).replace(" ", "")
        if first.kind == "number" or first.text == "#" or called.startswith(("tonumber(", "math.")):
            return [f"line {first.line}: {self.tokens[at - 1].text} is in TEXT, and here it is a number"]
        return []

    def _before(self, at: int) -> tuple[int, int]:
        """The operand that ends before a token."""
        place = at - 1
        while True:
            if self.tokens[place].text in _CLOSE:
                place = self._opening(place)
            if self.tokens[place].text in ("(", "[") and place > 0 and self._continues(place - 1):
                place -= 1
            elif place > 1 and self.tokens[place].kind == "name" and self._is(place - 1, "."):
                place -= 2
            else:
                return place, at

    def _continues(self, at: int) -> bool:
        """Whether what is called or indexed ends there."""
        token = self.tokens[at]
        words = ("and", "or", "not", "return", "if", "while", "until", "in", "then", "else", "elseif")
        return token.text in (")", "]") or (token.kind == "name" and token.text not in words)

    def _after(self, at: int) -> tuple[int, int]:
        """The operand that begins at a token."""
        place = at
        if self.tokens[place].text in ARITHMETIC:
            return at, self._after(at + 1)[1]
        place = self._closing(place) + 1 if self.tokens[place].text in _OPEN else place + 1
        while place < len(self.tokens):
            if self.tokens[place].text == ".":
                place += 2
            elif self.tokens[place].text in ("(", "["):
                place = self._closing(place) + 1
            else:
                break
        return at, place

    def _opening(self, at: int) -> int:
        return self._match(at, -1, _CLOSE)

    def _closing(self, at: int) -> int:
        return self._match(at, 1, _OPEN)

    def _match(self, at: int, step: int, opens: dict[str, str]) -> int:
        depth, place = 0, at
        while True:
            text = self.tokens[place].text if self.tokens[place].kind == "symbol" else ""
            depth += (text in opens) - (text in opens.values())
            if depth == 0:
                return place
            place += step

    def _parts(self, at: int, *separators: str) -> list[tuple[int, int]]:
        """What stands between the separators from a token on, to the bracket that closes around it."""
        parts, start, place = [], at, at
        while self.tokens[place].text not in _CLOSE or self.tokens[place].kind != "symbol":
            if self.tokens[place].kind == "symbol" and self.tokens[place].text in _OPEN:
                place = self._closing(place)
            elif self.tokens[place].text in separators and self.tokens[place].kind != "string":
                parts.append((start, place))
                start = place + 1
            place += 1
        return [*parts, (start, place)]

    def _operand(self, span: tuple[int, int], at: int) -> list[str]:
        start, end = span
        before = self.tokens[start - 1].text if start else ""
        after = self.tokens[end].text if end < len(self.tokens) else ""
        if before in ARITHMETIC or after in ARITHMETIC:
            return [self._say(at, self._text(start, end))]
        return self._value(start, end, at)

    def _value(self, start: int, end: int, at: int) -> list[str]:
        """Whether an expression is text; the operands of a `..` in it are looked at by themselves."""
        first = self.tokens[start]
        if end - start == 1 and first.kind == "string":
            return []
        if self.tokens[at].text in ("call", "pcall") and re.fullmatch(r"-? ?\d{1,9}", self._text(start, end)):
            return []  # a few digits, written there
        alternatives, joined = self._alternatives(start, end)
        if alternatives != [(start, end)]:
            return [problem for one in alternatives for problem in self._value(*one, at)]
        if joined:
            return []
        if first.text == "(" and self._closing(start) == end - 1:
            return self._value(start + 1, end - 1, at)
        return [] if self._is_text(start, end) else [self._say(at, self._text(start, end))]

    def _alternatives(self, start: int, end: int) -> tuple[list[tuple[int, int]], bool]:
        """What an expression of `and` and `or` may come to, with all else left out; and whether a `..` is in it."""
        depth, begun, joined = 0, start, False
        found: list[tuple[int, int]] = []
        for place in range(start, end):
            token = self.tokens[place]
            if token.kind == "symbol":
                depth += (token.text in _OPEN) - (token.text in _CLOSE)
            if depth:
                continue
            joined = joined or (token.text == ".." and token.kind == "symbol")
            if token.text in ("and", "or") and token.kind == "name":
                if token.text == "or":
                    found.append((begun, place))  # before `and` it is the value only where it is false
                begun = place + 1
        return [*found, (begun, end)] if begun != start else [(start, end)], joined

    def _is_text(self, start: int, end: int) -> bool:
        span = self.tokens[start:end]
        if any(token.text in ARITHMETIC and token.kind == "symbol" for token in self._outside(start, end)):
            return False
        called = "".join(token.text for token in self._outside(start, end))
        if called.endswith("()"):
            return called[:-2] in TEXT_CALLS
        if called.startswith(("ARGV[]", "KEYS[]", "OUT.")):
            return True
        names = [token.text for token in self._outside(start, end) if token.kind == "name"]
        return span[0].kind == "name" and bool(names) and names[-1] in TEXT

    def _outside(self, start: int, end: int) -> list[Token]:
        """The tokens of an expression that stand in none of its brackets, and the brackets."""
        found, depth = [], 0
        for token in self.tokens[start:end]:
            closes = token.kind == "symbol" and token.text in _CLOSE
            depth -= closes
            if depth == 0:
                found.append(token)
            depth += token.kind == "symbol" and token.text in _OPEN
        return found
