"""Metrics, as Prometheus reads them."""

import socket
import urllib.request

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from pipeline.errors import StartupError
from pipeline.run.metrics import StageMetrics


def parsed(text: str) -> dict[tuple[str, str], tuple[str, float]]:
    """(name, stage) → (type, value)."""
    return {
        (sample.name, sample.labels["stage"]): (family.type, sample.value)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def filled() -> StageMetrics:
    metrics = StageMetrics()
    metrics.update("capture:door", {"frames": 10.0, "late_ms": 9.5})
    metrics.update("capture:door", {"frames": 20.0, "late_ms": 10.0})
    metrics.update("capture:yard", {"frames": 5.0, "rss_bytes": 1e6})
    metrics.restarts["fusion"] = 2
    return metrics


def test_the_newest_counters_of_each_stage() -> None:
    metrics = filled()
    registry = CollectorRegistry()
    registry.register(metrics)
    assert parsed(generate_latest(registry).decode()) == {
        ("two_stream_frames_total", "capture:door"): ("counter", 20.0),
        ("two_stream_frames_total", "capture:yard"): ("counter", 5.0),
        ("two_stream_late_ms", "capture:door"): ("gauge", 10.0),
        ("two_stream_rss_bytes", "capture:yard"): ("gauge", 1e6),
        ("two_stream_restarts_total", "fusion"): ("counter", 2.0),
    }
    assert metrics.of("capture:door") == {"frames": 20.0, "late_ms": 10.0}
    assert metrics.of("nobody") == {}


def test_they_are_served_over_http_and_a_taken_port_is_an_error() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    metrics = filled()
    metrics.serve(f"127.0.0.1:{port}")
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        served = parsed(answer.read().decode())
    assert served["two_stream_frames_total", "capture:door"] == ("counter", 20.0)
    with pytest.raises(StartupError, match=r"supervisor.metrics: can.t serve at .*in use"):
        metrics.serve(f"127.0.0.1:{port}")
