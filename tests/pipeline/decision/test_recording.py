"""Recordings: what is written is read back; what is cut off or damaged is reported or skipped."""

import errno
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pipeline.config.hours import Hours
from pipeline.config.rules import LabelRule
from pipeline.decision.recording import (
    ABOUT_FILE,
    VERSION,
    About,
    Advanced,
    ClockSet,
    Interrupted,
    Made,
    RecordedCamera,
    RecordedPack,
    RecordedRule,
    Recorder,
    Recording,
    check_new,
)
from pipeline.errors import RecordingError
from pipeline.model.pack import ModelPack
from pipeline.model.watch import Watch
from pipeline.steps.join import DecidedStep
from pipeline.transport.messages import Feature, PackId
from testbed import tiny_pack
from testbed.resources import no_room_after
from testbed.samples import PACK, moment, transition


def about() -> About:
    pack = RecordedPack(
        model="models/x",
        name="x",
        version="1",
        sha256=PACK.sha256,
        thresholds={"left": {"start": 0.5}},
    )
    return About(
        packs=[pack],
        cameras={"door": RecordedCamera(source="rtsp://me:***@host/", packs=[PACK.sha256])},
        update_every_s=1.0,
        media_timed=False,
        wall_minus_monotonic_ns=7,
    )


def step(number: int) -> DecidedStep:
    vectors: dict[str, bytes | None] = {"9c": b"\1" * 16}
    feature = Feature(moment=moment(number), stream="spatial", vectors=vectors, trail=())
    return DecidedStep(moment(number), feature, None)


def record(folder: Path, steps: int = 3) -> Path:
    recorder = Recorder(folder, about())
    for number in range(steps):
        recorder.advanced([step(number)], number)
    recorder.interrupted("door", "no frames", 9)
    recorder.made(transition())
    recorder.close()
    return folder


def test_what_is_written_comes_back_life_by_life(tmp_path: Path) -> None:
    record(record(tmp_path / "new"), steps=1)
    recording = Recording(tmp_path / "new")
    assert recording.about == about()
    first, second = [list(part) for part in recording.parts([])]
    assert [type(entry) for entry in first] == [Advanced] * 3 + [Interrupted, Made]
    assert [type(entry) for entry in second] == [Advanced, Interrupted, Made]
    entry = first[1]
    assert isinstance(entry, Advanced)
    assert entry.took_ns == 1
    assert entry.steps[0].moment == moment(1)
    assert entry.steps[0].spatial == step(1).spatial
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700


def test_a_recording_that_was_cut_off_ends_before_the_cut(tmp_path: Path) -> None:
    path = record(tmp_path) / "steps-000.msgpack"
    whole = path.read_bytes()
    counts = set()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        (part,) = Recording(tmp_path).parts([])
        counts.add(len(list(part)))
    assert counts == {0, 1, 2, 3, 4}


@pytest.mark.parametrize("damage", [b"\xff\xff\xff\xff", b"\x02\x00\x00\x00\xc1\xc1"])
def test_damage_is_named_with_its_place(tmp_path: Path, damage: bytes) -> None:
    path = record(tmp_path) / "steps-000.msgpack"
    path.write_bytes(damage + path.read_bytes())
    (part,) = Recording(tmp_path).parts([])
    with pytest.raises(RecordingError, match=r"steps-000.msgpack: at byte 0: "):
        list(part)


def test_a_full_disk_ends_the_recording_not_the_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = Recorder(tmp_path, about())
    recorder.advanced([step(1)], 5)
    with no_room_after((tmp_path / "steps-000.msgpack").stat().st_size + 40):
        recorder.advanced([step(2)], 5)  # a part of it fits
        recorder.advanced([step(3)], 5)
    recorder.advanced([step(4)], 5)
    recorder.close()
    (part,) = Recording(tmp_path).parts([])
    assert [entry.steps[0].moment for entry in part if isinstance(entry, Advanced)] == [moment(1)]
    assert [record.message for record in caplog.records] == [
        f"runtime.record: {tmp_path}: {os.strerror(errno.ENOSPC)}; it ends here, and the run goes "
        "on without it"
    ]
    needed = Recorder(tmp_path, about(), needed=True)
    with no_room_after(40), pytest.raises(RecordingError, match=r"runtime\.record: .*: "):
        needed.advanced([step(2)], 5)


def test_what_is_no_recording_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match=r"recording.json: No such file"):
        Recording(tmp_path)
    check_new(tmp_path)
    (tmp_path / ABOUT_FILE).write_text("{}")
    with pytest.raises(RecordingError, match="missing required field"):
        Recording(tmp_path)
    with pytest.raises(RecordingError, match="holds a recording already"):
        check_new(tmp_path)
    with pytest.raises(RecordingError, match=r"Not a directory|File exists"):
        Recorder(tmp_path / ABOUT_FILE, about())


