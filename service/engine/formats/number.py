"""The number of all formats that two versions share: events, Redis keys, the gate, nonces, tables and settings.

program_versions.py checks it at each start; workers and API processes store it in their rows.
"""

FORMAT_NUMBER = 1
"""Raise it by one in a version that writes anything differently, or no longer reads something (docs/upgrading.md).

Versions whose numbers differ by one run side by side. Postgres stores the newest number that migrated it; a process
refuses to start if its own differs by more than one.
"""


def may_run_beside(number: int) -> bool:
    """Whether this version may run with data and processes of a version of this number."""
    return abs(number - FORMAT_NUMBER) <= 1
