"""How many connections an API process accepts: server.py obeys it, wiring.py stores it for `scrip doctor`."""

import resource

from service.server.fastlane.bounded_protocol import MAX_CONNECTIONS

RESERVED_FILES = 200
"""File descriptors that the process needs in addition to its clients' connections."""


def bound_connections() -> int:
    """MAX_CONNECTIONS, or fewer if `ulimit -n` has no descriptors for so many."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MAX_CONNECTIONS if files == resource.RLIM_INFINITY else max(min(MAX_CONNECTIONS, files - RESERVED_FILES), 1)
