"""Requests to change many codes of a book as one job, for code_changes.py, job_rows.py and code_changer.py.

Field names, statuses and actions are in the API's JSON and in the JSON of jobs in Postgres, where a new field needs a
default; sql/queries/ uses the statuses.
"""

from typing import Annotated, ClassVar, Literal
from uuid import UUID

import msgspec
from msgspec import UNSET, UnsetType

from service.engine.domain.errors import BadField
from service.engine.domain.field_types import (
    END,
    Answer,
    CodeText,
    Request,
    UserId,
    canonicalize_code,
    check_text,
    text_schema,
)
from service.engine.domain.times import Time, Timestamp, check_times

Status = Literal["redeemed", "exhausted", "inactive", "expired", "assigned", "available"]
"""A code's status, apart from locks."""
Action = Literal["switchOff", "switchOn", "expire", "setExpiry", "assign", "release"]

MAX_NAMED = 1_000
"""Codes that a request may name, and users to whom it may assign some."""
MAX_USERS = 100_000
"""Users of a file."""
_NEEDED: dict[str, Status] = {"assign": "available", "release": "assigned"}
"""The status of the codes that an action changes."""
_PREFIX = r"^[A-Za-z0-9_-]{1,64}" + END
_NAMED = msgspec.Meta(extra_json_schema={"minItems": 1, "maxItems": MAX_NAMED})


class _Chosen(Request, kw_only=True, omit_defaults=True):
    """Which codes of the book, by what lists don't show."""

    where: ClassVar[str] = ""
    """The path of these fields in a request."""
    prefix: (
        Annotated[
            str,
            msgspec.Meta(pattern=_PREFIX, description="Codes that begin so, in any case: 1 to 64 of A-Z a-z 0-9 - _."),
        ]
        | None
    ) = None
    created_from: Annotated[Time | None, msgspec.Meta(description="Codes added at this time or later.")] = None
    created_until: Annotated[Time | None, msgspec.Meta(description="Codes added before this time.")] = None

    def __post_init__(self) -> None:
        check_times(self, self.where)
        if self.created_from and self.created_until and self.created_until <= self.created_from:
            raise BadField(f"{self.where}createdUntil", "must be after createdFrom")
        if self.prefix is not None:
            self.prefix = self.prefix.upper()


class CodeFilter(_Chosen, kw_only=True, omit_defaults=True):
    """Which codes of the book: those that match all of it; without any, all."""

    where: ClassVar[str] = "filter."
    status: Annotated[
        Annotated[list[Status], msgspec.Meta(extra_json_schema={"minItems": 1})] | None,
        msgspec.Meta(description="Codes of one of these statuses, as lists show it; a lock does not change it."),
    ] = None
    codes: Annotated[
        Annotated[list[CodeText], _NAMED] | None,
        msgspec.Meta(
            description=f"These codes, at most {MAX_NAMED:,}; without any other filter.", examples=[["VIP-1"]]
        ),
    ] = None

    def __post_init__(self) -> None:
        if self.status is not None and not self.status:
            raise BadField("filter.status", "must have a status, or be left out")
        _Chosen.__post_init__(self)
        if self.codes is not None:
            self._check_codes(self.codes)

    def _check_codes(self, codes: list[str]) -> None:
        if self.status or self.prefix or self.created_from or self.created_until:
            raise BadField("filter.codes", "can't be combined with another filter")
        if not 1 <= len(codes) <= MAX_NAMED:
            raise BadField("filter.codes", f"must have 1 to {MAX_NAMED:,} codes; use another filter for more")
        named = list(map(canonicalize_code, codes))
        for position, code in enumerate(named):
            if code is None:
                raise BadField(f"filter.codes[{position}]", "is a reserved word")
        self.codes = list(dict.fromkeys(filter(None, named)))


class ChangeCodes(Request, kw_only=True):
    """What to do with which codes of the book."""

    action: Annotated[
        Action,
        msgspec.Meta(
            description="`switchOff`, `switchOn`: as `status` in the change of one coupon. `expire`: end them now. "
            "`setExpiry`: give them the end `expiresAt`, or none. `assign`: give each of `users` one of them. "
            "`release`: take them from their users."
        ),
    ]
    expires_at: Annotated[
        Time | UnsetType | None, msgspec.Meta(description="For `setExpiry`; null removes the codes' own end.")
    ] = UNSET
    users: Annotated[
        Annotated[list[UserId], _NAMED] | UnsetType,
        msgspec.Meta(description=f"For `assign`: the users who get a code each, at most {MAX_NAMED:,}."),
    ] = UNSET
    filter: CodeFilter | None = None

    def __post_init__(self) -> None:
        if (self.action == "setExpiry") == (self.expires_at is UNSET):
            needs = "is required for setExpiry" if self.expires_at is UNSET else "is only for setExpiry"
            raise BadField("expiresAt", needs)
        check_times(self)
        if (self.action == "assign") == (self.users is UNSET):
            raise BadField("users", "is required for assign" if self.users is UNSET else "is only for assign")
        if self.users is not UNSET:
            if not 1 <= len(self.users) <= MAX_NAMED:
                raise BadField("users", f"must have 1 to {MAX_NAMED:,} users; send a file for more")
            self.users = list(dict.fromkeys(self.users))
        chosen = self.filter or CodeFilter()
        needed = _NEEDED.get(self.action)
        if needed is not None and not chosen.codes:
            if chosen.status not in (None, [needed]):
                raise BadField("filter.status", f"must be {needed} for {self.action}, or be left out")
            chosen.status = [needed]
        self.filter = chosen


class Change(_Chosen, kw_only=True):
    """Options of a change. Those that choose codes are for a file of users; JSON has a `filter`."""

    dry_run: Annotated[
        bool, msgspec.Meta(description="Return how many codes match, with status 200, without a job.")
    ] = False
    user_column: (
        Annotated[
            str,
            text_schema(
                1, 100, description="CSV only: the name of the column of users; default: a usual one, such as `userId`."
            ),
        ]
        | None
    ) = None

    def __post_init__(self) -> None:
        _Chosen.__post_init__(self)
        check_text("userColumn", self.user_column, 1, 100)

    @property
    def needs_file(self) -> bool:
        """Whether it has what only goes with a file of users."""
        return bool(self.prefix or self.created_from or self.created_until or self.user_column)

    def assign_to(self, users: list[str]) -> ChangeCodes:
        """The change that gives each user of a file one of the codes."""
        chosen = CodeFilter(prefix=self.prefix, created_from=self.created_from, created_until=self.created_until)
        order = ChangeCodes(action="assign", users=users[:1], filter=chosen)
        order.users = users  # more than a request in JSON may have
        return order


class CodeChange(Answer, kw_only=True):
    """What a job does with which codes; `expiresAt` is the end that it gives them."""

    action: Action
    filter: CodeFilter
    expires_at: Timestamp | None = None


class CodeChangeProgress(CodeChange, kw_only=True):
    """What a job does with which codes, and how many were changed, had been so before, or were refused."""

    book_id: UUID
    changed: int
    unchanged: int
    refused: int


class MatchingCodes(Answer, kw_only=True):
    """How many codes a change would examine and match. Counting ends after some seconds: then `isComplete` is false,
    and more codes may match. `examples` are the newest of them."""

    matching: int
    is_complete: bool
    examples: list[str]
    users: Annotated[
        int | UnsetType, msgspec.Meta(description="Only with a file: how many users it has, each counted once.")
    ] = UNSET
