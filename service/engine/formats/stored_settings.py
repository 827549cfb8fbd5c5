"""Encode the settings of workspaces, books and codes as strings for scripts, and fill in what Lua says of them.
projection.py sends them; comparisons expect the same text.

Redis stores a workspace's and a book's after their version. The first word of the settings has a letter for each usual
text (lua/fast/) whose decision no setting can change that it does not read, and the number of places: the others leave
each request to the general text. What follows are places that all texts know, then settings by name, where they are
not usual. So a setting without a word about the usual texts makes a book slow, and one of a later version makes it
unreadable. lua/put_codes.lua makes a code's record from its settings.
"""

import re
from collections.abc import Callable
from typing import Any, NamedTuple
from uuid import UUID

from service.engine.domain.configuration import BookRow, CodeRow, DiscountRow, WorkspaceRow
from service.engine.domain.field_types import encode_field
from service.engine.domain.limits import encode_book_limits
from service.engine.domain.settings import fields_of
from service.engine.domain.times import to_datetime
from service.engine.formats.bounds import encode_bounds, encode_zone

_mark = re.compile(r"^((?:\S+ ){8}-?\d+)!\d")

USUAL = "lrxs"
"""The usual texts (lua/fast/usual_*.lua): lock, redeem, refusal of a used-up code, refusal of a sold-out book."""
_WORKSPACE_PLACES = 7


class _Place(NamedTuple):
    """A setting of a book that all usual texts read: a word of the stored text, by its place after the first two."""

    name: str
    """In Lua, a field of the book."""
    value: Callable[[BookRow], Any]
    in_lua: str = "{}"
    """What Lua makes of the word."""
    pattern: str = "(%S+)"


_NUMBER, _TEXT, _SWITCH = "tonumber({})", "{0} ~= '-' and {0} or nil", "{} == '1'"
_PLACES = (
    _Place("id", lambda row: row.book_id),
    _Place("from", lambda row: row.valid_from_ms, _NUMBER),
    _Place("till", lambda row: row.valid_until_ms, _NUMBER),
    _Place("per_user", lambda row: row.max_redemptions_per_user, _NUMBER),
    _Place("codes_per_user", lambda row: row.max_codes_per_user, _NUMBER),
    _Place("require_lock", lambda row: row.require_lock, _SWITCH),
    _Place("lock_ms", lambda row: row.lock_seconds * 1000),
    _Place("max_lock_ms", lambda row: row.max_lock_seconds * 1000),
    _Place("ended", lambda row: row.locks_ended or None, pattern="%-?(%d*)"),
    _Place("low", lambda row: row.low_stock_threshold, _NUMBER),
    _Place("discount", lambda row: row.discount and row.discount.type, _TEXT),
    _Place("discount_terms", lambda row: row.discount and _terms(row.discount)),
    _Place("cap", lambda row: row.discount and row.discount.max_amount_e4, _NUMBER),
    _Place("least", lambda row: row.discount and _least(row.discount), _NUMBER),
    _Place("currency", lambda row: row.discount and row.discount.currency, _TEXT),
    _Place("digits", lambda row: row.discount and row.discount.digits),
)


class _Named(NamedTuple):
    """A setting of a book that is stored by name, where it isn't usual (domain/settings.py)."""

    name: str
    value: Callable[[BookRow], Any]
    usual: Any
    unaffected: str


def _encode_bounds(row: BookRow) -> str | None:
    if not row.bounds:
        return None
    return encode_bounds(row.bounds, row.counted_from, is_counted=row.is_counted, zone=zone_of(row))


_ENCODED: dict[str, Callable[[BookRow], Any]] = {"limits": lambda row: encode_book_limits(row.limits)}
"""The fields whose stored text is not their value."""


