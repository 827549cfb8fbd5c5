"""Start OpenTelemetry traces in an API or worker process, if its environment asks for them.

The packages of the extra `otel`, which service/common/spans.py needs, are imported only then.
"""

from typing import TYPE_CHECKING

import structlog

from service.common.config import find_sampler

if TYPE_CHECKING:
    from service.common.spans import Traces

log = structlog.get_logger()


def start_traces(name: str) -> "Traces | None":
    """Export spans as the service `name` from now on. None if the environment names no collector, or if the packages
    are missing: a platform may set the variables for all its processes."""
    sampler = find_sampler()
    if sampler is None:
        return None
    try:
        from service.common.spans import Traces, export
    except ModuleNotFoundError as missing:
        log.error("traces_off", missing=missing.name)
        return None
    return Traces(name, sampler, export())
