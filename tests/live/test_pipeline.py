"""The whole program, as its users run it: real processes, real sockets, real signals."""

import functools
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from pipeline.client import EventClient
from testbed.cameras import rtsp_server
from testbed.program import PROJECT, Heard, PipelineRun, default_ports

STAGES = ("capture:a", "flow:0", "spatial", "temporal", "fusion", "publish")
TIMED = ("start_time", "end_time", "top_time", "latency_ms", "log")


def two_cameras(pack: Path, clip: Path, **sections: Any) -> dict[str, Any]:
    """Two live cameras that loop a file."""
    camera = {"source": str(clip), "loop": True}
    return {"model": str(pack), "cameras": {"a": camera, "b": camera}, **sections}


def started(run: PipelineRun, camera: str) -> list[Heard]:
    return [h for h in run.events(camera) if h.body["type"] == "start"]


def ready_times(run: PipelineRun, stage: str, times: int) -> bool:
    return run.log().count(f"{stage} is ready") == times


def assert_no_holes(run: PipelineRun) -> None:
    sequence = [event["seq"] for event in run.printed()]
    assert sequence == list(range(1, len(sequence) + 1))
    assert sequence


def test_events_of_two_cameras_reach_a_plain_subscriber(
    scratch: Path, tiny: Path, panning: Path
) -> None:
    with PipelineRun(scratch, two_cameras(tiny, panning)) as run:
        run.wait_for(lambda: started(run, "a") and started(run, "b"), 30, "events of both")
        run.wait_for(lambda: len(run.events()) >= 8, 30, "eight events")
        event = run.events("a")[0]
        assert event.topic == f"action/a/{event.body['label']}/"
        assert event.body["label"] in ("left", "right")
        assert set(event.body["latency_ms"]) == {
            "capture", "flow", "spatial", "temporal", "fusion", "publish", "total",
        }  # fmt: skip
        assert event.body["model"]["name"] == "tiny"
        assert 0 < event.body["latency_ms"]["total"] < 2000
        run.remember_run()
        code, seconds = run.stop()
        assert code == 0
        assert seconds < 15
        assert run.remains() == []
        assert_no_holes(run)


def test_labels_follow_the_motion(scratch: Path, tiny: Path, panning: Path) -> None:
    """The picture moves left for 1.5 s from 0 s on and right from 2.5 s on, every 5 s."""
    settings = {"model": str(tiny), "cameras": {"a": {"source": str(panning)}}}
    settings["runtime"] = {"delivery": "lossless"}
    with PipelineRun(scratch, settings) as run:
        assert run.process.wait(90) == 0
        run._reader.join(5)
        starts = [event for event in run.printed() if event["type"] == "start"]
    assert len(starts) == 24
    for event in starts:
        phase = event["media_time"][0] % 5.0
        assert event["label"] == ("left" if phase < 2 else "right")
        assert phase % 2.5 < 1.0


def lossless_lines(clip: Path, model: Path) -> list[dict[str, Any]]:
    command = [sys.executable, "run_stream.py", "--source", str(clip), "--lossless", "--json"]
    with default_ports():
        done = subprocess.run(
            [*command, "--model", str(model)], cwd=PROJECT, capture_output=True, timeout=120
        )
    assert done.returncode == 0, done.stderr.decode()
    return [json.loads(line) for line in done.stdout.splitlines()]


def without_times(events: list[dict[str, Any]]) -> list[str]:
    return [json.dumps({k: v for k, v in e.items() if k not in TIMED}) for e in events]


def test_a_file_gives_the_same_events_twice(data: Path) -> None:
    clip = data / "vga" / "square_3.mp4"
    model = PROJECT / "models" / "gestures"
    first, second = lossless_lines(clip, model), lossless_lines(clip, model)
    assert first
    assert without_times(first) == without_times(second)