def _named_settings() -> tuple[_Named, ...]:
    named = [_Named("bounds", _encode_bounds, None, "xs")]  # of two fields
    for field, (_, _, one) in fields_of(BookRow).items():
        if one.lua:
            value = _ENCODED.get(field, lambda row, field=field: getattr(row, field))
            named.append(_Named(one.lua, value, one.usual, one.unaffected))
    return tuple(named)


_NAMED = _named_settings()


def _word(named: list[_Named], places: int = len(_PLACES)) -> str:
    """The first word: the letters of the texts that none of these affects, '-' in the place of another; the places."""
    letters = "".join(text if all(text in one.unaffected for one in named) else "-" for text in USUAL)
    return f"{letters}{places}"


_WORKSPACE = _word([], _WORKSPACE_PLACES)
_LIMITED_WORKSPACE = _WORKSPACE.replace("l", "-")
"""With limits of locks."""


def _stored_by_name(name: str, value: Any) -> str:
    """' <name>#<number>', '-' for none, or ' <name>=<text>'."""
    is_number = value is None or (isinstance(value, int) and not isinstance(value, bool))
    return f" {name}{'#' if is_number else '='}{setting(value)}"


class ConfigVersions(NamedTuple):
    """How far a partition's Redis has the configuration."""

    last: int
    """It has every change up to this one."""
    newest: int
    """It has some of this change; at least `last`."""


def parse_versions(config: str | int | None, newest: str | int | None) -> ConfigVersions:
    """The values of the keys `config` and `newest`, which may be missing. A change without rows, as an upload of known
    codes, raises `config` alone."""
    last = int(config or 0)
    return ConfigVersions(last, max(last, int(newest or 0)))


def setting(value: Any) -> str:
    """A value as a field; '-' for none."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "1" if value else "0"
    return encode_field(str(value))


def _joined(*values: Any) -> str:
    return " ".join(map(setting, values))


def code_settings(row: CodeRow) -> str:
    """A code's settings; '' if it has none of its own."""
    own = (row.owner_id, row.max_redemptions, row.expires_ms, row.amount_e4)
    if row.active and own == (None,) * len(own):
        return ""
    return _joined(row.owner_id, row.created_ms, row.max_redemptions, row.expires_ms, row.active, row.amount_e4)


def _terms(discount: DiscountRow) -> str:
    """A discount's terms for lua/includes/discounts.lua."""
    match discount.type:
        case "tiered":
            return ",".join(f"{tier.from_e4}:{tier.type}:{tier.value_e4}" for tier in discount.tiers)
        case "buyXGetY":
            return f"{discount.buy}:{discount.get}"
        case _:
            return str(discount.value_e4)


def workspace_settings(row: WorkspaceRow) -> str:
    """A workspace's settings for lua/includes/book.lua."""
    keep_ms = row.idempotency_hours * 3_600_000
    limits = (row.coupons_per_order, row.currency, row.digits, row.max_coupons)
    settings = _joined(*limits, keep_ms, row.gift_book_id, row.clock_offset_ms)
    books = encode_book_limits(row.limits.books if row.limits else None)
    return f"{_LIMITED_WORKSPACE} {settings} limits={books}" if books else f"{_WORKSPACE} {settings}"


def without_mark(settings: str) -> str:
    """A workspace's settings as Redis has them, with their version and without the mark of a full workspace, which
    lua/put_storage.lua writes: Postgres has none."""
    return _mark.sub(r"\1", settings, count=1)


def book_settings(row: BookRow) -> str:
    """A book's settings for lua/includes/book.lua."""
    named = {one: value for one in _NAMED if (value := one.value(row)) != one.usual}
    places = _joined(_word([*named]), *(one.value(row) for one in _PLACES))
    return places + "".join(_stored_by_name(one.name, value) for one, value in named.items())


def _least(discount: DiscountRow) -> int | None:
    """The least value of an order: the larger of its own and of the first tier's."""
    least = discount.min_order_value_e4
    return max(least or 0, discount.tiers[0].from_e4) if discount.tiers else least


