"""Redemption facts for scripts, of redemptions of which Redis has the event alone."""

import msgspec

from service.engine.formats.event_id import EventId
from service.engine.formats.events import encode_event
from service.engine.formats.redemption_id import id_from_numbers
from service.engine.record.facts.quarantined_events import UnrecordedEvent, quarantine_unrecorded
from service.engine.record.facts.redemption_records import records_of
from tests.integration.recording.record_fixtures import EVENT_MS, Record, assigned, redeemed, rolled_back, unassigned


async def test_a_redemption_is_read_by_its_event_and_by_its_id(kept: Record) -> None:
    """Event id and redemption id return the same record, in its workspace alone; an id of another time returns none."""
    own_id = id_from_numbers(kept.epoch, 1, EVENT_MS)
    assert await kept.write(redeemed("CODE-1"))
    names = [event, _, other, unknown] = [
        f"{kept.epoch}-1",
        own_id,
        id_from_numbers(kept.epoch, 1, 1),
        f"{kept.epoch}-2",
    ]
    records = dict(await records_of(kept.pool, 0, 1, names))
    assert records[event] == records[own_id]
    assert records[event].startswith(f"{event} R 1 ")
    assert (records[other], unknown in records) == ("", False)
    assert dict(await records_of(kept.pool, 0, 2, names)) == {own_id: "", other: ""}


async def test_a_redemption_in_quarantine_is_read_too(kept: Record) -> None:
    """A redemption in quarantine is returned for the same ids and no others; not if Redis was rebuilt since."""
    own_id, other = (id_from_numbers(kept.epoch, 9, at_ms) for at_ms in (EVENT_MS, 1))
    event_text = encode_event(redeemed("CODE-1")).encode()
    unrecorded = UnrecordedEvent(EventId(kept.epoch, 9), event_text, b"{}")
    assert await quarantine_unrecorded(kept.pool, 0, "test", [unrecorded]) == 1
    event = f"{kept.epoch}-9"
    assert dict(await records_of(kept.pool, 0, 1, [event, own_id])) == {own_id: ""}
    await kept.pool.execute("UPDATE quarantine SET cause = 'refused'")
    records = dict(await records_of(kept.pool, 0, 1, [event, own_id, other]))
    assert records[event] == records[own_id] != ""
    assert records[other] == ""
    assert dict(await records_of(kept.pool, 0, 2, [event, own_id])) == {own_id: ""}


async def test_when_something_was_rolled_back(kept: Record) -> None:
    """A rolled-back redemption and gift have the rollback's time, also if its event is in quarantine; what stands, and
    a gift that was unassigned, have none."""
    sold, kept_use, refused = redeemed("CODE-1"), redeemed("CODE-2"), redeemed("CODE-3")
    await kept.write(sold, kept_use, refused)
    ids = [kept.id_of(use) for use in (sold, kept_use, refused)]
    gifts = [assigned(code, at_ms=at_ms, order=order) for code, at_ms, order in (("G-1", 5, "o1"), ("G-2", 5, "o2"))]
    await kept.write(msgspec.structs.replace(rolled_back(sold), redemption_id=ids[0]), *gifts)
    await kept.write(unassigned("G-1", at_ms=7, order="o1"), unassigned("G-2", at_ms=8))
    event_text = encode_event(msgspec.structs.replace(rolled_back(refused), redemption_id=ids[2])).encode()
    unrecorded = UnrecordedEvent(EventId(kept.epoch, 99), event_text, b"{}")
    assert await quarantine_unrecorded(kept.pool, 0, "test", [unrecorded]) == 1
    names = [*ids, "G-1/5", "G-1/6", "G-2/5", "G-3/5"]
    records = await records_of(kept.pool, 0, 1, [f"rolled:{name}" for name in names])
    back = str(EVENT_MS + 5)
    assert records == [(f"rolled:{n}", at) for n, at in zip(names, [back, "", back, "7", "", "", ""], strict=True)]
