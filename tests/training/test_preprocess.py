"""What training and the live pipeline share: the inputs of the networks."""

import numpy as np
import pytest

from pipeline import flow
from pipeline.arrays import STILL
from pipeline.steps.preprocess import flow_input, gray_for_flow, spatial_input
from tests.training.tiny import tiny_config
from training.clip_list_formats import DataError
from training.data import step_clip

CONFIG = tiny_config()


def texture(shift: int = 0, size: tuple[int, int] = (96, 128)) -> np.ndarray:
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (size[0] // 8, size[1] // 8, 3)).astype(np.uint8)
    return np.roll(coarse.repeat(8, 0).repeat(8, 1), shift, axis=1)


def test_inputs_have_the_sizes_of_the_contract() -> None:
    frame = texture()
    assert spatial_input(frame, CONFIG).shape == (*CONFIG.spatial.size, 3)
    grey = gray_for_flow(frame, CONFIG)
    assert grey.shape == CONFIG.temporal.flow_size


@pytest.mark.parametrize("bad", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32)])
def test_other_arrays_are_refused(bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match="must be \\(height, width, 3\\) uint8"):
        spatial_input(bad, CONFIG)
    with pytest.raises(ValueError, match="must be \\(height, width, 3\\) uint8"):
        gray_for_flow(bad, CONFIG)


def test_flow_is_in_pixels_per_step_whatever_the_frame_rate() -> None:
    method = flow.create("dis")
    # 8 of 128 pixels are 2 of the 32 in which flow is computed.
    before, after = (gray_for_flow(texture(shift), CONFIG) for shift in (0, 8))
    per_step = flow_input(before, after, 1.0, method, CONFIG)
    assert per_step.shape == (*CONFIG.temporal.size, 2)
    one = float(np.median(per_step[..., 0].astype(float) - STILL)) / 127 * CONFIG.temporal.bound
    half = flow_input(before, after, 2.0, method, CONFIG)
    two = float(np.median(half[..., 0].astype(float) - STILL)) / 127 * CONFIG.temporal.bound
    assert one == pytest.approx(2.0, abs=0.3)
    assert two == pytest.approx(1.0, abs=0.2)


def test_flow_refuses_no_time_and_unlike_pictures() -> None:
    method, grey = flow.create("dis"), gray_for_flow(texture(), CONFIG)
    with pytest.raises(ValueError, match="elapsed_steps"):
        flow_input(grey, grey, 0.0, method, CONFIG)
    with pytest.raises(ValueError, match="two images of one shape"):
        flow_input(grey, grey[:-1], 1.0, method, CONFIG)


def test_a_slow_camera_leaves_steps_unseen_and_its_flow_spans_them() -> None:
    frames = [(n * 200_000_000, texture(8 * n)) for n in range(4)]
    clip = step_clip(iter(frames), CONFIG)
    assert clip.seen.tolist() == [True, False, True, False, True, False, True]
    assert clip.moving.tolist() == [False] + [True] * 6
    assert (clip.fields[1] == clip.fields[2]).all()
    assert (clip.pictures[1] == clip.pictures[0]).all()


def test_a_long_gap_has_no_flow() -> None:
    times = (0, 100_000_000, 600_000_000, 700_000_000)
    clip = step_clip(((t, texture(n)) for n, t in enumerate(times)), CONFIG)
    assert clip.moving.tolist() == [False, True, *[False] * 5, True]


def test_a_clip_without_frames_is_an_error() -> None:
    with pytest.raises(DataError, match="no frame"):
        step_clip(iter(()), CONFIG)
