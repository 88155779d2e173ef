"""Cameras that misbehave: real servers, real faults, and what subscribers receive about them."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from testbed.cameras import Server, rtsp_server
from testbed.footage import panning_clip
from testbed.line import Fault, line_to
from testbed.program import PipelineRun

pytestmark = pytest.mark.usefixtures("rtsp")


@pytest.fixture(scope="module")
def moving(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return panning_clip(tmp_path_factory.mktemp("clips") / "moving.mp4", 10)


@pytest.fixture(scope="module")
def freezing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five seconds of motion, then the same picture for eight."""
    path = tmp_path_factory.mktemp("clips") / "freezing.avi"
    picture = np.random.default_rng(3).integers(0, 255, (30, 80, 3), np.uint8)
    wide = cv2.resize(picture, (640, 240), interpolation=cv2.INTER_CUBIC)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 20, (320, 240))
    for number in range(13 * 20):
        left = 3 * min(number, 5 * 20)
        writer.write(np.ascontiguousarray(wide[:, left : left + 320]))
    writer.release()
    return path


@pytest.fixture
def server(moving: Path) -> Iterator[Server]:
    with rtsp_server({"door": [moving]}, size=(240, 320), fps=20) as running:
        yield running


def settings(pack: Path, **cameras: dict[str, Any]) -> dict[str, Any]:
    return {"model": str(pack), "cameras": cameras}


def states(run: PipelineRun, camera: str) -> list[str]:
    """The states of a camera in the order of arrival, without repetitions."""
    heard = [h.body["state"] for h in run.statuses(camera)]
    return [state for place, state in enumerate(heard) if place == 0 or heard[place - 1] != state]


def segments(run: PipelineRun, camera: str) -> list[int]:
    return sorted({h.body["window"]["segment"] for h in run.scores(camera)})


def assert_windows_keep_to_their_segments(run: PipelineRun, camera: str) -> None:
    """No window reaches back over the first step of its segment."""
    first: dict[int, int] = {}
    for heard in run.scores(camera):
        window = heard.body["window"]
        first.setdefault(window["segment"], window["first_step"])
        assert window["first_step"] >= first[window["segment"]]


def test_a_silent_camera_is_stalled_and_comes_back(
    scratch: Path, tiny: Path, server: Server
) -> None:
    with PipelineRun(scratch, settings(tiny, door={"source": server.url("door")})) as run:
        run.wait_for(lambda: run.scores("door"), 30, "a step")
        server.pause()
        run.wait_for(lambda: "stalled" in states(run, "door"), 4, "the word that it is silent")
        before = len(run.scores("door"))
        server.resume()
        # The stamps of what it sends then follow on: nothing was lost, and no segment ends.
        run.wait_for(lambda: states(run, "door")[-1] == "online", 10, "the camera")
        run.wait_for(lambda: len(run.scores("door")) > before + 10, 30, "its steps")
        assert_windows_keep_to_their_segments(run, "door")


def test_a_camera_that_was_restarted_is_back(scratch: Path, tiny: Path, moving: Path) -> None:
    with rtsp_server({"door": [moving]}, size=(240, 320), fps=20) as first:
        port, source = first.port, first.url("door")
        with PipelineRun(scratch, settings(tiny, door={"source": source})) as run:
            run.wait_for(lambda: run.scores("door"), 30, "a step")
            before = segments(run, "door")
            first.kill()
            run.wait_for(lambda: "offline" in states(run, "door"), 8, "the loss")
            with rtsp_server({"door": [moving]}, port=port, size=(240, 320), fps=20):
                run.wait_for(lambda: segments(run, "door")[-1:] > before[-1:], 20, "new steps")
                assert states(run, "door")[-1] == "online"
            assert_windows_keep_to_their_segments(run, "door")