@pytest.mark.parametrize("stage", STAGES)
def test_a_killed_stage_is_back_and_the_others_go_on(
    stage: str, scratch: Path, tiny: Path, panning: Path
) -> None:
    with PipelineRun(scratch, two_cameras(tiny, panning)) as run:
        run.wait_for(lambda: started(run, "a") and started(run, "b"), 30, "events of both")
        before = run.stages()
        assert len(before) == 7
        os.kill(before[stage], signal.SIGKILL)
        killed = time.monotonic()
        run.wait_for(lambda: f"{stage} died (killed by signal 9)" in run.log(), 10, "its death")
        run.wait_for(
            lambda: run.log().count(f"{stage} is ready") == 2 and stage in run.stages(),
            # On a quiet machine it takes about a second: `python -m benchmarks chaos` measures it.
            12,
            f"{stage} again",
        )
        back = time.monotonic() - killed
        after = {name: pid for name, pid in run.stages().items() if name != stage}
        assert after == {name: pid for name, pid in before.items() if name != stage}
        run.wait_for(
            lambda: all(
                any(event.at > killed + back for event in started(run, camera))
                for camera in ("a", "b")
            ),
            20,
            "events of both cameras after the restart",
        )
        if stage == "capture:a":
            # The other camera's steps never paused.
            times = [h.at for h in run.scores("b") if killed - 1 < h.at < killed + back + 1]
            assert max(np.diff(times)) < 2.5
        run.remember_run()
        code, seconds = run.stop()
        assert code == 0
        assert seconds < 15
        assert run.remains() == []
        assert_no_holes(run)


def test_a_killed_capture_of_a_file_is_heard_again_at_once(
    scratch: Path, tiny: Path, panning: Path
) -> None:
    """Its media time starts again at zero: nothing may wait until it has caught up."""
    with PipelineRun(scratch, two_cameras(tiny, panning)) as run:
        run.wait_for(lambda: len(started(run, "a")) >= 5, 40, "five events")
        os.kill(run.stages()["capture:a"], signal.SIGKILL)
        run.wait_for(functools.partial(ready_times, run, "capture:a", 2), 5, "capture again")
        back = time.monotonic()
        run.wait_for(lambda: any(h.at > back for h in started(run, "a")), 6, "an event of a")


def test_nothing_is_left_when_the_supervisor_is_killed(
    scratch: Path, tiny: Path, panning: Path
) -> None:
    with PipelineRun(scratch, two_cameras(tiny, panning)) as run:
        run.wait_for(lambda: started(run, "a"), 30, "an event")
        name = run.remember_run()
        run.process.kill()
        run.process.wait()
        # Only the run's folder may stay, with its event log; the next start takes it away.
        run_folder = str(run.runs / name)
        deadline = time.monotonic() + 5
        while run.remains() != [run_folder] and time.monotonic() < deadline:
            time.sleep(0.05)
        assert run.remains() == [run_folder]
    with PipelineRun(scratch, two_cameras(tiny, panning)) as second:
        second.wait_for(lambda: "removed what the dead run" in second.log(), 10, "the clean-up")
        assert not Path(run_folder).exists()


def test_motion_missing_falls_back_to_appearance(scratch: Path, tiny: Path, panning: Path) -> None:
    """A stopped flow stage: steps go on with the temporal stream masked."""
    settings = two_cameras(tiny, panning, supervisor={"hang_s": 30})
    with PipelineRun(scratch, settings) as run:
        run.wait_for(lambda: started(run, "a"), 30, "an event")
        os.kill(run.stages()["flow:0"], signal.SIGSTOP)
        stopped = time.monotonic()
        run.wait_for(
            lambda: any(
                h.at > stopped and h.body["streams"]["temporal"] is None for h in run.scores("a")
            ),
            10,
            "a step with the temporal stream masked",
        )
        masked = run.scores("a")[-1].body
        assert masked["streams"]["spatial"] is not None
        assert masked["window"]["missing"] > 0
        os.kill(run.stages()["flow:0"], signal.SIGCONT)
        run.wait_for(
            lambda: run.scores("a")[-1].body["streams"]["temporal"] is not None, 10, "motion again"
        )


def test_a_hung_stage_is_restarted(scratch: Path, tiny: Path, panning: Path) -> None:
    settings = two_cameras(tiny, panning, supervisor={"hang_s": 1.5})
    with PipelineRun(scratch, settings) as run:
        run.wait_for(lambda: started(run, "a"), 30, "an event")
        os.kill(run.stages()["temporal"], signal.SIGSTOP)
        run.wait_for(lambda: "temporal is hung" in run.log(), 10, "the hang noticed")
        run.wait_for(lambda: run.log().count("temporal is ready") == 2, 10, "temporal again")