def as_version(folder: Path, version: int) -> Path:
    """The recording as an earlier program wrote it, which had one pack and no networks' names."""
    part = folder / "steps-000.msgpack"
    data, written = part.read_bytes(), b""
    while data:
        length = int.from_bytes(data[:4], "little")
        entry = msgspec.msgpack.decode(data[4 : 4 + length])
        data = data[4 + length :]
        body = msgspec.msgpack.encode(_older(entry, version))
        written += len(body).to_bytes(4, "little") + body
    part.write_bytes(written)
    about_file = folder / ABOUT_FILE
    about = msgspec.json.decode(about_file.read_bytes())
    (pack,) = about.pop("packs")
    del about["flow_method"], about["rules"]
    cameras = {name: camera["source"] for name, camera in about["cameras"].items()}
    about_file.write_bytes(
        msgspec.json.encode({**about, **pack, "schema": version, "cameras": cameras})
    )
    return folder


def _older(entry: dict[str, Any], version: int) -> dict[str, Any]:
    if entry["is"] == "Advanced":
        for step in entry["steps"]:
            if feature := step["spatial"]:
                (feature["vector"],) = feature.pop("vectors").values()
                del feature["regions"], feature["moved"]
            del step["people"]
    if entry["is"] == "Said":
        made = entry["transition"]
        del made["pack"], made["subject"]
        for name in ("box", "top_box", "zone", "top_ns", "top_pts_ns"):
            del made["change"][name]
        if version == 1:
            change = made.pop("change")
            made["key"] = f"door/{change.pop('number')}"
            made |= change
    return entry


@pytest.mark.parametrize("version", [1, 2])
def test_a_recording_of_an_earlier_version_is_read(tmp_path: Path, version: int) -> None:
    watch = Watch(ModelPack.load(tiny_pack.make(tmp_path / "pack")))
    folder = as_version(record(tmp_path / "old"), version)
    recording = Recording(folder)
    assert recording.about == msgspec.structs.replace(about(), schema=version)
    (old,) = [list(part) for part in recording.parts([watch])]
    assert [type(entry) for entry in old] == [Advanced] * 3 + [Interrupted, Made]
    first, last = old[0], old[-1]
    assert isinstance(first, Advanced)
    assert isinstance(last, Made)
    feature = first.steps[0].spatial
    assert feature is not None
    assert feature.vectors == {watch.spatial: b"\1" * 16}
    named = PackId(name="x", version="1", sha256=PACK.sha256)
    assert last.transition == msgspec.structs.replace(transition(), pack=named)


def test_rules_and_times_of_day_come_back(tmp_path: Path) -> None:
    rules = {
        "left": LabelRule(Hours.of(["Fri 22:00-06:00", "08:00-09:00"], "Europe/Berlin"), 5.0),
        "right": LabelRule(cooldown_s=60.0),
    }
    written = {label: RecordedRule.of(rule) for label, rule in rules.items()}
    recorder = Recorder(tmp_path, msgspec.structs.replace(about(), rules={"door": written}))
    recorder.clock_set(12)
    recorder.close()
    recording = Recording(tmp_path)
    read = recording.about.rules["door"]
    assert {label: recorded.rule() for label, recorded in read.items()} == rules
    assert [list(part) for part in recording.parts([])] == [[ClockSet(12)]]


def test_a_recording_from_before_there_were_people_is_read(tmp_path: Path) -> None:
    """What version 4 added has defaults."""
    folder = record(tmp_path / "old")
    part = folder / "steps-000.msgpack"
    data, written = part.read_bytes(), b""
    while data:
        length = int.from_bytes(data[:4], "little")
        entry = msgspec.msgpack.decode(data[4 : 4 + length])
        data = data[4 + length :]
        for step in entry.get("steps", []):
            del step["people"]
            if feature := step["spatial"]:
                del feature["regions"], feature["moved"]
        if made := entry.get("transition"):
            del made["subject"], made["change"]["box"], made["change"]["top_box"]
        body = msgspec.msgpack.encode(entry)
        written += len(body).to_bytes(4, "little") + body
    about_file = folder / ABOUT_FILE
    about_file.write_text(about_file.read_text().replace(f'"schema": {VERSION}', '"schema": 3'))
    again = [list(entries) for entries in Recording(folder).parts([])]
    part.write_bytes(written)
    assert [list(entries) for entries in Recording(folder).parts([])] == again


def test_a_rule_that_nobody_can_follow_is_named(tmp_path: Path) -> None:
    bad = {"door": {"left": RecordedRule(["22-6"], "UTC", 0.0)}}
    Recorder(tmp_path, msgspec.structs.replace(about(), rules=bad)).close()
    with pytest.raises(RecordingError, match=r"recording\.json: rules.door.left: 22 is no time"):
        Recording(tmp_path)


def test_a_recording_of_a_newer_program_is_refused(tmp_path: Path) -> None:
    about_file = record(tmp_path / "new") / ABOUT_FILE
    about_file.write_text(about_file.read_text().replace(f'"schema": {VERSION}', '"schema": 5'))
    with pytest.raises(RecordingError, match=r"schema 5; this program reads 1 to 4"):
        Recording(tmp_path / "new")
