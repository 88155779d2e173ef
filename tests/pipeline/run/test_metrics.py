"""Metrics, as Prometheus reads them."""

import re
import shutil
import subprocess
from collections import Counter
from typing import get_args

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from pipeline.clock import NS_PER_MS
from pipeline.run.metrics import GAUGES, StageMetrics
from pipeline.run.monitor.measures import HISTOGRAMS, MEASURES, UNSHOWN
from pipeline.transport.counters import BUCKETS_MS, Timing, key, total
from pipeline.transport.messages import CameraState
from tests.pipeline.run.watched import Watched
from tests.structure import PROJECT


def series(run: Watched) -> set[tuple[str, frozenset[tuple[str, str]]]]:
    return {
        (sample.name, frozenset(sample.labels.items()))
        for family in run.families().values()
        for sample in family.samples
    }


def busy(run: Watched) -> None:
    """Heartbeats of every stage, with every counter that there is."""
    for name in run.stages:
        run.metrics.update(name, everything(name, run))


def everything(stage: str, run: Watched) -> dict[str, float]:
    kind = stage.partition(":")[0]
    counters: Counter[str] = Counter()
    cameras = list(run.config.cameras)
    for measure in MEASURES:
        if kind in measure.stages:
            counters[measure.name] += 3
            for camera in cameras:
                counters[key(measure.name, camera)] += 3
                counters[key(measure.name, camera, "circle")] += 3
    for histogram in HISTOGRAMS:
        if histogram.stage == kind:
            for value in ["fusion"] if histogram.label == "stage" else cameras:
                Timing(counters, histogram.name, value).add(30 * NS_PER_MS)
    return dict(counters)


def test_every_series_exists_from_the_start_and_never_another() -> None:
    run = Watched()
    at_start = series(run)
    busy(run)
    run.report("c0", "online")
    run.metrics.update("fusion", {"of_a_stranger": 1.0, "steps/nobody": 1.0})
    run.turn()
    assert series(run) == at_start
    contract = run.pack.contract
    labels = [label for label in contract.labels if label not in contract.background]
    fresh = Watched()
    every = {(c, label, "gestures"): 0.0 for c in ("c0", "c1") for label in labels}
    assert fresh.values("events_total") == every
    assert fresh.values("events_lost_total") == {(): 0.0}
    assert run.values("camera_up") == {("c0",): 1.0, ("c1",): 0.0}


def test_a_camera_has_one_state_and_is_up_only_online() -> None:
    for state in get_args(CameraState):
        run = Watched(1)
        run.report("c0", state)
        run.turn()
        assert run.values("camera_up") == {("c0",): float(state == "online")}
        states = run.values("camera_state")
        assert {name: on for (_, name), on in states.items() if on} == {state: 1.0}


def test_counts_of_cameras_and_labels() -> None:
    run = Watched(2, flow={"workers": 2})
    run.metrics.update("capture:c0", {"frames": 300.0, "steps": 100.0})
    run.metrics.update("spatial", {"steps/c0": 99.0, "steps/c1": 7.0, "batches": 100.0})
    run.metrics.update("flow:0", {"messages_dropped": 2.0, "fields/c0": 9.0})
    run.metrics.update("flow:1", {"messages_dropped": 3.0, "steps_skipped/c1": 4.0})
    run.metrics.update("publish", {"events/c0/gestures/circle": 2.0, "event_records/end": 1.0})
    assert run.values("frames_total") == {("c0",): 300.0, ("c1",): 0.0}
    steps = run.values("steps_total")
    assert (steps["c0", "capture"], steps["c0", "spatial"], steps["c1", "spatial"]) == (100, 99, 7)
    assert run.values("messages_dropped_total")["flow",] == 5.0
    assert run.values("flow_fields_total") == {("c0",): 9.0, ("c1",): 0.0}
    assert run.values("steps_skipped_total")["c1", "flow"] == 4.0
    assert run.values("events_total")["c0", "circle", "gestures"] == 2.0
    assert run.values("event_records_total") == {("start",): 0.0, ("update",): 0.0, ("end",): 1.0}


def test_times_are_seconds_in_buckets() -> None:
    run, counters = Watched(1), Counter[str]()
    timing = Timing(counters, "score_latency", "c0")
    for ms in (0.0, 0.9, 1.0, 30.0, 150.0, 9000.0):
        timing.add(int(ms * NS_PER_MS))
    run.metrics.update("fusion", {**counters, "late_ms": 150.0})
    buckets = {float(le): n for (_, le), n in run.values("score_latency_seconds_bucket").items()}
    assert list(buckets) == [*(ms / 1000 for ms in BUCKETS_MS), float("inf")]
    assert (buckets[0.001], buckets[0.05], buckets[0.15], buckets[5.0]) == (3, 4, 5, 5)
    assert run.values("score_latency_seconds_count") == {("c0",): 6.0}
    assert run.values("score_latency_seconds_sum")["c0",] == pytest.approx(9.1819)
    assert run.values("latency_smoothed_seconds") == {(): 0.15}


