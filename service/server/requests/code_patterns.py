"""Check code patterns for requests, and generate codes of them for code_generator.py and single_coupon_rows.py: `#`
becomes a random character of a charset; all other characters stay."""

import re
import secrets

from service.engine.domain.errors import BadField, FieldError, Refusal
from service.engine.domain.field_types import RESERVED_CODES

PATTERNS = {
    "pattern": "^[A-Za-z0-9_#-]{4,64}$",
    "description": "4 to 64 of A-Z a-z 0-9 - _ and `#`, which becomes a random character of `charset`.",
}
CHARSETS = {
    "pattern": "^[A-Za-z0-9_-]{2,36}$",
    "description": "2 to 36 of A-Z a-z 0-9 - _, each at most once, regardless of case.",
}
"""For the OpenAPI document."""
DEFAULT_PATTERN = "####-####-####"
DEFAULT_CHARSET = "23456789ABCDEFGHJKLMNPQRSTUVWXYZ"

SPARSITY = 10_000
"""The least number of possible codes for each code of a book: to guess one takes this many tries."""

_is_pattern = re.compile(r"[A-Za-z0-9_#-]{4,64}").fullmatch
_is_charset = re.compile(r"[A-Z0-9_-]{2,36}").fullmatch


def check_pattern(pattern: str) -> None:
    """Raise BadField unless the pattern generates valid codes."""
    if not _is_pattern(pattern):
        raise BadField("codePattern", "must have 4 to 64 of the characters A-Z a-z 0-9 - _ and #")
    if pattern.upper() in RESERVED_CODES:
        raise BadField("codePattern", "is a reserved word")


def normalize_charset(charset: str) -> str:
    """The charset in upper case. Raises BadField unless it has 2 to 36 characters, each once."""
    upper = charset.upper()
    if not _is_charset(upper):
        raise BadField("charset", "must have 2 to 36 of the characters A-Z 0-9 - _")
    if len(set(upper)) != len(upper):
        raise BadField("charset", "must have each character once, in upper case")
    return upper


def count_possible_codes(pattern: str, charset: str) -> int:
    return len(charset) ** pattern.count("#")


def refuse_pattern(field: str, pattern: str, charset: str, codes: int) -> Refusal:
    """The Refusal `pattern_too_small` of a pattern with fewer than SPARSITY possible codes for each of so many."""
    needed, blanks = codes * SPARSITY, 0
    while len(charset) ** blanks < needed:
        blanks += 1
    count = count_possible_codes(pattern, charset)
    reason = f"has {count:,} possible code{'s' * (count > 1)}; {codes:,} codes need {needed:,}"
    detail = f"The codePattern {pattern} {reason}, so that none is guessed. Use at least {blanks} `#`."
    return Refusal("pattern_too_small", detail, [FieldError(field, reason)])


def generate_codes(pattern: str, charset: str, count: int) -> list[str]:
    """`count` random codes, all equally likely; a code may occur twice."""
    codes: list[str] = []
    while len(codes) < count:
        drawn = _draw_codes(pattern.upper(), charset.encode(), count - len(codes))
        codes += [code for code in drawn if code not in RESERVED_CODES]
    return codes


def _draw_codes(pattern: str, charset: bytes, count: int) -> list[str]:
    """Random codes from one buffer: each `#` of the pattern is filled for all codes at once."""
    length = len(pattern)
    buffer = bytearray(pattern.encode() * count)
    indexes = [index for index, character in enumerate(pattern) if character == "#"]
    drawn = _draw_characters(charset, count * len(indexes))
    for number, index in enumerate(indexes):
        buffer[index::length] = drawn[number * count : (number + 1) * count]
    text = buffer.decode("ascii")
    return [text[start : start + length] for start in range(0, len(text), length)]


def _draw_characters(charset: bytes, count: int) -> bytes:
    """Uniform random characters: discards the bytes that would make the first characters likelier."""
    fair = 256 - 256 % len(charset)
    table = bytes(charset[byte % len(charset)] for byte in range(256))
    unfair = bytes(range(fair, 256))
    drawn = b""
    while len(drawn) < count:
        drawn += secrets.token_bytes((count - len(drawn)) * 256 // fair + 16).translate(table, unfair)
    return drawn[:count]
