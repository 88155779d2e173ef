"""A pack from real clips: taught, run by the pipeline's own recogniser, and taught again."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from pipeline.model.pack import ModelPack
from pipeline.model.watch import Watch
from testbed.bridge import wait_for
from testbed.footage import shared_data

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        "TWO_STREAM_DATA" not in os.environ, reason="TWO_STREAM_DATA must name the folder of clips"
    ),
]

LABELS = ("background", "left", "up", "tick")
TAUGHT, TESTED = range(1, 7), range(7, 11)


def clips(folder: Path, numbers: range, labels: tuple[str, ...] = LABELS) -> Path:
    """Class folders with links to shared clips."""
    for label in labels:
        (folder / label).mkdir(parents=True)
        for number in numbers:
            name = f"{label}_{number}.mp4"
            (folder / label / name).symlink_to(shared_data() / "gestures" / label / name)
    return folder


def teach(*arguments: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "teach", *map(str, arguments)],
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stderr + done.stdout
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("teach")


@pytest.fixture(scope="module")
def pack(folder: Path) -> Path:
    """A pack that looks at flow alone, and its verdict in ``verdict.json``."""
    data, out = clips(folder / "clips", TAUGHT), folder / "door"
    done = teach(
        "--clips", data, "--out", out, "--looks", "flow", "--cache", folder / "cache", "--json"
    )  # fmt: skip
    (folder / "verdict.json").write_text(done.stdout)
    return out


def test_the_verdict_says_that_it_works(pack: Path, folder: Path) -> None:
    verdict = json.loads((folder / "verdict.json").read_text())
    assert verdict["works"]
    assert verdict["top1"] > 0.75
    assert verdict["chance"] == 0.25
    assert [one["label"] for one in verdict["labels"]] == ["background", "left", "tick", "up"]
    assert sum(map(sum, verdict["confusion"])) == len(LABELS) * len(TAUGHT)


def test_the_pack_tells_clips_that_it_never_saw(pack: Path, folder: Path) -> None:
    data = clips(folder / "tested", TESTED)
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.evaluate", "--model", pack, "--data", data, "--json"],
        capture_output=True, text=True, timeout=600, check=True,
    )  # fmt: skip
    figures = json.loads(done.stdout)
    assert figures["clip"]["scores"]["fused"]["top1"] >= 0.75


def test_the_card_says_where_the_clips_are_from(pack: Path, folder: Path) -> None:
    out = folder / "named"
    teach(
        "--clips", folder / "clips", "--out", out, "--looks", "flow", "--cache", folder / "cache",
        "--provenance", "Filmed by Ann.", "--licence", "CC BY 4.0",
        "--limit", "One hand.", "--limit", "Daylight.",
    )  # fmt: skip
    contract, card = ModelPack.load(out).contract, (out / "MODEL_CARD.md").read_text()
    assert contract.provenance.startswith("Filmed by Ann. Appearance:")
    assert (contract.licence, contract.limits) == ("CC BY 4.0", ("One hand.", "Daylight."))
    for words in ("Filmed by Ann.", "Licence: CC BY 4.0.", "- One hand.", "- Daylight."):
        assert words in card


def test_a_second_lesson_is_the_next_version_on_the_same_networks(pack: Path, folder: Path) -> None:
    before = ModelPack.load(pack)
    arguments = ("--clips", folder / "clips", "--looks", "flow", "--cache", folder / "cache")
    teach(*arguments, "--out", pack)
    after = ModelPack.load(pack)
    assert (before.contract.version, after.contract.version) == ("1.0.0", "1.1.0")
    # A step of both costs one inference of each network.
    assert Watch(before).spatial == Watch(after).spatial
    assert Watch(before).temporal == Watch(after).temporal
    other = folder / "other"
    teach(*arguments, "--out", other, "--labels", "left,up", "--name", "other")
    assert Watch(ModelPack.load(other)).temporal == Watch(after).temporal


def test_without_background_a_still_scene_is_some(folder: Path) -> None:
    data = clips(folder / "no_rest", TAUGHT, ("left", "up"))
    out = folder / "no_rest_pack"
    teach("--clips", data, "--out", out, "--looks", "flow", "--cache", folder / "cache")
    contract = ModelPack.load(out).contract
    assert contract.labels == ("background", "left", "up")
    assert contract.background == ("background",)


def test_clips_that_can_not_be_told_apart_give_no_pack(folder: Path) -> None:
    """The same gestures under two names: nobody can learn that."""
    data = folder / "guess"
    for label, numbers in (("one", (1, 2, 3, 4)), ("two", (5, 6, 7, 8))):
        (data / label).mkdir(parents=True)
        for number in numbers:
            for name in ("left", "tick"):
                file = f"{name}_{number}.mp4"
                (data / label / file).symlink_to(shared_data() / "gestures" / name / file)
    done = teach(
        "--clips", data, "--out", folder / "guess_pack", "--looks", "flow",
        "--rest", "one", "--cache", folder / "cache", "--json", code=1,
    )  # fmt: skip
    assert not json.loads(done.stdout)["works"]
    assert not (folder / "guess_pack").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--looks", "ears"], "--looks ears: expected of flow"),
        (["--base", "/none"], "base /none: no such folder"),
        (["--rest", "walk"], "--rest walk: no clip has it"),
        (["--background", "/none.mp4"], "/none.mp4: no such file or folder"),
        (["--name", "Door Ä"], "--name 'Door Ä': expected small letters"),
        (["--out", "/proc/none/x"], "--out /proc/none/x: can't be written"),
        (["--cache", "/proc/none"], "--cache /proc/none: can't be written"),
    ],
)
def test_wrong_options_are_named(folder: Path, pack: Path, arguments: list[str], says: str) -> None:
    done = teach(
        "--clips", folder / "clips", "--out", folder / "x", "--cache", folder / "cache",
        *arguments, code=2,
    )  # fmt: skip
    assert says in done.stderr
    assert not (folder / "x").exists()


def test_a_folder_that_is_no_pack_is_left_alone(folder: Path, pack: Path) -> None:
    out = folder / "precious"
    out.mkdir()
    (out / "letter.txt").write_text("dear")
    done = teach(
        "--clips", folder / "clips", "--out", out, "--looks", "flow",
        "--cache", folder / "cache", code=2,
    )  # fmt: skip
    assert "exists, and is no pack" in done.stderr
    assert (out / "letter.txt").read_text() == "dear"


def test_a_clip_that_is_no_video_is_left_out_and_named(folder: Path, pack: Path) -> None:
    data = clips(folder / "broken", range(1, 5))
    (data / "up" / "up_99.mp4").write_bytes(b"this is no video" * 100)
    done = teach(
        "--clips", data, "--out", folder / "broken_pack", "--looks", "flow",
        "--cache", folder / "cache",
    )  # fmt: skip
    assert "up_99.mp4" in done.stdout


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_lesson_that_is_stopped_leaves_no_process_and_no_pack(
    folder: Path, how: signal.Signals
) -> None:
    data, out = clips(folder / f"stop{how}", TESTED), folder / f"stopped{how}"
    arguments = ["--clips", data, "--out", out, "--looks", "hands", "--cache", folder / f"c{how}"]
    lesson = subprocess.Popen(
        [sys.executable, "-m", "teach", *map(str, arguments)],
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    workers: list[psutil.Process] = []

    def works() -> bool:
        nonlocal workers
        children = psutil.Process(lesson.pid).children(recursive=True)
        workers = [one for one in children if one.cpu_times().user > 1]
        return bool(workers)

    wait_for(works, 120, "a worker that looks at clips")
    lesson.send_signal(how)
    _, told = lesson.communicate(timeout=60)
    assert lesson.returncode != 0
    assert "Traceback" not in told
    _, alive = psutil.wait_procs(workers, timeout=30)
    assert not alive
    assert not out.exists()


def test_a_pack_that_looks_at_hands_runs(folder: Path) -> None:
    signs = shared_data() / "hands"
    for label in ("FanDown", "LightOn"):
        found = sorted((signs / label).glob("*.mp4"))
        for part, some in (("signs", found[:4]), ("new_signs", found[4:5])):
            (folder / part / label).mkdir(parents=True)
            for clip in some:
                (folder / part / label / clip.name).symlink_to(clip)
    out = folder / "signs_pack"
    arguments = ("--out", out, "--looks", "hands", "--cache", folder / "cache")
    teach("--clips", folder / "signs", *arguments)
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.evaluate", "--model", out,
         "--data", folder / "new_signs", "--json"],
        capture_output=True, text=True, timeout=600, check=True,
    )  # fmt: skip
    assert json.loads(done.stdout)["clip"]["clips"] == 2
