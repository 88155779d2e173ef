"""The running program as those see it who watch over it: metrics, health, JSON logs."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from testbed.cameras import http_mjpeg_server
from testbed.program import PipelineRun, free_port

TIME = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")


class Pages:
    """What a running program serves."""

    def __init__(self) -> None:
        self.address = f"127.0.0.1:{free_port()}"

    def get(self, path: str) -> tuple[int, bytes]:
        """Status and body; status 0 while nothing listens."""
        try:
            with urllib.request.urlopen(f"http://{self.address}{path}", timeout=20) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()
        except OSError:
            return 0, b""

    def ready(self) -> tuple[int, list[str]]:
        status, body = self.get("/readyz")
        return status, json.loads(body)["reasons"] if body else []

    def values(self, name: str) -> dict[tuple[str, ...], float]:
        """Label values, in the order of the labels' names → value."""
        return {
            tuple(value for _, value in sorted(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(self.get("/metrics")[1].decode())
            for sample in family.samples
            if sample.name == f"two_stream_{name}"
        }


@pytest.fixture
def pages() -> Pages:
    return Pages()


def settings(pack: Path, pages: Pages, **sources: str) -> dict[str, Any]:
    return {
        "model": str(pack),
        "cameras": {name: {"source": url, "retry_max_s": 1} for name, url in sources.items()},
        "supervisor": {"metrics": pages.address, "first_source_s": 0},
    }


def promtool_says(text: bytes) -> tuple[int, bytes]:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (Debian: prometheus)")
    done = subprocess.run(
        [promtool, "check", "metrics"], input=text, capture_output=True, timeout=60
    )
    return done.returncode, done.stdout + done.stderr


def test_ready_while_a_camera_is_up(scratch: Path, tiny: Path, panning: Path, pages: Pages) -> None:
    port = free_port()
    door, yard = f"http://127.0.0.1:{port}/door", f"http://127.0.0.1:{free_port()}/yard"
    with PipelineRun(scratch, settings(tiny, pages, door=door, yard=yard)) as run:
        run.wait_for(lambda: pages.ready()[0] == 503, 60, "the pages")
        run.wait_for(lambda: len(pages.ready()[1]) == 1, 90, "all stages")
        assert pages.ready()[1][0].startswith("no camera is up: door is ")
        assert pages.get("/healthz")[0] == 200
        before = pages.values("events_total")
        assert set(pages.values("camera_up").items()) == {(("door",), 0), (("yard",), 0)}
        assert set(before.values()) == {0.0}
        with http_mjpeg_server({"door": [panning]}, port=port, size=(120, 160), fps=20):
            run.wait_for(lambda: pages.ready() == (200, []), 60, "readiness")
            assert pages.values("camera_up") == {("door",): 1.0, ("yard",): 0.0}
            run.wait_for(lambda: sum(pages.values("events_total").values()) >= 2, 60, "events")
        run.wait_for(lambda: pages.ready()[0] == 503, 60, "the loss of the camera")
        (reason,) = pages.ready()[1]
        assert re.match(r"no camera is up: door is \w+, yard is \w+", reason)
        run.wait_for(
            lambda: run.events()[-1].body["type"] == "end", 30, "the end of the last event"
        )
        starts = [h for h in run.events() if h.body["type"] == "start"]
        run.wait_for(
            lambda: sum(pages.values("event_records_total").values()) == len(run.events()),
            10, "the count of all records",
        )  # fmt: skip
        events = pages.values("events_total")
        assert events.keys() == before.keys()
        assert {key for key, count in events.items() if count} == {
            (h.body["camera"], h.body["label"], "tiny") for h in starts
        }
        assert sum(events.values()) == len(starts)
        scored = pages.values("score_latency_seconds_count")
        assert scored["door",] > 20
        assert scored["yard",] == 0
        assert pages.values("event_latency_seconds_count")["door",] == len(starts)
        took = pages.values("step_duration_seconds_count")
        assert took.keys() == {(s,) for s in ("capture", "flow", "spatial", "temporal", "fusion")}
        assert min(took.values()) > 20
        assert pages.values("source_failures_total")["yard",] > 0
        assert promtool_says(pages.get("/metrics")[1]) == (0, b"")


def test_totals_go_on_when_a_stage_is_restarted(scratch: Path, tiny: Path, pages: Pages) -> None:
    with PipelineRun(scratch, settings(tiny, pages, a="demo")) as run:
        run.wait_for(
            lambda: pages.values("score_latency_seconds_count").get(("a",), 0) > 30, 90, "steps"
        )
        steps = pages.values("steps_total")
        restarts = pages.values("stage_restarts_total")
        assert set(restarts.values()) == {0.0}
        os.kill(run.stages()["spatial"], signal.SIGKILL)
        # Labels in order: camera, stage, worker.
        spatial = ("", "spatial", "")
        run.wait_for(lambda: pages.values("stage_restarts_total")[spatial] == 1, 30, "the restart")
        assert pages.values("steps_total")["a", "spatial"] >= steps["a", "spatial"]
        run.wait_for(lambda: pages.ready() == (200, []), 60, "readiness")
        run.wait_for(
            lambda: pages.values("steps_total")["a", "spatial"] > steps["a", "spatial"] + 5,
            30, "steps of the new process",
        )  # fmt: skip


def test_a_port_that_is_taken_is_one_line(scratch: Path, tiny: Path, pages: Pages) -> None:
    host, _, port = pages.address.partition(":")
    with (
        socket.create_server((host, int(port))),
        PipelineRun(scratch, settings(tiny, pages, a="demo")) as run,
    ):
        assert run.process.wait(60) == 2
        assert run.log().splitlines() == [
            f"error: supervisor.metrics: can't bind tcp://{pages.address}: already in use"
        ]


def test_all_logs_are_json_on_request(scratch: Path, tiny: Path, pages: Pages) -> None:
    yard = f"rtsp://127.0.0.1:{free_port()}/yard"
    config = settings(tiny, pages, door="demo", yard=yard)
    with PipelineRun(scratch, config, ("--log-format", "json", "--log-level", "DEBUG")) as run:
        run.wait_for(lambda: run.scores("door"), 90, "a step")
        os.kill(run.stages()["temporal"], signal.SIGABRT)
        run.wait_for(lambda: run.log().count("temporal is ready") > 1, 60, "temporal")
        run.wait_for(lambda: "yard is offline" in run.log(), 30, "the dead camera")
        assert run.stop()[0] == 0
        log = run.log()
    records = [json.loads(line) for line in log.splitlines()]
    assert all(TIME.match(record["time"]) and record["message"] for record in records)
    ordered = [record["time"] for record in records]
    assert ordered[0] <= ordered[-1]
    assert {record.get("stage") for record in records} >= {"supervisor", "capture"}
    tries = [r for r in records if r.get("stage") == "capture" and "trying again" in r["message"]]
    assert {r["camera"] for r in tries} == {"yard"}
    states = [r for r in records if r["message"].startswith("camera yard is offline")]
    assert {(r["stage"], r["camera"]) for r in states} == {("supervisor", "yard")}


def test_an_error_at_the_start_is_json_too(scratch: Path, tiny: Path, pages: Pages) -> None:
    config = settings(tiny, pages, a="demo") | {"nonsense": 1}
    with PipelineRun(scratch, config, ("--log-format", "json")) as run:
        assert run.process.wait(60) == 2
        (record,) = [json.loads(line) for line in run.log().splitlines()]
        assert record["level"] == "ERROR"
        assert "nonsense: unknown key" in record["message"]
