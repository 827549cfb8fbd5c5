"""What the worker shows: how far the record is behind, and how fast it goes."""

from prometheus_client import Gauge, start_http_server

from service.worker.flush import Flusher

_PENDING = Gauge("scrip_outbox_pending_events", "Events in the outbox that are not recorded.", ["partition"])
_LAG = Gauge("scrip_outbox_lag_seconds", "No event older than this is unrecorded.", ["partition"])
_RATE = Gauge("scrip_recorded_events_per_second", "Recorded, over the last ten seconds.", ["partition"])
_RECORDED = Gauge("scrip_recorded_events", "Recorded by this worker since it took the partition.", ["partition"])
_QUARANTINED = Gauge("scrip_quarantined_events", "Put into quarantine by this worker; each is an alarm.", ["partition"])


def follow(partition: int, flusher: Flusher) -> None:
    """Show this flusher's figures for the partition from now on."""
    label = str(partition)
    _PENDING.labels(label).set_function(lambda: flusher.pending)
    _LAG.labels(label).set_function(lambda: flusher.lag_seconds)
    _RATE.labels(label).set_function(lambda: flusher.events_per_second)
    _RECORDED.labels(label).set_function(lambda: flusher.recorded)
    _QUARANTINED.labels(label).set_function(lambda: flusher.quarantined)


def serve(host: str, port: int | None) -> None:
    """Answer `GET /metrics` on a port of its own; nowhere where none is set."""
    if port is not None:
        start_http_server(port, addr=host)
