"""Fields of COPY's binary format."""

import asyncpg
import pytest

from service.formats.events import redemption_id, redemption_id_start
from service.record.facts.binary_rows import integer_field, money_field, parse_uuid_field, size, text_field


@pytest.mark.parametrize(("epoch", "seq", "at_ms"), [(1, 1, 0), (16_383, 7, 1), (2**26 - 1, 2**48 - 1, 2**47)])
def test_an_id_of_bytes_is_the_id_of_text(epoch: int, seq: int, at_ms: int):
    """The start of a redemption's id and the event's number are the bytes of its text."""
    made = redemption_id_start(epoch, at_ms) + seq.to_bytes(6, "big")
    assert f"{size(16)}{made.decode('latin-1')}" == parse_uuid_field(redemption_id(epoch, seq, at_ms))


@pytest.mark.parametrize("text", ["", "a", "é\\\t", "€" * 300])
def test_a_text_has_the_length_of_its_bytes(text: str):
    """A field is the length and the bytes of UTF-8."""
    data = text_field(text).encode("latin-1")
    assert (int.from_bytes(data[:4], "big"), data[4:]) == (len(text.encode()), text.encode())


@pytest.mark.parametrize("value", ["2147483648", "-2147483649"])
def test_a_number_out_of_range_is_the_error_of_postgres(value: str):
    """An int and an amount that the column can't hold raise what Postgres would."""
    for make in (integer_field, lambda text: money_field(text + "00000000")):
        with pytest.raises(asyncpg.NumericValueOutOfRangeError):
            make(value)


def test_no_uuid_is_the_error_of_postgres():
    """A text that is not a UUID raises what Postgres would."""
    with pytest.raises(asyncpg.InvalidTextRepresentationError):
        parse_uuid_field("none")
