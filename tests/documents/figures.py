"""The figures of documents that also stand in code."""

from service.common.config import Settings
from service.engine.domain import discounts, field_types, storage
from service.engine.domain.limits import ADDRESS_COUNTERS, PUBLIC_ADDRESS_MISSES
from service.engine.formats.key_names import BUCKETS
from service.engine.hot import fencing, sold_out, turns, unrecorded
from service.engine.operations import call_headers, order_fields
from service.engine.operations.batch import MAX_OPERATIONS
from service.engine.record import pool
from service.engine.worker import lease_keeper, write_behind
from service.server.access import keyring
from service.server.answers import refused_requests
from service.server.api import bulk, durability, reading, upload_dry_run
from service.server.api.controllers import reports, workspace
from service.server.fastlane import bounded_protocol, request_heads
from service.server.in_postgres import code_pages, job_rows, key_rows, samples
from service.server.in_redis.workspace_state import KEPT_BYTES
from service.server.requests import code_change_requests, code_requests, webhook_protocol
from service.serving.server import KEEP_ALIVE_S

SETTINGS = Settings.model_fields


def minutes(seconds: float) -> float:
    return seconds / 60


WORDS = {"two": 2, "three": 3, "five": 5, "ten": 10, "seven": 7, "sixteen": 16, "fifty": 50}
FIGURES: dict[str, dict[str, float]] = {
    "service/engine/README.md": {
        r"`lua/run_requests.lua`, at most (\d+)": turns.MAX_REQUESTS,
        r"up to ([\d,]+) at a time": write_behind.BATCH_EVENTS,
        r"(\w+) minutes or [\d,]+ events later": minutes(write_behind.KEEP_S),
        r"minutes or ([\d,]+) events later": write_behind.KEEP_EVENTS,
    },
    "docs/internals/formats.md": {
        r"`crc32\(text\) & (\d+)`": BUCKETS - 1,
        r"at most ([\d,]+) of them\)": ADDRESS_COUNTERS,
        r"stores at most (\d+) MiB of answers": KEPT_BYTES >> 20,
        r"at most (\d+) MiB of answers": KEPT_BYTES >> 20,
    },
    "docs/internals/bounds.md": {
        r"code; card \| (\d+);": storage.CODE_BYTES,
        r"code; card \| \d+; (\d+)": storage.CARD_BYTES,
        r"is switched off \| (\d+)": storage.RECORD_BYTES,
        r"\| use \| (\d+)": storage.USE_BYTES,
        r"code with a single use \| (\d+)": storage.LOCK_BYTES,
        r"and in a user's \| (\d+)": storage.SHARE_BYTES,
        r"counter of a period \| (\d+);": storage.ACCOUNT_BYTES,
        r"counter of a period \| \d+; (\d+)": storage.PERIOD_BYTES,
        r"book; order's gift; user \| ([\d,]+);": storage.BOOK_BYTES,
        r"gift; user \| [\d,]+; (\d+);": storage.GIFT_BYTES,
        r"gift; user \| [\d,]+; \d+; (\d+)": storage.USER_BYTES,
    },
    "docs/internals/architecture.md": {
        r"at ([\d,]+) unrecorded events lock": unrecorded.FULL_EVENTS,
        r"refused, at ([\d,]+) all changes": unrecorded.BEHIND_EVENTS,
        r"oldest is (\d+) or": unrecorded.FULL_AT * SETTINGS["max_unrecorded_s"].default,
        r"or (\d+) s old": SETTINGS["max_unrecorded_s"].default,
        r"full --> open: below ([\d,]+)": unrecorded.REOPEN_AT * unrecorded.FULL_EVENTS,
        r"behind --> full: below ([\d,]+)": unrecorded.REOPEN_AT * unrecorded.BEHIND_EVENTS,
        r"after (\w+) minutes all requests": minutes(keyring.MAX_AGE_S),
        r"accepts ([\d,]+) clients": bounded_protocol.MAX_CONNECTIONS,
    },
    "docs/deploy.md": {
        r"idle for (\d+) s": KEEP_ALIVE_S,
        r"`SCRIP_RETIRE_DAYS` \((\d+)\)": SETTINGS["retire_days"].default,
        r"(\d+) or newer, with `synchronous_commit`": pool.MIN_VERSION,
        r"bound does not start, .+ of (\w+) minutes": minutes(pool.LONG_S),
        r"both silent for ([\d.]+) s": fencing.FRESH_S["cluster"],
    },
    "docs/operations.md": {
        r"at ([\d,]+) entries locks": unrecorded.FULL_EVENTS + write_behind.KEEP_EVENTS,
        r"`behind`, at ([\d,]+) all changes": unrecorded.BEHIND_EVENTS + write_behind.KEEP_EVENTS,
        r"at ([\d,]+) events `behind`": unrecorded.FULL_EVENTS,
    },
    "docs/limits.md": {
        r"head of a request \| (\d+) KiB": request_heads.MAX_HEAD_BYTES >> 10,
        r"KiB, (\d+) headers": request_heads.MAX_HEADERS,
        r"hot path \| (\d+) KiB": call_headers.MAX_BODY_BYTES >> 10,
        r"other body of JSON \| (\d+) MiB": reading.JSON_BYTES >> 20,
        r"(\d+) MiB as JSON": reading.UPLOAD_JSON_BYTES >> 20,
        r"(\d+) GiB as CSV": reading.UPLOAD_BYTES >> 30,
        r"operations of a batch \| ([\d,]+)": MAX_OPERATIONS,
        r"lines of an order \(`items`\) \| ([\d,]+)": order_fields.MAX_ITEMS,
        r"\(`limit`\) \| [\d,]+; (\d+) by default": reading.Listing().limit,
        r"(\d+) MiB a workspace": KEPT_BYTES >> 20,
        r"(\d+) s; \d+ s by default": durability.MAX_WAIT_S,
        r"\d+ s; (\d+) s by default": durability.DEFAULT_WAIT_S,
        r"connections of an API process \| ([\d,]+)": bounded_protocol.MAX_CONNECTIONS,
        r"uploads at once \| (\d+),": bulk.MAX_UPLOADS,
        r"uploads at once \| \d+, of a workspace (\d+)": bulk.UPLOADS_OF_ONE,
        r"exports at once \| (\d+),": bulk.MAX_EXPORTS,
        r"a report \| (\d+) days": reports.MAX_DAYS["hour"],
        r"by hours, (\d+) by days or weeks": reports.MAX_DAYS["day"],
        r"by days or weeks; ([\d,]+) items": reports.MAX_ROWS,
        r"codes with a `status` . reads for ([\d.]+) s": code_pages.FILTER_S,
        r"search of books .+ (\d+) s in Postgres": pool.READING_S,
        r"exports at once \| \d+, of a workspace (\d+)": bulk.EXPORTS_OF_ONE,
        r"numbers \| 1 to ([\d,]+)": field_types.MAX_INT,
        r"codes that one request makes \| ([\d,]+)": field_types.MAX_CODES,
        r"that are listed \| ([\d,]+)": code_requests.MAX_ERRORS,
        r"`rejected.csv`, up to (\d+) MiB": upload_dry_run.MAX_REJECTED_BYTES >> 20,
        r"that a change names \| ([\d,]+)": code_change_requests.MAX_NAMED,
        r"([\d,]+) users of a file": code_change_requests.MAX_USERS,
        r"([\d,]+) that generate codes": job_rows.MAX_GENERATIONS,
        r"([\d,]+) that change some": job_rows.MAX_CHANGES,
        r"tags of a book, tiers of a discount \| (\d+)": discounts.MAX_TIERS,
        r"`couponsPerOrder` up to (\d+)": workspace.MAX_COUPONS_PER_ORDER,
        r"webhooks of a workspace \| (\d+)": webhook_protocol.MAX_WEBHOOKS,
        r"pending test events of a webhook \| (\d+)": webhook_protocol.MAX_TESTS,
        r"pending deliveries of a webhook \| ([\d,]+)": webhook_protocol.MAX_PENDING,
        r"keys of a workspace \| ([\d,]+)": key_rows.MAX_KEYS,
        r"`public` keys: (\d+) a minute": PUBLIC_ADDRESS_MISSES,
    },
    "docs/internals/decisions/0068-history.md": {
        r"for (\d+) days": samples.REPORT_DAYS,
    },
    "docs/security.md": {
        r"refuses all keys (\w+) minutes": minutes(keyring.MAX_AGE_S),
        r"share ([\d,]+) counters": ADDRESS_COUNTERS,
    },
    "docs/internals/decisions/0004-codes-in-redis.md": {
        r"\(([\d,]+) a workspace\)": BUCKETS,
    },
    "docs/internals/decisions/0008-batches.md": {
        r"up to ([\d,]+) operations": MAX_OPERATIONS,
    },
    "docs/internals/decisions/0026-webhooks.md": {
        r"At most ([\d,]+) deliveries": webhook_protocol.MAX_PENDING,
    },
    "docs/internals/decisions/0031-bounds.md": {
        r"takes at most (\d+) coupons": workspace.MAX_COUPONS_PER_ORDER,
    },
    "docs/internals/decisions/0032-kept-answers.md": {},
    "docs/internals/decisions/0039-one-call-per-turn.md": {
        r"at most (\d+), and": turns.MAX_REQUESTS,
        r"at most (\d+) Ki": turns.MAX_BYTES >> 10,
    },
    "docs/internals/decisions/0042-readiness.md": {
        r"(\w+) minutes after Postgres": minutes(keyring.MAX_AGE_S),
    },
    "docs/internals/decisions/0043-many-partitions.md": {
        r"expires after (\d+) s": lease_keeper.LEASE_S,
    },
    "docs/internals/decisions/0058-larger-workspaces.md": {
        r"at most ([\d,]+)\)": sold_out.MAX_HINTS,
    },
    "docs/internals/decisions/0086-refused-requests.md": {
        r"keeps (\d+) refusals of callers": refused_requests.MAX_KNOWN,
        r"and (\d+) of others": refused_requests.MAX_UNKNOWN,
    },
}
"""What stands in a document, by the document, and its value in the code."""
