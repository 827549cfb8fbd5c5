"""Codes, ids, text and metadata: exactly what the contract accepts."""

from typing import Annotated, Any
from uuid import uuid4

import msgspec
import pytest

from service.engine.domain.errors import BadField
from service.engine.domain.field_types import (
    CODE_PATTERN,
    ID_PATTERN,
    RESERVED_CODES,
    canonicalize_code,
    check_text,
    encode_metadata,
    is_caller_id,
)
from service.engine.domain.uuids import parse_uuid
from service.engine.formats import key_names

ID_CHARACTERS = {chr(n) for n in range(33, 127)} - set("/\\?#%")
SOME = [chr(n) for n in range(256)] + ["ſ", "K", "ß", "İ", "４", "٤", "\u200b", "\u2028", "\ud800", "😀"]


def test_codes_have_4_to_64_characters() -> None:
    """A code has 4 to 64 characters, and no line end after them."""
    assert [n for n in range(70) if canonicalize_code("a" * n)] == list(range(4, 65))
    assert canonicalize_code("ABCD\n") is None


def test_reserved_codes() -> None:
    """A reserved word is no code in either case; a longer text is one."""
    for segment in RESERVED_CODES:
        assert canonicalize_code(segment) is None
        assert canonicalize_code(segment.lower()) is None
        assert canonicalize_code(segment + "1") == segment + "1"


def test_ids_of_callers_have_these_characters() -> None:
    """A userId or orderId is printable ASCII without space, / \\ ? # %."""
    for character in SOME:
        for text in (f"{character}a", f"a{character}", f"a{character}a"):
            assert is_caller_id(text) == (character in ID_CHARACTERS), ascii(text)


def test_ids_of_callers_have_1_to_100_characters() -> None:
    """An id has 1 to 100 characters and is neither '.' nor '..'."""
    assert [n for n in range(105) if is_caller_id("a" * n)] == list(range(1, 101))
    assert [text for text in (".", "..", "...", ".a", "..a", "a.", ".\n", "..\n") if is_caller_id(text)] == [
        "...", ".a", "..a", "a.",
    ]  # fmt: skip


def test_schemas_agree_with_the_checks() -> None:
    """The patterns of the OpenAPI document accept the same texts as the decoder."""
    kinds = {CODE_PATTERN: canonicalize_code, ID_PATTERN: is_caller_id}
    for pattern, check in kinds.items():
        decoder = msgspec.json.Decoder(Annotated[str, msgspec.Meta(pattern=pattern)])
        for text in ["abcd", "ABCD\n", ".", "..", "a b c", "ä" * 5, "x" * 64, "x" * 101, "a.bc", "\nabcd"]:
            try:
                decoder.decode(msgspec.json.encode(text))
                is_accepted = True
            except msgspec.ValidationError:
                is_accepted = False
            assert is_accepted == bool(check(text)), (pattern, text)


def test_ids_of_ours_are_uuids_in_their_usual_spelling() -> None:
    """A UUID is accepted in its usual spelling, upper case too; braces, URN and bare hexadecimal are not."""
    value = uuid4()
    assert parse_uuid(str(value)) == parse_uuid(str(value).upper()) == value
    for text in (value.hex, f"{{{value}}}", value.urn, f"{value} ", f" {value}"[:36], "", "x" * 36, "-" * 36, "é" * 36):
        assert parse_uuid(text) is None
    assert parse_uuid("0_0" + str(value)[3:]) is None
    assert parse_uuid("٠" + str(value)[1:]) is None


@pytest.mark.parametrize("bad", ["\x00", "\n", "\t", "\x1f", "\x7f", "\x85", "\u2028", "\ud800", "\u202e"])
def test_text_is_printable(bad: str) -> None:
    """Text has no control character, lone surrogate or mark that steers the display; letters of any script pass."""
    for text in (bad, f"a{bad}", f"{bad}a"):
        with pytest.raises(BadField) as caught:
            check_text("name", text, 1, 255)
        assert (caught.value.field, caught.value.malformed) == ("name", False)
    check_text("name", "Grüße, 日本 😀 ’“", 1, 255)


def test_text_has_a_length_in_characters() -> None:
    """A text of either bound is accepted, one character more or fewer is not; None is accepted."""
    check_text("name", None, 1, 3)
    check_text("name", "", 0, 3)
    for text in ("a", "😀😀😀"):
        check_text("name", text, 1, 3)
    for text in ("", "aaaa"):
        with pytest.raises(BadField):
            check_text("name", text, 1, 3)


@pytest.mark.parametrize("bad", ["\x00", "\n", "\b", "\x0b", "\x1f", "\x7f", "\x80", "\x9f"])
def test_metadata_is_without_control_characters(bad: str) -> None:
    """Metadata has no control character in a key or value, however deep; an escaped backslash is text."""
    for metadata in ({"a": bad}, {bad: 1}, {"a": {"b": ["c", {"d": f"x{bad}"}]}}, {"a": f"\\{bad}"}):
        with pytest.raises(BadField) as caught:
            encode_metadata(metadata, 1024)
        assert caught.value.field == "metadata"
    assert encode_metadata({"a": "\\n \\u0000 \xa0é"}, 1024) == '{"a":"\\\\n \\\\u0000 \xa0é"}'.encode()


def test_metadata_has_so_many_bytes() -> None:
    """Metadata has at most so many bytes as JSON in UTF-8; None and empty metadata are {}."""
    assert encode_metadata(None, 10) == encode_metadata({}, 10) == b"{}"
    assert encode_metadata({"a": "é" * 8}, 24) == '{"a":"éééééééé"}'.encode()
    with pytest.raises(BadField):
        encode_metadata({"a": "é" * 8}, 23)


def _nest(levels: int, *, as_arrays: bool = False) -> dict[str, Any]:
    inner: Any = 1
    for _ in range(levels - 1):
        inner = [inner] if as_arrays else {"a": inner}
    return {"a": inner}


@pytest.mark.parametrize("as_arrays", [False, True])
def test_metadata_has_so_many_levels(as_arrays: bool) -> None:
    """Metadata has at most eight levels, itself included, of objects and arrays; as many side by side, and brackets
    in texts, are none. What is too deep to encode is refused alike."""
    deepest = _nest(8, as_arrays=as_arrays)
    wide = {"a": [deepest["a"]["a"] if not as_arrays else deepest["a"][0]] * 9, "b": "[{" * 9}
    for metadata in (deepest, wide):
        assert encode_metadata(metadata) == msgspec.json.encode(metadata)
    for levels in (9, 600, 100_000):
        is_long = levels == 600 and not as_arrays
        with pytest.raises(BadField, match="bytes as JSON" if is_long else "8 levels") as caught:
            encode_metadata(_nest(levels, as_arrays=as_arrays), 3_000)
        assert caught.value.field == "metadata"


def test_buckets_and_partitions() -> None:
    """A text's bucket never changes; workspaces spread over all partitions."""
    assert key_names.bucket("CODE-1") == 52_333
    assert all(0 <= key_names.bucket(f"CODE-{n}") < 131_072 for n in range(1000))
    assert {key_names.partition_of(str(uuid4()), 4) for _ in range(200)} == {0, 1, 2, 3}
