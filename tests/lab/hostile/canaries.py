"""Codes, keys and tokens that go through every path of a service, and are looked for in all that was written."""

import argparse
import os

from loadtests.own import own_service
from tests.harness.canaries import Canaries
from tests.harness.service_fixture import Service


def main() -> int:
    """Fly, look, and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--codes", type=int, default=100_000)
    asked = parser.parse_args()
    os.environ["SCRIP_LOG_LEVEL"] = "debug"
    with own_service() as run:
        service = Service(run)
        canaries = Canaries(service, asked.codes)
        canaries.send()
        found = list(canaries.find_canaries())
        sizes = {place: len(text) for place, text in canaries.written()}
        service.close()
    print(f"{asked.codes} codes, {canaries.sent} requests or codes, {len(canaries.bodies)} answers of 5xx, 6 crashes")
    print(f"looked through {sum(sizes.values()):,} bytes in {len(sizes)} places: {len(found)} found")
    for place, canary in found[:20]:
        print(f"  {place}: {canary.decode()}")
    return 1 if found else 0
