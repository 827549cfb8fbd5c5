"""Bodies that are put together by hand are what the structs of the OpenAPI document would be encoded as."""

import msgspec
import pytest

from service.engine.domain.field_types import quote_field, quote_id
from service.engine.formats.events import parse_record
from service.engine.formats.redemption_id import id_from_numbers
from service.engine.operations.base import Call, encode
from service.engine.operations.lock import LOCK, Lock
from service.engine.operations.redemption_view import (
    DurableRedemption,
    Redemption,
    compute_final_amount,
    redemption_json,
)
from tests.harness.redemptions import redemption_record
from tests.unit.fastlane_fixtures import BOOK, caller

_CALLER = caller("one")
_ID_CHARACTERS = "".join(chr(code) for code in range(33, 127) if chr(code) not in "/\\?#%")


def _record(user: str = "u", order: str = "o", value: str = "599000", kept: str = "{}") -> str:
    return redemption_record(
        code="ABCD", user=user, order=order, value_e4=value, discount_e4="119800", at_ms="1795189957123", request=kept
    )


@pytest.mark.parametrize("user", ["u", "%-", '"', 'a"b"', _ID_CHARACTERS])
@pytest.mark.parametrize("order", ["-", "%-", 'o"', _ID_CHARACTERS[:60]])
def test_a_redemption(user: str, order: str) -> None:
    """A redemption's body is what the struct encodes to, for all ids, agents and metadata, with or without a value."""
    agents = (None, "x", 'curl "\\/<é>')
    for agent in agents:
        for metadata in (b"{}", b'{"a":"\xc3\xa9 \\" x","b":[1, 2.50]}', b'{"a":1,"key":"x"}'):
            sent = {} if metadata == b"{}" else {"metadata": msgspec.Raw(metadata)}
            kept = Call(_CALLER, "key", "f", "192.0.2.7" if agent else None, agent).encode_request("redeem", sent)
            for value in ("-", "599000"):
                body = redemption_json(_record(user, order, value, kept), BOOK, None, "fsynced")
                read = msgspec.json.decode(body, type=_Durable)
                assert encode(read) == body
                assert read.user_agent == agent
                assert read.ip_address == ("192.0.2.7" if agent else None)
                assert bytes(read.metadata) == metadata
                assert read.user_id == ("-" if user == "%-" else user)
                assert read.order_id == (None if order == "-" else "-" if order == "%-" else order)
                final_amount = compute_final_amount(parse_record(_record(value=value)))
                assert read.final_amount == (None if value == "-" else "47.92") == final_amount


class _Durable(DurableRedemption):
    metadata: msgspec.Raw


def test_the_time_of_a_rollback() -> None:
    """Only the answer to a rollback has its time; without a durability the body is a Redemption's."""
    for rolled_at_ms, time in ((1795187557123, "2026-11-20T15:12:37.123Z"), (None, None)):
        body = redemption_json(_record(), BOOK, rolled_at_ms)
        read = msgspec.json.decode(body, type=Redemption)
        assert read.rolled_back_at == time
        assert encode(read) == body


def test_ids() -> None:
    """A redemption's id is derived from its event and time."""
    body = redemption_json(_record(), BOOK, None)
    assert msgspec.json.decode(body, type=Redemption).redemption_id == id_from_numbers(1, 7, 1795189957123)


@pytest.mark.parametrize("user", ["u", "%-", _ID_CHARACTERS])
@pytest.mark.parametrize("order", ["-", "%-", _ID_CHARACTERS])
def test_a_lock(user: str, order: str) -> None:
    """A lock's body is what the struct encodes to, for all ids."""
    command = LOCK.prepare(Call(_CALLER), "ABCD", LOCK.decoder.decode(b'{"userId":"u"}'))
    for left_ms, seconds in (299999, 299), (999, 0):
        payload = f"{BOOK} ABCD {user} {order} tttttttttttttttt 1795189957123 {left_ms}"
        body = command.render([0, payload, "", 0], "fsynced").body
        assert body is not None
        read = msgspec.json.decode(body, type=Lock)
        assert (encode(read), read.lock_seconds) == (body, seconds)
    ids = {"-": None, "%-": "-"}
    assert (read.user_id, read.order_id) == (ids.get(user, user), ids.get(order, order))


def test_ids_as_json() -> None:
    """`quote_id` and `quote_field` write every character of an id as the JSON encoder does; an absent id is null."""
    assert quote_field("-") == "null"
    for quote in (quote_id, quote_field):
        assert quote("%-") == '"-"'
        for text in (_ID_CHARACTERS, *_ID_CHARACTERS.replace("-", "")):
            assert quote(text).encode() == encode(text)
