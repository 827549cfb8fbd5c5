"""`python -m tests.browser.tasks`: twenty tasks of a day in Chromium, by keyboard and by mouse.

Prints the steps and the seconds of each. The seconds are those of page and service: no step waits for a person."""

import argparse
import asyncio
import shutil
import sys

from tests.browser.tasks.day import TASKS
from tests.browser.tasks.doing import WAYS, run_tasks
from tests.service_fixture import shared_service

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", metavar="TEXT", help="tasks whose name contains this text")
    parser.add_argument("--by", choices=[*WAYS], action="append", help="one way alone")
    asked = parser.parse_args()
    if not (chromium := shutil.which("chromium-headless-shell")):
        sys.exit("chromium-headless-shell is not installed.")
    chosen = {name: task for name, task in TASKS.items() if asked.only.lower() in name.lower()}
    with shared_service() as service:
        good = asyncio.run(run_tasks(service, chosen, chromium, asked.by or [*WAYS]))
    sys.exit(not good)
