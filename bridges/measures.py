"""The figures of a bridge: what Prometheus reads, and what the log says when the state changes."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.exposition import choose_encoder

from pipeline.clock import Clock
from pipeline.run.monitor.server import MonitorServer, Page

PREFIX = "two_stream_bridge"


class Measures:
    """All figures of one bridge. Every series exists from the start."""

    def __init__(self, name: str, kind: str) -> None:
        self.registry = CollectorRegistry()
        names = ("bridge", "kind")

        def gauge(what: str, about: str) -> Gauge:
            made = Gauge(f"{PREFIX}_{what}", about, names, registry=self.registry)
            return made.labels(name, kind)

        def counter(what: str, about: str) -> Counter:
            made = Counter(f"{PREFIX}_{what}", about, names, registry=self.registry)
            return made.labels(name, kind)

        self.lag_events = gauge("lag_events", "Events in the log that aren't acknowledged yet.")
        self.lag_seconds = gauge(
            "lag_seconds", "How long the oldest of them has waited; 0: everything is acknowledged."
        )
        self.connected = gauge("connected", "1 while the receiver takes what is sent, else 0.")
        self.program = gauge("program_connected", "1 while the program answers, else 0.")
        self.retries = counter("retries", "Tries that failed, because the receiver was away.")
        self.refused = counter("refused", "Records in the dead letters.")
        self.forgotten = counter(
            "forgotten", "Events that the log deleted before they could be sent."
        )
        sent = Counter(
            f"{PREFIX}_sent",
            "Records that the receiver has acknowledged.",
            (*names, "record"),
            registry=self.registry,
        )
        self.sent = {what: sent.labels(name, kind, what) for what in ("event", "evidence")}
        skipped = Counter(
            f"{PREFIX}_skipped",
            "Records that the bridge's filters left out.",
            names,
            registry=self.registry,
        )
        self.skipped = skipped.labels(name, kind)

    def serve(self, address: str, key: str, clock: Clock) -> Callable[[], None]:
        """Serve the figures at ``host:port`` until what is returned is called."""

        def page(accept: str) -> Page:
            encode, content_type = choose_encoder(accept)
            return Page(encode(self.registry), content_type)

        return MonitorServer(address, {"/metrics": page}, clock, key=key).close
