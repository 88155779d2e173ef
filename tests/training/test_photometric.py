"""Other looks of a clip's pictures: one look for a whole clip, another for each number."""

import numpy as np

from training.photometric import looks_of


def pictures() -> np.ndarray:
    rng = np.random.default_rng(0)
    scene = rng.integers(0, 255, (12, 16, 3)).astype(np.uint8).repeat(8, 0).repeat(8, 1)
    return np.stack([scene] * 3)


def test_looks_differ_from_the_pictures_and_from_one_another() -> None:
    plain = pictures()
    looks = looks_of(plain, 4, seed=1)
    assert [look.shape for look in looks] == [plain.shape] * 4
    assert all(look.dtype == np.uint8 for look in looks)
    for number, look in enumerate(looks):
        others = [plain, *looks[:number]]
        assert min(np.abs(look.astype(int) - x.astype(int)).mean() for x in others) > 5


def test_a_look_is_the_same_for_all_pictures_of_a_clip_but_for_noise() -> None:
    for look in looks_of(pictures(), 6, seed=2):
        first, last = look[0].astype(float), look[-1].astype(float)
        assert np.abs(first - last).mean() < 15
        assert abs(first.mean() - last.mean()) < 1


def test_looks_are_repeatable() -> None:
    for one, two in zip(looks_of(pictures(), 2, 3), looks_of(pictures(), 2, 3), strict=True):
        assert (one == two).all()
    assert (looks_of(pictures(), 1, 3)[0] != looks_of(pictures(), 1, 4)[0]).any()
