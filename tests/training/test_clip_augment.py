"""What is done to one clip: mirrored, reversed, stretched, cropped, played to and fro."""

from dataclasses import replace

import numpy as np
import pytest

from pipeline.arrays import STILL
from tests.training.tiny import tiny_clip
from training.clip_augment import (
    LONGEST_PART,
    cropped,
    mirrored,
    reversed_clip,
    scribble,
    stretched,
)
from training.data import Stroke

SWAPS = {0: 0, 1: 2, 2: 1}


def test_mirrored_left_is_right() -> None:
    clip = tiny_clip(1)
    mirror = mirrored(clip, SWAPS)
    assert mirror.label == mirror.strokes[0].label == 2
    u, v = clip.fields[..., 0].astype(int), clip.fields[..., 1].astype(int)
    assert (mirror.fields[..., 0].astype(int) - STILL == -(u - STILL)[:, :, ::-1]).all()
    assert (mirror.fields[..., 1] == v[:, :, ::-1]).all()
    assert (mirrored(mirror, SWAPS).fields == clip.fields).all()


def test_reversed_left_is_right_and_its_first_step_has_no_field() -> None:
    clip = tiny_clip(1)
    back = reversed_clip(clip, SWAPS)
    assert back.label == 2
    assert not back.moving[0]
    assert back.moving[1:].all()
    # The motion that ended the last step begins the reversed clip, the other way round.
    assert (back.fields[1].astype(int) - STILL == -(clip.fields[-1].astype(int) - STILL)).all()
    assert (reversed_clip(back, SWAPS).fields[1:] == clip.fields[1:]).all()


@pytest.mark.parametrize("speed", [0.5, 0.7, 1.0, 1.6, 2.0])
def test_stretching_keeps_the_way_that_was_moved(speed: float) -> None:
    clip = tiny_clip(2, steps=40)
    faster = stretched(clip, speed)
    assert len(faster) == round(40 / speed)
    assert not faster.moving[0]

    def way(fields: np.ndarray) -> float:
        return float((fields[..., 0].astype(float) - STILL).mean((1, 2)).sum())

    assert way(faster.fields) == pytest.approx(way(clip.fields), rel=0.1)
    assert faster.strokes[0].past == len(faster)


def test_cropping_drops_the_strokes_that_it_cuts_off() -> None:
    clip = tiny_clip(1)
    assert cropped(clip, 2, 10).strokes == (Stroke(1, -2, 8),)
    assert cropped(clip, 0, 9).strokes == ()


def test_a_scribble_goes_to_and_fro_and_completes_nothing() -> None:
    clip = tiny_clip(2, steps=20)
    # Each step's picture tells where it is, and each field how far it goes.
    places = np.arange(20, dtype=np.float16)
    grid = np.broadcast_to(places[:, None, None, None], clip.grid.shape)
    fields = np.full_like(clip.fields, STILL + 1)
    for seed in range(20):
        made = scribble(replace(clip, grid=grid, fields=fields), 50, np.random.default_rng(seed))
        place = made.grid[:, 0, 0, 0].astype(int)
        moved = np.diff(place)
        assert set(moved) <= {-1, 1}
        assert (made.fields[1:, 0, 0, 0].astype(int) - STILL == moved).all()
        assert (made.fields[0] == STILL).all()
        turns = np.flatnonzero(np.diff(moved)) + 1
        assert np.diff(turns, prepend=0, append=len(moved)).max() <= 20 * LONGEST_PART
        assert made.strokes == ()
        assert len(made) == 50
