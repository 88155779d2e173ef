"""Photometric variants of a clip: the same for all its pictures, different for each number."""

import numpy as np

from training.photometric import photometric_variants


def pictures() -> np.ndarray:
    rng = np.random.default_rng(0)
    scene = rng.integers(0, 255, (12, 16, 3)).astype(np.uint8).repeat(8, 0).repeat(8, 1)
    return np.stack([scene] * 3)


def test_variants_differ_from_the_pictures_and_from_one_another() -> None:
    plain = pictures()
    variants = photometric_variants(plain, 4, seed=1)
    assert [variant.shape for variant in variants] == [plain.shape] * 4
    assert all(variant.dtype == np.uint8 for variant in variants)
    for number, variant in enumerate(variants):
        others = [plain, *variants[:number]]
        assert min(np.abs(variant.astype(int) - x.astype(int)).mean() for x in others) > 5


def test_a_variant_is_the_same_for_all_pictures_of_a_clip_apart_from_noise() -> None:
    for variant in photometric_variants(pictures(), 6, seed=2):
        first, last = variant[0].astype(float), variant[-1].astype(float)
        assert np.abs(first - last).mean() < 15
        assert abs(first.mean() - last.mean()) < 1


def test_the_same_seed_gives_the_same_variants() -> None:
    first, again = (photometric_variants(pictures(), 2, 3) for _ in range(2))
    for one, two in zip(first, again, strict=True):
        assert (one == two).all()
    other = photometric_variants(pictures(), 1, 4)
    assert (first[0] != other[0]).any()
