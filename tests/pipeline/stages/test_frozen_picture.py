"""What is frozen and what is only calm."""

import numpy as np

from pipeline.clock import NS_PER_S
from pipeline.stages.frozen_picture import TOLERANCE, FrozenPicture

RNG = np.random.default_rng(0)
PICTURE = RNG.integers(20, 200, (96, 128, 3)).astype(np.uint8)


def frozen_at(pictures: list[np.ndarray], after_s: float = 3.0) -> list[int]:
    """Numbers of the pictures, one a second, that are found frozen."""
    stillness = FrozenPicture(after_s)
    return [n for n, picture in enumerate(pictures) if stillness.is_frozen(picture, n * NS_PER_S)]


def test_one_picture_is_frozen_once_it_has_stood_long_enough() -> None:
    assert frozen_at([PICTURE] * 6) == [3, 4, 5]
    assert frozen_at([PICTURE] * 6, after_s=0.0) == []


def test_an_encoders_differences_do_not_thaw_it() -> None:
    noise = RNG.integers(0, TOLERANCE + 1, (6, *PICTURE.shape)).astype(np.uint8)
    assert frozen_at([PICTURE, *(PICTURE + noise)]) == [3, 4, 5, 6]


def test_something_small_that_moves_does() -> None:
    moved = PICTURE.copy()
    moved[40:52, 60:72] += 40
    assert frozen_at([PICTURE] * 4 + [moved] * 4) == [3, 7]


def test_a_picture_of_another_size_is_another_picture() -> None:
    assert frozen_at([PICTURE] * 4 + [PICTURE[:48]] * 2) == [3]
    assert frozen_at([PICTURE[:2, :2]] * 5) == [3, 4]


def test_after_a_reconnect_it_begins_anew() -> None:
    stillness = FrozenPicture(1.0)
    assert not stillness.is_frozen(PICTURE, 0)
    stillness.forget()
    assert not stillness.is_frozen(PICTURE, 2 * NS_PER_S)
    assert stillness.is_frozen(PICTURE, 3 * NS_PER_S)
