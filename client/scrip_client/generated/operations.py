"""A function for each operation, which makes its call, and the methods of both clients."""

# Made by client/generate.py: change that, and run it.
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal, TypedDict

from msgspec import UNSET, UnsetType

from scrip_client.core import Call, Codes, File, changes, fields, make_call, segment
from scrip_client.generated import models
from scrip_client.method import Listed, Single, Streamed


def get_live() -> Call[models.Live]:
    """Is the process alive. Checks no other part of the service. No credentials."""
    return make_call("get_live", "GET", "/health/live", {200: models.Live}, changes=False)


def get_ready() -> Call[models.Ready]:
    """Check whether the service is ready. Returns 503 if this process serves no partition. Requests of a partition
    in `partitions` are refused with 503, all others are served. Reasons: `redis_unavailable`, `closed` (a worker
    must open it), `postgres_older` (Postgres lacks what Redis has: an operator must decide), `waiting_for_old_redis`
    (a worker waits until no process can use the last Redis), `scripts_missing` (Redis has no scripts of this
    version: run its `scrip migrate`), `unverified` (Redis is not what a worker verified), `keys_outdated` (no
    Postgres for 10 minutes). No credentials.
    """
    return make_call("get_ready", "GET", "/health/ready", {200: models.Ready, 503: models.Ready}, changes=False)


