"""Several cameras on one machine: steps are taken together; less is done when it is too much."""

import itertools
import json
import os
import signal
import urllib.request
from pathlib import Path
from typing import Any

import msgspec
import zmq
from prometheus_client.parser import text_string_to_metric_families

from pipeline.decision.governor import LADDER
from testbed.program import PipelineRun, free_port


def metric(address: str, name: str, stage: str) -> float:
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=5) as answer:
        text = answer.read().decode()
    return sum(
        one.value
        for family in text_string_to_metric_families(text)
        for one in family.samples
        if one.name == f"two_stream_{name}" and one.labels["stage"] == stage
    )


def snapshot(run: PipelineRun) -> Any:
    with zmq.Context() as context, context.socket(zmq.REQ) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        socket.connect(run.endpoints["replay"])
        socket.send(b'{"request": "snapshot"}')
        assert socket.poll(5000)
        return json.loads(socket.recv())


def test_networks_take_the_steps_of_several_cameras_at_once(scratch: Path, tiny: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    config = {
        "model": str(tiny),
        "cameras": {
            f"c{n}": {"source": f"demo:{n}", "width": 160, "height": 120} for n in range(4)
        },
        "runtime": {"latency_ms": 0, "gather_ms": 30},
        "supervisor": {"metrics": address},
    }
    with PipelineRun(scratch, config) as run:
        run.wait_for(lambda: all(len(run.scores(f"c{n}")) > 60 for n in range(4)), 60, "steps")
        for stage in ("spatial", "temporal"):
            steps, batches = (
                metric(address, f"{what}_total", stage) for what in ("steps", "batches")
            )
            # Of four cameras; a busy machine scatters them, and a lone step is no fault.
            assert steps / batches > 1.6, stage
        # Steps of one moment have one number, whichever camera they are of.
        last = [run.scores(f"c{n}")[-1].body["window"]["last_step"] for n in range(4)]
        assert max(last) - min(last) <= 2


def test_a_stage_that_hangs_is_no_reason_to_do_less(scratch: Path, tiny: Path) -> None:
    """Steps wait for a stream that never comes, and are late because of it."""
    config = {
        "model": str(tiny),
        "cameras": {"a": {"source": "demo", "width": 160, "height": 120}},
        "runtime": {"latency_ms": 150},
        "supervisor": {"hang_s": 60},
    }
    with PipelineRun(scratch, config) as run:
        run.wait_for(lambda: len(run.scores("a")) > 20, 30, "steps")
        spatial = run.stages()["spatial"]
        os.kill(spatial, signal.SIGSTOP)
        before = len(run.scores("a"))
        run.wait_for(lambda: len(run.scores("a")) > before + 60, 30, "steps of motion alone")
        late = [h.body["latency_ms"]["total"] for h in run.scores("a")[-10:]]
        assert min(late) > 150
        assert not [h for h in run.heard if h.topic == "status/_governor/"]
        os.kill(spatial, signal.SIGCONT)


def test_less_is_done_when_steps_come_late_and_everybody_is_told(scratch: Path, tiny: Path) -> None:
    config = {
        "model": str(tiny),
        "cameras": {"a": {"source": "demo", "width": 160, "height": 120}},
        # No machine is as fast as that.
        "runtime": {"latency_ms": 0.01},
    }
    with PipelineRun(scratch, config) as run:

        def told() -> list[dict[str, Any]]:
            return [h.body for h in run.heard if h.topic == "status/_governor/"]

        run.wait_for(lambda: told() and told()[-1]["level"] == len(LADDER) - 1, 60, "the last rung")
        levels = [body["level"] for body in told()]
        assert sorted(set(levels)) == [1, 2, 3, 4]
        assert levels == sorted(levels)
        final = told()[-1]
        rung = msgspec.to_builtins(LADDER[-1])
        assert {key: final[key] for key in rung} == rung
        assert ", target 0.01 ms" in final["reason"]
        assert snapshot(run)["governor"]["level"] == len(LADDER) - 1
        # Steps continue at half the rate, most of them without appearance.
        before = len(run.scores("a"))
        run.wait_for(lambda: len(run.scores("a")) >= before + 20, 30, "steps")
        steps = [h.body["window"]["last_step"] for h in run.scores("a")[-10:]]
        assert {b - a for a, b in itertools.pairwise(steps)} == {2}
        assert run.scores("a")[-1].body["window"]["missing"] > 0
        # Who comes back joins in at the pace of the others.
        spatial = run.stages()["spatial"]
        ready = run.log().count("spatial is ready")
        os.kill(spatial, signal.SIGKILL)
        run.wait_for(lambda: run.log().count("spatial is ready") > ready, 30, "spatial")
        before = len(run.scores("a"))
        run.wait_for(lambda: len(run.scores("a")) >= before + 20, 30, "steps")
