"""Figures of the documents that also stand in code are the same there."""

import re
from pathlib import Path

import pytest

from service.common.config import Settings
from service.engine.domain import discounts, field_types
from service.engine.domain.limits import ADDRESS_COUNTERS, PUBLIC_ADDRESS_MISSES
from service.engine.formats.key_names import BUCKETS
from service.engine.hot import fencing, sold_out, turns, unrecorded
from service.engine.hot.scripts import JOINED
from service.engine.operations import call_headers, order_fields
from service.engine.operations.batch import MAX_OPERATIONS
from service.engine.operations.table import ROWS
from service.engine.record import pool
from service.engine.worker import lease_keeper, write_behind
from service.server.access import keyring
from service.server.answers import refused_requests
from service.server.api import bulk, durability, reading, upload_dry_run
from service.server.api.controllers import reports, workspace
from service.server.fastlane import bounded_protocol, request_heads
from service.server.hot.workspace_state import KEPT_BYTES
from service.server.record import job_rows, key_rows, samples
from service.server.requests import book_requests, code_change_requests, code_requests, webhook_protocol
from service.server.webhooks import sender as webhook_sender
from service.serving.server import KEEP_ALIVE_S
from tests.unit.test_documents import ROOT

SETTINGS = Settings.model_fields
OPERATIONS = "docs/operations.md"
ARCHITECTURE = "docs/architecture.md"
DEPLOY = "docs/deploy.md"
LIMITS = "docs/limits.md"


def minutes(seconds: float) -> float:
    return seconds / 60


