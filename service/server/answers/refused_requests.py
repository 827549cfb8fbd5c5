"""Refused requests of this process, for look-ups by request id (docs/internals/decisions/0086-refused-requests.md).

Whoever sends a refusal adds it; once a second service/serving/wiring.py takes all and writes them to Postgres.
"""

import time

from service.engine.record.actor import mask
from service.server.answers.accounting import NOBODY, now_s
from service.server.record.refused_batches import Refused, RefusedBatch

MAX_KNOWN, MAX_UNKNOWN = 300, 100
"""Refusals a second that a process keeps: of callers, and of requests without valid credentials."""


class RefusedRequests:
    """Collects refusals. A request only appends a tuple; `take` masks all of a second."""

    def __init__(self) -> None:
        self._known: list[Refused] = []
        self._unknown: list[Refused] = []
        self._dropped = 0

    def add(
        self,
        workspace: int,
        route: str,
        status: int,
        outcome: str,
        request_id: str,
        began_s: float,
        subject: str | None,
    ) -> None:
        """Keep a refusal; count it if there are too many. `route` has no codes or ids; `subject` is the one in the
        path; the others as in service/server/answers/accounting.py."""
        kept, most = (self._unknown, MAX_UNKNOWN) if workspace == NOBODY else (self._known, MAX_KNOWN)
        if len(kept) == most:
            self._dropped += 1
            return
        at_ms, took_ms = int(time.time() * 1000), round((now_s() - began_s) * 1000, 1)
        kept.append(Refused(request_id, workspace, at_ms, route, status, outcome, took_ms, subject))

    def take(self) -> RefusedBatch:
        """The refusals since the last call, with masked subjects."""
        kept, dropped = self._known + self._unknown, self._dropped
        self._known, self._unknown, self._dropped = list[Refused](), list[Refused](), 0
        return RefusedBatch([_mask(one) for one in kept], dropped)

    def drop(self, batch: RefusedBatch) -> None:
        """Count refusals that were taken and won't be written."""
        self._dropped += len(batch.refusals) + batch.dropped


def _mask(one: Refused) -> Refused:
    return one._replace(subject=mask(one.subject)) if one.subject else one


refused_requests = RefusedRequests()
