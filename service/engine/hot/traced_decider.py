"""The Decider with spans; service/serving/wiring.py takes it while traces are on."""

from collections.abc import Sequence
from typing import Any

import hiredis
from opentelemetry.trace import Span, SpanKind

from service.common.spans import Traces, current, end_span, ended_span, format_traceparent
from service.engine.domain.errors import Refusal
from service.engine.formats.events import with_trace
from service.engine.hot.cluster_links import ClusterLinks
from service.engine.hot.connection import Broken, OnReply
from service.engine.hot.decider import Decider, Reply, kind_of
from service.engine.hot.link import Link
from service.engine.hot.scripts import find_request_part


class TracedDecider(Decider):
    """Decider, with a span for each script of a sampled request, from the turn it is added to until its reply. The
    script's event has the span's context in the request's part. Scripts of different requests may share a call."""

    def __init__(self, links: Link | ClusterLinks, traces: Traces) -> None:
        super().__init__(links)
        self._traces = traces

    def start(self, partition: int, script: str, names: Sequence[str], args: Sequence[Any], on_reply: OnReply) -> int:
        parent = current.get()
        if parent is None:
            return super().start(partition, script, names, args, on_reply)
        span = self._begin(partition, script.removesuffix("+"), parent)

        def end(reply: Any) -> None:
            _end(span, reply)
            on_reply(reply)

        try:
            return super().start(partition, script, names, _carry(script, args, span), end)
        except Refusal as refusal:
            _end(span, refusal)
            raise

    async def run_all(
        self, partition: int, runs: Sequence[tuple[str, Sequence[str], Sequence[Any]]]
    ) -> list[Reply | Refusal]:
        """As Decider's: one span for all of them, since they may be 1,000."""
        parent = current.get()
        if parent is None:
            return await super().run_all(partition, runs)
        span = self._begin(partition, "run_requests", parent)
        span.set_attribute("db.operation.batch.size", len(runs))
        carrying = [(script, names, _carry(script, args, span)) for script, names, args in runs]
        token = current.set(None)
        try:
            with ended_span(span):
                return await super().run_all(partition, carrying)
        finally:
            current.reset(token)

    def _begin(self, partition: int, script: str, parent: Span) -> Span:
        attributes: dict[str, str | int] = {
            "db.system.name": "redis", "db.operation.name": "EVALSHA", "db.stored_procedure.name": script,
            "scrip.partition": partition,
        }  # fmt: skip
        if host := self.link(partition).host:
            attributes |= {"server.address": host.name, "server.port": host.port}
        return self._traces.begin(f"EVALSHA {script}", SpanKind.CLIENT, parent.get_span_context(), attributes)


def _carry(script: str, args: Sequence[Any], span: Span) -> Sequence[Any]:
    """A script's arguments, with the span's context in the request's part of its event."""
    index = find_request_part(script)
    if index is None:
        return args
    return (*args[:index], with_trace(args[index], format_traceparent(span)), *args[index + 1 :])


def _end(span: Span, reply: Any) -> None:
    """End the span of a script. That a script refuses is no error."""
    if isinstance(reply, hiredis.ReplyError):
        end_span(span, kind_of(reply))
    elif isinstance(reply, Broken):
        end_span(span, "outcome_unknown")
    else:
        end_span(span, reply.code if isinstance(reply, Refusal) else "")
