"""The cache of computed clips: each clip gets its own arrays, whatever became of files and disk."""

import logging
import multiprocessing
import os
import shutil
import textwrap
import types
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from testbed.resources import no_room_after
from tests.training.tiny import tiny_config, write_clip, write_data
from training.ablation import with_flow
from training.clip_cache import ArrayFiles, Arrays, FileContents, code_digest
from training.clip_list_formats import DataError
from training.config import TrainConfig
from training.crossvalidation import load_data
from training.data import Clip, load_clips

KEYS = ("a", "b")


def arrays(value: int = 3) -> Arrays:
    return {"a": np.full((50, 40), value), "b": np.arange(value)}


def never() -> Arrays:
    raise AssertionError("computed although it is stored")


def same(one: Arrays, other: Arrays) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[k], other[k]) for k in one)


def one_clip(
    folder: Path, cache: Path, config: TrainConfig | None = None, name: str = "one.avi"
) -> Clip:
    (folder / "clips.csv").write_text(f"path,label\n{name},left\n")
    loaded = load_clips(config or tiny_config(looks=0), folder, cache, "clips.csv")
    assert not loaded.unreadable
    return loaded.clips[0]


def padded(path: Path, size: int) -> Path:
    """The same video in a file of ``size`` bytes: players skip a JUNK chunk at the end."""
    rest = size - path.stat().st_size - 8
    with path.open("ab") as file:
        file.write(b"JUNK" + rest.to_bytes(4, "little") + bytes(rest))
    return path


@pytest.mark.slow
def test_a_clip_that_was_replaced_in_place_gets_its_own_features(tmp_path: Path) -> None:
    """Of the same size, with the old time, in the same file."""
    cache, path = tmp_path / "cache", padded(write_clip(tmp_path / "one.avi", 3), 60_000)
    other = padded(write_clip(tmp_path / "other.avi", -3), 60_000)
    about = path.stat()
    before = one_clip(tmp_path, cache)
    path.write_bytes(other.read_bytes())
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))
    now = path.stat()
    assert (now.st_ino, now.st_size, now.st_mtime_ns) == (
        about.st_ino, about.st_size, about.st_mtime_ns,
    )  # fmt: skip
    after = one_clip(tmp_path, cache)
    assert not np.array_equal(before.fields, after.fields)
    assert not np.array_equal(before.grid, after.grid)
    fresh = one_clip(tmp_path, tmp_path / "fresh")
    assert np.array_equal(after.fields, fresh.fields)
    assert before.content != after.content == fresh.content


@pytest.mark.slow
def test_another_folder_with_the_same_names_has_its_own_features(tmp_path: Path) -> None:
    cache, found = tmp_path / "cache", []
    for name, speed in (("mine", 3), ("yours", -3)):
        padded(write_clip(tmp_path / name / "one.avi", speed), 60_000)
        found.append(one_clip(tmp_path / name, cache))
    assert not np.array_equal(found[0].fields, found[1].fields)
    shutil.move(tmp_path / "mine", tmp_path / "moved")
    count = len(list(cache.iterdir()))
    moved = one_clip(tmp_path / "moved", cache)
    assert np.array_equal(moved.fields, found[0].fields)
    assert len(list(cache.iterdir())) == count


@pytest.mark.slow
def test_what_changes_the_features_is_in_the_name(tmp_path: Path) -> None:
    """Each of these has files of its own; the first has them still."""
    write_clip(tmp_path / "one.avi", 3)
    base = tiny_config(looks=0)
    temporal = {**base.temporal.model_dump(), "bound": 4.0}
    spatial = {**base.spatial.model_dump(), "size": (64, 32)}
    others = [
        with_flow(base, "farneback"), tiny_config(looks=0, temporal=temporal),
        tiny_config(looks=0, spatial=spatial), tiny_config(looks=0, step_hz=5.0),
        tiny_config(looks=1),
    ]  # fmt: skip
    first, files = one_clip(tmp_path, tmp_path / "cache", base), 2
    for config, more in zip(others, (1, 1, 1, 2, 1), strict=True):
        one_clip(tmp_path, tmp_path / "cache", config)
        files += more
        assert len(list((tmp_path / "cache").iterdir())) == files
    again = one_clip(tmp_path, tmp_path / "cache", base)
    assert len(list((tmp_path / "cache").iterdir())) == files
    assert np.array_equal(first.fields, again.fields)


@pytest.mark.slow
def test_a_name_decides_the_variants_and_so_it_counts(tmp_path: Path) -> None:
    config = tiny_config(looks=1)
    shutil.copy(write_clip(tmp_path / "one.avi", 3), tmp_path / "two.avi")
    one = one_clip(tmp_path, tmp_path / "cache", config)
    two = one_clip(tmp_path, tmp_path / "cache", config, "two.avi")
    alone = one_clip(tmp_path, tmp_path / "other", config, "two.avi")
    assert not np.array_equal(one.looks, two.looks)
    assert np.array_equal(two.looks, alone.looks)
    assert len(list((tmp_path / "cache").iterdir())) == 3  # the motion is the same


