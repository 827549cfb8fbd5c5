"""Facts that a script needs, fetched from Postgres."""

from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest

from service.access.caller import SCOPES, Caller
from service.api import recall
from service.domain.outcomes import OK, RECALL
from service.hot.missing_codes import MissingCodes
from service.operations.base import Command, render_nothing


@pytest.mark.parametrize("script", ["coupon", "coupon+", "validate", "validate+", "redeem", "redeem+"])
async def test_a_reply_with_uses_needs_every_month(script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A code's state must have the redemptions of detached months if the reply shows its uses, under limits, too."""
    asked: list[bool] = []

    async def records_of(*args: Any) -> list[tuple[str, str]]:
        asked.append(args[-1])
        return [("code:CODE-1", "1")]

    async def run(*_: Any) -> list[Any]:
        return [OK]

    monkeypatch.setattr(recall, "records_of", records_of)
    decider: Any = SimpleNamespace(missing_codes=MissingCodes(), run=run)
    database: Any = None
    caller = Caller(uuid4(), 3, uuid4(), 2, "live", frozenset(SCOPES))
    command = Command(script, (), (), render_nothing)
    reply = [RECALL, "code:CODE-1", "nonce:1/"]
    assert await recall.resolve_recall(decider, database, caller, command, reply) == [OK]
    assert asked == [not script.startswith("redeem")]
