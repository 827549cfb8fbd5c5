"""UUIDs, times and numbers at the ends of their types: none is accepted that a store or a datetime can't hold."""

import importlib
import pkgutil
import tomllib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest
from msgspec import inspect

import service.console
import service.engine.domain
import service.engine.operations
import service.server.api
import service.server.requests
from service.engine.domain.decoding import convert_query, decode
from service.engine.domain.errors import Refusal
from service.engine.domain.field_types import Request
from service.engine.domain.times import LATEST_MS, Time, check_time, to_datetime, to_ms
from service.engine.domain.uuids import LAST_ID, first_id, last_id, parse_uuid, time_ms_of
from service.engine.formats.event_id import END, parse_event_id, parse_sent_id
from tests.harness import ends
from tests.harness.ends import FAR_IDS, NO_TIMES, NUMBERS, TIMES, TOO_EARLY, TOO_LATE


def test_uuids_after_9999_are_no_ids_of_ours() -> None:
    """A UUID of version 7 with a time that no datetime has is not found; any other UUID may be one."""
    for text in (*FAR_IDS, FAR_IDS[1].upper()):
        assert parse_uuid(text) is None
    assert UUID(FAR_IDS[0]).int >> 80 == LATEST_MS + 1
    latest, of_version_4 = UUID(int=LATEST_MS << 80 | 7 << 76 | 8 << 60), UUID(FAR_IDS[0].replace("-7", "-4"))
    for value in (UUID(int=0), LAST_ID, latest, of_version_4):
        assert parse_uuid(str(value)) == value


def test_the_time_in_a_uuid() -> None:
    """Each UUID that parse_uuid accepts has a time that a datetime has, or none."""
    for at_ms in (0, 1, 1_795_166_040_123, LATEST_MS):
        for rest in (8 << 60, 0xBFF << 52 | 2**52 - 1):
            value = UUID(int=at_ms << 80 | 7 << 76 | rest)
            assert parse_uuid(str(value)) == value
            assert time_ms_of(value) == at_ms == to_ms(to_datetime(at_ms))
            assert first_id(at_ms) <= value <= last_id(at_ms) < first_id(at_ms + 1)
    assert time_ms_of(LAST_ID) is time_ms_of(UUID(int=0)) is None


def test_bounds_of_times_before_and_after_all() -> None:
    """The ids of a time that no UUID has begin at the first one, and end at the last one."""
    assert first_id(-1) == first_id(0) == UUID(int=0)
    assert last_id(2**48) == last_id(2**48 - 1) == last_id(10**30) == LAST_ID


def test_event_ids_that_clients_send() -> None:
    """An event's id has two numbers that Postgres and Redis hold, in plain digits."""
    for text in ("0-0", "5-1207", f"{2**62 - 1}-{2**62}"):
        assert parse_sent_id(text) == parse_event_id(text)
    for text in (
        "", "5", "5-", "-5", "5-1-2", "+5-1", "5--1", " 5-1", "5-1\n", "1_0-1", "٣-1", f"{END.epoch}-0",
        f"5-{2**62 + 1}", f"{2**63}-1", f"1-{2**63}", "9" * 19 + "-1", "1-" + "9" * 19, "1-" + "9" * 5000,
    ):  # fmt: skip
        assert parse_sent_id(text) is None


@pytest.mark.parametrize("text", TIMES)
def test_times_up_to_both_ends(text: str) -> None:
    """A time from 1970 to 9999, in UTC, is accepted with any offset."""
    check_time("at", time := msgspec.convert(text, Time))
    assert 0 <= to_ms(time) <= LATEST_MS
    assert datetime(1970, 1, 1, tzinfo=UTC) <= time <= datetime.max.replace(tzinfo=UTC)
    assert abs(to_datetime(to_ms(time)) - time) < timedelta(milliseconds=1)


def request_kinds() -> list[type[Request]]:
    """All structs of requests."""
    for package in (
        service.engine.domain,
        service.engine.operations,
        service.server.requests,
        service.server.api,
        service.console,
    ):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)
    found: list[type[Request]] = []
    pending = Request.__subclasses__()
    while pending:
        found.append(pending.pop())
        pending += found[-1].__subclasses__()
    return [kind for kind in found if kind.__module__.startswith("service.")]