def test_a_frozen_picture_is_not_taken_for_calm(scratch: Path, tiny: Path, freezing: Path) -> None:
    with rtsp_server({"door": [freezing]}, size=(240, 320), fps=20) as running:
        camera = {"source": running.url("door"), "frozen_s": 3}
        with PipelineRun(scratch, settings(tiny, door=camera)) as run:
            run.wait_for(lambda: "frozen" in states(run, "door"), 40, "the word that it's frozen")
            last, before = len(run.scores("door")), segments(run, "door")
            run.wait_for(lambda: states(run, "door")[-1] == "online", 15, "the moving picture")
            run.wait_for(lambda: segments(run, "door")[-1] > before[-1], 5, "a new segment")
            steps = [h.body["window"]["last_step"] for h in run.scores("door")]
            assert max(np.diff(steps[last - 5 :])) > 20  # none for the frozen seconds
            assert_windows_keep_to_their_segments(run, "door")


def test_a_wrong_password_makes_no_storm(scratch: Path, tiny: Path, moving: Path) -> None:
    with rtsp_server({"door": [moving]}, login="me:right", size=(240, 320), fps=20) as running:
        cameras = {
            "door": {"source": running.url("door", "me:wrOng-marked")},
            "yard": {"source": running.url("door")},
        }
        with PipelineRun(scratch, settings(tiny, **cameras)) as run:
            run.wait_for(lambda: "unauthorised" in states(run, "door"), 15, "the refusal")
            run.wait_for(lambda: run.scores("yard"), 15, "the other camera")
            assert "trying again in 10.0 s" in run.log()
            assert "wrOng-marked" not in run.log() + str(run.heard)


def test_data_that_a_stage_fails_on_stay_with_their_camera(
    scratch: Path, tiny: Path, moving: Path, tmp_path: Path
) -> None:
    for number in range(20):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.full((240, 320, 3), 255, np.uint8))
    cameras = {
        "good": {"source": str(moving), "loop": True},
        "white": {"source": str(tmp_path), "loop": True},
    }
    with PipelineRun(scratch, settings(tiny, **cameras)) as run:
        run.wait_for(lambda: "quarantined" in states(run, "white"), 30, "the quarantine")
        reasons = [h.body["reason"] for h in run.statuses("white")]
        assert "spatial: ValueError: the network's features are not finite" in reasons
        run.wait_for(lambda: states(run, "white").count("quarantined") == 2, 20, "another try")
        run.wait_for(lambda: len(run.scores("good")) > 50, 20, "steps of the other")
        # Motion goes on without appearance.
        assert run.scores("white")[-1].body["streams"]["spatial"] is None
        assert states(run, "good") == ["connecting", "online"] or states(run, "good") == ["online"]
        assert run.log().count("spatial is ready") == 1


def test_who_comes_late_hears_the_state_too(scratch: Path, tiny: Path, moving: Path) -> None:
    cameras: dict[str, dict[str, Any]]
    cameras = {"good": {"source": str(moving), "loop": True}, "gone": {"source": "gone.mp4"}}
    with PipelineRun(scratch, settings(tiny, **cameras)) as run:
        run.wait_for(lambda: "failed" in states(run, "gone"), 20, "the failure")
        run.heard.clear()
        run.wait_for(lambda: states(run, "gone") == ["failed"], 8, "the state, again")


@pytest.mark.parametrize("fault", ["cut", "garbage", "timestamps"])
def test_a_line_that_was_bad_is_good_again(
    scratch: Path, tiny: Path, server: Server, fault: Fault
) -> None:
    with line_to(server.port) as line:
        door = {"source": line.url("door"), "retry_max_s": 2}
        with PipelineRun(scratch, settings(tiny, door=door)) as run:
            run.wait_for(lambda: run.scores("door"), 30, "a step")
            line.fault = fault
            if fault == "cut":
                run.wait_for(lambda: "stalled" in states(run, "door"), 4, "the word of it")
            time.sleep(6)
            line.fault = ""
            healed = time.monotonic()
            run.wait_for(lambda: states(run, "door")[-1] == "online", 20, "the camera")
            run.wait_for(lambda: run.scores("door")[-1].at > healed + 1, 20, "steps")
            assert "died" not in run.log()
            assert_windows_keep_to_their_segments(run, "door")
