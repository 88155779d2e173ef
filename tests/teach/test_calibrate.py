"""A pack learns a camera's own background."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest

from pipeline.clock import NS_PER_S, from_isoformat, isoformat
from pipeline.errors import SourceError
from pipeline.model.pack import ModelPack
from pipeline.model.watch import Watch
from pipeline.reviews.records import Review
from pipeline.reviews.store import ReviewStore
from teach.background import CalibrateOrder
from teach.calibrate import calibrate
from teach.commands import calibrate_cli
from teach.lesson_file import load
from teach.pack import TeachError
from testbed.remembered import remember
from testbed.video_files import write_video
from tests.teach.parts import LOOKS, clip, pack

pytestmark = pytest.mark.slow
START_NS = from_isoformat("2026-11-24T08:00:00.000Z")


class Camera:
    """A camera that sees a door move every five seconds, and once a person."""

    def __init__(self, folder: Path, rounds: int = 40) -> None:
        self.pack = pack(folder).folder
        self.config = folder / "config.yaml"
        self.config.write_text(
            f"memory: {{folder: {folder / 'memory'}}}\nevents: {{log: {folder / 'log.sqlite'}}}\n"
        )
        self.reviews = ReviewStore(folder / "log.reviews")
        clips = []
        for place in range(rounds):
            what = "left" if place == rounds // 2 else "door"
            clips += [clip("background", 2000 + place, 40), clip(what, 1000 + place)]
        watch = Watch(ModelPack.load(self.pack))
        times = remember(folder / "memory", "door", watch, clips, LOOKS, START_NS)
        self.person = times[2 * (rounds // 2) + 1]

    def order(self, **changes: object) -> CalibrateOrder:
        return CalibrateOrder(self.pack, self.config, "door", **changes)  # type: ignore[arg-type]

    def say_right(self) -> None:
        first, last = (isoformat(at) for at in self.person)
        self.reviews.add(
            [Review(camera="door", verdict="missed", label="left", start_time=first, end_time=last,
                    by="ann", time=last)]
        )  # fmt: skip


@pytest.fixture
def camera(tmp_path: Path) -> Camera:
    return Camera(tmp_path)


def test_false_events_become_fewer_and_actions_are_still_found(camera: Camera) -> None:
    camera.say_right()
    found = calibrate(camera.order())
    assert found.false_before > 20
    assert found.false_after < found.false_before / 5
    assert found.found_after >= found.found_before - 1
    # The person isn't background, nor is what is a window before and after.
    kept = load(ModelPack.load(Path(found.folder)))
    quiet = [one for one in kept.examples if one.group.startswith("quiet door")]
    assert len({one.group for one in quiet}) == 5
    for one in quiet:
        assert one.label == 0
        assert not camera.person[0] <= one.clip.times_ns[-1] <= camera.person[1] + NS_PER_S


def test_it_is_learned_again_and_not_twice(camera: Camera) -> None:
    calibrate(camera.order(switch=True))
    before = len(load(ModelPack.load(camera.pack)).examples)
    found = calibrate(camera.order(switch=True))
    assert len(load(ModelPack.load(camera.pack)).examples) == before
    assert (found.before, found.after) == ("1.1.0", "1.2.0")


def test_the_next_version_has_the_same_origin(camera: Camera) -> None:
    before = ModelPack.load(camera.pack).contract
    after = ModelPack.load(Path(calibrate(camera.order()).folder)).contract
    assert after.provenance == before.provenance
    assert after.provenance.count("Appearance:") == 1
    assert (after.licence, after.limits) == (before.licence, before.limits)


def test_less_time_is_less_footage(camera: Camera) -> None:
    assert calibrate(camera.order(hours=0.02)).minutes < 1.3
    with pytest.raises(TeachError, match=r"door: has .* seconds of background .* 30 are needed"):
        calibrate(camera.order(hours=0.005))


def test_it_needs_a_camera_or_files(camera: Camera) -> None:
    with pytest.raises(
        TeachError, match="name one of these: a memory with --config and --camera, files"
    ):
        calibrate(CalibrateOrder(camera.pack))


def test_the_command_prints_before_and_after(
    camera: Camera, capsys: pytest.CaptureFixture[str]
) -> None:
    camera.say_right()
    words = ["-c", str(camera.config), "--pack", str(camera.pack), "--camera", "door"]
    with pytest.raises(SystemExit) as ended:
        calibrate_cli(words, "two-stream calibrate")
    assert not ended.value.code
    out = capsys.readouterr().out
    assert "false events in this footage" in out
    assert "1.1.0 is in" in out
    with pytest.raises(SystemExit) as ended:
        calibrate_cli([*words[:-1], "dor"], "two-stream calibrate")
    assert ended.value.code == 2
    assert "the memory has door" in capsys.readouterr().err


def test_footage_may_be_a_file(tmp_path: Path) -> None:
    made = pack(tmp_path)
    video = tmp_path / "quiet.mp4"
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 255, (120, 160, 3), np.uint8)
    write_video(video, (np.roll(picture, 2 * (n // 40 % 2) * n, 1) for n in range(400)), fps=10)
    found = calibrate(CalibrateOrder(made.folder, files=(video,)))
    assert (found.where, found.minutes) == ("quiet.mp4", 0.7)
    assert found.false_after <= found.false_before


def test_a_camera_is_watched_for_the_time_that_was_asked_for(tmp_path: Path) -> None:
    made = pack(tmp_path)
    told: list[tuple[str, int, int]] = []
    order = CalibrateOrder(
        made.folder, source="demo:3", hours=40 / 3600, tick=lambda *said: told.append(said)
    )
    found = calibrate(order)
    assert (found.where, found.minutes) == ("demo:3", 0.7)
    assert found.hours == pytest.approx(40 / 3600, abs=0.01)
    assert ("watching, seconds", 39, 40) in told


def test_ctrl_c_ends_the_watching_and_what_was_seen_counts(tmp_path: Path) -> None:
    made = pack(tmp_path)
    before = signal.getsignal(signal.SIGINT)

    def tick(what: str, done: int, _whole: int) -> None:
        if what.startswith("watching") and done == 31 and signal.getsignal(signal.SIGINT) != before:
            os.kill(os.getpid(), signal.SIGINT)

    found = calibrate(CalibrateOrder(made.folder, source="demo:3", hours=1, tick=tick))
    assert 0.5 <= found.minutes <= 0.6
    assert signal.getsignal(signal.SIGINT) == before


def test_a_password_of_the_camera_is_shown_nowhere(tmp_path: Path) -> None:
    made = pack(tmp_path)
    source = "rtsp://ann:secret@127.0.0.1:1/door"
    with pytest.raises(SourceError) as raised:
        calibrate(CalibrateOrder(made.folder, source=source))
    assert "secret" not in str(raised.value)
    assert "127.0.0.1" in str(raised.value)


def test_only_one_kind_of_background_is_taken(tmp_path: Path) -> None:
    made = pack(tmp_path)
    with pytest.raises(TeachError, match="name one of these"):
        calibrate(CalibrateOrder(made.folder, source="demo", files=(tmp_path / "quiet.mp4",)))
    with pytest.raises(TeachError, match="name the camera of the memory: --camera"):
        calibrate(CalibrateOrder(made.folder, config=tmp_path / "config.yaml"))
