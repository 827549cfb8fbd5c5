"""A batch whose client has gone."""

import contextlib
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest
from litestar.datastructures import Headers

from service.engine.domain.errors import Refusal
from service.engine.operations.base import Call
from service.server.api.bulk import Bulk
from service.server.api.controllers import batches
from tests.unit.fastlane_fixtures import caller

_SIZE = 200
_OPERATIONS = [msgspec.Raw(b'{"op":"lock","code":"ABCD","userId":"u"}')] * _SIZE


class _Decider:
    """Refuses all operations. The client goes with a call."""

    def __init__(self, gone_after: int) -> None:
        self.sizes: list[int] = []
        self._gone_after = gone_after

    def has_gone(self, _: Any) -> None:
        if len(self.sizes) >= self._gone_after:
            raise Refusal("malformed")

    async def run_all(self, _partition: int, runs: list[Any]) -> list[Refusal]:
        self.sizes.append(len(runs))
        return [Refusal("coupon_not_found") for _ in runs]

    def durability(self, _partition: int) -> str:
        return "fsynced"


@pytest.mark.parametrize(("key", "gone_after", "calls"), [
    ("", 0, 0), ("", 1, 1), ("", 9, 4), ("k", 0, 0), ("k", 1, 4),
])  # fmt: skip
async def test_a_batch_ends_with_its_client(
    key: str, gone_after: int, calls: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the client has gone, nothing more is sent; under a key everything is, once an operation was sent."""
    decider, bulk = _Decider(gone_after), Bulk()
    monkeypatch.setattr(batches, "check_client", decider.has_gone)
    context = SimpleNamespace(decider=decider, bulk=bulk)
    request: Any = SimpleNamespace(
        app=SimpleNamespace(state=SimpleNamespace(context=context)),
        headers=Headers({"idempotency-key": key} if key else {}),
        scope={"state": {"request_id": "r"}},
    )
    call = Call(caller("one"), "", "-")
    ends = contextlib.nullcontext() if calls == 4 else pytest.raises(Refusal, match="malformed")
    with ends:
        run = await batches._run(request, call, cast("list[Any]", _OPERATIONS), None)
        assert len(run.results) == _SIZE
    assert len(decider.sizes) == calls
    assert bulk.batches.all_waiting() == 0
    async with bulk.batches.one(1), bulk.batches.one(1):
        """Both calls of the workspace are free."""