WORDS = {"two": 2, "three": 3, "five": 5, "ten": 10, "seven": 7, "sixteen": 16, "fifty": 50}
FIGURES = [
    (ARCHITECTURE, r"`lua/many.lua`, at most (\d+) of", turns.MAX_REQUESTS),
    (ARCHITECTURE, r"up to ([\d,]+) events at a time", write_behind.BATCH_EVENTS),
    (ARCHITECTURE, r"(\w+) minutes or [\d,]+ events later", minutes(write_behind.KEEP_S)),
    (ARCHITECTURE, r"minutes or ([\d,]+) events later", write_behind.KEEP_EVENTS),
    (ARCHITECTURE, r"at ([\d,]+) unrecorded events lock", unrecorded.FULL_EVENTS),
    (ARCHITECTURE, r"refused, at ([\d,]+) all changes", unrecorded.BEHIND_EVENTS),
    (ARCHITECTURE, r"oldest is (\d+) or", unrecorded.FULL_AT * SETTINGS["max_unrecorded_s"].default),
    (ARCHITECTURE, r"or (\d+) s old", SETTINGS["max_unrecorded_s"].default),
    (ARCHITECTURE, r"full --> open: below ([\d,]+)", unrecorded.REOPEN_AT * unrecorded.FULL_EVENTS),
    (ARCHITECTURE, r"behind --> full: below ([\d,]+)", unrecorded.REOPEN_AT * unrecorded.BEHIND_EVENTS),
    (ARCHITECTURE, r"after (\w+) minutes all requests", minutes(keyring.MAX_AGE_S)),
    (ARCHITECTURE, r"`crc32\(text\) & (\d+)`", BUCKETS - 1),
    (ARCHITECTURE, r"at most ([\d,]+) of them\)", ADDRESS_COUNTERS),
    (ARCHITECTURE, r"stores at most (\d+) MiB of answers", KEPT_BYTES >> 20),
    (ARCHITECTURE, r"accepts ([\d,]+) clients", bounded_protocol.MAX_CONNECTIONS),
    (DEPLOY, r"idle for (\d+) s", KEEP_ALIVE_S),
    (DEPLOY, r"`SCRIP_RETIRE_DAYS` \((\d+)\)", SETTINGS["retire_days"].default),
    (DEPLOY, r"(\d+) or newer, with `synchronous_commit`", pool.MIN_VERSION),
    (DEPLOY, r"bound does not start, .+ of (\w+) minutes", minutes(pool.LONG_S)),
    (DEPLOY, r"both silent for ([\d.]+) s", fencing.FRESH_S["cluster"]),
    (OPERATIONS, r"at ([\d,]+) entries locks", unrecorded.FULL_EVENTS + write_behind.KEEP_EVENTS),
    (OPERATIONS, r"`behind`, at ([\d,]+) all changes", unrecorded.BEHIND_EVENTS + write_behind.KEEP_EVENTS),
    (OPERATIONS, r"at ([\d,]+) events `behind`", unrecorded.FULL_EVENTS),
    (LIMITS, r"head of a request \| (\d+) KiB", request_heads.MAX_HEAD_BYTES >> 10),
    (LIMITS, r"KiB, (\d+) headers", request_heads.MAX_HEADERS),
    (LIMITS, r"hot path \| (\d+) KiB", call_headers.MAX_BODY_BYTES >> 10),
    (LIMITS, r"other body of JSON \| (\d+) MiB", reading.JSON_BYTES >> 20),
    (LIMITS, r"(\d+) MiB as JSON", reading.UPLOAD_JSON_BYTES >> 20),
    (LIMITS, r"(\d+) GiB as CSV", reading.UPLOAD_BYTES >> 30),
    (LIMITS, r"operations of a batch \| ([\d,]+)", MAX_OPERATIONS),
    (LIMITS, r"lines of an order \(`items`\) \| ([\d,]+)", order_fields.MAX_ITEMS),
    (LIMITS, r"\(`limit`\) \| [\d,]+; (\d+) by default", reading.Listing().limit),
    (LIMITS, r"(\d+) MiB a workspace", KEPT_BYTES >> 20),
    (LIMITS, r"(\d+) s; \d+ s by default", durability.MAX_WAIT_S),
    (LIMITS, r"\d+ s; (\d+) s by default", durability.DEFAULT_WAIT_S),
    (LIMITS, r"connections of an API process \| ([\d,]+)", bounded_protocol.MAX_CONNECTIONS),
    (LIMITS, r"uploads at once \| (\d+),", bulk.MAX_UPLOADS),
    (LIMITS, r"uploads at once \| \d+, of a workspace (\d+)", bulk.UPLOADS_OF_ONE),
    (LIMITS, r"exports at once \| (\d+),", bulk.MAX_EXPORTS),
    (LIMITS, r"a report \| (\d+) days", reports.MAX_DAYS["hour"]),
    (LIMITS, r"by hours, (\d+) by days or weeks", reports.MAX_DAYS["day"]),
    (LIMITS, r"by days or weeks; ([\d,]+) items", reports.MAX_ROWS),
    ("docs/decisions/0068-history.md", r"for (\d+) days", samples.REPORT_DAYS),
    (LIMITS, r"exports at once \| \d+, of a workspace (\d+)", bulk.EXPORTS_OF_ONE),
    (LIMITS, r"numbers \| 1 to ([\d,]+)", field_types.MAX_INT),
    (LIMITS, r"codes that one request makes \| ([\d,]+)", book_requests.MAX_CODES),
    (LIMITS, r"that are listed \| ([\d,]+)", code_requests.MAX_ERRORS),
    (LIMITS, r"`rejected.csv`, up to (\d+) MiB", upload_dry_run.MAX_REJECTED_BYTES >> 20),
    (LIMITS, r"that a change names \| ([\d,]+)", code_change_requests.MAX_NAMED),
    (LIMITS, r"([\d,]+) users of a file", code_change_requests.MAX_USERS),
    (LIMITS, r"([\d,]+) that generate codes", job_rows.MAX_GENERATIONS),
    (LIMITS, r"([\d,]+) that change some", job_rows.MAX_CHANGES),
    (LIMITS, r"tags of a book, tiers of a discount \| (\d+)", discounts.MAX_TIERS),
    (LIMITS, r"`couponsPerOrder` up to (\d+)", workspace.MAX_COUPONS_PER_ORDER),
    (LIMITS, r"webhooks of a workspace \| (\d+)", webhook_protocol.MAX_WEBHOOKS),
    (LIMITS, r"keys of a workspace \| ([\d,]+)", key_rows.MAX_KEYS),
    (LIMITS, r"`public` keys: (\d+) a minute", PUBLIC_ADDRESS_MISSES),
    ("docs/security.md", r"refuses all keys (\w+) minutes", minutes(keyring.MAX_AGE_S)),
    ("docs/security.md", r"share ([\d,]+) counters", ADDRESS_COUNTERS),
    ("docs/decisions/0004-codes-in-redis.md", r"\(([\d,]+) a workspace\)", BUCKETS),
    ("docs/decisions/0008-batches.md", r"up to ([\d,]+) operations", MAX_OPERATIONS),
    ("docs/decisions/0026-webhooks.md", r"At most ([\d,]+) deliveries", webhook_sender.MAX_PENDING),
    ("docs/decisions/0031-bounds.md", r"takes at most (\d+) coupons", workspace.MAX_COUPONS_PER_ORDER),
    ("docs/decisions/0032-kept-answers.md", r"at most (\d+) MiB of answers", KEPT_BYTES >> 20),
    ("docs/decisions/0039-one-call-per-turn.md", r"at most (\d+), and", turns.MAX_REQUESTS),
    ("docs/decisions/0039-one-call-per-turn.md", r"at most (\d+) Ki", turns.MAX_BYTES >> 10),
    ("docs/decisions/0042-readiness.md", r"(\w+) minutes after Postgres", minutes(keyring.MAX_AGE_S)),
    ("docs/decisions/0058-larger-workspaces.md", r"at most ([\d,]+)\)", sold_out.MAX_HINTS),
    ("docs/decisions/0070-ended-sessions.md", r"expires after (\d+) s", lease_keeper.LEASE_S),
    ("docs/decisions/0086-refused-requests.md", r"keeps (\d+) refusals of callers", refused_requests.MAX_KNOWN),
    ("docs/decisions/0086-refused-requests.md", r"and (\d+) of others", refused_requests.MAX_UNKNOWN),
]