def test_a_stage_that_keeps_failing_ends_the_program_with_4(
    scratch: Path, tiny: Path, panning: Path
) -> None:
    settings = two_cameras(tiny, panning, supervisor={"restarts": 1})
    with PipelineRun(scratch, settings) as run:
        for count in (1, 2):
            run.wait_for(functools.partial(ready_times, run, "spatial", count), 30, "spatial")
            os.kill(run.stages()["spatial"], signal.SIGKILL)
        assert run.process.wait(20) == 4
        assert "spatial died (killed by signal 9) and is not started again" in run.log()


def test_a_bad_camera_does_not_stop_the_others(scratch: Path, tiny: Path, panning: Path) -> None:
    settings = two_cameras(tiny, panning)
    settings["cameras"]["gone"] = {"source": str(scratch / "gone.mp4")}
    with PipelineRun(scratch, settings) as run:
        run.wait_for(lambda: started(run, "a") and started(run, "b"), 30, "events of the others")
        # The listener may have come too late for the status itself.
        assert re.search(r"camera gone is failed: .*gone\.mp4: it doesn't exist", run.log())
        assert run.log().count("gone.mp4") <= 2


def test_frames_of_a_new_size_open_a_new_segment(scratch: Path, tiny: Path) -> None:
    folder = scratch / "images"
    folder.mkdir()
    rng = np.random.default_rng(3)
    for size, names in (((120, 160), range(30)), ((240, 320), range(30, 60))):
        for name in names:
            noise = rng.integers(0, 255, (*size, 3), np.uint8)
            assert cv2.imwrite(str(folder / f"{name:03}.png"), noise)
    camera = {"source": str(folder), "fps": 20.0, "loop": True}
    with PipelineRun(scratch, {"model": str(tiny), "cameras": {"a": camera}}) as run:
        run.wait_for(
            lambda: (
                {tuple(h.body["size"]) for h in run.statuses("a") if h.body["size"]}
                >= {(120, 160), (240, 320)}
            ),
            20,
            "both sizes",
        )
        run.wait_for(lambda: len({h.body["window"]["segment"] for h in run.scores("a")}) > 2, 20,
                     "new segments")  # fmt: skip
        assert "still in use" not in run.log()
        assert run.stages().keys() == {"capture:a", "flow:0", *STAGES[2:]}
        assert "died" not in run.log()


def test_a_late_client_gets_what_it_missed(scratch: Path, tiny: Path, panning: Path) -> None:
    with PipelineRun(scratch, two_cameras(tiny, panning)) as run:
        run.wait_for(lambda: len(run.events()) >= 4, 30, "four events")
        with EventClient(run.endpoints["events"], run.endpoints["replay"], since=0) as client:
            received = [client.receive(15) for _ in range(6)]
            assert [event.seq for event in received if event is not None] == [1, 2, 3, 4, 5, 6]
            snapshot = client.snapshot()
        assert snapshot["seq"] >= 6
        assert snapshot["cameras"]["a"]["state"] == "online"


def run_once(*arguments: str, timeout: float = 60) -> "subprocess.CompletedProcess[str]":
    with default_ports():
        return subprocess.run(
            [sys.executable, "run_stream.py", *arguments],
            cwd=PROJECT,
            capture_output=True,
            text=True,
            timeout=timeout,
        )


def test_bad_usage_is_one_line_and_exit_2(scratch: Path, tiny: Path) -> None:
    bad = scratch / "bad.yaml"
    bad.write_text("cameras:\n  door:\n    sauce: demo\n")
    pack = scratch / "pack"
    pack.mkdir()
    cases = [
        (("-c", str(bad)), "cameras.door.sauce: unknown key"),
        (("-c", str(scratch / "none.yaml")), "none.yaml"),
        (("--model", str(scratch / "nowhere")), "no such folder"),
        (("--model", str(pack)), "no pack.json"),
        (("--model", str(tiny), "--transport", "smoke", "--source", "demo"), "transport"),
        (("--model", str(tiny), "--source", "demo", "--lossless"), "lossless"),
    ]
    for arguments, expected in cases:
        done = run_once(*arguments)
        errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
        assert done.returncode == 2, (arguments, done.stderr)
        assert len(errors) == 1
        assert expected in errors[0]
        assert "Traceback" not in done.stderr


