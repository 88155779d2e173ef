"""Metrics: the counters of the heartbeats, for Prometheus and for the terminal."""

from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from pipeline.errors import StartupError

GAUGES = frozenset({"rss_bytes", "private_bytes", "open_files", "late_ms", "pace_level"})


class StageMetrics(Collector):
    """The newest counters of each stage, as ``two_stream_<name>{stage="…"}``."""

    def __init__(self) -> None:
        self._counters: dict[str, Mapping[str, float]] = {}
        self.restarts: dict[str, int] = {}

    def update(self, stage: str, counters: Mapping[str, float]) -> None:
        self._counters[stage] = counters

    def of(self, stage: str) -> Mapping[str, float]:
        return self._counters.get(stage, {})

    def collect(self) -> Iterable[Metric]:
        families: dict[str, GaugeMetricFamily | CounterMetricFamily] = {}
        for stage, counters in sorted(self._counters.items()):
            for name, value in counters.items():
                kind = GaugeMetricFamily if name in GAUGES else CounterMetricFamily
                family = families.get(name)
                if family is None:
                    text = f"{name.replace('_', ' ')} of a stage"
                    family = families[name] = kind(f"two_stream_{name}", text, labels=["stage"])
                family.add_metric([stage], value)
        restarts = CounterMetricFamily(
            "two_stream_restarts", "restarts of a stage", labels=["stage"]
        )
        for stage, count in sorted(self.restarts.items()):
            restarts.add_metric([stage], count)
        return [*families.values(), restarts]

    def serve(self, address: str) -> None:
        """Serve them at ``host:port``; raises :class:`StartupError` when the port is taken."""
        host, _, port = address.rpartition(":")
        registry = CollectorRegistry()
        registry.register(self)
        try:
            start_http_server(int(port), host.strip("[]"), registry)
        except OSError as error:
            raise StartupError(
                f"supervisor.metrics: can't serve at {address}: {error.strerror}"
            ) from None
