"""All metrics, as Prometheus reads them."""

import platform
import threading
from collections.abc import Iterable, Mapping
from importlib import metadata
from typing import get_args

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from pipeline import topology
from pipeline.clock import NS_PER_S, Clock
from pipeline.run.monitor.health import Health
from pipeline.run.monitor.measures import (
    HISTOGRAMS,
    MEASURES,
    PREFIX,
    PROCESS,
    Histogram,
    Known,
    Measure,
    process_labels,
)
from pipeline.run.outputs.base import RunView
from pipeline.stages.step_timings import TIMED
from pipeline.topology import Watched, routes, stages, with_people
from pipeline.transport.counters import BUCKETS_MS, SUM, key
from pipeline.transport.messages import CameraState
from pipeline.transport.topics import SUPERVISOR

FRESH_S = 0.5
"""A page is made at most this often; heartbeats are no more frequent."""
REST = 9
"""A page that took long to make is shown for this many times as long."""

_BOUNDS = [*(str(bound / 1000) for bound in BUCKETS_MS), "+Inf"]


class Exposition(Collector):
    """Turns what the supervisor knows into metrics. Every series exists from the start."""

    def __init__(self, view: RunView, watched: Watched, health: Health) -> None:
        config, packs = view.config, topology.packs(watched).values()
        self._specs = stages(config, with_people(routes(config, watched)))
        self._metrics = view.metrics
        self._health = health
        self._target_s = 0.0 if config.lossless else config.runtime.latency_ms / 1000
        self._cameras = list(config.cameras)
        self._known = Known.of(watched)
        self._about = [
            _info("build_info", "The program's version.", _version()),
            _info(
                "model_info",
                "The model packs that the program runs.",
                *(
                    {
                        "name": pack.contract.name,
                        "version": pack.contract.version,
                        "sha256": pack.sha256,
                    }
                    for pack in packs
                ),
            ),
        ]

    def collect(self) -> Iterable[Metric]:
        yield from self._about
        yield from self._camera_states()
        yield from self._stages()
        for measure in MEASURES:
            yield self._measured(measure)
        for histogram in HISTOGRAMS:
            yield self._timed(histogram)
        level = self._metrics.value(SUPERVISOR, "pace_level")
        yield _gauge("pace_level", "The governor's level; 0: all of each step is done.", level)
        target = "runtime.latency_ms, the target that the governor keeps to; 0: none."
        yield _gauge("latency_target_seconds", target, self._target_s)

    def _camera_states(self) -> Iterable[Metric]:
        up = GaugeMetricFamily(
            f"{PREFIX}camera_up", "1 while the camera is online, else 0.", labels=["camera"]
        )
        state = GaugeMetricFamily(
            f"{PREFIX}camera_state",
            "1 for the state that the camera is in, 0 for the others.",
            labels=["camera", "state"],
        )
        states = self._health.seen.cameras
        for camera in self._cameras:
            up.add_metric([camera], states.get(camera) == "online")
            for name in get_args(CameraState):
                state.add_metric([camera, name], states.get(camera) == name)
        yield up
        yield state

    def _stages(self) -> Iterable[Metric]:
        ready = GaugeMetricFamily(
            f"{PREFIX}stage_ready", "1 while the stage's process works, else 0.", labels=PROCESS
        )
        restarts = CounterMetricFamily(
            f"{PREFIX}stage_restarts_total", "Restarts of a stage that had died.", labels=PROCESS
        )
        for spec in self._specs:
            seen = self._health.seen.stages[spec.name]
            ready.add_metric(process_labels(spec), seen.ready)
            restarts.add_metric(process_labels(spec), seen.restarts)
        yield ready
        yield restarts

    def _measured(self, measure: Measure) -> Metric:
        sums: dict[tuple[str, ...], float] = {}
        for spec in self._specs:
            if spec.kind in measure.stages:
                for values, name in measure.entries(spec, self._known):
                    count = self._metrics.value(spec.name, name)
                    sums[values] = sums.get(values, 0.0) + count * measure.scale
        make = GaugeMetricFamily if measure.kind == "gauge" else CounterMetricFamily
        family = make(PREFIX + measure.metric, measure.help, labels=measure.labels)
        for values, count in sums.items():
            family.add_metric(values, count)
        return family

    def _timed(self, histogram: Histogram) -> Metric:
        family = HistogramMetricFamily(
            PREFIX + histogram.metric, histogram.help, labels=[histogram.label]
        )
        there = {spec.kind for spec in self._specs}
        stages_timed = [stage for stage in TIMED if stage in there]
        for value in stages_timed if histogram.label == "stage" else self._cameras:
            buckets, count = [], 0.0
            for number, bound in enumerate(_BOUNDS):
                count += self._timing(histogram, value, str(number))
                buckets.append((bound, count))
            family.add_metric([value], buckets, self._timing(histogram, value, SUM) / NS_PER_S)
        return family

    def _timing(self, histogram: Histogram, value: str, entry: str) -> float:
        return self._metrics.value(histogram.stage, key(histogram.name, value, entry))


class MetricsPage:
    """The page at ``/metrics``. However many ask for it, making it takes a tenth of the time."""

    def __init__(self, exposition: Exposition, clock: Clock) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(exposition)
        ProcessCollector(registry=self._registry)
        self._clock = clock
        self._lock = threading.Lock()
        self._made: dict[str, tuple[int, bytes]] = {}

    def page(self, accept: str) -> tuple[str, bytes]:
        """Content type and body, in the best format of those that the client accepts."""
        encode, content_type = choose_encoder(accept)
        with self._lock:
            began_ns = self._clock.monotonic_ns()
            until_ns, body = self._made.get(content_type, (began_ns, b""))
            if began_ns >= until_ns:
                body = encode(self._registry)
                ended_ns = self._clock.monotonic_ns()
                rest_ns = max(int(FRESH_S * NS_PER_S), REST * (ended_ns - began_ns))
                self._made[content_type] = ended_ns + rest_ns, body
        return content_type, body


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(PREFIX + name, text, value=value)


def _info(name: str, text: str, *each: Mapping[str, str]) -> Metric:
    """A gauge whose labels tell what is there; ``each`` has the same labels."""
    family = GaugeMetricFamily(PREFIX + name, text, labels=list(each[0]))
    for labels in each:
        family.add_metric(list(labels.values()), 1)
    return family


def _version() -> dict[str, str]:
    try:
        version = metadata.version("two-stream")
    except metadata.PackageNotFoundError:  # run from its folder, without having been installed
        version = "unknown"
    return {"version": version, "python": platform.python_version()}
