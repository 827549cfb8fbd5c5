"""What JSON Schema can't express of Scrip's requests, for schemathesis: it loads this by schemathesis.toml.

1. Before a valid request goes out, it is made what the contract calls valid (`_put_right`).
2. Requests that would cost the machine too much are made smaller, and the keys of the run are left alone.
3. A valid request is `invalid` for no other reason than those in `_SENSELESS_TOGETHER`.
4. A batch refuses within.
5. A text is never of a wrong type: what is sent as JSON's `{}` arrives as two characters.
"""

import json
import re
from hashlib import blake2b
from typing import Any
from uuid import uuid4

import requests
import schemathesis
from schemathesis import Case, CheckContext, HookContext, Response
from schemathesis.core import NotSet

ADMIN_KEY = "demo_admin"
MOST_CODES = 100
_NUMBERS_OF_CODES = ("totalCodes", "count", "keepFree")

_SENSELESS_TOGETHER = (
    # a relation between two fields
    (r"validUntil|expiresAt", r"must be (after validFrom.*|in the future)"),
    (r"(filter\.)?createdUntil", r"must be after createdFrom"),
    (r"from", r"must be before now"),
    (r"to", r"must be after `from`|must be at most \d+ days after `from` .*"),
    (r"filter\.codes", r"can't be combined with another filter"),
    (r"filter\.status", r"must be (available|assigned) for (assign|release), or be left out"),
    (r"users", r"is (only|required) for assign"),
    (r"query", r"may choose codes or a column only for a file of users; send `filter`"),
    (r"columns", r"must have code once, and each other field at most once.*"),
    (r"items", r"are worth .* together, more than the orderValue of .*"),
    (r"expiresAt", r"is (only|required) for setExpiry.*"),
    (r"lockSeconds", r"must be at most maxLockSeconds.*"),
    (r"discount\.tiers\[\d+\]\.from", r"must be more than that of the tier before"),
    (r"discount\.tiers\[\d+\]\.value", r"must be at most 100"),
    (r"discountValue", r"must be at most 100"),
    (r"lockToken|amount", r"goes with a code"),
    (r"discount\.maxAmount|maxRedemptionsPerCode", r"must be null: a card .*"),
    (r"discountType|discountValue|maxDiscountAmount|minOrderValue|currency", r".*discount.*"),
    # the lines of a text, which has no schema
    (r"users", r"line \d+: .*|must have a user"),
    # a currency's digits, which also count for JSON numbers, where JSON Schema knows binary fractions
    (r".*([vV]alue|[aA]mount|Price|from)", r"must have at most \d digits after the point.*|has more digits after .*"),
    (r"items", r"must have a unitPrice of at most \d digits after the point.*"),
    # all characters of a string, compared with each other in any case
    (r"charset", r"must have each character once, in upper case"),
    # an address of the public internet, of so many webhooks
    (r"url", r"must (begin with|be|have) .*|leads to .*|would be one more than .*"),
    # a size in bytes
    (r"metadata", r"must have at most \d+ bytes as JSON"),
    # a name of the database of time zones
    (r"timeZone", r"must be (an IANA time zone such as .*|a time zone that Postgres has, too)"),
    # what is there: another book, and whether this one was used; a coupon that is no card
    (r"amount|code", r".*the coupon's book has no balance"),
    (r"discount\.(type|currency)", r"(can't (become|cease to be) `balance`|is fixed), since .*"),
    (r"giftBookId", r".*book.*"),
    (r"name", r"can't be given, since the workspace has 1000 keys: revoke some"),
    (r"keyId", r"was rotated before: .*"),
    (r"maxRedemptionsPerCode", r"is fixed, since a code of this book was locked or redeemed"),
    # an offset can move a time over the edge
    (r".*", r"must be from 1970 to [49]999"),
)

_kept_keys: set[str] = set()


@schemathesis.hook
def before_call(context: HookContext, case: Case, kwargs: dict[str, Any]) -> None:
    """Points 1 and 2."""
    if not _kept_keys:
        _kept_keys.update(_own_keys(case))
    if case.meta is not None and case.meta.generation.mode.is_positive:
        if not isinstance(case.body, NotSet):  # schemathesis judges a body again that was set, and no body as a bad one
            case.body = _put_right(case.body)
        if case.query:
            # A cursor is opaque: only one that a list gave is good.
            case.query = {name: _put_right(value) for name, value in case.query.items() if name != "cursor"}
        if case.headers and "Idempotency-Key" in case.headers:
            case.headers["Idempotency-Key"] = _key_of(case)
    if isinstance(case.body, dict):
        for name in _NUMBERS_OF_CODES:
            if isinstance(number := case.body.get(name), int) and MOST_CODES < number <= 10_000_000:
                case.body[name] = number % MOST_CODES + 1
    if case.path_parameters and case.path_parameters.get("keyId") in _kept_keys:
        case.path_parameters["keyId"] = str(uuid4())


@schemathesis.check
def valid_is_not_invalid(ctx: CheckContext, response: Response, case: Case) -> None:
    """Point 3."""
    if case.meta is None or not case.meta.generation.mode.is_positive or response.status_code != 422:
        return
    problem = response.json()
    for error in problem["errors"] if problem["code"] == "invalid" else ():
        rule = re.split(", but (?:is|has) ", error["reason"], maxsplit=1)[0]
        known = any(
            re.fullmatch(field, error["field"]) and re.fullmatch(reason, rule) for field, reason in _SENSELESS_TOGETHER
        )
        assert known, f"A request that the document calls valid is invalid: {error}"


@schemathesis.check
def batch_refuses_within(ctx: CheckContext, response: Response, case: Case) -> None:
    """Point 4."""
    if case.operation.path != "/v1/batch" or case.meta is None or response.status_code != 200:
        return
    if _has_bad_body(case):
        statuses = [result["status"] for result in response.json()["results"]]
        assert {400, 422} & set(statuses), f"An operation that the document calls bad was taken: {statuses}"


@schemathesis.hook
def filter_case(context: HookContext, case: Case) -> bool:
    """Point 5."""
    return not ((case.media_type or "").startswith("text/") and _has_bad_body(case))


def _has_bad_body(case: Case) -> bool:
    parts = case.meta.components.items() if case.meta else ()
    return any(place.value == "body" and part.mode.is_negative for place, part in parts)


def _put_right(value: Any) -> Any:
    """The value as the contract means it. JSON Schema takes 5.0 for an integer, which here is none; and of `\\p{C}` and
    `\\p{Z}`, which no text of ours may have, schemathesis knows only those of Latin-1."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    if isinstance(value, str):
        return "".join(character if character.isprintable() else "x" for character in value)
    if isinstance(value, list):
        return [_put_right(item) for item in value]
    if isinstance(value, dict):
        return {_put_right(name): _put_right(item) for name, item in value.items()}
    return value


def _key_of(case: Case) -> str:
    """An Idempotency-Key that is this request's alone: it is a replay where the same request comes again."""
    request = json.dumps([case.method, case.formatted_path, case.query, case.body], default=repr, sort_keys=True)
    return blake2b(request.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _own_keys(case: Case) -> set[str]:
    """The ids of the keys that there are at the start; without them the rest of the run would just get 401."""
    url = f"{case.operation.schema.get_base_url().rstrip('/')}/v1/keys?limit=1000"
    answer = requests.get(url, headers={"Authorization": f"Bearer {ADMIN_KEY}"}, timeout=30)
    return {key["keyId"] for key in json.loads(answer.text)["items"]}