@pytest.mark.slow
def test_a_run_does_not_resume_with_clips_of_the_same_names(tmp_path: Path, decoded: Path) -> None:
    data = write_data(tmp_path)
    before = load_data(tiny_config(), data, decoded).digest
    assert load_data(tiny_config(), data, decoded).digest == before
    write_clip(data / "left/left0.avi", -2)
    assert load_data(tiny_config(), data, decoded).digest != before


def test_a_file_is_hashed_again_when_it_was_changed(tmp_path: Path) -> None:
    path, contents = tmp_path / "one", FileContents()
    path.write_bytes(b"abc")
    first = contents.of(path)
    assert contents.of(path) == first
    about = path.stat()
    path.write_bytes(b"abd")
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))
    with pytest.raises(DataError, match="one: was changed while it was read"):
        contents.check_unchanged(path)
    assert contents.of(path) != first
    path.unlink()
    for gone in (path, tmp_path):
        with pytest.raises(DataError, match="no such file"):
            contents.of(gone)
    os.mkfifo(path)
    with pytest.raises(DataError, match="no such file"):
        contents.of(path)


def module_of(text: str, folder: Path, name: str) -> types.ModuleType:
    path = folder / f"{name}.py"
    path.write_text(textwrap.dedent(text))
    module = types.ModuleType(name)
    module.__file__ = str(path)
    return module


def test_code_counts_and_comments_do_not(tmp_path: Path) -> None:
    texts = (
        'def f(x):\n    """Add."""\n    return x + 1\n',
        "# a comment\ndef f(x):\n    return (x\n        + 1)  # one\n",
        "def f(x):\n    return x + 2\n",
    )
    first, commented, other = (
        code_digest(module_of(text, tmp_path, f"m{n}")) for n, text in enumerate(texts)
    )
    assert first == commented != other


@pytest.mark.parametrize("damage", [b"", b"PK", b"no archive", "cut", "flipped", "other arrays"])
def test_a_damaged_file_is_computed_again(
    tmp_path: Path, damage: bytes | str, caplog: pytest.LogCaptureFixture
) -> None:
    files, path = ArrayFiles(tmp_path), tmp_path / "x.npz"
    files.get("x", KEYS, arrays)
    whole = path.read_bytes()
    if damage == "other arrays":
        np.savez(path, a=np.zeros(3))
    else:
        half = len(whole) // 2
        broken = {"cut": whole[:half], "flipped": whole[:half] + b"\xff" + whole[half + 1 :]}
        path.write_bytes(broken[damage] if isinstance(damage, str) else damage)
    assert same(files.get("x", KEYS, arrays), arrays())
    assert "x.npz: can't be read, so it is computed again" in caplog.text
    assert same(files.get("x", KEYS, never), arrays())


def test_a_full_disk_costs_only_time(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    files = ArrayFiles(tmp_path / "cache")
    with no_room_after(4096):
        for name in ("x", "y"):
            assert same(files.get(name, KEYS, arrays), arrays())
    assert not list((tmp_path / "cache").iterdir())
    assert caplog.text.count("can't be written, so what is computed now isn't kept: File too") == 1
    ArrayFiles(tmp_path / "cache").get("x", KEYS, arrays)
    assert same(ArrayFiles(tmp_path / "cache").get("x", KEYS, never), arrays())


def test_a_folder_that_is_none_costs_only_time(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "cache").write_text("a file")
    for folder in (tmp_path / "cache", tmp_path / "cache/deep", Path("/proc/no-such-folder")):
        caplog.clear()
        assert same(ArrayFiles(folder).get("x", KEYS, arrays), arrays())
        assert f"{folder}: can't be written" in caplog.text


def _large() -> Arrays:
    return {"a": np.zeros(200_000_000, np.uint8), "b": np.zeros(1)}


def _write_again_and_again(folder: Path, begun: "multiprocessing.queues.Queue[bool]") -> None:
    begun.put(True)
    while True:
        ArrayFiles(folder).get("large", KEYS, _large)
        (folder / "large.npz").unlink()


@pytest.mark.slow
def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    begun = context.Queue()
    process = context.Process(target=_write_again_and_again, args=(tmp_path, begun))
    process.start()
    begun.get(timeout=120)
    found: list[Path] = []
    while not found:
        found = list(tmp_path.glob("*.partial"))
    # While it lives, its unfinished file is its own.
    ArrayFiles(tmp_path)
    process.kill()
    process.join(60)
    ArrayFiles(tmp_path)
    assert not list(tmp_path.glob("*.partial"))


def _fill(folder: Path, number: int) -> bool:
    """Twenty files, in an order of its own; true if all arrays are right."""
    files, right = ArrayFiles(folder), True
    for place in np.random.default_rng(number).permutation(20).tolist():
        found = files.get(f"x{place}", KEYS, partial(arrays, place))
        right &= same(found, arrays(place))
    return right


@pytest.mark.slow
def test_processes_that_fill_one_cache_do_not_disturb_each_other(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        assert all(pool.starmap(_fill, [(tmp_path, number) for number in range(8)]))
    assert sorted(x.suffix for x in tmp_path.iterdir()) == [".npz"] * 20