def test_a_busy_port_is_named(scratch: Path, tiny: Path) -> None:
    import zmq

    with zmq.Context() as context, context.socket(zmq.PUB) as socket:
        port = socket.bind_to_random_port("tcp://127.0.0.1")
        config = scratch / "busy.yaml"
        config.write_text(f"model: {tiny}\npublish: {{events: 'tcp://127.0.0.1:{port}'}}\n")
        done = run_once("-c", str(config))
    assert done.returncode == 2
    assert f"tcp://127.0.0.1:{port}: already in use" in done.stderr


def error_of_the_only_source(source: str, scratch: Path, tiny: Path) -> str:
    """The one line of error with which the program ends when camera door can't be opened."""
    config = scratch / "source.yaml"
    config.write_text(
        f"model: {tiny}\ncameras: {{door: {{source: '{source}'}}}}\n"
        f"publish: {{events: 'ipc://{scratch}/e', replay: 'ipc://{scratch}/r'}}\n"
    )
    done = run_once("-c", str(config))
    assert done.returncode == 3, done.stderr
    errors = [line for line in done.stderr.splitlines() if "ERROR" in line]
    assert len(errors) == 1
    assert "door" in errors[0]
    assert "Traceback" not in done.stderr
    return errors[0]


def test_a_source_of_an_unknown_kind_is_named(scratch: Path, tiny: Path) -> None:
    config = scratch / "source.yaml"
    config.write_text(f"model: {tiny}\ncameras:\n  door: gopher://host/cam\n")
    done = run_once("-c", str(config))
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {config}:3:3: cameras.door.source: unknown scheme 'goph")


@pytest.mark.parametrize("kind", ["missing", "empty", "text", "truncated"])
def test_a_source_that_is_no_video_is_exit_3(
    kind: str, scratch: Path, tiny: Path, panning: Path
) -> None:
    path = scratch / f"{kind}.mp4"
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("this is no video\n" * 100)
    elif kind == "truncated":
        path.write_bytes(panning.read_bytes()[:20_000])
    assert path.name in error_of_the_only_source(str(path), scratch, tiny)


def test_check_runs_nothing(tiny: Path) -> None:
    done = run_once("--model", str(tiny), "--check")
    assert done.returncode == 0, done.stderr
    assert "are fine" in done.stderr
    assert done.stdout == ""


def test_the_demo_camera_makes_events() -> None:
    """Within half a minute, from the shipped pack, with no argument but the time."""
    done = run_once("--duration", "32", "--json", timeout=90)
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [event for event in events if event["type"] == "start"]


@pytest.mark.usefixtures("rtsp")
def test_two_rtsp_cameras_over_tcp_and_udp(scratch: Path, data: Path) -> None:
    clips = {
        "one": [data / "vga" / "left_3.mp4", data / "vga" / "right_3.mp4"],
        "two": [data / "vga" / "up_14.mp4", data / "vga" / "down_14.mp4"],
    }
    secret = "mArKeD-pAsSwOrD"
    with rtsp_server(clips, login=f"viewer:{secret}") as server:
        settings = {
            "cameras": {
                "one": {"source": server.url("one"), "transport": "tcp"},
                "two": {"source": server.url("two"), "transport": "udp"},
            }
        }
        with PipelineRun(scratch, settings) as run:
            run.wait_for(lambda: started(run, "one") and started(run, "two"), 60, "both events")
            command_lines = subprocess.run(["ps", "axww"], capture_output=True, text=True).stdout
            stages = [
                line for line in command_lines.splitlines() if "pipeline.run.stage_process" in line
            ]
            assert stages
            assert not any(secret in line for line in stages)
            run.wait_for(lambda: len(run.scores("one")) > 100, 30, "ten seconds of steps")
            server.kill()
            run.wait_for(
                lambda: any(h.body["state"] == "offline" for h in run.statuses("one")),
                20,
                "the lost camera reported",
            )
        assert secret not in run.log()
        assert not any(secret in json.dumps(h.body) for h in run.heard)
