"""People in the running program: who acts, where, and what needs somebody to be there."""

import os
import signal
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.arrays import Frame
from testbed import tiny_pack
from testbed.program import PipelineRun, free_port
from testbed.video_files import write_video
from tests.live.test_replay import bare, replay
from tests.live.test_rules_and_masks import lossless, ran
from tests.live.test_together import snapshot

WALKERS = "fights/normal/nofi117.mp4"
"""Two people go to the left; the boxes of both stay in the left half of the picture."""
HALVES = {
    "west": [[0, 0], [0.5, 0], [0.5, 1], [0, 1]],
    "east": [[0.5, 0], [1, 0], [1, 1], [0.5, 1]],
}


@pytest.fixture(scope="module")
def packs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A pack for each view. They share the appearance network."""
    folder = tmp_path_factory.mktemp("packs")
    return {
        view: tiny_pack.make(folder / view, name=f"tiny-{view}", view=view)
        for view in ("frame", "moving", "person")
    }


def pictures(still_s: float, seconds: float, fps: int = 20) -> Iterator[Frame]:
    """A textured block that goes to and fro before a wall, after ``still_s`` without it."""
    rng = np.random.default_rng(5)
    wall = rng.integers(80, 140, (30, 40), np.uint8).repeat(8, 0).repeat(8, 1)
    block = rng.integers(0, 255, (10, 5), np.uint8).repeat(8, 0).repeat(8, 1)
    for number in range(int(seconds * fps)):
        picture = wall.copy()
        time_s = number / fps - still_s
        if time_s >= 0:
            turn = time_s % 4.0
            x = round(20 + 60 * (turn if turn < 2 else 4 - turn)) * 2
            picture[100:180, x : x + 40] = block
        yield picture[..., np.newaxis].repeat(3, 2)


@pytest.fixture(scope="module")
def block(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Something of the size of a dog goes to the right, and back."""
    return write_video(tmp_path_factory.mktemp("clips") / "block.mp4", pictures(0, 16), fps=20)


def told(run: PipelineRun) -> list[dict[str, Any]]:
    return bare(run.printed())