def _fields(kind: type[Request], wanted: type[inspect.Type]) -> Iterator[tuple[str, Any]]:
    """The fields of a struct of which a member of the union is of this type."""
    for field in inspect.type_info(kind).fields:  # type: ignore[attr-defined]
        pending = [field.type]
        while pending:
            match pending.pop():
                case inspect.UnionType(types=kinds):
                    pending += kinds
                case inspect.Metadata(type=inner):
                    pending.append(inner)
                case inspect.ListType(item_type=item):
                    pending.append(item)
                case one if isinstance(one, wanted):
                    yield field.encode_name, one
                case _:
                    pass


def _refused(kind: type[Request], body: bytes) -> set[str]:
    """The last names of the fields that the refusal of a body names."""
    with pytest.raises(Refusal) as caught:
        decode(msgspec.json.Decoder(kind), body)
    assert caught.value.code in ("malformed", "invalid")
    return {error.field.rpartition(".")[2].partition("[")[0] for error in caught.value.errors}


_TIMED = [(kind, field) for kind in request_kinds() for field, _ in _fields(kind, inspect.DateTimeType)]
_NUMBERED = [(kind, field) for kind in request_kinds() for field, _ in _fields(kind, inspect.IntType)]


def test_there_are_times_and_numbers() -> None:
    """The tests below see the requests that have some."""
    assert {"validFrom", "validUntil", "expiresAt", "createdFrom", "since", "until", "now"} <= {
        name for _, name in _TIMED
    }
    assert {"limit", "count", "lockSeconds", "maxRedemptions", "quantity"} <= {name for _, name in _NUMBERED}


@pytest.mark.parametrize(("kind", "field"), _TIMED, ids=lambda one: getattr(one, "__name__", one))
def test_every_time_of_a_request_is_bounded(kind: type[Request], field: str) -> None:
    """Each request refuses a time before 1970 or after 9999, and names the field, in JSON and in a query."""
    required = {one.encode_name for one in msgspec.structs.fields(kind) if one.required}
    for text in (*TOO_EARLY, *TOO_LATE, *NO_TIMES):
        values = {name: _GOOD[name] for name in required} | {field: text}
        assert field in _refused(kind, msgspec.json.encode(values)), text
        if not required:
            with pytest.raises(Refusal) as caught:
                convert_query(values, kind)
            assert field in {error.field.rpartition(".")[2] for error in caught.value.errors}, text


_GOOD: dict[str, Any] = {
    "name": "n", "scopes": ["public"], "action": "setExpiry", "userId": "u", "maxUsesPerUser": 1,
    "validFrom": "2027-01-01T00:00:00Z", "validUntil": "2027-02-01T00:00:00Z",
}  # fmt: skip
"""Values of required fields."""


@pytest.mark.parametrize(("kind", "field"), _NUMBERED, ids=lambda one: getattr(one, "__name__", one))
def test_every_whole_number_of_a_request_is_bounded(kind: type[Request], field: str) -> None:
    """Each whole number has bounds that an `integer` of Postgres and a number of Redis hold."""
    for name, one in _fields(kind, inspect.IntType):
        if name == field:
            low = one.ge if one.ge is not None else one.gt
            high = one.le if one.le is not None else one.lt
            assert low is not None, field
            assert high is not None, field
            assert -1 <= low <= high < 2**31
    for number in NUMBERS:
        assert field in _refused(kind, b'{"%s":%d}' % (field.encode(), number))


def test_schemathesis_tries_the_ends() -> None:
    """The dictionaries of `make fuzz` have the ids, events and times of tests/harness/ends.py."""
    config = Path(__file__).parents[1] / "schemathesis" / "schemathesis.toml"
    dictionaries = tomllib.loads(config.read_text())["dictionaries"]
    for name, texts in (("ids", ends.IDS), ("events", ends.EVENTS), ("times", ends.TIMES)):
        assert dictionaries[name]["values"] == list(texts)
