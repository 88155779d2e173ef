"""The packets of the last seconds: whole groups of pictures, bounded in time and bytes."""

from itertools import pairwise
from pathlib import Path

import pytest

from pipeline.clock import NS_PER_S
from pipeline.sources import SourceOptions
from pipeline.sources.packet_roll import PacketRoll
from pipeline.sources.video_file import VideoFile
from testbed.clock import HandClock
from testbed.video_files import grays, write_video


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten seconds at ten frames a second, a key frame a second, with frames out of order."""
    path = tmp_path_factory.mktemp("roll") / "clip.mp4"
    options = {"g": "10", "bf": "2", "sc_threshold": "0"}
    return write_video(path, grays(100), fps=10, options=options)


def played(clip: Path, roll: PacketRoll) -> VideoFile:
    """A file that has been played to its end in real time, by a clock that is moved by hand."""
    source = VideoFile(clip, camera="a", clock=HandClock(), options=SourceOptions(roll=roll))
    source.open()
    while source.grab() is not None:
        pass
    return source


def test_it_begins_with_a_key_frame_and_reaches_as_far_back_as_asked(clip: Path) -> None:
    roll = PacketRoll(seconds=3, max_bytes=1 << 30)
    played(clip, roll)
    kept = list(roll.after(-1))
    assert kept[0].packet.is_keyframe
    assert 30 <= len(kept) <= 50
    assert [one.number for one in kept] == list(range(100 - len(kept), 100))
    assert roll.bytes == sum(one.packet.size for one in kept)


def test_it_holds_no_more_than_its_bytes(clip: Path) -> None:
    whole = PacketRoll(seconds=100, max_bytes=1 << 30)
    played(clip, whole)
    assert len(list(whole.after(-1))) == 100
    few = PacketRoll(seconds=100, max_bytes=whole.bytes // 4)
    played(clip, few)
    kept = list(few.after(-1))
    assert 0 < few.bytes <= whole.bytes // 4
    assert kept[0].packet.is_keyframe
    none = PacketRoll(seconds=100, max_bytes=10)
    played(clip, none)
    assert (list(none.after(-1)), none.bytes) == ([], 0)


def test_a_time_is_that_of_the_picture(clip: Path) -> None:
    roll = PacketRoll(seconds=100, max_bytes=1 << 30)
    played(clip, roll)
    times = sorted(roll.time_ns(one) for one in roll.after(-1))
    steps = {b - a for a, b in pairwise(times)}
    assert steps == {NS_PER_S // 10}


def test_since_is_the_key_frame_that_came_before(clip: Path) -> None:
    roll = PacketRoll(seconds=100, max_bytes=1 << 30)
    played(clip, roll)
    keys = [one for one in roll.after(-1) if one.packet.is_keyframe]
    assert len(keys) == 10
    assert next(roll.since(keys[4].arrived_ns)).number <= keys[4].number
    assert next(roll.since(0)).number == 0
    assert next(roll.since(1 << 62)).number == keys[-1].number


def test_another_stream_begins_anew(clip: Path) -> None:
    roll = PacketRoll(seconds=100, max_bytes=1 << 30)
    played(clip, roll)
    first = roll.form
    played(clip, roll)
    assert roll.form is not None
    assert first is not None
    numbers = [one.number for one in roll.after(-1)]
    assert numbers == list(range(100, 200))
