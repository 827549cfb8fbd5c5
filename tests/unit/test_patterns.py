"""Patterns: all possible codes are equally likely, and none is a reserved word."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.engine.domain.errors import BadField
from service.engine.domain.field_types import RESERVED_CODES, canonicalize_code
from service.server.requests import code_patterns
from service.server.requests.code_patterns import (
    DEFAULT_CHARSET,
    check_pattern,
    count_possible_codes,
    generate_codes,
    normalize_charset,
)


@given(st.from_regex(r"[A-Za-z0-9_#-]{4,64}", fullmatch=True), st.integers(0, 50))
def test_codes_fit_their_pattern(pattern: str, count: int) -> None:
    """`generate_codes` returns as many codes as requested, each of which fits the pattern."""
    if pattern.upper() in RESERVED_CODES:
        return
    check_pattern(pattern)
    codes = generate_codes(pattern, DEFAULT_CHARSET, count)
    assert len(codes) == count
    for code in codes:
        assert canonicalize_code(code) == code
        for wanted, got in zip(pattern.upper(), code, strict=True):
            assert got in DEFAULT_CHARSET if wanted == "#" else got == wanted


@pytest.mark.parametrize("size", [2, 31, 32, 36])
def test_no_character_is_favoured(size: int) -> None:
    """Each character of a charset is equally frequent, whatever the charset's size."""
    charset = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"[:size]
    counts = Counter("".join(generate_codes("#" * 10, charset, 20_000)))
    expected = 200_000 / size
    chi_squared = sum((counts[character] - expected) ** 2 / expected for character in charset)
    assert set(counts) == set(charset)
    assert chi_squared < (size - 1) + 8 * (2 * (size - 1)) ** 0.5


def test_reserved_words_are_not_made() -> None:
    """A pattern that can make a reserved word never makes it."""
    codes = generate_codes("LOC#", "KX", 200)
    assert set(codes) == {"LOCX"}


def test_codes_are_not_repeated_by_chance() -> None:
    """Two draws share no code."""
    assert not set(generate_codes("############", DEFAULT_CHARSET, 5000)) & set(
        generate_codes("############", DEFAULT_CHARSET, 5000)
    )


@pytest.mark.parametrize("pattern", ["", "###", "#" * 65, "AB CD", "ÄBCD", "AB.#", "lock", "User-Specific"])
def test_bad_patterns(pattern: str) -> None:
    """A pattern that can't make codes is refused."""
    with pytest.raises(BadField):
        check_pattern(pattern)


@pytest.mark.parametrize("charset", ["", "A", "AA", "aA", "AB.", "A" * 37, "ÄB", "ß2", "ſS"])
def test_bad_charsets(charset: str) -> None:
    """A charset has 2 to 36 characters of codes, each once in upper case."""
    with pytest.raises(BadField):
        normalize_charset(charset)


def test_charsets_are_upper_cased() -> None:
    """A charset becomes upper case."""
    assert normalize_charset("abc-_9") == "ABC-_9"


def test_possibilities() -> None:
    """Each `#` multiplies by the charset's size."""
    assert count_possible_codes("A#-#", "ABC") == 9
    assert count_possible_codes("ABCD", "ABC") == 1
    assert count_possible_codes(code_patterns.DEFAULT_PATTERN, DEFAULT_CHARSET) == 32**12
