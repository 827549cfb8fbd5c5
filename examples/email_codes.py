"""Codes for an e-mail campaign: one for each customer of a list, as files for the mail program, or one at a time.

SCRIP_URL and SCRIP_KEY (scopes `checkout` and `manage`) are set; `python -m examples.email_codes BOOK_ID users.txt`.
Braze takes a file of codes, one a line; Klaviyo one with the column `Coupon Code`. mailing.csv says who has which.
"""

import csv
import os
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from scrip_client import Client

MAX_USERS = 1000
"""Of one request."""


def assign_all(scrip: Client, book_id: str, users: list[str], campaign: str) -> dict[str, str]:
    """Give each user a code of the book, and return it by user. A repeat under the same campaign changes nothing."""
    for start in range(0, len(users), MAX_USERS):
        part = users[start : start + MAX_USERS]
        key = f"{campaign}-{start}"
        job = scrip.change_codes(book_id, action="assign", users=part, idempotency_key=key)
        while (job := scrip.get_job(job.job_id)).status == "running":
            time.sleep(0.5)
        if job.status != "done":
            raise SystemExit(f"job {job.job_id} is {job.status}: {job.errors}")
    wanted = set(users)
    with scrip.export_codes(book_id) as chunks:
        rows = csv.DictReader(b"".join(chunks).decode().splitlines())
        return {row["userId"]: row["code"] for row in rows if row["userId"] in wanted}


def assign_now(scrip: Client, book_id: str, user: str, campaign: str) -> str:
    """Give one user a code at the moment of sending; the same one if the mail is sent again within a day."""
    return scrip.assign_any(book_id=book_id, user_id=user, idempotency_key=f"{campaign}-{user}").code


def write(path: Path, rows: Iterable[tuple[str, ...]]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)


def write_files(folder: Path, codes: dict[str, str]) -> None:
    """Write the codes for Braze, for Klaviyo, and for any program that takes its recipients from a file."""
    write(folder / "braze.csv", [(code,) for code in codes.values()])
    write(folder / "klaviyo.csv", [("Coupon Code",), *((code,) for code in codes.values())])
    write(folder / "mailing.csv", [("userId", "code"), *codes.items()])


if __name__ == "__main__":
    with Client(os.environ["SCRIP_URL"], os.environ["SCRIP_KEY"], deadline_s=60) as client:
        names = Path(sys.argv[2]).read_text().split()
        codes = assign_all(client, sys.argv[1], names, campaign=Path(sys.argv[2]).stem)
    write_files(Path(), codes)
    if missing := set(names) - set(codes):
        sys.exit(f"{len(missing)} customers have no code, such as {min(missing)}: the job's results say why.")