@pytest.mark.parametrize(("document", "pattern", "value"), FIGURES)
def test_a_figure_is_that_of_the_code(document: str, pattern: str, value: float) -> None:
    """Each figure stands once or more in its document, and is the code's each time."""
    text = " ".join((ROOT / document).read_text("utf-8").split())
    found = re.findall(pattern, text)
    assert found
    assert {WORDS.get(one.lower()) or float(one.replace(",", "")) for one in found} == {value}


def test_the_bounds_of_scripts() -> None:
    """docs/bounds.md has one row for each script. Those below 5 ms, and assign_any, join calls with other requests."""
    cpu_ms: dict[str, float] = {}
    text = (ROOT / "docs/bounds.md").read_text("utf-8")
    for name, ms in re.findall(r"^\| (\w+) \| .+ \| [\d,]+ \| ([\d.]+) \|", text, re.MULTILINE):
        cpu_ms[name] = max(cpu_ms.get(name, 0), float(ms))
    assert set(cpu_ms) == {path.stem for path in Path(ROOT / "lua").glob("*.lua")} - {"many"}
    rows = {row.script for row in ROWS}
    assert {name for name in rows if cpu_ms[name] < 5} | {"assign_any"} == set(JOINED)


def test_the_suites() -> None:
    """The suites of CONTRIBUTING.md are the folders of tests."""
    suites = re.findall(r"^\| `tests/(\w+)` \|", (ROOT / "CONTRIBUTING.md").read_text("utf-8"), re.MULTILINE)
    folders = {path.name for path in (ROOT / "tests").iterdir() if list(path.rglob("test_*.py"))}
    assert {*suites} == folders
