"""A worker's forgetter on the partition of opening_fixtures.py, whose orders are some hours old."""

import pytest

from service.record.facts import forgotten_orders
from service.record.pool import Database
from service.worker.order_forgetter import DAY_MS, IDLE_S, OrderForgetter
from tests.integration.histories.retiring_fixtures import start_changes
from tests.integration.opening.opening_fixtures import Place

ORDER_DAYS = 400
AGED_DAYS = ORDER_DAYS - 2 / 24
"""Then what is five hours old is forgotten, and what is new is not."""
_AGED = """
CREATE FUNCTION pg_temp.aged(id uuid, at timestamptz) RETURNS uuid LANGUAGE sql AS $$
  SELECT (lpad(to_hex(ms_of(at)), 12, '0') || substr(replace(id::text, '-', ''), 13))::uuid
$$;
CREATE TEMP TABLE aged AS
SELECT redemption_id, pg_temp.aged(redemption_id, redeemed_at - hours) AS aged_id, redeemed_at - hours AS at
FROM redemptions, (SELECT interval '5 hours' AS hours) AS age;
UPDATE rollbacks t SET redemption_id = aged_id FROM aged WHERE t.redemption_id = aged.redemption_id;
UPDATE order_uses t SET redemption_id = aged_id FROM aged WHERE t.redemption_id = aged.redemption_id;
UPDATE single_uses t SET redemption_id = aged_id FROM aged WHERE t.redemption_id = aged.redemption_id;
UPDATE redemptions t SET redemption_id = aged_id, redeemed_at = at FROM aged WHERE t.redemption_id = aged.redemption_id;
UPDATE assignments SET assigned_at = assigned_at - interval '5 hours';
UPDATE open_assignments SET assigned_at = assigned_at - interval '5 hours';
DROP TABLE aged;
"""


class Forgetting:
    """A place at a time of its own, in days from now."""

    def __init__(self, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
        self.place, self.days_later = place, 0.0
        read_memories = forgotten_orders.read_memories

        async def read_later(database: Database, partition: int) -> list[forgotten_orders.Memory]:
            ahead_ms = int(self.days_later * DAY_MS)
            return [each._replace(now_ms=each.now_ms + ahead_ms) for each in await read_memories(database, partition)]

        monkeypatch.setattr(forgotten_orders, "read_memories", read_later)

    async def age(self) -> None:
        """Let what happened be five hours older, in both stores."""
        await self.place.pool.execute(_AGED)
        await self.place.rebuild()

    async def forget(self, days_later: float = AGED_DAYS, *, dies_after: int = -1) -> bool:
        """A new worker forgets what is due in so many days, or dies after so many scripts. Whether all is done."""
        self.days_later = days_later
        async with start_changes(self.place, dies_after) as changes:
            forgetter = OrderForgetter(changes)
            pause_s = 0.0
            for _ in range(9):
                pause_s = await forgetter.forget_some()
                if pause_s == IDLE_S:
                    return True
        return False

    async def orders(self) -> dict[str, str]:
        """What Redis holds of orders and their gifts."""
        held = await self.place.everything()
        return {
            name.decode().split(":")[2] + ":" + field.decode(): value.decode()
            for name, entries in held.items()
            if name.split(b":")[2] in (b"o", b"g")
            for field, value in entries.items()
            if b"/" not in field
        }

    async def others(self) -> dict[bytes, object]:
        """What Redis holds of the workspace apart from that."""
        rest: dict[bytes, object] = {}
        for name, value in (await self.place.everything()).items():
            kind = name.split(b":")[2]
            kept = {field: one for field, one in value.items() if b"/" in field} if kind in (b"o", b"g") else value
            if kept:
                rest[name] = kept
        return rest