def list_audit(
    *,
    limit: int | None = None,
    cursor: str | None = None,
    action: str | None = None,
    actor: Literal["command", "key", "person", "service"] | None = None,
    key_id: str | None = None,
    person: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> Call[models.Page[models.Entry]]:
    """List audit entries. Audit entries, newest first: changes of books, codes, users, keys and settings, each
    committed with its change; sign-ins and sign-outs of the console; and `attempts.refused`, the count of rejected
    requests by key, every ten seconds. Entries are never changed or removed. A filter that takes more than 5 s is
    `invalid`.

    - limit: The largest number of items.
    - cursor: `nextCursor` of the previous page.
    - action: Only this action, such as `book.changed`.
    - actor: Only entries of this kind of actor.
    - key_id: Only entries of this key.
    - person: Only entries of this person.
    - since: Only from this time on. RFC 3339, from 1970 to 9999.
    - until: Only before this time. RFC 3339, from 1970 to 9999.
    """
    return make_call(
        "list_audit",
        "GET",
        "/v1/audit",
        {200: models.Page[models.Entry]},
        query={
            "limit": limit,
            "cursor": cursor,
            "action": action,
            "actor": actor,
            "keyId": key_id,
            "person": person,
            "since": since,
            "until": until,
        },
        changes=False,
    )


def export_audit(*, excel: Literal["comma", "semicolon"] | None = None) -> Call[bytes]:
    """Export audit entries. All entries as CSV, newest first; `before` and `after` are JSON. Scope `operate`.

    - excel: Write the file for Excel, with a byte order mark. Excel opens a file that has the list separator of its
      language: `semicolon`, with commas in amounts, as in most of Europe; or `comma`. Times are of the workspace's
      `timeZone`. Default: a file for programs, with commas, times in UTC, and no byte order mark.
    """
    return make_call("export_audit", "GET", "/v1/audit.csv", {200: bytes}, query={"excel": excel}, changes=False)


def run_batch(
    *,
    operations: Sequence[
        models.BatchAssign
        | models.BatchLock
        | models.BatchExtend
        | models.BatchUnlock
        | models.BatchRedeem
        | models.BatchValidate
    ],
    idempotency_key: str | None = None,
    recorded_within_s: int | None = None,
) -> Call[models.Results]:
    """Run many operations. Run the operations in order, each on its own: one that is refused or malformed has a
    problem as its result, and does not affect the others. `assign` takes either `code` or `bookId`. Scope
    `checkout`.

    - operations: What to do, in this order.
    """
    return make_call(
        "run_batch",
        "POST",
        "/v1/batch",
        {200: models.Results},
        body=fields(operations=operations),
        key=idempotency_key,
        recorded_within_s=recorded_within_s,
    )


def list_books(
    *,
    limit: int | None = None,
    cursor: str | None = None,
    status: Literal["active", "archived", "inactive"] | None = None,
    tag: str | None = None,
    q: str | None = None,
) -> Call[models.Page[models.Book]]:
    """List books. Books, newest first. Scope `manage`.

    - limit: The largest number of items.
    - cursor: `nextCursor` of the previous page.
    - status: Only books of this status.
    - tag: Only books with this tag.
    - q: Part of the name or the description, in any case.
    """
    return make_call(
        "list_books",
        "GET",
        "/v1/books",
        {200: models.Page[models.Book]},
        query={"limit": limit, "cursor": cursor, "status": status, "tag": tag, "q": q},
        changes=False,
    )


def create_book(
    *,
    name: str,
    description: str | None = None,
    status: Literal["active", "archived", "inactive"] | None = None,
    valid_from: datetime | None = None,
    valid_until: datetime | None = None,
    max_redemptions_per_code: int | None = None,
    max_redemptions_per_user: int | None = None,
    discount: models.PercentageDiscount
    | models.FixedDiscount
    | models.TieredDiscount
    | models.BuyXGetYDiscount
    | models.BalanceDiscount
    | None = None,
    code_pattern: str | None = None,
    charset: str | None = None,
    gift_book_id: str | None = None,
    tags: Sequence[str] | None = None,
    metadata: dict[str, Any] | None = None,
    created_by: str | None = None,
    limits: models.BookLimits | None = None,
    budgets: Sequence[models.Budget] | None = None,
    use_limits: Sequence[models.UseLimit] | None = None,
    max_redemptions: int | None = None,
    max_codes_per_user: int | None = None,
    require_assignment: bool | None = None,
    require_lock: bool | None = None,
    lock_seconds: int | None = None,
    max_lock_seconds: int | None = None,
    low_stock_threshold: int | None = None,
    keep_free: int | None = None,
    public_reasons: bool | None = None,
    total_codes: int | None = None,
    idempotency_key: str | None = None,
) -> Call[models.Book]:
    """Create a book. Create a book, such as for a campaign. With `totalCodes` the job `jobId` generates that many
    codes. Scope `manage`.

    - description: What it is for, for people. Printable characters only.
    - status: `inactive`: its coupons can't be used for now; `archived`: for good; else `active`.
    - valid_from: From when the coupons can be redeemed; null for at once. RFC 3339, from 1970 to 9999.
    - valid_until: Until when the coupons can be redeemed; null for ever. RFC 3339, from 1970 to 9999.
    - max_redemptions_per_code: How often each code can be redeemed. Default: 1, for cards null; null means no limit.
    - max_redemptions_per_user: How often one user can redeem coupons of the book; null for any number of times.
    - discount: What a coupon takes off the order's value; null for nothing.
    - code_pattern: The form of generated codes. 4 to 64 of A-Z a-z 0-9 - _ and `#`, which becomes a random character
      of `charset`.
    - charset: The characters of which the random ones of a code are chosen. 2 to 36 of A-Z a-z 0-9 - _, each at most
      once, regardless of case.
    - gift_book_id: The book from which a checkout gives a coupon to the user.
    - tags: Words to find the book by.
    - metadata: Data of your own, which the service stores and returns: at most 1 KiB of JSON for a redemption, else
      4 KiB, and 8 levels of objects and arrays. An object has each name once. A number that a double would round is
      refused: send it as a string.
    - created_by: Who created it, in your own words. Printable characters only.
    - limits: Limits against guessing and hoarding; null for the workspace's. They replace all earlier ones.
    - budgets: The most that the discounts may come to; locks count too. Needs `orderValue` at each lock. They
      replace all earlier ones.
    - use_limits: How often the coupons may be used in a period; locks count too. They replace all earlier ones.
    - max_redemptions: How often all coupons of the book can be redeemed together; null for any number of times.
    - max_codes_per_user: How many codes of the book can ever be assigned to one user; null for any number.
    - require_assignment: Whether a coupon must be assigned to the user who redeems it.
    - require_lock: Whether a coupon must be locked before it is redeemed.
    - lock_seconds: How long a lock lasts, in seconds. Default: 300.
    - max_lock_seconds: How long a lock can last with all its extensions, in seconds. Default: 3600.
    - low_stock_threshold: `book.low_stock` is sent when fewer free codes or uses than this are left; null for never.
    - keep_free: New codes are generated when fewer than this number are free; null for never.
    - public_reasons: Whether a validate by a key with only the scope `public` tells `not_started`, `expired`,
      `order_value_too_low` and `order_value_required`.
    - name: Its name, for people. Printable characters only.
    - total_codes: How many codes to generate at once.
    """
    return make_call(
        "create_book",
        "POST",
        "/v1/books",
        {201: models.Book},
        body=fields(
            description=description,
            status=status,
            validFrom=valid_from,
            validUntil=valid_until,
            maxRedemptionsPerCode=max_redemptions_per_code,
            maxRedemptionsPerUser=max_redemptions_per_user,
            discount=discount,
            codePattern=code_pattern,
            charset=charset,
            giftBookId=gift_book_id,
            tags=tags,
            metadata=metadata,
            createdBy=created_by,
            limits=limits,
            budgets=budgets,
            useLimits=use_limits,
            maxRedemptions=max_redemptions,
            maxCodesPerUser=max_codes_per_user,
            requireAssignment=require_assignment,
            requireLock=require_lock,
            lockSeconds=lock_seconds,
            maxLockSeconds=max_lock_seconds,
            lowStockThreshold=low_stock_threshold,
            keepFree=keep_free,
            publicReasons=public_reasons,
            name=name,
            totalCodes=total_codes,
        ),
        key=idempotency_key,
    )


def get_book(book_id: str) -> Call[models.Book]:
    """Read a book. A book. Scope `manage`."""
    return make_call("get_book", "GET", f"/v1/books/{segment(book_id)}", {200: models.Book}, changes=False)


def patch_book(
    book_id: str,
    *,
    description: str | UnsetType | None = UNSET,
    status: Literal["active", "archived", "inactive"] | UnsetType | None = UNSET,
    valid_from: datetime | UnsetType | None = UNSET,
    valid_until: datetime | UnsetType | None = UNSET,
    max_redemptions_per_code: int | UnsetType | None = UNSET,
    max_redemptions_per_user: int | UnsetType | None = UNSET,
    discount: models.PercentageDiscount
    | models.FixedDiscount
    | models.TieredDiscount
    | models.BuyXGetYDiscount
    | models.BalanceDiscount
    | UnsetType
    | None = UNSET,
    code_pattern: str | UnsetType | None = UNSET,
    charset: str | UnsetType | None = UNSET,
    gift_book_id: str | UnsetType | None = UNSET,
    tags: Sequence[str] | UnsetType | None = UNSET,
    metadata: dict[str, Any] | UnsetType | None = UNSET,
    created_by: str | UnsetType | None = UNSET,
    limits: models.BookLimits | UnsetType | None = UNSET,
    budgets: Sequence[models.Budget] | UnsetType | None = UNSET,
    use_limits: Sequence[models.UseLimit] | UnsetType | None = UNSET,
    max_redemptions: int | UnsetType | None = UNSET,
    max_codes_per_user: int | UnsetType | None = UNSET,
    require_assignment: bool | UnsetType | None = UNSET,
    require_lock: bool | UnsetType | None = UNSET,
    lock_seconds: int | UnsetType | None = UNSET,
    max_lock_seconds: int | UnsetType | None = UNSET,
    low_stock_threshold: int | UnsetType | None = UNSET,
    keep_free: int | UnsetType | None = UNSET,
    public_reasons: bool | UnsetType | None = UNSET,
    name: str | UnsetType = UNSET,
    end_locks: bool | UnsetType | None = UNSET,
) -> Call[models.Book]:
    """Change a book. Change the given fields; null resets a field. Applies to all later requests, also for existing
    codes.

    - description: What it is for, for people. Printable characters only.
    - status: `inactive`: its coupons can't be used for now; `archived`: for good; else `active`.
    - valid_from: From when the coupons can be redeemed; null for at once. RFC 3339, from 1970 to 9999.
    - valid_until: Until when the coupons can be redeemed; null for ever. RFC 3339, from 1970 to 9999.
    - max_redemptions_per_code: How often each code can be redeemed. Default: 1, for cards null; null means no limit.
    - max_redemptions_per_user: How often one user can redeem coupons of the book; null for any number of times.
    - discount: What a coupon takes off the order's value; null for nothing.
    - code_pattern: The form of generated codes. 4 to 64 of A-Z a-z 0-9 - _ and `#`, which becomes a random character
      of `charset`.
    - charset: The characters of which the random ones of a code are chosen. 2 to 36 of A-Z a-z 0-9 - _, each at most
      once, regardless of case.
    - gift_book_id: The book from which a checkout gives a coupon to the user.
    - tags: Words to find the book by.
    - metadata: Data of your own, which the service stores and returns: at most 1 KiB of JSON for a redemption, else
      4 KiB, and 8 levels of objects and arrays. An object has each name once. A number that a double would round is
      refused: send it as a string.
    - created_by: Who created it, in your own words. Printable characters only.
    - limits: Limits against guessing and hoarding; null for the workspace's. They replace all earlier ones.
    - budgets: The most that the discounts may come to; locks count too. Needs `orderValue` at each lock. They
      replace all earlier ones.
    - use_limits: How often the coupons may be used in a period; locks count too. They replace all earlier ones.
    - max_redemptions: How often all coupons of the book can be redeemed together; null for any number of times.
    - max_codes_per_user: How many codes of the book can ever be assigned to one user; null for any number.
    - require_assignment: Whether a coupon must be assigned to the user who redeems it.
    - require_lock: Whether a coupon must be locked before it is redeemed.
    - lock_seconds: How long a lock lasts, in seconds. Default: 300.
    - max_lock_seconds: How long a lock can last with all its extensions, in seconds. Default: 3600.
    - low_stock_threshold: `book.low_stock` is sent when fewer free codes or uses than this are left; null for never.
    - keep_free: New codes are generated when fewer than this number are free; null for never.
    - public_reasons: Whether a validate by a key with only the scope `public` tells `not_started`, `expired`,
      `order_value_too_low` and `order_value_required`.
    - name: Its name, for people. Printable characters only.
    - end_locks: True ends all live locks of the book: their tokens are `lock_lost`, and what they hold is free.
    """
    return make_call(
        "patch_book",
        "PATCH",
        f"/v1/books/{segment(book_id)}",
        {200: models.Book},
        body=changes(
            description=description,
            status=status,
            validFrom=valid_from,
            validUntil=valid_until,
            maxRedemptionsPerCode=max_redemptions_per_code,
            maxRedemptionsPerUser=max_redemptions_per_user,
            discount=discount,
            codePattern=code_pattern,
            charset=charset,
            giftBookId=gift_book_id,
            tags=tags,
            metadata=metadata,
            createdBy=created_by,
            limits=limits,
            budgets=budgets,
            useLimits=use_limits,
            maxRedemptions=max_redemptions,
            maxCodesPerUser=max_codes_per_user,
            requireAssignment=require_assignment,
            requireLock=require_lock,
            lockSeconds=lock_seconds,
            maxLockSeconds=max_lock_seconds,
            lowStockThreshold=low_stock_threshold,
            keepFree=keep_free,
            publicReasons=public_reasons,
            name=name,
            endLocks=end_locks,
        ),
    )


def list_codes(
    book_id: str,
    *,
    limit: int | None = None,
    cursor: str | None = None,
    status: Literal["assigned", "available", "exhausted", "expired", "inactive", "redeemed"] | None = None,
) -> Call[models.Page[models.CodeOfBook]]:
    """List a book's codes. Codes of the book, newest first. A lock does not change the status. Scope `manage`.

    - limit: The largest number of items.
    - cursor: `nextCursor` of the previous page.
    - status: Only codes of this status; a lock does not change it.
    """
    return make_call(
        "list_codes",
        "GET",
        f"/v1/books/{segment(book_id)}/codes",
        {200: models.Page[models.CodeOfBook]},
        query={"limit": limit, "cursor": cursor, "status": status},
        changes=False,
    )


def upload_codes(
    book_id: str,
    *,
    codes: Codes,
    media_type: Literal["text/csv", "text/plain"] = "text/csv",
    dry_run: bool | None = None,
    delimiter: Literal["colon", "comma", "pipe", "semicolon", "tab"] | None = None,
    header: bool | None = None,
    columns: str | None = None,
    unknown_columns: Literal["ignore", "refuse"] | None = None,
    dates: Literal["dmy", "mdy", "ymd"] | None = None,
    time_zone: str | None = None,
    idempotency_key: str | None = None,
) -> Call[models.Uploaded]:
    """Upload codes. Add (import) codes from JSON, from CSV with a column `code` and perhaps `userId`, `expiresAt`,
    `maxRedemptions` and `amount`, or from plain text with one code per line.

    - dry_run: Return the result without adding codes. `file.problem` says why a CSV file is refused.
    - delimiter: CSV only: the delimiter of the columns; default: detected.
    - header: CSV only: whether the first line is a header; default: detected. With `columns`, a first line with a
      possible code is a header only if the name of each column is one of its field's; a file whose first line may be
      either is refused.
    - columns: CSV only: the field of each column of the file, in order: `code`, `userId`, `expiresAt`,
      `maxRedemptions`, `amount`, or `-` to ignore it. Default: by the names in the header.
    - unknown_columns: CSV only: what to do with a column whose name in the header is not known.
    - dates: CSV only: the order of day, month and year in `expiresAt`; default: detected. A year may have two
      digits, of 2000 to 2099, only if this is sent.
    - time_zone: The time zone of times without an offset. CSV only: for `expiresAt`, an IANA name. A date without a
      time is the end of that day.
    """
    return make_call(
        "upload_codes",
        "POST",
        f"/v1/books/{segment(book_id)}/codes",
        {200: models.Uploaded},
        body=codes,
        media_type=media_type,
        query={
            "dryRun": dry_run,
            "delimiter": delimiter,
            "header": header,
            "columns": columns,
            "unknownColumns": unknown_columns,
            "dates": dates,
            "timeZone": time_zone,
        },
        key=idempotency_key,
    )


def export_codes(book_id: str, *, excel: Literal["comma", "semicolon"] | None = None) -> Call[bytes]:
    """Export a book's codes. All codes of the book as CSV, newest first. A lock does not change the status. Scope
    `manage`.

    - excel: Write the file for Excel, with a byte order mark. Excel opens a file that has the list separator of its
      language: `semicolon`, with commas in amounts, as in most of Europe; or `comma`. Times are of the workspace's
      `timeZone`. Default: a file for programs, with commas, times in UTC, and no byte order mark.
    """
    return make_call(
        "export_codes",
        "GET",
        f"/v1/books/{segment(book_id)}/codes.csv",
        {200: bytes},
        query={"excel": excel},
        changes=False,
    )


def change_codes(
    book_id: str,
    *,
    action: Literal["assign", "expire", "release", "setExpiry", "switchOff", "switchOn"],
    expires_at: datetime | UnsetType | None = UNSET,
    users: Sequence[str] | UnsetType = UNSET,
    filter: models.CodeFilter | UnsetType | None = UNSET,
    dry_run: bool | None = None,
    idempotency_key: str | None = None,
) -> Call[models.Job | models.MatchingCodes]:
    """Change many codes. Start a job that changes all codes of the book that match the filter, as the request for a
    single coupon would. Codes that are added later stay as they are. Scope `manage`.

    - action: `switchOff`, `switchOn`: as `status` in the change of one coupon. `expire`: end them now. `setExpiry`:
      give them the end `expiresAt`, or none. `assign`: give each of `users` one of them. `release`: take them from
      their users.
    - expires_at: When it ends. For `setExpiry`; null removes the codes' own end. RFC 3339, from 1970 to 9999.
    - users: For `assign`: the users who get a code each, at most 1,000.
    - filter: Which codes; null for all of the book.
    - dry_run: Return how many codes match, with status 200, without a job.
    """
    return make_call(
        "change_codes",
        "POST",
        f"/v1/books/{segment(book_id)}/codes/change",
        {202: models.Job, 200: models.MatchingCodes},
        body=changes(action=action, expiresAt=expires_at, users=users, filter=filter),
        query={"dryRun": dry_run},
        key=idempotency_key,
    )


def change_codes_of_file(
    book_id: str,
    *,
    users: File,
    media_type: Literal["text/csv", "text/plain"] = "text/csv",
    prefix: str | None = None,
    created_from: datetime | None = None,
    created_until: datetime | None = None,
    dry_run: bool | None = None,
    user_column: str | None = None,
    idempotency_key: str | None = None,
) -> Call[models.Job | models.MatchingCodes]:
    """Change many codes. A body in CSV or plain text is a file of up to 100,000 users and 16 MiB, for `assign`: the
    column `userId`, or `userColumn`, of a CSV file, or one user a line. They get available codes, which the query
    may choose. A file with an invalid line is refused.

    - prefix: Codes that begin so, in any case: 1 to 64 of A-Z a-z 0-9 - _.
    - created_from: Codes added at this time or later. RFC 3339, from 1970 to 9999.
    - created_until: Codes added before this time. RFC 3339, from 1970 to 9999.
    - dry_run: Return how many codes match, with status 200, without a job.
    - user_column: CSV only: the name of the column of users; default: a usual one, such as `userId`.
    """
    return make_call(
        "change_codes_of_file",
        "POST",
        f"/v1/books/{segment(book_id)}/codes/change",
        {202: models.Job, 200: models.MatchingCodes},
        body=users,
        media_type=media_type,
        query={
            "prefix": prefix,
            "createdFrom": created_from,
            "createdUntil": created_until,
            "dryRun": dry_run,
            "userColumn": user_column,
        },
        key=idempotency_key,
    )


def generate_codes(
    book_id: str,
    *,
    count: int,
    code_pattern: str | None = None,
    charset: str | None = None,
    idempotency_key: str | None = None,
) -> Call[models.Job]:
    """Generate codes. Start a job that generates exactly `count` new random codes, or fails with a reason. Scope
    `manage`.

    - count: How many codes to generate.
    - code_pattern: The form of generated codes. 4 to 64 of A-Z a-z 0-9 - _ and `#`, which becomes a random character
      of `charset`.
    - charset: The characters of which the random ones of a code are chosen. 2 to 36 of A-Z a-z 0-9 - _, each at most
      once, regardless of case.
    """
    return make_call(
        "generate_codes",
        "POST",
        f"/v1/books/{segment(book_id)}/codes/generate",
        {202: models.Job},
        body=fields(count=count, codePattern=code_pattern, charset=charset),
        key=idempotency_key,
    )


def check_codes(
    book_id: str,
    *,
    codes: Codes,
    media_type: Literal["text/csv", "text/plain"] = "text/csv",
    excel: Literal["comma", "semicolon"] | None = None,
    delimiter: Literal["colon", "comma", "pipe", "semicolon", "tab"] | None = None,
    header: bool | None = None,
    columns: str | None = None,
    unknown_columns: Literal["ignore", "refuse"] | None = None,
    dates: Literal["dmy", "mdy", "ymd"] | None = None,
    time_zone: str | None = None,
) -> Call[bytes]:
    """List the lines that an upload would reject. The invalid lines of a file as CSV: the number, reason and text of
    each. Nothing is added, and duplicates are not invalid. At most 2 MiB of them; the last row says if there are
    more. Scope `manage`.

    - excel: Write the file for Excel, with a byte order mark. Excel opens a file that has the list separator of its
      language: `semicolon`, with commas in amounts, as in most of Europe; or `comma`. Times are of the workspace's
      `timeZone`. Default: a file for programs, with commas, times in UTC, and no byte order mark.
    - delimiter: CSV only: the delimiter of the columns; default: detected.
    - header: CSV only: whether the first line is a header; default: detected. With `columns`, a first line with a
      possible code is a header only if the name of each column is one of its field's; a file whose first line may be
      either is refused.
    - columns: CSV only: the field of each column of the file, in order: `code`, `userId`, `expiresAt`,
      `maxRedemptions`, `amount`, or `-` to ignore it. Default: by the names in the header.
    - unknown_columns: CSV only: what to do with a column whose name in the header is not known.
    - dates: CSV only: the order of day, month and year in `expiresAt`; default: detected. A year may have two
      digits, of 2000 to 2099, only if this is sent.
    - time_zone: The time zone of times without an offset. CSV only: for `expiresAt`, an IANA name. A date without a
      time is the end of that day.
    """
    return make_call(
        "check_codes",
        "POST",
        f"/v1/books/{segment(book_id)}/codes/rejected.csv",
        {200: bytes},
        body=codes,
        media_type=media_type,
        query={
            "excel": excel,
            "delimiter": delimiter,
            "header": header,
            "columns": columns,
            "unknownColumns": unknown_columns,
            "dates": dates,
            "timeZone": time_zone,
        },
        changes=False,
    )


def list_book_notices(
    book_id: str, *, limit: int | None = None, cursor: str | None = None
) -> Call[models.Page[models.Notice]]:
    """List a book's notices. Notices of the book, newest first: one each time an assign, redeem, gift or checkout
    takes the stock below the threshold, or to 0. Locks do not count. Notices are stored for 90 days. Scope `manage`.

    - limit: The largest number of items.
    - cursor: `nextCursor` of the previous page.
    """
    return make_call(
        "list_book_notices",
        "GET",
        f"/v1/books/{segment(book_id)}/notices",
        {200: models.Page[models.Notice]},
        query={"limit": limit, "cursor": cursor},
        changes=False,
    )


def list_book_redemptions(
    book_id: str, *, limit: int | None = None, cursor: str | None = None
) -> Call[models.Page[models.Redemption]]:
    """List a book's redemptions. Redemptions of the book's coupons, newest first. Scope `manage`.

    - limit: The largest number of items.
    - cursor: `nextCursor` of the previous page.
    """
    return make_call(
        "list_book_redemptions",
        "GET",
        f"/v1/books/{segment(book_id)}/redemptions",
        {200: models.Page[models.Redemption]},
        query={"limit": limit, "cursor": cursor},
        changes=False,
    )


def export_redemptions(book_id: str, *, excel: Literal["comma", "semicolon"] | None = None) -> Call[bytes]:
    """Export a book's redemptions. All redemptions of the book's coupons as CSV, newest first. `paidByCard` is the
    part of `discountAmount` that a gift card paid. Scope `manage`.

    - excel: Write the file for Excel, with a byte order mark. Excel opens a file that has the list separator of its
      language: `semicolon`, with commas in amounts, as in most of Europe; or `comma`. Times are of the workspace's
      `timeZone`. Default: a file for programs, with commas, times in UTC, and no byte order mark.
    """
    return make_call(
        "export_redemptions",
        "GET",
        f"/v1/books/{segment(book_id)}/redemptions.csv",
        {200: bytes},
        query={"excel": excel},
        changes=False,
    )


def get_book_stats(book_id: str) -> Call[models.BookStats]:
    """Count a book's coupons. Live counts; of an archived book the last ones. Scope `manage`."""
    return make_call(
        "get_book_stats", "GET", f"/v1/books/{segment(book_id)}/stats", {200: models.BookStats}, changes=False
    )


def checkout(
    *,
    user_id: str,
    order_id: str,
    order_value: models.Amount,
    currency: str | None = None,
    items: Sequence[models.Item] | None = None,
    code: str | None = None,
    lock_token: str | None = None,
    amount: models.Amount | None = None,
    expected_final_amount: models.Amount | None = None,
    gift_book_id: str | None = None,
    idempotency_key: str | None = None,
    recorded_within_s: int | None = None,
) -> Call[models.Purchase]:
    """Complete a purchase. Redeem the order's coupon and give its gift, as one change; either may be missing. Scope
    `checkout`.

    - user_id: The user's id. Your own: 1 to 100 printable ASCII characters without space, / \\ ? # %.
    - order_id: The order's id. Your own: 1 to 100 printable ASCII characters without space, / \\ ? # %.
    - order_value: The order's value before the discount, in `currency`. A JSON number or a string, at least 0 and
      below 10¹¹.
    - currency: The currency of the amounts, as an ISO 4217 code. Default: the workspace's. Of a book with a discount
      only its currency is accepted.
    - items: The order's lines, from which a discount of the type `buyXGetY` is computed.
    - code: The coupon's code. In upper or lower case.
    - lock_token: The secret with which the lock's holder redeems, extends or releases it. As the answer to the lock
      has it.
    - amount: The most that is taken of the coupon's balance, in `currency`. `invalid` where the coupon's book has no
      balance.
    - expected_final_amount: The final amount that the request expects. What the customer was charged: where the
      final amount would be another, the request is refused, `price_changed`.
    - gift_book_id: The book from which a checkout gives a coupon to the user. Default: the redeemed book's
      `giftBookId`, else the workspace's.
    """
    return make_call(
        "checkout",
        "POST",
        "/v1/checkout",
        {201: models.Purchase, 200: models.Purchase},
        body=fields(
            userId=user_id,
            orderId=order_id,
            orderValue=order_value,
            currency=currency,
            items=items,
            code=code,
            lockToken=lock_token,
            amount=amount,
            expectedFinalAmount=expected_final_amount,
            giftBookId=gift_book_id,
        ),
        key=idempotency_key,
        recorded_within_s=recorded_within_s,
    )


def list_coupons(
    *,
    limit: int | None = None,
    cursor: str | None = None,
    status: Literal["active", "archived", "inactive"] | None = None,
    tag: str | None = None,
    q: str | None = None,
) -> Call[models.Page[models.Book]]:
    """List books. Books, newest first. Scope `manage`.

    - limit: The largest number of items.
    - cursor: `nextCursor` of the previous page.
    - status: Only books of this status.
    - tag: Only books with this tag.
    - q: Part of the name or the description, in any case.
    """
    return make_call(
        "list_coupons",
        "GET",
        "/v1/coupons",
        {200: models.Page[models.Book]},
        query={"limit": limit, "cursor": cursor, "status": status, "tag": tag, "q": q},
        changes=False,
    )


def create_coupons(
    *,
    name: str,
    description: str | None = None,
    status: Literal["active", "archived", "inactive"] | None = None,
    valid_from: datetime | None = None,
    valid_until: datetime | None = None,
    max_redemptions_per_code: int | None = None,
    max_redemptions_per_user: int | None = None,
    discount: models.PercentageDiscount
    | models.FixedDiscount
    | models.TieredDiscount
    | models.BuyXGetYDiscount
    | models.BalanceDiscount
    | None = None,
    code_pattern: str | None = None,
    charset: str | None = None,
    gift_book_id: str | None = None,
    tags: Sequence[str] | None = None,
    metadata: dict[str, Any] | None = None,
    created_by: str | None = None,
    limits: models.BookLimits | None = None,
    budgets: Sequence[models.Budget] | None = None,
    use_limits: Sequence[models.UseLimit] | None = None,
    max_redemptions: int | None = None,
    max_codes_per_user: int | None = None,
    require_assignment: bool | None = None,
    require_lock: bool | None = None,
    lock_seconds: int | None = None,
    max_lock_seconds: int | None = None,
    low_stock_threshold: int | None = None,
    keep_free: int | None = None,
    public_reasons: bool | None = None,
    total_codes: int | None = None,
    idempotency_key: str | None = None,
) -> Call[models.Book]:
    """Create a book. Create a book, such as for a campaign. With `totalCodes` the job `jobId` generates that many
    codes. Scope `manage`.

    - description: What it is for, for people. Printable characters only.
    - status: `inactive`: its coupons can't be used for now; `archived`: for good; else `active`.
    - valid_from: From when the coupons can be redeemed; null for at once. RFC 3339, from 1970 to 9999.
    - valid_until: Until when the coupons can be redeemed; null for ever. RFC 3339, from 1970 to 9999.
    - max_redemptions_per_code: How often each code can be redeemed. Default: 1, for cards null; null means no limit.
    - max_redemptions_per_user: How often one user can redeem coupons of the book; null for any number of times.
    - discount: What a coupon takes off the order's value; null for nothing.
    - code_pattern: The form of generated codes. 4 to 64 of A-Z a-z 0-9 - _ and `#`, which becomes a random character
      of `charset`.
    - charset: The characters of which the random ones of a code are chosen. 2 to 36 of A-Z a-z 0-9 - _, each at most
      once, regardless of case.
    - gift_book_id: The book from which a checkout gives a coupon to the user.
    - tags: Words to find the book by.
    - metadata: Data of your own, which the service stores and returns: at most 1 KiB of JSON for a redemption, else
      4 KiB, and 8 levels of objects and arrays. An object has each name once. A number that a double would round is
      refused: send it as a string.
    - created_by: Who created it, in your own words. Printable characters only.
    - limits: Limits against guessing and hoarding; null for the workspace's. They replace all earlier ones.
    - budgets: The most that the discounts may come to; locks count too. Needs `orderValue` at each lock. They
      replace all earlier ones.
    - use_limits: How often the coupons may be used in a period; locks count too. They replace all earlier ones.
    - max_redemptions: How often all coupons of the book can be redeemed together; null for any number of times.
    - max_codes_per_user: How many codes of the book can ever be assigned to one user; null for any number.
    - require_assignment: Whether a coupon must be assigned to the user who redeems it.
    - require_lock: Whether a coupon must be locked before it is redeemed.
    - lock_seconds: How long a lock lasts, in seconds. Default: 300.
    - max_lock_seconds: How long a lock can last with all its extensions, in seconds. Default: 3600.
    - low_stock_threshold: `book.low_stock` is sent when fewer free codes or uses than this are left; null for never.
    - keep_free: New codes are generated when fewer than this number are free; null for never.
    - public_reasons: Whether a validate by a key with only the scope `public` tells `not_started`, `expired`,
      `order_value_too_low` and `order_value_required`.
    - name: Its name, for people. Printable characters only.
    - total_codes: How many codes to generate at once.
    """
    return make_call(
        "create_coupons",
        "POST",
        "/v1/coupons",
        {201: models.Book},
        body=fields(
            description=description,
            status=status,
            validFrom=valid_from,
            validUntil=valid_until,
            maxRedemptionsPerCode=max_redemptions_per_code,
            maxRedemptionsPerUser=max_redemptions_per_user,
            discount=discount,
            codePattern=code_pattern,
            charset=charset,
            giftBookId=gift_book_id,
            tags=tags,
            metadata=metadata,
            createdBy=created_by,
            limits=limits,
            budgets=budgets,
            useLimits=use_limits,
            maxRedemptions=max_redemptions,
            maxCodesPerUser=max_codes_per_user,
            requireAssignment=require_assignment,
            requireLock=require_lock,
            lockSeconds=lock_seconds,
            maxLockSeconds=max_lock_seconds,
            lowStockThreshold=low_stock_threshold,
            keepFree=keep_free,
            publicReasons=public_reasons,
            name=name,
            totalCodes=total_codes,
        ),
        key=idempotency_key,
    )


def list_active_time_specific(
    *, limit: int | None = None, cursor: str | None = None
) -> Call[models.Page[models.CouponInBook]]:
    """List the time-specific coupons valid now. Time-specific coupons within their validity window that are active,
    in active books; newest first.

    - limit: The largest number of items.
    - cursor: `nextCursor` of the previous page.
    """
    return make_call(
        "list_active_time_specific",
        "GET",
        "/v1/coupons/active/time-specific",
        {200: models.Page[models.CouponInBook]},
        query={"limit": limit, "cursor": cursor},
        changes=False,
    )


def assign_any(
    *, book_id: str, user_id: str, idempotency_key: str | None = None, recorded_within_s: int | None = None
) -> Call[models.ChangedCoupon]:
    """Assign a free coupon. Give a user a random free coupon of a book. Scope `checkout`.

    - book_id: The book's id.
    - user_id: The user's id. Your own: 1 to 100 printable ASCII characters without space, / \\ ? # %.
    """
    return make_call(
        "assign_any",
        "POST",
        "/v1/coupons/assign",
        {201: models.ChangedCoupon},
        body=fields(bookId=book_id, userId=user_id),
        key=idempotency_key,
        recorded_within_s=recorded_within_s,
    )


def assign_code(
    code: str, *, user_id: str, idempotency_key: str | None = None, recorded_within_s: int | None = None
) -> Call[models.ChangedCoupon]:
    """Assign a coupon. Give a user this coupon. Scope `checkout`.

    - user_id: The user's id. Your own: 1 to 100 printable ASCII characters without space, / \\ ? # %.
    """
    return make_call(
        "assign_code",
        "POST",
        f"/v1/coupons/assign/{segment(code)}",
        {201: models.ChangedCoupon, 200: models.ChangedCoupon},
        body=fields(userId=user_id),
        key=idempotency_key,
        recorded_within_s=recorded_within_s,
    )


def upload_coupons(
    *, codes: Sequence[dict[str, Any]], book_id: str, idempotency_key: str | None = None
) -> Call[models.Uploaded]:
    """Upload codes to the book that the body names. Add codes. In a body above 1 MiB `bookId` comes before `codes`.
    Scope `manage`.

    - codes: The codes, in upper or lower case.
    - book_id: The book's id.
    """
    return make_call(
        "upload_coupons",
        "POST",
        "/v1/coupons/codes",
        {200: models.Uploaded},
        body=fields(codes=codes, bookId=book_id),
        key=idempotency_key,
    )


def extend_lock(
    code: str, *, lock_token: str, lock_seconds: int | None = None, idempotency_key: str | None = None
) -> Call[models.Lock]:
    """Extend a lock. Extend a live lock, within `maxLockSeconds`; its end never moves back. Scope `checkout`.

    - lock_token: The secret with which the lock's holder redeems, extends or releases it. As the answer to the lock
      has it.
    - lock_seconds: How long a lock lasts, in seconds. From now. It ends sooner where the book's `maxLockSeconds` or
      the coupon's window does: the response has the `lockSeconds` that apply.
    """
    return make_call(
        "extend_lock",
        "POST",
        f"/v1/coupons/extend/{segment(code)}",
        {200: models.Lock},
        body=fields(lockToken=lock_token, lockSeconds=lock_seconds),
        key=idempotency_key,
    )


def generate_coupon(
    *,
    user_id: str | None = None,
    valid_from: datetime | None = None,
    valid_until: datetime | None = None,
    max_uses_per_user: int | None = None,
    code: str | None = None,
    max_total_uses: int | None = None,
    discount_type: Literal["fixed", "percentage"] | None = None,
    discount_value: models.Amount | None = None,
    max_discount_amount: models.Amount | None = None,
    min_order_value: models.Amount | None = None,
    currency: str | None = None,
    description: str | None = None,
    created_by: str | None = None,
    idempotency_key: str | None = None,
) -> Call[models.CouponInBook]:
    """Create a coupon. Create a coupon in its own book. Scope `manage`.

    - user_id: The user's id. Your own: 1 to 100 printable ASCII characters without space, / \\ ? # %.
    - valid_from: From when the coupons can be redeemed; null for at once. RFC 3339, from 1970 to 9999.
    - valid_until: Until when the coupons can be redeemed; null for ever. RFC 3339, from 1970 to 9999.
    - max_uses_per_user: How often one user can redeem the coupon.
    - code: The coupon's code. Default: a random code. 4 to 64 of A-Z a-z 0-9 - _.
    - max_total_uses: How often the coupon can be redeemed. Default: 1.
    - discount_type: How `discountValue` is read. Required with `discountValue`.
    - discount_value: What is taken off the order's value. An amount, or a percentage of at most 100. A JSON number
      or a string, above 0 and below 10¹¹.
    - max_discount_amount: The most that the discount can be, in `currency`; null for any amount. A JSON number or a
      string, at least 0 and below 10¹¹.
    - min_order_value: The least order value that gets the discount, in `currency`; null for any value. A JSON number
      or a string, at least 0 and below 10¹¹.
    - currency: The currency of the amounts, as an ISO 4217 code. Default: the workspace's.
    - description: What it is for, for people. Printable characters only.
    - created_by: Who created it, in your own words. Printable characters only.
    """
    return make_call(
        "generate_coupon",
        "POST",
        "/v1/coupons/generate",
        {201: models.CouponInBook},
        body=fields(
            userId=user_id,
            validFrom=valid_from,
            validUntil=valid_until,
            maxUsesPerUser=max_uses_per_user,
            code=code,
            maxTotalUses=max_total_uses,
            discountType=discount_type,
            discountValue=discount_value,
            maxDiscountAmount=max_discount_amount,
            minOrderValue=min_order_value,
            currency=currency,
            description=description,
            createdBy=created_by,
        ),
        key=idempotency_key,
    )


def lock_coupon(
    code: str,
    *,
    user_id: str,
    order_value: models.Amount | None = None,
    currency: str | None = None,
    items: Sequence[models.Item] | None = None,
    amount: models.Amount | None = None,
    order_id: str | None = None,
    lock_seconds: int | None = None,
    idempotency_key: str | None = None,
) -> Call[models.Lock]:
    """Lock a coupon. Hold (reserve) one use for a user and an order, until it is redeemed, released or expired.
    Scope `checkout`.

    - order_value: The order's value before the discount, in `currency`. A JSON number or a string, at least 0 and
      below 10¹¹.
    - currency: The currency of the amounts, as an ISO 4217 code. Default: the workspace's. Of a book with a discount
      only its currency is accepted.
    - items: The order's lines, from which a discount of the type `buyXGetY` is computed.
    - amount: The most that is taken of the coupon's balance, in `currency`. `invalid` where the coupon's book has no
      balance.
    - user_id: The user's id. Your own: 1 to 100 printable ASCII characters without space, / \\ ? # %.
    - order_id: The order's id. Your own: 1 to 100 printable ASCII characters without space, / \\ ? # %.
    - lock_seconds: How long a lock lasts, in seconds. From now. It ends sooner where the book's `maxLockSeconds` or
      the coupon's window does: the response has the `lockSeconds` that apply.
    """
    return make_call(
        "lock_coupon",
        "POST",
        f"/v1/coupons/lock/{segment(code)}",
        {201: models.Lock, 200: models.Lock},
        body=fields(
            orderValue=order_value,
            currency=currency,
            items=items,
            amount=amount,
            userId=user_id,
            orderId=order_id,
            lockSeconds=lock_seconds,
        ),
        key=idempotency_key,
    )


def redeem_coupon(
    code: str,
    *,
    user_id: str,
    order_value: models.Amount | None = None,
    currency: str | None = None,
    items: Sequence[models.Item] | None = None,
    amount: models.Amount | None = None,
    order_id: str | None = None,
    lock_token: str | None = None,
    metadata: dict[str, Any] | None = None,
    expected_final_amount: models.Amount | None = None,
    idempotency_key: str | None = None,
    recorded_within_s: int | None = None,
) -> Call[models.DurableRedemption]:
    """Redeem a coupon. Spend one use of the coupon (the voucher, the promo code), with the discount that the book
    gives. Scope `checkout`.

    - order_value: The order's value before the discount, in `currency`. A JSON number or a string, at least 0 and
      below 10¹¹.
    - currency: The currency of the amounts, as an ISO 4217 code. Default: the workspace's. Of a book with a discount
      only its currency is accepted.
    - items: The order's lines, from which a discount of the type `buyXGetY` is computed.
    - amount: The most that is taken of the coupon's balance, in `currency`. `invalid` where the coupon's book has no
      balance.
    - order_id: The order's id. Your own: 1 to 100 printable ASCII characters without space, / \\ ? # %.
    - lock_token: The secret with which the lock's holder redeems, extends or releases it. As the answer to the lock
      has it.
    - metadata: Data of your own, which the service stores and returns: at most 1 KiB of JSON for a redemption, else
      4 KiB, and 8 levels of objects and arrays. An object has each name once. A number that a double would round is
      refused: send it as a string.
    - user_id: The user's id. Your own: 1 to 100 printable ASCII characters without space, / \\ ? # %.
    - expected_final_amount: The final amount that the request expects. What the customer was charged: where the
      final amount would be another, the request is refused, `price_changed`.
    """
    return make_call(
        "redeem_coupon",
        "POST",
        f"/v1/coupons/redeem/{segment(code)}",
        {201: models.DurableRedemption, 200: models.DurableRedemption},
        body=fields(
            orderValue=order_value,
            currency=currency,
            items=items,
            amount=amount,
            orderId=order_id,
            lockToken=lock_token,
            metadata=metadata,
            userId=user_id,
            expectedFinalAmount=expected_final_amount,
        ),
        key=idempotency_key,
        recorded_within_s=recorded_within_s,
    )


class RedeemFields(TypedDict, total=False):
    """What redeem_coupon takes beside a lock."""

    order_value: models.Amount | None
    currency: str | None
    items: Sequence[models.Item] | None
    amount: models.Amount | None
    metadata: dict[str, Any] | None
    expected_final_amount: models.Amount | None
    idempotency_key: str | None
    recorded_within_s: int | None


def create_time_specific(
    *,
    valid_from: datetime,
    valid_until: datetime,
    max_uses_per_user: int,
    user_id: str | None = None,
    code: str | None = None,
    max_total_uses: int | None = None,
    discount_type: Literal["fixed", "percentage"] | None = None,
    discount_value: models.Amount | None = None,
    max_discount_amount: models.Amount | None = None,
    min_order_value: models.Amount | None = None,
    currency: str | None = None,
    description: str | None = None,
    created_by: str | None = None,
    idempotency_key: str | None = None,
) -> Call[models.CouponInBook]:
    """Create a coupon for a period of time. Create a coupon that is valid from `validFrom` until just before
    `validUntil`, in its own book.

    - user_id: The user's id. Your own: 1 to 100 printable ASCII characters without space, / \\ ? # %.
    - valid_from: From when the coupons can be redeemed; null for at once. RFC 3339, from 1970 to 9999.
    - valid_until: Until when the coupons can be redeemed; null for ever. RFC 3339, from 1970 to 9999.
    - max_uses_per_user: How often one user can redeem the coupon.
    - code: The coupon's code. Default: a random code. 4 to 64 of A-Z a-z 0-9 - _.
    - max_total_uses: How often the coupon can be redeemed. Default: no limit.
    - discount_type: How `discountValue` is read. Required with `discountValue`.
    - discount_value: What is taken off the order's value. An amount, or a percentage of at most 100. A JSON number
      or a string, above 0 and below 10¹¹.
    - max_discount_amount: The most that the discount can be, in `currency`; null for any amount. A JSON number or a
      string, at least 0 and below 10¹¹.
    - min_order_value: The least order value that gets the discount, in `currency`; null for any value. A JSON number
      or a string, at least 0 and below 10¹¹.
    - currency: The currency of the amounts, as an ISO 4217 code. Default: the workspace's.
    - description: What it is for, for people. Printable characters only.
    - created_by: Who created it, in your own words. Printable characters only.
    """
    return make_call(
        "create_time_specific",
        "POST",
        "/v1/coupons/time-specific",
        {201: models.CouponInBook},
        body=fields(
            userId=user_id,
            validFrom=valid_from,
            validUntil=valid_until,
            maxUsesPerUser=max_uses_per_user,
            code=code,
            maxTotalUses=max_total_uses,
            discountType=discount_type,
            discountValue=discount_value,
            maxDiscountAmount=max_discount_amount,
            minOrderValue=min_order_value,
            currency=currency,
            description=description,
            createdBy=created_by,
        ),
        key=idempotency_key,
    )


def unassign_coupon(
    code: str, *, idempotency_key: str | None = None, recorded_within_s: int | None = None
) -> Call[models.ChangedCoupon]:
    """Take an assignment back. Take the coupon from its user, if no use of it is locked or spent. It no longer
    counts towards the user's limits. Scope `manage`.
    """
    return make_call(
        "unassign_coupon",
        "POST",
        f"/v1/coupons/unassign/{segment(code)}",
        {200: models.ChangedCoupon},
        body=fields(),
        key=idempotency_key,
        recorded_within_s=recorded_within_s,
    )


def unlock_coupon(code: str, *, lock_token: str, idempotency_key: str | None = None) -> Call[None]:
    """Release a lock. Release a lock. Also succeeds if it was released before, or has expired. Scope `checkout`.

    - lock_token: The secret with which the lock's holder redeems, extends or releases it. As the answer to the lock
      has it.
    """
    return make_call(
        "unlock_coupon",
        "POST",
        f"/v1/coupons/unlock/{segment(code)}",
        {},
        body=fields(lockToken=lock_token),
        key=idempotency_key,
    )


def create_user_specific(
    *,
    user_id: str,
    valid_from: datetime | None = None,
    valid_until: datetime | None = None,
    max_uses_per_user: int | None = None,
    code: str | None = None,
    max_total_uses: int | None = None,
    discount_type: Literal["fixed", "percentage"] | None = None,
    discount_value: models.Amount | None = None,
    max_discount_amount: models.Amount | None = None,
    min_order_value: models.Amount | None = None,
    currency: str | None = None,
    description: str | None = None,
    created_by: str | None = None,
    idempotency_key: str | None = None,
) -> Call[models.CouponInBook]:
    """Create a coupon for one user. Create a coupon, assigned to the user, in its own book. Scope `manage`.

    - user_id: The user's id. Your own: 1 to 100 printable ASCII characters without space, / \\ ? # %.
    - valid_from: From when the coupons can be redeemed; null for at once. RFC 3339, from 1970 to 9999.
    - valid_until: Until when the coupons can be redeemed; null for ever. RFC 3339, from 1970 to 9999.
    - max_uses_per_user: How often one user can redeem the coupon.
    - code: The coupon's code. Default: a random code. 4 to 64 of A-Z a-z 0-9 - _.
    - max_total_uses: How often the coupon can be redeemed. Default: 1.
    - discount_type: How `discountValue` is read. Required with `discountValue`.
    - discount_value: What is taken off the order's value. An amount, or a percentage of at most 100. A JSON number
      or a string, above 0 and below 10¹¹.
    - max_discount_amount: The most that the discount can be, in `currency`; null for any amount. A JSON number or a
      string, at least 0 and below 10¹¹.
    - min_order_value: The least order value that gets the discount, in `currency`; null for any value. A JSON number
      or a string, at least 0 and below 10¹¹.
    - currency: The currency of the amounts, as an ISO 4217 code. Default: the workspace's.
    - description: What it is for, for people. Printable characters only.
    - created_by: Who created it, in your own words. Printable characters only.
    """
    return make_call(
        "create_user_specific",
        "POST",
        "/v1/coupons/user-specific",
        {201: models.CouponInBook},
        body=fields(
            userId=user_id,
            validFrom=valid_from,
            validUntil=valid_until,
            maxUsesPerUser=max_uses_per_user,
            code=code,
            maxTotalUses=max_total_uses,
            discountType=discount_type,
            discountValue=discount_value,
            maxDiscountAmount=max_discount_amount,
            minOrderValue=min_order_value,
            currency=currency,
            description=description,
            createdBy=created_by,
        ),
        key=idempotency_key,
    )


def validate_coupon(
    *,
    code: str,
    order_value: models.Amount | None = None,
    currency: str | None = None,
    items: Sequence[models.Item] | None = None,
    amount: models.Amount | None = None,
    order_id: str | None = None,
    lock_token: str | None = None,
    metadata: dict[str, Any] | None = None,
    user_id: str | None = None,
) -> Call[models.Validation]:
    """Validate a coupon. The result that a redeem would have, with every refusal that applies; changes nothing.
    Scope `public` or `checkout`.

    - order_value: The order's value before the discount, in `currency`. A JSON number or a string, at least 0 and
      below 10¹¹.
    - currency: The currency of the amounts, as an ISO 4217 code. Default: the workspace's. Of a book with a discount
      only its currency is accepted.
    - items: The order's lines, from which a discount of the type `buyXGetY` is computed.
    - amount: The most that is taken of the coupon's balance, in `currency`. `invalid` where the coupon's book has no
      balance.
    - order_id: The order's id. Your own: 1 to 100 printable ASCII characters without space, / \\ ? # %.
    - lock_token: The secret with which the lock's holder redeems, extends or releases it. As the answer to the lock
      has it.
    - metadata: Data of your own, which the service stores and returns: at most 1 KiB of JSON for a redemption, else
      4 KiB, and 8 levels of objects and arrays. An object has each name once. A number that a double would round is
      refused: send it as a string.
    - code: The coupon's code.
    - user_id: The user's id. Your own: 1 to 100 printable ASCII characters without space, / \\ ? # %.
    """
    return make_call(
        "validate_coupon",
        "POST",
        "/v1/coupons/validate",
        {200: models.Validation},
        body=fields(
            orderValue=order_value,
            currency=currency,
            items=items,
            amount=amount,
            orderId=order_id,
            lockToken=lock_token,
            metadata=metadata,
            code=code,
            userId=user_id,
        ),
        changes=False,
    )


def get_coupon(code: str) -> Call[models.Coupon]:
    """Read a coupon. A coupon as it is now. Scope `checkout` or `manage`."""
    return make_call("get_coupon", "GET", f"/v1/coupons/{segment(code)}", {200: models.Coupon}, changes=False)


def patch_coupon(
    code: str,
    *,
    status: Literal["active", "inactive"] | UnsetType | None = UNSET,
    expires_at: datetime | UnsetType | None = UNSET,
) -> Call[models.Coupon]:
    """Change a coupon. Activate or deactivate a coupon, or set its own expiry. Applies to all later requests. Scope
    `manage`.

    - status: `inactive` switches the coupon off; `active` or null switches it on.
    - expires_at: When the coupon ends; null for when its book ends. RFC 3339, from 1970 to 9999.
    """
    return make_call(
        "patch_coupon",
        "PATCH",
        f"/v1/coupons/{segment(code)}",
        {200: models.Coupon},
        body=changes(status=status, expiresAt=expires_at),
    )


def close_card(
    code: str, *, reason: str | None = None, idempotency_key: str | None = None, recorded_within_s: int | None = None
) -> Call[models.ChangedCoupon]:
    """Close a card. Take all that is available of the card, which then has the status `exhausted`. Scope `manage`.

    - reason: Why: for people. Printable characters only.
    """
    return make_call(
        "close_card",
        "POST",
        f"/v1/coupons/{segment(code)}/close",
        {200: models.ChangedCoupon},
        body=fields(reason=reason),
        key=idempotency_key,
        recorded_within_s=recorded_within_s,
    )


def credit_card(
    code: str,
    *,
    amount: models.Amount,
    reason: str | None = None,
    idempotency_key: str | None = None,
    recorded_within_s: int | None = None,
) -> Call[models.ChangedCoupon]:
    """Credit a card. Add an amount to what is available of the card. Scope `manage`.

    - amount: The amount, in the currency of the card's book. A JSON number or a string, above 0 and below 10¹¹.
    - reason: Why: for people. Printable characters only.
    """
    return make_call(
        "credit_card",
        "POST",
        f"/v1/coupons/{segment(code)}/credit",
        {200: models.ChangedCoupon},
        body=fields(amount=amount, reason=reason),
        key=idempotency_key,
        recorded_within_s=recorded_within_s,
    )


def get_ledger(
    code: str, *, limit: int | None = None, cursor: str | None = None
) -> Call[models.Page[models.LedgerEntry]]:
    """List the changes of a card's balance. What changed the card's balance, newest first: its issue, credits,
    redemptions (`spent`), rollbacks (`returned`) and closes. Empty for a coupon without a balance. Also of an
    archived book. Scope `manage`.

    - limit: The largest number of items.
    - cursor: `nextCursor` of the previous page.
    """
    return make_call(
        "get_ledger",
        "GET",
        f"/v1/coupons/{segment(code)}/ledger",
        {200: models.Page[models.LedgerEntry]},
        query={"limit": limit, "cursor": cursor},
        changes=False,
    )


def list_coupon_redemptions(
    code: str, *, limit: int | None = None, cursor: str | None = None
) -> Call[models.Page[models.Redemption]]:
    """List a coupon's redemptions. The coupon's redemptions, newest first; also of an archived book. Scope `manage`.

    - limit: The largest number of items.
    - cursor: `nextCursor` of the previous page.
    """
    return make_call(
        "list_coupon_redemptions",
        "GET",
        f"/v1/coupons/{segment(code)}/redemptions",
        {200: models.Page[models.Redemption]},
        query={"limit": limit, "cursor": cursor},
        changes=False,
    )


def validate_code(
    code: str, *, user_id: str | None = None, order_value: str | None = None, currency: str | None = None
) -> Call[models.Validation]:
    """Validate a coupon by its address. Validate a coupon without a body; otherwise as `POST /v1/coupons/validate`.
    Scope `public` or `checkout`.

    - user_id: The user's id. Your own: 1 to 100 printable ASCII characters without space, / \\ ? # %.
    - order_value: The order's value before the discount, in `currency`. A JSON number or a string, at least 0 and
      below 10¹¹.
    - currency: The currency of the amounts, as an ISO 4217 code. Default: the workspace's. Of a book with a discount
      only its currency is accepted.
    """
    return make_call(
        "validate_code",
        "GET",
        f"/v1/coupons/{segment(code)}/validate",
        {200: models.Validation},
        query={"userId": user_id, "orderValue": order_value, "currency": currency},
        changes=False,
    )


def get_job(job_id: str) -> Call[models.Job]:
    """Read a job. The progress of a job; available for 90 days after its end. Scope `manage` or `operate`."""
    return make_call("get_job", "GET", f"/v1/jobs/{segment(job_id)}", {200: models.Job}, changes=False)


def cancel_job(job_id: str, *, idempotency_key: str | None = None) -> Call[models.Job]:
    """Cancel a job. End a job that changes codes, after the codes that it is changing. What it has changed stays
    changed.
    """
    return make_call(
        "cancel_job",
        "POST",
        f"/v1/jobs/{segment(job_id)}/cancel",
        {200: models.Job},
        body=fields(),
        key=idempotency_key,
    )


def pause_job(job_id: str, *, idempotency_key: str | None = None) -> Call[models.Job]:
    """Pause a job. Pause a job that changes codes, after the codes that it is changing. Scope `manage`."""
    return make_call(
        "pause_job", "POST", f"/v1/jobs/{segment(job_id)}/pause", {200: models.Job}, body=fields(), key=idempotency_key
    )


def export_job_results(job_id: str, *, excel: Literal["comma", "semicolon"] | None = None) -> Call[bytes]:
    """Export a job's results. The result of each matching code so far, as CSV: `changed`, `unchanged` or `refused`,
    with the switch, end or status before and after, or the code of the refusal. Only jobs that change codes have
    results; those of the action `assign` are one for each user, with the column `user_id`.

    - excel: Write the file for Excel, with a byte order mark. Excel opens a file that has the list separator of its
      language: `semicolon`, with commas in amounts, as in most of Europe; or `comma`. Times are of the workspace's
      `timeZone`. Default: a file for programs, with commas, times in UTC, and no byte order mark.
    """
    return make_call(
        "export_job_results",
        "GET",
        f"/v1/jobs/{segment(job_id)}/results.csv",
        {200: bytes},
        query={"excel": excel},
        changes=False,
    )


def resume_job(job_id: str, *, idempotency_key: str | None = None) -> Call[models.Job]:
    """Resume a job. Let a paused job go on. Scope `manage`."""
    return make_call(
        "resume_job",
        "POST",
        f"/v1/jobs/{segment(job_id)}/resume",
        {200: models.Job},
        body=fields(),
        key=idempotency_key,
    )


def list_keys(*, limit: int | None = None, cursor: str | None = None) -> Call[models.Page[models.Key]]:
    """List keys. Keys that are not revoked, newest first. Scope `operate`.

    - limit: The largest number of items.
    - cursor: `nextCursor` of the previous page.
    """
    return make_call(
        "list_keys",
        "GET",
        "/v1/keys",
        {200: models.Page[models.Key]},
        query={"limit": limit, "cursor": cursor},
        changes=False,
    )


def create_key(
    *,
    name: str,
    scopes: Sequence[Literal["checkout", "manage", "operate", "public"]],
    expires_at: datetime | None = None,
    limits: models.KeyLimits | None = None,
    idempotency_key: str | None = None,
) -> Call[models.NewKey]:
    """Create a key. Create a key. Only this response contains its secret. Scope `operate`.

    - name: Its name, for people. Printable characters only.
    - scopes: What the key may do. No scope implies another scope.
    - expires_at: When the key ends; null for never. RFC 3339, from 1970 to 9999.
    - limits: Limits against guessing and hoarding; null for the workspace's.
    """
    return make_call(
        "create_key",
        "POST",
        "/v1/keys",
        {201: models.NewKey},
        body=fields(name=name, scopes=scopes, expiresAt=expires_at, limits=limits),
        key=idempotency_key,
    )


def delete_key(key_id: str) -> Call[None]:
    """Revoke a key. Revoke a key. No process accepts it after this response. Scope `operate`."""
    return make_call("delete_key", "DELETE", f"/v1/keys/{segment(key_id)}", {})


def patch_key(key_id: str, *, limits: models.KeyLimits | None) -> Call[models.Key]:
    """Change a key's limits. Set a key's limits. They apply in every process after this response. Scope `operate`.

    - limits: Limits against guessing and hoarding; null for the workspace's. They replace all earlier ones.
    """
    return make_call(
        "patch_key", "PATCH", f"/v1/keys/{segment(key_id)}", {200: models.Key}, body=changes(limits=limits)
    )


def rotate_key(
    key_id: str, *, overlap_seconds: int | None = None, idempotency_key: str | None = None
) -> Call[models.NewKey]:
    """Rotate a key. Create a key with the same name, scopes and expiry. The old key stays valid for
    `overlapSeconds`, so that clients can change over; the key that it had replaced is revoked. Scope `operate`.

    - overlap_seconds: How long the old secret stays valid; null means one day.
    """
    return make_call(
        "rotate_key",
        "POST",
        f"/v1/keys/{segment(key_id)}/rotate",
        {201: models.NewKey},
        body=fields(overlapSeconds=overlap_seconds),
        key=idempotency_key,
    )


def get_consistency() -> Call[models.Consistency]:
    """Read the lag and the differences. The lag of the workspace's partition, and the workspace's last comparison.
    Scope `operate`.
    """
    return make_call("get_consistency", "GET", "/v1/ops/consistency", {200: models.Consistency}, changes=False)


def list_quarantine(
    *, limit: int | None = None, cursor: str | None = None
) -> Call[models.Page[models.QuarantinedEvent]]:
    """List events in quarantine. The workspace's events that wait for a decision, newest first. Scope `operate`.

    - limit: The largest number of items.
    - cursor: `nextCursor` of the previous page.
    """
    return make_call(
        "list_quarantine",
        "GET",
        "/v1/ops/quarantine",
        {200: models.Page[models.QuarantinedEvent]},
        query={"limit": limit, "cursor": cursor},
        changes=False,
    )


def resolve_quarantined(
    event_id: str, *, choice: Literal["release", "retry", "settle"], idempotency_key: str | None = None
) -> Call[models.QuarantinedEvent]:
    """Resolve an event in quarantine. Order what a worker does with the event. When it is done, the event is no
    longer listed, and a comparison repairs the workspace's data in Redis. Audited. Scope `operate`.

    - choice: What a worker does with it. `retry`: record the event as it was decided. `settle`: switch its code off.
      `release`: drop the event, so that its code gets the state that Postgres has.
    """
    return make_call(
        "resolve_quarantined",
        "POST",
        f"/v1/ops/quarantine/{segment(event_id)}",
        {202: models.QuarantinedEvent},
        body=fields(choice=choice),
        key=idempotency_key,
    )


def start_reconcile(*, repair: bool | None = None, idempotency_key: str | None = None) -> Call[models.Job]:
    """Compare Redis with Postgres. Start a job that compares all of the workspace's data in Redis with Postgres,
    without stopping requests. `GET /v1/ops/consistency` returns the result. One comparison runs at a time. Scope
    `operate`.

    - repair: Whether differences in Redis are repaired from Postgres.
    """
    return make_call(
        "start_reconcile",
        "POST",
        "/v1/ops/reconcile",
        {202: models.Job},
        body=fields(repair=repair),
        key=idempotency_key,
    )


def find_refused_request(*, request_id: str) -> Call[models.RefusedRequests]:
    """Find a refused request by its id. The workspace's refusals and errors with this request id, of the last hour.
    A response is found a second or two after it was sent. Scope `operate`.

    - request_id: The `X-Request-Id` of the response.
    """
    return make_call(
        "find_refused_request",
        "GET",
        "/v1/ops/requests",
        {200: models.RefusedRequests},
        query={"requestId": request_id},
        changes=False,
    )


def get_order(order_id: str) -> Call[models.Order]:
    """Get an order. The order's redemptions, newest first, with the last 100 that were rolled back; its gift; and
    its live locks, at most 100 of codes with a single use, and 100 of others. A user's token gets its own orders.
    `behind` if it may be one that is not recorded yet. Scope `checkout` or `manage`.
    """
    return make_call("get_order", "GET", f"/v1/orders/{segment(order_id)}", {200: models.Order}, changes=False)


def rollback_order(
    order_id: str,
    *,
    reason: str | None = None,
    restore: bool | None = None,
    idempotency_key: str | None = None,
    recorded_within_s: int | None = None,
) -> Call[models.RolledBack]:
    """Roll an order back. Roll back all redemptions of the order that were not rolled back before, such as for a
    refund or a cancelled order. Scope `manage`.

    - reason: Why it is rolled back: for people. Printable characters only.
    - restore: Whether code, user, book and order get the use back; null means yes.
    """
    return make_call(
        "rollback_order",
        "POST",
        f"/v1/orders/{segment(order_id)}/rollback",
        {200: models.RolledBack},
        body=fields(reason=reason, restore=restore),
        key=idempotency_key,
        recorded_within_s=recorded_within_s,
    )


def get_redemption(redemption_id: str) -> Call[models.Redemption]:
    """Get a redemption. The redemption, also one that was rolled back. A user's token gets its own. `behind` if it
    may be one that is not recorded yet. Scope `checkout` or `manage`.
    """
    return make_call(
        "get_redemption", "GET", f"/v1/redemptions/{segment(redemption_id)}", {200: models.Redemption}, changes=False
    )


def rollback_redemption(
    redemption_id: str,
    *,
    reason: str | None = None,
    restore: bool | None = None,
    idempotency_key: str | None = None,
    recorded_within_s: int | None = None,
) -> Call[models.DurableRedemption]:
    """Roll a redemption back. Roll a redemption back, once, such as for a refund. With `restore`, code, user, book
    and order get the use back; the assignment stays. Scope `manage`.

    - reason: Why it is rolled back: for people. Printable characters only.
    - restore: Whether code, user, book and order get the use back; null means yes.
    """
    return make_call(
        "rollback_redemption",
        "POST",
        f"/v1/redemptions/{segment(redemption_id)}/rollback",
        {200: models.DurableRedemption},
        body=fields(reason=reason, restore=restore),
        key=idempotency_key,
        recorded_within_s=recorded_within_s,
    )


def report_funnel(
    *,
    from_: datetime | None = None,
    to: datetime | None = None,
    interval: Literal["day", "hour", "week"] | None = None,
    group_by: Literal["book", "none", "tag"] | None = None,
    book_id: str | None = None,
    tag: str | None = None,
) -> Call[models.FunnelReport]:
    """Report the way to redemptions. From assigned to locked to redeemed, and refusals by reason. Locks and refusals
    are kept for 400 days; the last ten seconds of a process that is killed may be missing. Scope `manage`.

    - from_: A time in the first interval. Default: 2 days before `to` by hours, 30 by days, 182 by weeks. RFC 3339,
      from 1970 to 9999.
    - to: A time in the last interval, or its end. Default: now. At most 31 days after `from` by hours, else 400. RFC
      3339, from 1970 to 9999.
    - interval: In the workspace's `timeZone`; weeks begin on Monday.
    - group_by: A row for each book, for each tag, or for all together.
    - book_id: The book's id. Only this book.
    - tag: Only books that have this tag now.
    """
    return make_call(
        "report_funnel",
        "GET",
        "/v1/reports/funnel",
        {200: models.FunnelReport},
        query={"from": from_, "to": to, "interval": interval, "groupBy": group_by, "bookId": book_id, "tag": tag},
        changes=False,
    )


def export_funnel_report(
    *,
    from_: datetime | None = None,
    to: datetime | None = None,
    interval: Literal["day", "hour", "week"] | None = None,
    group_by: Literal["book", "none", "tag"] | None = None,
    book_id: str | None = None,
    tag: str | None = None,
    excel: Literal["comma", "semicolon"] | None = None,
) -> Call[bytes]:
    """Export a report of the way to redemptions. The same report as CSV, with the names of books: a row for each
    figure, and for each code of a refusal. Scope `manage`.

    - from_: A time in the first interval. Default: 2 days before `to` by hours, 30 by days, 182 by weeks. RFC 3339,
      from 1970 to 9999.
    - to: A time in the last interval, or its end. Default: now. At most 31 days after `from` by hours, else 400. RFC
      3339, from 1970 to 9999.
    - interval: In the workspace's `timeZone`; weeks begin on Monday.
    - group_by: A row for each book, for each tag, or for all together.
    - book_id: The book's id. Only this book.
    - tag: Only books that have this tag now.
    - excel: Write the file for Excel, with a byte order mark. Excel opens a file that has the list separator of its
      language: `semicolon`, with commas in amounts, as in most of Europe; or `comma`. Times are of the workspace's
      `timeZone`. Default: a file for programs, with commas, times in UTC, and no byte order mark.
    """
    return make_call(
        "export_funnel_report",
        "GET",
        "/v1/reports/funnel.csv",
        {200: bytes},
        query={
            "from": from_,
            "to": to,
            "interval": interval,
            "groupBy": group_by,
            "bookId": book_id,
            "tag": tag,
            "excel": excel,
        },
        changes=False,
    )


def report_liability(
    *, from_: datetime | None = None, to: datetime | None = None, book_id: str | None = None
) -> Call[models.LiabilityReport]:
    """Report what gift cards are worth. What was issued, credited, spent, returned and closed of cards each day,
    each at its own time, and what was outstanding at the day's end: what customers can still spend, also under
    locks. Scope `manage`.

    - from_: A time in the first day. Default: 30 days before `to`. RFC 3339, from 1970 to 9999.
    - to: A time in the last day, or its end. Default: now. At most 400 days after `from`. RFC 3339, from 1970 to
      9999.
    - book_id: The book's id. Only this book.
    """
    return make_call(
        "report_liability",
        "GET",
        "/v1/reports/liability",
        {200: models.LiabilityReport},
        query={"from": from_, "to": to, "bookId": book_id},
        changes=False,
    )


def export_liability_report(
    *,
    from_: datetime | None = None,
    to: datetime | None = None,
    book_id: str | None = None,
    excel: Literal["comma", "semicolon"] | None = None,
) -> Call[bytes]:
    """Export a report of what gift cards are worth. The same report as CSV, with the names of books. Scope `manage`.

    - from_: A time in the first day. Default: 30 days before `to`. RFC 3339, from 1970 to 9999.
    - to: A time in the last day, or its end. Default: now. At most 400 days after `from`. RFC 3339, from 1970 to
      9999.
    - book_id: The book's id. Only this book.
    - excel: Write the file for Excel, with a byte order mark. Excel opens a file that has the list separator of its
      language: `semicolon`, with commas in amounts, as in most of Europe; or `comma`. Times are of the workspace's
      `timeZone`. Default: a file for programs, with commas, times in UTC, and no byte order mark.
    """
    return make_call(
        "export_liability_report",
        "GET",
        "/v1/reports/liability.csv",
        {200: bytes},
        query={"from": from_, "to": to, "bookId": book_id, "excel": excel},
        changes=False,
    )


def report_redemptions(
    *,
    from_: datetime | None = None,
    to: datetime | None = None,
    interval: Literal["day", "hour", "week"] | None = None,
    group_by: Literal["book", "none", "tag"] | None = None,
    book_id: str | None = None,
    tag: str | None = None,
) -> Call[models.SalesReport]:
    """Report redemptions. Redemptions, their sums and their users, by hour, day or week. The report has the whole
    intervals that the times are in. Scope `manage`.

    - from_: A time in the first interval. Default: 2 days before `to` by hours, 30 by days, 182 by weeks. RFC 3339,
      from 1970 to 9999.
    - to: A time in the last interval, or its end. Default: now. At most 31 days after `from` by hours, else 400. RFC
      3339, from 1970 to 9999.
    - interval: In the workspace's `timeZone`; weeks begin on Monday.
    - group_by: A row for each book, for each tag, or for all together.
    - book_id: The book's id. Only this book.
    - tag: Only books that have this tag now.
    """
    return make_call(
        "report_redemptions",
        "GET",
        "/v1/reports/redemptions",
        {200: models.SalesReport},
        query={"from": from_, "to": to, "interval": interval, "groupBy": group_by, "bookId": book_id, "tag": tag},
        changes=False,
    )


def export_redemption_report(
    *,
    from_: datetime | None = None,
    to: datetime | None = None,
    interval: Literal["day", "hour", "week"] | None = None,
    group_by: Literal["book", "none", "tag"] | None = None,
    book_id: str | None = None,
    tag: str | None = None,
    excel: Literal["comma", "semicolon"] | None = None,
) -> Call[bytes]:
    """Export a report of redemptions. The same report as CSV, with the names of books. Scope `manage`.

    - from_: A time in the first interval. Default: 2 days before `to` by hours, 30 by days, 182 by weeks. RFC 3339,
      from 1970 to 9999.
    - to: A time in the last interval, or its end. Default: now. At most 31 days after `from` by hours, else 400. RFC
      3339, from 1970 to 9999.
    - interval: In the workspace's `timeZone`; weeks begin on Monday.
    - group_by: A row for each book, for each tag, or for all together.
    - book_id: The book's id. Only this book.
    - tag: Only books that have this tag now.
    - excel: Write the file for Excel, with a byte order mark. Excel opens a file that has the list separator of its
      language: `semicolon`, with commas in amounts, as in most of Europe; or `comma`. Times are of the workspace's
      `timeZone`. Default: a file for programs, with commas, times in UTC, and no byte order mark.
    """
    return make_call(
        "export_redemption_report",
        "GET",
        "/v1/reports/redemptions.csv",
        {200: bytes},
        query={
            "from": from_,
            "to": to,
            "interval": interval,
            "groupBy": group_by,
            "bookId": book_id,
            "tag": tag,
            "excel": excel,
        },
        changes=False,
    )


def set_test_clock(*, now: datetime | None = None, idempotency_key: str | None = None) -> Call[models.Clock]:
    """Set a test workspace's clock. Set the time of validity windows and locks, forward or back; the clock runs on
    from there. Scope `operate`.

    - now: The time that windows and locks see. Null resets the clock to the real time. RFC 3339, from 1970 and
      before 9900.
    """
    return make_call(
        "set_test_clock", "POST", "/v1/test/clock", {200: models.Clock}, body=fields(now=now), key=idempotency_key
    )


def list_users(*, limit: int | None = None, cursor: str | None = None) -> Call[models.Page[models.User]]:
    """List users. Created users, newest first. Scope `checkout` or `manage`.

    - limit: The largest number of items.
    - cursor: `nextCursor` of the previous page.
    """
    return make_call(
        "list_users",
        "GET",
        "/v1/users",
        {200: models.Page[models.User]},
        query={"limit": limit, "cursor": cursor},
        changes=False,
    )


def create_user(
    *,
    user_id: str,
    max_coupons: int | None = None,
    metadata: dict[str, Any] | None = None,
    idempotency_key: str | None = None,
) -> Call[models.User]:
    """Create a user. Create a user. Scope `manage`.

    - user_id: The user's id. Your own: 1 to 100 printable ASCII characters without space, / \\ ? # %.
    - max_coupons: How many coupons one user can hold at a time, over all books. Null for the workspace's limit.
    - metadata: Data of your own, which the service stores and returns: at most 1 KiB of JSON for a redemption, else
      4 KiB, and 8 levels of objects and arrays. An object has each name once. A number that a double would round is
      refused: send it as a string.
    """
    return make_call(
        "create_user",
        "POST",
        "/v1/users",
        {201: models.User, 200: models.User},
        body=fields(userId=user_id, maxCoupons=max_coupons, metadata=metadata),
        key=idempotency_key,
    )


def delete_user(user_id: str) -> Call[None]:
    """Delete a user's data. Erase the user: replace the id with a pseudonym in all stored data, and remove IP
    addresses and user agents. Later requests with this id are of a new user. Scope `manage`.
    """
    return make_call("delete_user", "DELETE", f"/v1/users/{segment(user_id)}", {})


def get_user(user_id: str) -> Call[models.User]:
    """Read a user. A user. One that was never created has the workspace's defaults. Scope `checkout` or `manage`."""
    return make_call("get_user", "GET", f"/v1/users/{segment(user_id)}", {200: models.User}, changes=False)


def patch_user(
    user_id: str, *, max_coupons: int | UnsetType | None = UNSET, metadata: dict[str, Any] | UnsetType | None = UNSET
) -> Call[models.User]:
    """Change a user. Change a user's limit or metadata; creates a user that does not exist. Scope `manage`.

    - max_coupons: How many coupons one user can hold at a time, over all books. Null for the workspace's limit.
    - metadata: Data of your own, which the service stores and returns: at most 1 KiB of JSON for a redemption, else
      4 KiB, and 8 levels of objects and arrays. An object has each name once. A number that a double would round is
      refused: send it as a string.
    """
    return make_call(
        "patch_user",
        "PATCH",
        f"/v1/users/{segment(user_id)}",
        {200: models.User},
        body=changes(maxCoupons=max_coupons, metadata=metadata),
    )


def list_user_coupons(
    user_id: str,
    *,
    limit: int | None = None,
    cursor: str | None = None,
    status: Literal["assigned", "exhausted", "expired", "inactive", "redeemed"] | None = None,
) -> Call[models.Page[models.Coupon]]:
    """List a user's coupons. The user's coupons, newest first. A lock does not change the status. Scope `checkout`
    or `manage`.

    - limit: The largest number of items.
    - cursor: `nextCursor` of the previous page.
    - status: Only coupons of this status; a lock does not change it.
    """
    return make_call(
        "list_user_coupons",
        "GET",
        f"/v1/users/{segment(user_id)}/coupons",
        {200: models.Page[models.Coupon]},
        query={"limit": limit, "cursor": cursor, "status": status},
        changes=False,
    )


def give_gift(
    user_id: str,
    *,
    book_id: str,
    order_id: str,
    idempotency_key: str | None = None,
    recorded_within_s: int | None = None,
) -> Call[models.ChangedCoupon]:
    """Give an order's gift. Give the user a random free coupon of a book, once for an order. Scope `checkout`.

    - book_id: The book's id.
    - order_id: The order's id. Your own: 1 to 100 printable ASCII characters without space, / \\ ? # %.
    """
    return make_call(
        "give_gift",
        "POST",
        f"/v1/users/{segment(user_id)}/gifts",
        {201: models.ChangedCoupon, 200: models.ChangedCoupon},
        body=fields(bookId=book_id, orderId=order_id),
        key=idempotency_key,
        recorded_within_s=recorded_within_s,
    )


def list_user_redemptions(
    user_id: str, *, limit: int | None = None, cursor: str | None = None
) -> Call[models.Page[models.Redemption]]:
    """List a user's redemptions. The user's redemptions, newest first, Scope `checkout` or `manage`.

    - limit: The largest number of items.
    - cursor: `nextCursor` of the previous page.
    """
    return make_call(
        "list_user_redemptions",
        "GET",
        f"/v1/users/{segment(user_id)}/redemptions",
        {200: models.Page[models.Redemption]},
        query={"limit": limit, "cursor": cursor},
        changes=False,
    )


def list_webhooks(*, limit: int | None = None, cursor: str | None = None) -> Call[models.Page[models.Webhook]]:
    """List webhooks. Webhooks, newest first. Scope `operate`.

    - limit: The largest number of items.
    - cursor: `nextCursor` of the previous page.
    """
    return make_call(
        "list_webhooks",
        "GET",
        "/v1/webhooks",
        {200: models.Page[models.Webhook]},
        query={"limit": limit, "cursor": cursor},
        changes=False,
    )


def create_webhook(
    *,
    url: str,
    events: Sequence[
        Literal[
            "book.budget_low",
            "book.exhausted",
            "book.low_stock",
            "coupon.assigned",
            "coupon.redeemed",
            "coupon.unassigned",
            "job.finished",
            "reconcile.drift",
            "redemption.rolled_back",
            "webhook.disabled",
        ]
    ],
    description: str | None = None,
    idempotency_key: str | None = None,
) -> Call[models.NewWebhook]:
    """Create a webhook. Create a webhook, which receives the events recorded from now on. The secret signs its
    deliveries; only this response contains it. A workspace has at most 20 webhooks. Scope `operate`.

    - url: Where the events are sent. An `https` URL with a host on the public internet.
    - events: The events that are sent.
    - description: What it is for, for people. Printable characters only.
    """
    return make_call(
        "create_webhook",
        "POST",
        "/v1/webhooks",
        {201: models.NewWebhook},
        body=fields(url=url, events=events, description=description),
        key=idempotency_key,
    )


def delete_webhook(webhook_id: str) -> Call[None]:
    """Delete a webhook. Delete a webhook and its pending deliveries. Scope `operate`."""
    return make_call("delete_webhook", "DELETE", f"/v1/webhooks/{segment(webhook_id)}", {})


def get_webhook(webhook_id: str) -> Call[models.Webhook]:
    """Read a webhook. A webhook. Scope `operate`."""
    return make_call("get_webhook", "GET", f"/v1/webhooks/{segment(webhook_id)}", {200: models.Webhook}, changes=False)


def patch_webhook(
    webhook_id: str,
    *,
    url: str | UnsetType = UNSET,
    events: Sequence[
        Literal[
            "book.budget_low",
            "book.exhausted",
            "book.low_stock",
            "coupon.assigned",
            "coupon.redeemed",
            "coupon.unassigned",
            "job.finished",
            "reconcile.drift",
            "redemption.rolled_back",
            "webhook.disabled",
        ]
    ]
    | UnsetType = UNSET,
    description: str | UnsetType | None = UNSET,
    status: Literal["active", "inactive"] | UnsetType = UNSET,
) -> Call[models.Webhook]:
    """Change a webhook. Change the given fields. An inactive webhook receives nothing. If it is reactivated within
    14 days, it receives all events since then, else only later ones. Scope `operate`.

    - url: Where the events are sent. An `https` URL with a host on the public internet.
    - events: The events that are sent.
    - description: What it is for, for people. Printable characters only.
    - status: An `inactive` webhook gets no events.
    """
    return make_call(
        "patch_webhook",
        "PATCH",
        f"/v1/webhooks/{segment(webhook_id)}",
        {200: models.Webhook},
        body=changes(url=url, events=events, description=description, status=status),
    )


def list_deliveries(
    webhook_id: str, *, limit: int | None = None, cursor: str | None = None
) -> Call[models.Page[models.Delivery]]:
    """List a webhook's deliveries. The webhook's deliveries of the last 14 days, and the pending ones; newest first.
    Scope `operate`.

    - limit: The largest number of items.
    - cursor: `nextCursor` of the previous page.
    """
    return make_call(
        "list_deliveries",
        "GET",
        f"/v1/webhooks/{segment(webhook_id)}/deliveries",
        {200: models.Page[models.Delivery]},
        query={"limit": limit, "cursor": cursor},
        changes=False,
    )


def get_delivery(webhook_id: str, delivery_id: str) -> Call[models.SentDelivery]:
    """Read a delivery. A delivery with what is sent, and what the receiver has answered to each attempt. Scope
    `operate`.
    """
    return make_call(
        "get_delivery",
        "GET",
        f"/v1/webhooks/{segment(webhook_id)}/deliveries/{segment(delivery_id)}",
        {200: models.SentDelivery},
        changes=False,
    )


def redeliver(webhook_id: str, delivery_id: str, *, idempotency_key: str | None = None) -> Call[models.Delivery]:
    """Send a delivery again. Send the event again with the same `webhook-id`. A delivery that waits for a retry is
    sent now. While 2,000 wait, one that does not is `rate_limited`.
    """
    return make_call(
        "redeliver",
        "POST",
        f"/v1/webhooks/{segment(webhook_id)}/deliveries/{segment(delivery_id)}/redeliver",
        {202: models.Delivery},
        body=fields(),
        key=idempotency_key,
    )


def rotate_webhook_secret(
    webhook_id: str, *, overlap_seconds: int | None = None, idempotency_key: str | None = None
) -> Call[models.NewWebhook]:
    """Rotate a webhook's secret. Create a new secret; only this response contains it. For `overlapSeconds` each
    delivery also has a signature by the old secret. Scope `operate`.

    - overlap_seconds: How long the old secret stays valid; null means one day.
    """
    return make_call(
        "rotate_webhook_secret",
        "POST",
        f"/v1/webhooks/{segment(webhook_id)}/rotate",
        {200: models.NewWebhook},
        body=fields(overlapSeconds=overlap_seconds),
        key=idempotency_key,
    )


def test_webhook(webhook_id: str, *, idempotency_key: str | None = None) -> Call[models.Delivery]:
    """Send a test event. Send `webhook.test` to this webhook. If it is inactive, the event waits until it is active.
    At most 10 wait; beyond that, `rate_limited`.
    """
    return make_call(
        "test_webhook",
        "POST",
        f"/v1/webhooks/{segment(webhook_id)}/test",
        {202: models.Delivery},
        body=fields(),
        key=idempotency_key,
    )


def get_workspace() -> Call[models.Workspace]:
    """Read the settings. The workspace's settings. Scope `operate`."""
    return make_call("get_workspace", "GET", "/v1/workspace", {200: models.Workspace}, changes=False)


def patch_workspace(
    *,
    currency: str | UnsetType | None = UNSET,
    coupons_per_order: int | UnsetType | None = UNSET,
    max_coupons: int | UnsetType | None = UNSET,
    gift_book_id: str | UnsetType | None = UNSET,
    idempotency_hours: int | UnsetType | None = UNSET,
    limits: models.WorkspaceLimits | UnsetType | None = UNSET,
    time_zone: str | UnsetType | None = UNSET,
) -> Call[models.Workspace]:
    """Change the settings. Change the given settings. They apply to all later requests. Scope `operate`.

    - currency: The currency of books that name none, as an ISO 4217 code.
    - coupons_per_order: How many coupons one order can use. Null means 1.
    - max_coupons: How many coupons one user can hold at a time, over all books. Null for any number.
    - gift_book_id: The book from which a checkout gives a coupon to the user.
    - idempotency_hours: How many hours an Idempotency-Key is stored. Null means 24.
    - limits: Limits of keys and books that have none of their own. They replace all earlier ones; null for none.
    - time_zone: The time zone in which hours, days and weeks of reports begin, by its name in the IANA database. It
      applies to earlier hours after `scrip reports --repair`. Null means UTC.
    """
    return make_call(
        "patch_workspace",
        "PATCH",
        "/v1/workspace",
        {200: models.Workspace},
        body=changes(
            currency=currency,
            couponsPerOrder=coupons_per_order,
            maxCoupons=max_coupons,
            giftBookId=gift_book_id,
            idempotencyHours=idempotency_hours,
            limits=limits,
            timeZone=time_zone,
        ),
    )


class Methods:
    """A method for each operation."""

    get_live = Single(get_live)
    get_ready = Single(get_ready)
    list_audit = Listed(list_audit)
    export_audit = Streamed(export_audit)
    run_batch = Single(run_batch)
    list_books = Listed(list_books)
    create_book = Single(create_book)
    get_book = Single(get_book)
    patch_book = Single(patch_book)
    list_codes = Listed(list_codes)
    upload_codes = Single(upload_codes)
    export_codes = Streamed(export_codes)
    change_codes = Single(change_codes)
    change_codes_of_file = Single(change_codes_of_file)
    generate_codes = Single(generate_codes)
    check_codes = Streamed(check_codes)
    list_book_notices = Listed(list_book_notices)
    list_book_redemptions = Listed(list_book_redemptions)
    export_redemptions = Streamed(export_redemptions)
    get_book_stats = Single(get_book_stats)
    checkout = Single(checkout)
    list_coupons = Listed(list_coupons)
    create_coupons = Single(create_coupons)
    list_active_time_specific = Listed(list_active_time_specific)
    assign_any = Single(assign_any)
    assign_code = Single(assign_code)
    upload_coupons = Single(upload_coupons)
    extend_lock = Single(extend_lock)
    generate_coupon = Single(generate_coupon)
    lock_coupon = Single(lock_coupon)
    redeem_coupon = Single(redeem_coupon)
    create_time_specific = Single(create_time_specific)
    unassign_coupon = Single(unassign_coupon)
    unlock_coupon = Single(unlock_coupon)
    create_user_specific = Single(create_user_specific)
    validate_coupon = Single(validate_coupon)
    get_coupon = Single(get_coupon)
    patch_coupon = Single(patch_coupon)
    close_card = Single(close_card)
    credit_card = Single(credit_card)
    get_ledger = Listed(get_ledger)
    list_coupon_redemptions = Listed(list_coupon_redemptions)
    validate_code = Single(validate_code)
    get_job = Single(get_job)
    cancel_job = Single(cancel_job)
    pause_job = Single(pause_job)
    export_job_results = Streamed(export_job_results)
    resume_job = Single(resume_job)
    list_keys = Listed(list_keys)
    create_key = Single(create_key)
    delete_key = Single(delete_key)
    patch_key = Single(patch_key)
    rotate_key = Single(rotate_key)
    get_consistency = Single(get_consistency)
    list_quarantine = Listed(list_quarantine)
    resolve_quarantined = Single(resolve_quarantined)
    start_reconcile = Single(start_reconcile)
    find_refused_request = Single(find_refused_request)
    get_order = Single(get_order)
    rollback_order = Single(rollback_order)
    get_redemption = Single(get_redemption)
    rollback_redemption = Single(rollback_redemption)
    report_funnel = Single(report_funnel)
    export_funnel_report = Streamed(export_funnel_report)
    report_liability = Single(report_liability)
    export_liability_report = Streamed(export_liability_report)
    report_redemptions = Single(report_redemptions)
    export_redemption_report = Streamed(export_redemption_report)
    set_test_clock = Single(set_test_clock)
    list_users = Listed(list_users)
    create_user = Single(create_user)
    delete_user = Single(delete_user)
    get_user = Single(get_user)
    patch_user = Single(patch_user)
    list_user_coupons = Listed(list_user_coupons)
    give_gift = Single(give_gift)
    list_user_redemptions = Listed(list_user_redemptions)
    list_webhooks = Listed(list_webhooks)
    create_webhook = Single(create_webhook)
    delete_webhook = Single(delete_webhook)
    get_webhook = Single(get_webhook)
    patch_webhook = Single(patch_webhook)
    list_deliveries = Listed(list_deliveries)
    get_delivery = Single(get_delivery)
    redeliver = Single(redeliver)
    rotate_webhook_secret = Single(rotate_webhook_secret)
    test_webhook = Single(test_webhook)
    get_workspace = Single(get_workspace)
    patch_workspace = Single(patch_workspace)
