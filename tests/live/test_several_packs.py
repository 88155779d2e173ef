"""Several packs at a camera: events of each, as if it were alone, and shared networks."""

import json
import re
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from testbed import tiny_pack
from testbed.footage import panning_clip
from testbed.program import PROJECT, PipelineRun, default_ports, free_port

LABELS = ("background", "west", "east", "north", "south")
DIRECTIONS = dict(zip(LABELS, tiny_pack.LABELS, strict=True))


@pytest.fixture(scope="module")
def packs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Three packs on one base: the second names the labels in another way, the third is slower."""
    folder = tmp_path_factory.mktemp("packs")
    limits = tiny_pack.contract().thresholds
    west = {label: limits[DIRECTIONS[label]] for label in LABELS[1:]}
    return {
        "tiny": tiny_pack.make(folder / "tiny"),
        "winds": tiny_pack.make(folder / "winds", name="winds", labels=LABELS, thresholds=west),
        "slow": tiny_pack.make(folder / "slow", name="slow", step_hz=5.0, window=3),
    }


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return panning_clip(tmp_path_factory.mktemp("clips") / "pan.avi", 20)


def run_lossless(
    folder: Path, clip: Path, packs: list[Path], *options: str
) -> list[dict[str, Any]]:
    """The events of a lossless run."""
    folder.mkdir()
    door = {"source": str(clip), "packs": list(map(str, packs))}
    (folder / "config.yaml").write_text(json.dumps({"cameras": {"door": door}}))
    command = [sys.executable, "run_stream.py", "-c", str(folder / "config.yaml"), "--lossless"]
    with default_ports():
        done = subprocess.run(
            [*command, "--json", *options], cwd=PROJECT, capture_output=True, text=True, timeout=180
        )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def by_itself(event: dict[str, Any]) -> dict[str, Any]:
    """Without what depends on the other events, and on the time of day."""
    shared = ("seq", "id", "latency_ms", "log", "start_time", "end_time", "top_time")
    return {key: value for key, value in event.items() if key not in shared}


def test_each_pack_decides_as_if_it_were_alone(
    scratch: Path, clip: Path, packs: dict[str, Path]
) -> None:
    together = run_lossless(scratch / "all", clip, list(packs.values()))
    for name, folder in packs.items():
        alone = run_lossless(scratch / name, clip, [folder])
        begun = [event for event in alone if event["type"] == "start"]
        assert len(begun) >= 6
        of_pack = [event for event in together if event["model"]["name"] == name]
        if name != "slow":
            assert [by_itself(event) for event in of_pack] == [by_itself(event) for event in alone]
            continue
        # Its steps are those of the fastest, whose frames lie up to half a step from its own.
        too = [event for event in of_pack if event["type"] == "start"]
        assert [event["label"] for event in too] == [event["label"] for event in begun]
        apart = [a["media_time"][0] - b["media_time"][0] for a, b in zip(too, begun, strict=True)]
        assert max(map(abs, apart)) <= 0.2


def test_a_recording_of_several_packs_is_decided_again(
    scratch: Path, clip: Path, packs: dict[str, Path]
) -> None:
    folder = scratch / "record"
    events = run_lossless(scratch / "run", clip, list(packs.values()), "--record", str(folder))
    command = [sys.executable, "run_stream.py", "--replay", str(folder), "--json"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    again = [json.loads(line) for line in done.stdout.splitlines()]
    assert [by_itself(event) for event in again] == [by_itself(event) for event in events]


def test_three_cameras_with_two_packs_on_one_base_share_each_inference(
    scratch: Path, clip: Path, packs: dict[str, Path]
) -> None:
    names = ("hall", "door", "yard")
    camera = {"source": str(clip), "loop": True, "packs": [str(packs["tiny"]), str(packs["winds"])]}
    metrics = f"127.0.0.1:{free_port()}"
    settings = {
        "model": str(packs["tiny"]),
        "cameras": dict.fromkeys(names, camera),
        "supervisor": {"metrics": metrics},
    }

    def counted(name: str) -> dict[str, float]:
        with urllib.request.urlopen(f"http://{metrics}/metrics", timeout=20) as answer:
            text = answer.read().decode()
        lines = (line for line in text.splitlines() if line.startswith(f"two_stream_{name}{{"))
        return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}

    def of(name: str, label: str) -> float:
        return sum(count for key, count in counted(name).items() if label in key)

    with PipelineRun(scratch, settings) as run:
        run.wait_for(
            lambda: all(
                {e.body["model"]["name"] for e in run.events(name)} == {"tiny", "winds"}
                for name in names
            ),
            90,
            "events of both packs at each camera",
        )
        run.wait_for(lambda: of("events_total", 'pack="winds"') >= 3, 30, "counts of them")
        assert not any('pack="winds"' in key and "left" in key for key in counted("events_total"))
        # One network a stream, though each of the packs has its own file.
        inferences = counted("inferences_total")
        assert len(inferences) == 2
        of_spatial = next(count for key, count in inferences.items() if "tiny/spatial" in key)
        assert of_spatial <= of("steps_total", 'stage="spatial"')


@pytest.mark.parametrize(
    ("others", "says"),
    [
        (["tiny", "tiny"], r"cameras\.door\.packs: tiny is there twice"),
        (["tiny", "odd"], r"cameras\.door\.packs: tiny takes 10 steps a second and odd 4;"),
        (["tiny", "none"], r"model pack .*none: no such folder"),
    ],
    ids=["twice", "rates", "missing"],
)
def test_packs_that_do_not_go_together_are_refused(
    scratch: Path, packs: dict[str, Path], others: list[str], says: str
) -> None:
    odd = tiny_pack.make(scratch / "odd", name="odd", step_hz=4.0)
    known = {**packs, "odd": odd, "none": scratch / "none"}
    door = {"source": "demo", "packs": [str(known[name]) for name in others]}
    (scratch / "config.yaml").write_text(json.dumps({"cameras": {"door": door}}))
    command = [sys.executable, "run_stream.py", "-c", str(scratch / "config.yaml"), "--check"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert re.search(says, done.stderr)