def test_totals_survive_a_restart_and_gauges_end_with_their_process() -> None:
    metrics = StageMetrics()
    metrics.update("fusion", {"steps/c0": 10.0, "rss_bytes": 1e6})
    metrics.ended("fusion")
    assert metrics.of("fusion") == {}
    assert (metrics.value("fusion", "steps/c0"), metrics.value("fusion", "rss_bytes")) == (10, 0)
    metrics.update("fusion", {"steps/c0": 2.0, "rss_bytes": 5e5})
    metrics.update("fusion", {"steps/c0": 3.0, "rss_bytes": 6e5})
    assert metrics.of("fusion")["steps/c0"] == 3.0
    assert (metrics.value("fusion", "steps/c0"), metrics.value("fusion", "rss_bytes")) == (13, 6e5)
    metrics.ended("fusion")
    metrics.ended("fusion")
    assert metrics.value("fusion", "steps/c0") == 13.0
    assert metrics.value("nobody", "steps/c0") == 0.0


def test_a_total_is_that_of_all_labels_and_no_other_name() -> None:
    counters = {"steps": 1.0, "steps/a": 2.0, "steps/b": 3.0, "steps_skipped/a": 9.0}
    assert total(counters, "steps") == 6.0


def test_a_label_may_hold_what_a_name_may_not() -> None:
    assert key("events", "door", "push/pull") == "events/door/push/pull"


def test_the_page_is_made_at_most_twice_a_second() -> None:
    run = Watched()
    first = run.page.page("")
    run.metrics.update("capture:c0", {"frames": 1.0})
    assert run.page.page("") is not None
    assert run.page.page("")[1] is first[1]
    run.clock.sleep(0.6)
    assert b'two_stream_frames_total{camera="c0"} 1.0' in run.page.page("")[1]


def test_openmetrics_when_it_is_asked_for() -> None:
    run = Watched()
    busy(run)
    text = run.text("application/openmetrics-text; version=1.0.0")
    families = list(openmetrics(text))  # type: ignore[no-untyped-call]
    assert "two_stream_events" in {family.name for family in families}


def test_names_and_help_are_what_prometheus_asks_for() -> None:
    for family in text_string_to_metric_families(Watched().text()):
        assert family.documentation.rstrip().endswith("."), family.name
        assert not re.search(r"_(ms|mb|kb|s|count|total)$", family.name), family.name
        if family.type == "histogram":
            assert family.name.endswith("_seconds")
        if "memory" in family.name:
            assert family.name.endswith("_bytes")


def test_every_counter_in_the_code_has_its_row() -> None:
    """A counter that a stage keeps and nobody can see helps nobody."""
    named = re.compile(r'counters\[(?:key\()?"(\w+)"|gauges\["(\w+)"\]|Timing\([^)]*?, "(\w+)"')
    found = {
        name
        for folder in ("stages", "public", "run")
        for path in (PROJECT / "pipeline" / folder).rglob("*.py")
        for groups in named.findall(path.read_text())
        for name in groups
        if name
    }
    rows = {row.name for row in (*MEASURES, *HISTOGRAMS)}
    assert found - UNSHOWN == rows
    gauges = {row.name for row in MEASURES if row.kind == "gauge"}
    assert gauges | {"pace_level", "people_named"} == GAUGES


@pytest.mark.slow
def test_promtool_has_nothing_to_say() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (Debian: prometheus)")
    run = Watched(3, flow={"workers": 2})
    quiet = run.text()
    busy(run)
    for text in (quiet, run.text()):
        done = subprocess.run(
            [promtool, "check", "metrics"], input=text.encode(), capture_output=True, timeout=60
        )
        assert (done.returncode, done.stdout + done.stderr) == (0, b"")


def test_the_docs_name_every_metric() -> None:
    page = (PROJECT / "docs" / "operating.md").read_text(encoding="utf-8")
    names = {
        family.name + ("_total" if family.type == "counter" else "")
        for family in text_string_to_metric_families(Watched().text())
        if family.name.startswith("two_stream_")
    }
    assert {name for name in names if f"`{name}" not in page} == set()