def zone_of(row: BookRow) -> str:
    """The zone of its periods, as its settings have it."""
    return encode_zone(row.time_zone, to_datetime(row.updated_ms).year - 1)


def closed_book_settings(book_id: UUID) -> str:
    """The settings of a book that can't be projected, which permits nothing."""
    return f"{_without_settings(str(book_id))} status=unreadable"


def _without_settings(book_id: str) -> str:
    values = {"id": book_id, "require_lock": "0", "lock_ms": "300000", "max_lock_ms": "3600000"}
    return " ".join(["-" * len(USUAL) + str(len(_PLACES)), *(values.get(one.name, "-") for one in _PLACES)])


_in_lua = re.compile(
    r"\{book(?: (usual|[a-z])| from (\w+))?: ([\w *]+)\}|\{(book|workspace) ([\w -]+)\}|^( *)-- @book (\w+) = text$",
    re.MULTILINE,
)


def fill_settings(text: str) -> str:
    """Fill in what a text of Lua says of settings, in strings and comments: it is Lua before, too.

    `{book l: id from}`  the pattern that captures these settings of a book that does not affect the usual text `l`
    `{book usual: …}`    the same, after the letters of all usual texts; `{book: …}` of any book
    `{book from discount: …}`  of what begins there; `*discount`, as the last, captures all from there on
    `{book of none}`     the text of a book without settings; `{book names}` the settings that are stored by name
    `{workspace usual}`, `{workspace limited}`  the first word of a workspace's settings
    `{workspace word}`   its pattern
    `-- @book settings = text`  reads a text into a table, and `more`, the settings by name
    """
    return _in_lua.sub(_fill, text)


def _fill(found: re.Match[str]) -> str:
    usual, start, names, thing, what, indent, table = found.groups()
    if table:
        return _reading(indent, table)
    if names:
        return _pattern(usual, start, names.split())
    return {
        "book of none": f"0 {_without_settings('-')}",
        "book names": " ".join(one.name for one in _NAMED),
        "workspace usual": _WORKSPACE,
        "workspace limited": _LIMITED_WORKSPACE,
        "workspace word": _word_pattern(None, _WORKSPACE_PLACES),
    }[f"{thing} {what}"]


def _reading(indent: str, table: str) -> str:
    captured = ", ".join(one.name for one in _PLACES)
    fields = ", ".join(f"{one.name} = {one.in_lua.format(one.name)}" for one in _PLACES)
    pattern = " ".join(["^%S+", _word_pattern(None), *(one.pattern for one in _PLACES)])
    return (
        f"{indent}local {captured}, more = string.match(text, '{pattern}(.*)$')\n"
        f"{indent}local {table} = {{ number = number, per_code = 1, {fields} }}"
    )


def _pattern(usual: str | None, start: str | None, wanted: list[str]) -> str:
    places = [one.name for one in _PLACES]
    words: list[str] = [] if start else ["%S+", _word_pattern(usual)]
    for one in _PLACES[places.index(start) if start else 0 :]:
        if f"*{one.name}" in wanted:
            words.append("(.*)$")
            break
        words.append(one.pattern if one.name in wanted else one.pattern.replace("(", "").replace(")", ""))
        if one.name == wanted[-1]:
            break
    captured = [name.removeprefix("*") for name in wanted]
    if captured != [name for name in places if name in captured]:
        raise ValueError(f"settings in another order, or unknown: {wanted}")
    return "^" + " ".join(words)


def _word_pattern(usual: str | None, places: int = len(_PLACES)) -> str:
    """Of the first word, with the number of places: nothing is read of texts with other places."""
    letters = "%S%S%S%S"
    if usual == "usual":
        letters = "(%S)" * len(USUAL)
    elif usual:
        letters = f"{'%S' * USUAL.index(usual)}{usual}{'%S' * (len(USUAL) - 1 - USUAL.index(usual))}"
    return f"{letters}{places}"