def metric(port: int, name: str) -> float:
    """The sum of a metric over its labels; 0 while there is no page yet."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as page:
            lines = page.read().decode().splitlines()
    except OSError:
        return 0.0
    return sum(float(line.split()[-1]) for line in lines if line.startswith(f"{name}{{"))


def test_a_person_acts_and_is_found_in_a_zone(
    scratch: Path, packs: dict[str, Path], data: Path
) -> None:
    """The same each time, and decided again from a recording."""
    settings = lossless(packs["person"], data / WALKERS, camera={"zones": HALVES})
    first = ran(scratch / "one", settings)
    recorded = lossless(
        packs["person"],
        data / WALKERS,
        camera={"zones": HALVES},
        runtime={"record": str(scratch / "record")},
    )
    second = ran(scratch / "two", recorded)
    events = told(first)
    assert events == told(second)
    assert [(e["type"], e["label"]) for e in events] == [("start", "left")] * 2 + [
        ("end", "left")
    ] * 2
    assert {event["subject"] for event in events} == {"p1", "p2"}
    for event in events:
        x0, y0, x1, y1 = event["box"]
        assert 0 <= x0 < x1 <= 1
        assert 0 <= y0 < y1 <= 1
        assert event["zone"] == "west"
    again = replay(scratch / "record")
    assert again.returncode == 0, again.stderr
    assert len(again.stdout.splitlines()) == len(events)


def test_what_moves_is_a_subject_without_a_detector(
    scratch: Path, packs: dict[str, Path], block: Path
) -> None:
    run = ran(scratch, lossless(packs["moving"], block))
    events = run.printed()
    assert {event["label"] for event in events} >= {"left", "right"}
    assert {event["subject"] for event in events} == {"moving"}
    assert "people" not in run.log()
    for event in events:
        if event["type"] == "start":
            wide = event["box"][2] - event["box"][0]
            assert 0.1 < wide < 0.7


def test_together_each_view_tells_what_it_tells_alone(
    scratch: Path, packs: dict[str, Path], data: Path
) -> None:
    alone = []
    for view in ("frame", "moving", "person"):
        run = ran(scratch / view, lossless(packs[view], data / WALKERS))
        alone += told(run)
    every = {"packs": [str(pack) for pack in packs.values()]}
    together = told(ran(scratch / "all", lossless(packs["frame"], data / WALKERS, camera=every)))
    for name in ("tiny-frame", "tiny-moving", "tiny-person"):
        ours = [event for event in together if event["model"]["name"] == name]
        theirs = [event for event in alone if event["model"]["name"] == name]
        assert [e["label"] for e in ours] == [e["label"] for e in theirs]
        assert [e["window"] for e in ours] == [e["window"] for e in theirs]


def test_what_moves_and_is_nobody_wakes_nobody(
    scratch: Path, packs: dict[str, Path], panning: Path, data: Path
) -> None:
    port = free_port()
    rules = {label: {"needs_person": True} for label in ("left", "right", "up", "down")}
    settings = {
        "model": str(packs["frame"]),
        "cameras": {
            "curtain": {"source": str(panning), "loop": True, "rules": rules},
            "anything": {"source": str(panning), "loop": True},
            "person": {"source": str(data / WALKERS), "loop": True, "rules": rules},
        },
        "supervisor": {"metrics": f"127.0.0.1:{port}"},
        "publish": {"people": True},
    }
    with PipelineRun(scratch, settings) as run:
        run.wait_for(lambda: len(run.events("anything")) >= 6, 90, "events of what moves")
        run.wait_for(
            lambda: any(h.body.get("people") for h in run.statuses("person")), 60, "a person"
        )
        run.wait_for(
            lambda: metric(port, "two_stream_filtered_total") >= 2, 60, "events that are held back"
        )
        assert run.events("curtain") == []
        held_back = snapshot(run)["held_back"]
        assert {(one["camera"], one["reason"]) for one in held_back} >= {("curtain", "person")}
        assert {h.body["people"] for h in run.statuses("curtain") if "people" in h.body} <= {0}
        assert metric(port, "two_stream_people_looks_total") > 5
        # The whole picture has no box.
        assert not any("box" in heard.body for heard in run.events())
        assert run.stop()[0] == 0
        assert run.remains() == []


def test_nobody_looks_for_people_in_a_still_room(
    scratch: Path, packs: dict[str, Path], tmp_path: Path
) -> None:
    clip = write_video(tmp_path / "room.mp4", pictures(30, 30), fps=20)
    port = free_port()
    settings = {
        "model": str(packs["person"]),
        "cameras": {"a": {"source": str(clip), "frozen_s": 0}},
        "supervisor": {"metrics": f"127.0.0.1:{port}"},
    }
    with PipelineRun(scratch, settings) as run:
        run.wait_for(lambda: metric(port, "two_stream_steps_total") > 500, 90, "steps")
        # At the begin everything is new, for two seconds of five looks.
        assert 1 <= metric(port, "two_stream_people_looks_total") <= 14
        assert run.events() == []


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_people_come_back_and_take_no_name_twice(
    scratch: Path, packs: dict[str, Path], data: Path, panning: Path, how: signal.Signals
) -> None:
    """Other cameras notice nothing of it."""
    settings = {
        "cameras": {
            "hall": {
                "source": str(data / WALKERS), "loop": True, "packs": [str(packs["person"])],
            },
            "yard": {"source": str(panning), "loop": True, "packs": [str(packs["frame"])]},
        },
        "supervisor": {"hang_s": 2.0},
    }  # fmt: skip
    with PipelineRun(scratch, settings) as run:

        def named(since: int = 0) -> set[int]:
            """The numbers of people who began to act."""
            heard = [one.body for one in run.events("hall")[since:]]
            return {int(body["subject"][1:]) for body in heard if body["type"] == "start"}

        run.wait_for(named, 120, "events of a person")
        os.kill(run.stages()["people"], how)
        heard = len(run.events("yard"))
        run.wait_for(lambda: run.log().count("people is ready") == 2, 60, "people")
        since = len(run.events("hall"))
        run.wait_for(lambda: named(since), 120, "events of another person")
        assert min(named(since)) > 100
        assert len(run.events("yard")) > heard
        assert "quarantine" not in run.log()
