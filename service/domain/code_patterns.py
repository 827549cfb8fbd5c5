"""Code patterns: `#` is a random character of a charset, anything else stands for itself."""

import re
import secrets

from service.domain.errors import BadField
from service.domain.field_types import RESERVED_CODES

PATTERNS = {"pattern": "^[A-Za-z0-9_#-]{4,64}$"}
CHARSETS = {"pattern": "^[A-Za-z0-9_-]{2,36}$"}
"""What the OpenAPI document says of them."""
DEFAULT_PATTERN = "####-####-####"
DEFAULT_CHARSET = "23456789ABCDEFGHJKLMNPQRSTUVWXYZ"

SPARSITY = 10_000
"""So many possibilities for each code of a book, at least: guessing one takes that many tries."""

_is_pattern = re.compile(r"[A-Za-z0-9_#-]{4,64}").fullmatch
_is_charset = re.compile(r"[A-Z0-9_-]{2,36}").fullmatch


def check_pattern(field: str, pattern: str) -> None:
    """Raise BadField unless codes can be made by the pattern."""
    if not _is_pattern(pattern):
        raise BadField(field, "must have 4 to 64 of the characters A-Z a-z 0-9 - _ and #")
    if pattern.upper() in RESERVED_CODES:
        raise BadField(field, "is a reserved word")


def checked_charset(field: str, charset: str) -> str:
    """The charset in upper case; BadField unless it has 2 to 36 characters of codes, each once."""
    upper = charset.upper()
    if not _is_charset(upper):
        raise BadField(field, "must have 2 to 36 of the characters A-Z 0-9 - _")
    if len(set(upper)) != len(upper):
        raise BadField(field, "must have each character once, in upper case")
    return upper


def possibilities(pattern: str, charset: str) -> int:
    """How many codes the pattern can make."""
    return len(charset) ** pattern.count("#")


def generate(pattern: str, charset: str, count: int) -> list[str]:
    """So many random codes, every possibility as likely as any other; a code may be among them twice."""
    codes: list[str] = []
    while len(codes) < count:
        made = _draw(pattern.upper(), charset.encode(), count - len(codes))
        codes += [code for code in made if code not in RESERVED_CODES]
    return codes


def _draw(pattern: str, charset: bytes, count: int) -> list[str]:
    """Codes side by side in one buffer: each place of the pattern is filled for all of them at once."""
    length = len(pattern)
    buffer = bytearray(pattern.encode() * count)
    places = [place for place, character in enumerate(pattern) if character == "#"]
    drawn = _random_characters(charset, count * len(places))
    for number, place in enumerate(places):
        buffer[place::length] = drawn[number * count : (number + 1) * count]
    text = buffer.decode("ascii")
    return [text[start : start + length] for start in range(0, len(text), length)]


def _random_characters(charset: bytes, count: int) -> bytes:
    """Uniform characters: bytes that would favour the charset's beginning are thrown away."""
    fair = 256 - 256 % len(charset)
    table = bytes(charset[byte % len(charset)] for byte in range(256))
    unfair = bytes(range(fair, 256))
    drawn = b""
    while len(drawn) < count:
        drawn += secrets.token_bytes((count - len(drawn)) * 256 // fair + 16).translate(table, unfair)
    return drawn[:count]
