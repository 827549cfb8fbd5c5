"""Requests that are refused, as data; names such as `{held}` are replaced by those of tests/harness/routes/setup.py."""

import copy
from typing import Any, NamedTuple

from tests.harness.kinds import NOBODYS

WorkspaceSetup = dict[str, str]


class Case(NamedTuple):
    """A request and its refusal."""

    code: str
    method: str
    path: str
    body: dict[str, Any] | bytes | None = None
    field: str | None = None
    kind: str = "application/json"
    key: str | None = "{own}_admin"
    """Sent as `Authorization: Bearer`; None is without."""
    headers: dict[str, str] = {}  # noqa: RUF012, never changed
    says: str = ""
    """Words of the title, the detail or a reason, from which a developer knows what to change."""

    @property
    def id(self) -> str:
        text = "" if not self.body or self.method == "GET" else str(self.body)[:60].replace("[", "(").replace("]", ")")
        return f"{self.code}: {self.method} {self.path} {text}".strip()


def posts(path: str, *refusals: tuple[str, dict[str, Any]], **common: Any) -> tuple[Case, ...]:
    """Cases of one address; the refusal names `field` of the body; `code` is moved into a path that has `{code}`."""
    cases: list[Case] = []
    for refusal, more in refusals:
        body = copy.deepcopy(common) | more
        at, field = path, body.pop("field", None)
        if "{code}" in path:
            at = path.replace("{code}", body.pop("code"))
        cases.append(Case(refusal, "POST", at, body, field))
    return tuple(cases)


def filled(template: Any, setup: WorkspaceSetup) -> Any:
    """The template with the setup's names in it."""
    if isinstance(template, str):
        return template.format_map(setup) if "{" in template else template
    if isinstance(template, dict):
        return {name: filled(value, setup) for name, value in template.items()}
    if isinstance(template, list | tuple):
        return [filled(value, setup) for value in template]
    return template


PAST, _FUTURE = "2026-01-01T00:00:00Z", "2036-01-01T00:00:00Z"
_FIVE = {"type": "fixed", "value": 5}
_TIER = {"from": 0, "type": "fixed", "value": 1}
_PLAIN = "off ended bobs held used held_off held_dark owned_held owned_used undone_code standing"
BOOKS: dict[str, tuple[int, dict[str, Any]]] = {
    **{name: (1, {}) for name in _PLAIN.split()},
    "free": (10, {}),
    "dark": (1, {"status": "inactive"}),
    "early": (1, {"validFrom": _FUTURE}),
    "late": (1, {"validUntil": PAST}),
    "unowned": (1, {"requireAssignment": True}),
    "must": (1, {"requireLock": True}),
    "spent": (1, {"maxRedemptionsPerCode": 2}),
    "capped": (2, {"maxRedemptionsPerUser": 1}),
    "sold": (2, {"maxRedemptions": 1}),
    "priced": (1, {"discount": _FIVE | {"minOrderValue": 10}}),
    "broke": (1, {"discount": _FIVE, "budgets": [{"amount": 4, "per": "book", "period": "lifetime"}]}),
    "busy": (2, {"useLimits": [{"uses": 1, "per": "book", "period": "month"}]}),
    "one": (2, {"maxCodesPerUser": 1}),
    "empty": (0, {}),
    "many": (2, {"maxCodesPerUser": None}),
    "ceiling": (1, {"lockSeconds": 3600}),
    "owned_spent": (1, {"maxRedemptionsPerCode": 2}),
    "gifts": (2, {}),
    "small": (0, {"codePattern": "R-######", "charset": "0123456789", "keepFree": 100, "status": "archived"}),
    "windowed": (0, {"validFrom": "2027-01-01T00:00:00Z", "validUntil": "2027-02-01T00:00:00Z"}),
    "assigned": (1, {"discount": {"type": "percentage", "value": 10}, "tags": ["x"], "metadata": {"a": [1]}}),
    "locked": (1, {"discount": {"type": "tiered", "tiers": [_TIER], "maxAmount": 5}, "limits": {"lockedPercent": 50}}),
    "units": (1, {"discount": {"type": "buyXGetY", "buy": 2, "get": 1}}),
    "card": (3, {"discount": {"type": "balance", "value": 50}}),
    "euros": (0, {"discount": {"type": "fixed", "value": "5.00", "currency": "EUR"}}),
}
"""Books: how many codes, and their rules. routes/setup.py makes them, and says what was done with their codes."""

MISSING = ("coupon_not_found", {"code": "NO-SUCH-CODE"}), ("coupon_not_found", {"code": "a.b"})
USES = (
    ("coupon_inactive", {"code": "{off}"}),
    ("book_inactive", {"code": "{dark}"}),
    ("not_started", {"code": "{early}"}),
    ("expired", {"code": "{late}"}),
    ("expired", {"code": "{ended}"}),
    ("coupon_not_assigned", {"code": "{unowned}"}),
    ("coupon_assigned_to_other", {"code": "{bobs}"}),
    ("coupon_locked", {"code": "{held}"}),
    ("coupon_redeemed", {"code": "{used}"}),
    ("coupon_exhausted", {"code": "{spent}"}),
    ("user_redemption_limit", {"code": "{capped}"}),
    ("out_of_stock", {"code": "{sold}"}),
    ("order_already_used", {"code": "{free}", "orderId": "{taken}"}),
)
TOKENS = (
    ("lock_lost", {"code": "{free}", "lockToken": "never-was"}),
    ("lock_lost", {"code": "{held}", "lockToken": "{held_token}"}),
    ("lock_required", {"code": "{must}"}),
)
PRICES = (
    ("currency_mismatch", {"code": "{priced}", "orderValue": 20, "currency": "EUR"}),
    ("order_value_too_low", {"code": "{priced}", "orderValue": "9.99"}),
    ("budget_exhausted", {"code": "{broke}", "orderValue": 20}),
    ("period_limit", {"code": "{busy}", "orderValue": 20}),
    ("no_discount", {"code": "{units}", "orderValue": 20, "field": "items"}),
    ("invalid", {"code": "{free}", "orderValue": "1.001", "field": "orderValue"}),
)
VALUES = (*PRICES, ("price_changed", {"code": "{priced}", "orderValue": 20, "expectedFinalAmount": 20}))
ASSIGNED = (
    ("book_inactive", {"bookId": "{dark_book}"}),
    ("expired", {"bookId": "{late_book}"}),
    ("user_code_limit", {"bookId": "{one_book}"}),
    ("out_of_stock", {"bookId": "{empty_book}"}),
    ("book_not_found", {"bookId": NOBODYS}),
)
