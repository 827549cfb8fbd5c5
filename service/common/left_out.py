"""What a loop of an API process leaves out because it fails, so that the part of other tenants goes on. A worker sets
aside instead, and tries again (service/engine/worker/set_aside.py)."""

import structlog
from prometheus_client import Counter

_LEFT_OUT = Counter("scrip_left_out", "Parts of tenants that a task of the API left out, as they failed.", ["task"])

log = structlog.get_logger()


def leave_out(task: str, error: Exception, workspace: int | None = None) -> None:
    """Log and count what is left out of one workspace; the log does not quote the error."""
    log.error("left_out", task=task, workspace=workspace, reason=type(error).__name__, exc_info=error)
    _LEFT_OUT.labels(task).inc()
