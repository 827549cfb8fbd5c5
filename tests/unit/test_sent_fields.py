"""A field that clients send with a redemption: a row of the table is all there is of it in Python. A process of its own
has one row more, as structs are made at import."""

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest

ROOT = Path(__file__).parents[2]
EVENTS = "service.engine.formats.events"
ROW = '    channel: Annotated[str, Sent("Where it was sold.", example="web")] = ""\n'
BEFORE = '    reason: str = ""\n'
ORDER = {"userId": "user", "orderId": "order", "orderValue": "60"}


def _import_with_row() -> None:
    spec = importlib.util.find_spec(EVENTS)
    assert spec
    assert spec.origin
    module = sys.modules[EVENTS] = importlib.util.module_from_spec(spec)
    source = Path(spec.origin).read_text()
    assert source.count(BEFORE) == 1
    exec(compile(source.replace(BEFORE, ROW + BEFORE), spec.origin, "exec"), module.__dict__)


def _redeem(**fields: Any) -> tuple[str, str]:
    """The event's request part, and what an answer has of it."""
    from service.engine.operations.base import Call
    from service.engine.operations.redeem import REDEEM
    from service.engine.operations.redemption_view import redemption_json
    from tests.harness.redemptions import redemption_record
    from tests.unit.fastlane_fixtures import BOOK, caller

    request = REDEEM.decode(caller("one"), json.dumps(ORDER | fields).encode())
    part = REDEEM.prepare(Call(caller("one")), "ABCD", request).args[10]
    return part, json.loads(redemption_json(redemption_record(request=part), BOOK, None))["channel"]


def _is_sent_stored_and_shown() -> None:
    """It goes from a request into the event, and from there into the answer; without it the event is as before."""
    assert _redeem(channel="web") == ('{"channel":"web"}', "web")
    assert _redeem(metadata={"a": 1}, channel='"é') == ('{"metadata":{"a":1},"channel":"\\"é"}', '"é')
    assert _redeem() == _redeem(channel=None) == ("{}", None)


def _is_bounded() -> None:
    """A text is printable, and neither empty nor too long."""
    from service.engine.domain.errors import Refusal

    for bad in ("", "x" * 65, "a\nb"):
        with pytest.raises(Refusal) as caught:
            _redeem(channel=bad)
        assert (caught.value.code, [field.field for field in caught.value.errors]) == ("invalid", ["channel"])


def _is_not_usual() -> None:
    """A usual request has none of it; checkout, validate and batches take it."""
    from service.engine.operations import checkout, redeem
    from service.engine.operations.batch import AnyOperation
    from service.engine.operations.usual_requests import decode_usual

    for body, is_usual in ((ORDER, True), (ORDER | {"channel": "web"}, False)):
        usual = decode_usual(redeem.REDEEM.usual_decoder, json.dumps(body).encode())
        assert (usual is not None) is is_usual
        assert usual is None or (usual.sent, usual.channel) == (None, None)
    kinds = redeem.RedeemRequest, redeem.ValidateRequest, checkout.CheckoutRequest, *get_args(AnyOperation)
    takes = {kind.__name__ for kind in kinds if "channel" in kind.__struct_fields__}
    assert takes == {"RedeemRequest", "ValidateRequest", "CheckoutRequest", "BatchRedeem", "BatchValidate"}


def _is_recorded_and_read() -> None:
    """COPY writes its column, statements read it, and rows give it back."""
    from service.engine.record.facts import event_writer, fact_reader
    from service.engine.record.queries import query
    from service.server.answers.views import redemption_of
    from service.server.in_postgres.history_pages import PastRedemption
    from tests.unit.test_events import R

    for part, columns in ((b'{"channel":"a\\\\b"}', "\\N\ta\\\\b"), (b"{}", "\\N\t\\N")):
        (line,) = event_writer._Batch(0, 1, [(7, R, part, None)])._redemptions
        assert line.endswith(f"\t{columns}\n")
        assert len(line.split("\t")) == len(event_writer._REDEMPTIONS)
    assert event_writer._REDEMPTIONS[-2:] == ["metadata", "channel"]
    for name in ("redemption", "facts_in_order"):
        assert "metadata, channel\nFROM" in query(name).replace(" FROM", "\nFROM")
    of_redemption = ("R", 0, 1, 7, 1, 1, "ABCD", "user", 5, None, None, None, None)
    row: Any = (*of_redemption, None, "USD", 2, 0, 0, 1, None, None, None, None, None, None, None, None, "web")
    assert fact_reader.fact_of(row).request.channel == "web"  # type: ignore[attr-defined]
    past: dict[str, Any] = dict.fromkeys(PastRedemption.__struct_fields__) | {"channel": "web"}
    amounts = dict.fromkeys(("digits", "discount_e4", "redeemed_at_ms"), 0)
    assert redemption_of(PastRedemption(**past | amounts)).channel == "web"  # type: ignore[attr-defined]


def _is_documented() -> None:
    """Documents have its text and example, and the export its column."""
    from service.engine.operations.document_parts import REDEMPTION
    from service.server.api.controllers import exports
    from service.server.api.field_texts import SHARED

    assert (SHARED["channel"], REDEMPTION["channel"]) == ("Where it was sold.", "web")
    assert exports._REDEMPTION_FIELDS[-1] == "channel"
    assert [line.split(",")[-2] for line in exports._REDEMPTIONS_EXAMPLE.splitlines()] == ["channel", "web"]


CHECKS: tuple[Callable[[], None], ...] = (
    _is_sent_stored_and_shown, _is_bounded, _is_not_usual, _is_recorded_and_read, _is_documented
)  # fmt: skip


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_a_row_is_all_there_is_of_it(check: Callable[[], None]) -> None:
    """With a row for a text `channel` each part that reads the table has it."""
    command = [sys.executable, "-m", "tests.unit.test_sent_fields", check.__name__]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr


if __name__ == "__main__":
    _import_with_row()
    next(check for check in CHECKS if check.__name__ == sys.argv[1])()
