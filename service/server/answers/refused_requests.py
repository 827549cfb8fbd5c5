"""Refused requests of this process, for look-ups by request id (docs/internals/decisions/0086-refused-requests.md).

The transport that sends a refusal adds it. Once a second service/serving/wiring.py writes all to Postgres.
"""

import time
from collections import Counter, defaultdict
from itertools import chain, islice, zip_longest

from service.engine.record.actor import mask
from service.server.answers.accounting import NOBODY, now_s
from service.server.in_postgres.refused_batches import Refused, RefusedBatch

MAX_KNOWN, MAX_UNKNOWN = 300, 100
"""Refusals a second that a process keeps: of callers, and of requests without valid credentials. Workspaces share the
former, so that one with many refusals hides no other's."""


class RefusedRequests:
    """Collects refusals. A request only appends a tuple; `take` masks all of a second."""

    def __init__(self) -> None:
        self._known: defaultdict[int, list[Refused]] = defaultdict(list)
        self._unknown: list[Refused] = []
        self._dropped: Counter[int] = Counter()

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
        is_known = workspace != NOBODY
        kept, most = (self._known[workspace], MAX_KNOWN) if is_known else (self._unknown, MAX_UNKNOWN)
        if len(kept) == most:
            self._dropped[workspace] += 1
            return
        at_ms, took_ms = int(time.time() * 1000), round((now_s() - began_s) * 1000, 1)
        kept.append(Refused(request_id, workspace, at_ms, route, status, outcome, took_ms, subject))

    def take(self) -> RefusedBatch:
        """The refusals since the last call, with masked subjects. If there are too many, workspaces take turns."""
        known, unknown, dropped = self._known, self._unknown, self._dropped
        self._known, self._unknown, self._dropped = defaultdict(list), [], Counter()
        turns = chain.from_iterable(zip_longest(*known.values()))
        kept = [*islice(filter(None, turns), MAX_KNOWN)]
        dropped.update({workspace: len(refusals) for workspace, refusals in known.items()})
        dropped.subtract(one.workspace for one in kept)
        masked = [one._replace(subject=mask(one.subject)) if one.subject else one for one in kept + unknown]
        return RefusedBatch(masked, +dropped)

    def drop(self, batch: RefusedBatch) -> None:
        """Count refusals that were taken and won't be written."""
        self._dropped.update(batch.dropped)
        self._dropped.update(one.workspace for one in batch.refusals)


refused_requests = RefusedRequests()
