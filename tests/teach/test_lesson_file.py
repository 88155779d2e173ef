"""A pack keeps what it was taught, and can be fitted again from that."""

from pathlib import Path

import numpy as np
import pytest

from pipeline.model.pack import ModelPack
from teach.lesson_file import LESSON_FILE, load
from teach.pack import TeachError
from teach.refit import refitted
from teach.versions import next_free, switch, there
from tests.teach.parts import LABELS, LOOKS, STEPS, examples, pack

pytestmark = pytest.mark.slow


def test_a_pack_is_fitted_again_without_clips_and_base(tmp_path: Path) -> None:
    made = pack(tmp_path)
    for path in (tmp_path / "base").iterdir():
        path.unlink()
    kept = load(made)
    assert (kept.looks, kept.labels, kept.window, kept.folds) == (LOOKS, LABELS, STEPS, None)
    for before, after in zip(examples(), kept.examples, strict=True):
        assert (before.label, before.group, before.name) == (after.label, after.group, after.name)
        # The folders of the user's machine stay there.
        assert after.clip.path == Path(before.clip.path.name)
        for name in ("still", "flow"):
            assert np.array_equal(before.clip.streams[name], after.clip.streams[name])
            assert np.array_equal(before.clip.present[name], after.clip.present[name])
    again = refitted(kept, made, None, kept.examples)
    assert again.pack.folder == tmp_path / "pack-1.1.0"
    assert again.pack.contract.version == "1.1.0"
    assert again.pack.contract.thresholds == made.contract.thresholds
    for network in ("spatial", "temporal", "fusion"):
        assert again.pack.graph(network) == made.graph(network)


@pytest.mark.parametrize("cut", [0, 100, 3000])
def test_a_damaged_lesson_says_what_to_do(tmp_path: Path, cut: int) -> None:
    made = pack(tmp_path)
    path = made.folder / LESSON_FILE
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(TeachError, match=r"lesson.npz: damaged .*teach the pack again from its"):
        load(made)
    path.unlink()
    with pytest.raises(TeachError, match=r"lesson.npz: no such file.*teach the pack again"):
        load(made)
    # The pack runs without it.
    assert ModelPack.load(made.folder).sha256 == made.sha256


def test_bytes_that_are_flipped_are_damage(tmp_path: Path) -> None:
    made = pack(tmp_path)
    path = made.folder / LESSON_FILE
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    problems = []
    for place in rng.integers(0, len(whole), 60):
        changed = bytearray(whole)
        changed[place] ^= 0xFF
        path.write_bytes(changed)
        try:
            load(made)
        except TeachError as error:
            problems.append(str(error))
    assert len(problems) > 30
    assert all("damaged" in problem for problem in problems)


def test_versions_change_places(tmp_path: Path) -> None:
    made = pack(tmp_path)
    refitted(load(made), made, None, load(made).examples)
    assert there(made.folder) == ["1.1.0"]
    assert next_free(made.folder) == "1.2.0"
    assert switch(made.folder, "1.1.0").contract.version == "1.1.0"
    assert there(made.folder) == ["1.0.0"]
    assert next_free(made.folder) == "1.2.0"
    back = switch(made.folder, "1.0.0")
    assert (back.contract.version, back.sha256) == ("1.0.0", made.sha256)


def test_a_version_that_is_not_there_is_refused(tmp_path: Path) -> None:
    made = pack(tmp_path)
    with pytest.raises(TeachError, match=r"pack-0.9.0: no such folder; .*: none"):
        switch(made.folder, "0.9.0")
    with pytest.raises(TeachError, match="is in use already"):
        switch(made.folder, "1.0.0")
    refitted(load(made), made, None, load(made).examples)
    (tmp_path / "pack-1.0.0").mkdir()
    (tmp_path / "pack-1.0.0" / "mine").touch()
    with pytest.raises(TeachError, match="exists already"):
        switch(made.folder, "1.1.0")
    assert ModelPack.load(made.folder).sha256 == made.sha256
