"""Clips and pictures of events, made by the running program."""

import hashlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from pipeline.client import EvidenceClient
from pipeline.clock import from_isoformat
from testbed.browser import browser, played
from testbed.cameras import Server, rtsp_server
from testbed.footage import panning_clip
from testbed.program import PipelineRun
from testbed.video_files import as_h264
from tests.live.machine import with_mounts

pytestmark = pytest.mark.slow
SIZE, FPS = (240, 320), 30
CLIPS = {"pre_s": 1.0, "post_s": 0.5}


@pytest.fixture(scope="module")
def h264(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("h264")
    return as_h264(panning_clip(folder / "pan.avi", 10, fps=FPS, size=SIZE), folder / "pan.mp4")


@pytest.fixture(scope="module")
def server(h264: Path) -> Iterator[Server]:
    with rtsp_server({"door": [h264]}, size=SIZE, fps=FPS, shared=True) as running:
        yield running


def settings(pack: Path, folder: Path, cameras: dict[str, Any], **more: Any) -> dict[str, Any]:
    evidence = {"folder": str(folder), "clips": CLIPS, **more.pop("evidence", {})}
    return {"model": str(pack), "cameras": cameras, "evidence": evidence, **more}


def evidence(run: PipelineRun, kind: str = "", state: str = "") -> list[dict[str, Any]]:
    return [
        h.body
        for h in list(run.heard)
        if h.topic.startswith("evidence/")
        and kind in ("", h.body["kind"])
        and state in ("", h.body["state"])
    ]


def seconds(earlier: str, later: str) -> float:
    return (from_isoformat(later) - from_isoformat(earlier)) / 1e9


def grays(path: str) -> list[tuple[float, np.ndarray[Any, Any]]]:
    """(time in s, luma) of each frame of a clip."""
    with av.open(path) as container:
        stream = container.streams.video[0]
        base = stream.time_base
        assert base is not None
        return [
            (float((f.pts or 0) * base), f.to_ndarray(format="gray"))
            for f in container.decode(stream)
        ]


def apart(frames: list[np.ndarray[Any, Any]], source: np.ndarray[Any, Any]) -> float:
    """The most gray levels by which a picture differs from its place in a source that repeats."""
    few = source[:, ::8, ::8]
    shown = np.stack(frames)[:, ::8, ::8].astype(np.int16)
    places = (np.arange(len(shown)) + np.arange(len(few))[:, None]) % len(few)
    return min(float(np.abs(few[at] - shown).mean(axis=(1, 2)).max()) for at in places)


def check_played(
    clip: dict[str, Any], time: str, frames: list[tuple[float, np.ndarray[Any, Any]]]
) -> None:
    """A browser shows the picture of that time of day where the clip says it is."""
    if browser() is None:
        pytest.skip("chromium is not installed (Debian: chromium)")
    at_s = seconds(clip["first_time"], time)
    shown = played(Path(clip["path"]), at_s)
    assert shown.seconds == pytest.approx(seconds(clip["first_time"], clip["last_time"]), abs=0.2)
    gray = shown.picture.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    # From limited to full range; a browser may show the frame before or after.
    near = [(f.astype(np.float32) - 16) * 255 / 219 for at, f in frames if abs(at - at_s) < 0.11]
    assert min(float(np.abs(gray - f).mean()) for f in near) < 12


def check_file(record: dict[str, Any]) -> None:
    data = Path(record["path"]).read_bytes()
    assert hashlib.sha256(data).hexdigest() == record["sha256"]
    assert len(data) == record["bytes"]


def test_a_clip_holds_what_the_camera_sent(
    scratch: Path, tiny: Path, server: Server, h264: Path
) -> None:
    cameras = {"door": {"source": server.url("door")}}
    with PipelineRun(scratch, settings(tiny, scratch / "files", cameras)) as run:
        run.wait_for(lambda: len(evidence(run, "clip")) >= 3, 120, "three clips")
        run.wait_for(lambda: len(evidence(run, "motion")) >= 2, 60, "pictures")
        assert run.stop()[0] == 0
    source = np.stack([gray for _, gray in grays(str(h264))]).astype(np.int16)
    events = {h.body["id"]: h.body for h in run.events() if h.body["type"] == "end"}
    # Of an action that starts as the program stops, nothing is kept.
    last = run.events()[-1].body["id"]
    unmade = [one for one in evidence(run, state="lost") if one["id"] != last]
    assert unmade == [], run.log()
    for clip in evidence(run, "clip")[1:3]:
        check_file(clip)
        assert (clip["codec"], clip["encoded"], clip["size"]) == ("h264", False, list(SIZE))
        event = events[clip["id"]]
        assert seconds(clip["first_time"], event["start_time"]) >= CLIPS["pre_s"] - 0.05
        assert seconds(event["end_time"], clip["last_time"]) >= CLIPS["post_s"] - 0.1
        frames = grays(clip["path"])
        assert frames[-1][0] == pytest.approx(
            seconds(clip["first_time"], clip["last_time"]), abs=0.03
        )
        # The pictures are those of the source, each of them, in order.
        assert apart([gray for _, gray in frames], source) < 12
        check_played(clip, event["start_time"], frames)
    for picture in evidence(run, "snapshot")[:2]:
        check_file(picture)
    assert [one["number"] for one in evidence(run)] == list(range(1, len(evidence(run)) + 1))


def test_what_the_log_holds_is_replayed_to_a_client_that_comes_later(
    scratch: Path, tiny: Path
) -> None:
    cameras = {"demo": {"source": "demo"}, "none": {"source": "demo:3", "evidence": "none"}}
    given = settings(
        tiny, scratch / "files", cameras, events={"log": str(scratch / "log.sqlite")},
        evidence={"kinds": ["clip"]},
    )  # fmt: skip
    with PipelineRun(scratch / "first", given) as run:
        run.wait_for(lambda: evidence(run, "clip", "ready"), 120, "a clip")
        run.wait_for(lambda: run.events("none"), 60, "an event of the other camera")
        assert run.stop()[0] == 0
    clip = evidence(run, "clip", "ready")[0]
    known = {one["id"] for one in evidence(run)}
    assert clip["camera"] == "demo"
    assert (clip["codec"], clip["encoded"]) == ("h264", True)
    assert {one["camera"] for one in evidence(run)} == {"demo"}
    assert {one["kind"] for one in evidence(run)} == {"clip"}
    frames = grays(clip["path"])
    assert len(frames) > 5
    check_played(clip, clip["first_time"], frames)
    with PipelineRun(scratch / "second", given) as run:
        events, replay = (run.endpoints[name] for name in ("events", "replay"))
        with EvidenceClient(events, replay, since=0) as client:
            first = client.receive(60)
        assert first is not None
        assert (first.number, first.sha256) == (clip["number"], clip["sha256"])
        run.wait_for(lambda: evidence(run), 120, "evidence of the second run")
        assert run.stop()[0] == 0
    # Nothing is said again, or said to be lost, of what the first run has done.
    assert not known & {one["id"] for one in evidence(run)}


def test_a_lossless_run_cuts_its_clips_out_of_the_file(
    scratch: Path, tiny: Path, h264: Path
) -> None:
    given = settings(
        tiny, scratch / "files", {"a": {"source": str(h264)}}, runtime={"delivery": "lossless"}
    )
    with PipelineRun(scratch, given) as run:
        assert run.process.wait(120) == 0
        run._reader.join(5)
    ends = {event["id"]: event for event in run.printed() if event["type"] == "end"}
    files = {path.name: path for path in (scratch / "files").rglob("*.mp4")}
    assert len(ends) == len(files) > 1
    source = grays(str(h264))
    for name, event in ends.items():
        start, end = event["media_time"]
        frames = grays(str(files[f"{name}.1.mp4"]))
        wanted = [gray for at, gray in source if start - 1.0 <= at <= end + 0.5]
        assert np.array_equal(frames[-1][1], wanted[-1])
        assert len(wanted) <= len(frames) <= len(wanted) + FPS


def test_what_is_ignored_is_black_in_clips_and_pictures(scratch: Path, tiny: Path) -> None:
    corner = [[0, 0], [0.25, 0], [0.25, 0.25], [0, 0.25]]
    given = settings(tiny, scratch / "files", {"demo": {"source": "demo", "ignore": [corner]}})
    with PipelineRun(scratch, given) as run:
        run.wait_for(lambda: evidence(run, "clip") and evidence(run, "clean"), 120, "a clip")
        assert run.stop()[0] == 0
    (clip, *_), (clean, *_) = evidence(run, "clip"), evidence(run, "clean")
    assert "ignored" in clip["reason"]
    for path in (clip["path"], clean["path"]):
        gray = grays(path)[0][1]
        height, width = gray.shape
        assert gray[: height // 4 - 16, : width // 4 - 16].max() < 24
        assert gray[height // 2 :, width // 2 :].max() > 60


def test_evidence_that_is_killed_comes_back_and_events_go_on(
    scratch: Path, tiny: Path, server: Server
) -> None:
    cameras = {"door": {"source": server.url("door")}}
    given = settings(tiny, scratch / "files", cameras, events={"log": str(scratch / "log.sqlite")})
    with PipelineRun(scratch, given) as run:
        run.wait_for(lambda: evidence(run, "clip"), 120, "a clip")
        seen = len(run.events())
        os.kill(run.stages()["evidence"], signal.SIGKILL)
        run.wait_for(lambda: len(run.events()) > seen + 6, 60, "more events")
        clips = len(evidence(run, "clip"))
        run.wait_for(lambda: len(evidence(run, "clip")) > clips + 1, 60, "more clips")
        assert run.stop()[0] == 0
    ended = [h.body["id"] for h in run.events() if h.body["type"] == "end"]
    told = {one["id"] for one in evidence(run, "clip")}
    # Each action's clip is there or said to be lost; the stop may cut off those of the last.
    assert set(ended[:-2]) <= told
    numbers = [h.body["seq"] for h in run.events()]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    assert not list((scratch / "files").rglob("*.part"))


def test_a_folder_that_vanishes_costs_evidence_and_no_event(scratch: Path, tiny: Path) -> None:
    files = scratch / "files"
    given = settings(tiny, files, {"demo": {"source": "demo"}})
    with PipelineRun(scratch, given) as run:
        run.wait_for(lambda: evidence(run, "clip", "ready"), 120, "a clip")
        files.rename(scratch / "away")
        files.write_text("in the way")
        run.wait_for(lambda: evidence(run, "clip", "lost"), 120, "a clip that is lost")
        files.unlink()
        ready = len(evidence(run, "clip", "ready"))
        run.wait_for(lambda: len(evidence(run, "clip", "ready")) > ready, 120, "another clip")
        assert run.stop()[0] == 0
    assert "Not a directory" in evidence(run, "clip", "lost")[0]["reason"]
    numbers = [h.body["seq"] for h in run.events()]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def test_a_full_disk_costs_evidence_and_no_event(scratch: Path, tiny: Path) -> None:
    files = scratch / "files"
    files.mkdir()
    wrapper = with_mounts(f"mount -t tmpfs -o size=300k tmpfs '{files}'")
    given = settings(tiny, files, {"demo": {"source": "demo"}})
    with PipelineRun(scratch / "run", given, wrapper=wrapper) as run:
        run.wait_for(lambda: evidence(run, state="lost"), 120, "evidence that is lost")
        seen = len(run.events())
        run.wait_for(lambda: len(run.events()) > seen + 4, 60, "more events")
        assert run.stop()[0] == 0
    assert "No space left" in evidence(run, state="lost")[0]["reason"]
    numbers = [h.body["seq"] for h in run.events()]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    assert "died" not in run.log()
