"""The demo camera: repeatable, endless, and true to its script."""

import hashlib
import itertools

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.flow.opencv import DIS
from pipeline.sources import demo
from pipeline.sources.demo import EPISODE_S, DemoScene
from pipeline.sources.demo_motion import plan_episode, stroke_points


def test_a_frame_depends_on_seed_and_time_only() -> None:
    one, other = DemoScene(5, 160, 120), DemoScene(5, 160, 120)
    times = [0.0, 7.3, 2 * EPISODE_S + 3.1, EPISODE_S + 0.3]
    frames = [one.render(t) for t in times]
    for t, frame in reversed(list(zip(times, frames, strict=True))):
        np.testing.assert_array_equal(other.render(t), frame)
    assert not np.array_equal(DemoScene(6, 160, 120).render(7.3), frames[1])


def test_renders_into_the_given_array() -> None:
    scene = DemoScene(1, 160, 120)
    out = np.zeros((120, 160, 3), np.uint8)
    assert scene.render(3.0, out) is out
    np.testing.assert_array_equal(out, scene.render(3.0))


def test_renders_into_a_slot_of_a_ring() -> None:
    scene = DemoScene(1, 160, 120)
    ring = np.zeros((3, 120, 160, 3), np.uint8)
    scene.render(3.0, ring[1])
    np.testing.assert_array_equal(ring[1], scene.render(3.0))
    assert not ring[0].any()
    assert not ring[2].any()


@pytest.mark.parametrize("shape", [(160, 120, 3), (120, 160), (120, 160, 4)])
def test_an_array_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"out must be \(120, 160, 3\) uint8"):
        DemoScene(1, 160, 120).render(0.0, np.zeros(shape, np.uint8))


def test_time_before_the_start_is_refused() -> None:
    with pytest.raises(ValueError, match="starts at 0 s"):
        DemoScene(1, 160, 120).render(-0.1)


def test_the_script_is_in_order_and_never_changes() -> None:
    scene = DemoScene(2)
    script = scene.script(600.0)
    assert scene.script(200.0) == [g for g in script if g.start_s < 200.0]
    for before, after in itertools.pairwise(script):
        assert before.start_s < before.end_s < after.start_s
    assert {g.label for g in script} == set(demo.GESTURES)
    assert all(0.5 < g.end_s - g.start_s < 8.0 for g in script)


def test_no_gesture_crosses_an_episode() -> None:
    for gesture in DemoScene(3).script(1200.0):
        assert gesture.start_s // EPISODE_S == gesture.end_s // EPISODE_S


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_the_hand_is_away_at_both_ends_of_an_episode(seed: int) -> None:
    plan = plan_episode(np.random.default_rng(seed), 4 / 3, EPISODE_S)
    assert plan.duration_s == pytest.approx(EPISODE_S, abs=0.05)
    for t in (0.0, 1.0, EPISODE_S - 0.5, EPISODE_S):
        assert plan.state(t)[1] > 1.1


def test_memory_is_bounded() -> None:
    scene = DemoScene(4, 64, 48)
    for episode in range(6):
        scene.render(episode * EPISODE_S + 0.1)
    assert len(scene._takes) <= 2


@settings(max_examples=200, deadline=None)
@given(
    label=st.sampled_from(demo.GESTURES),
    seed=st.integers(0, 2**32),
    aspect=st.sampled_from([3 / 4, 1.0, 4 / 3, 16 / 9]),
)
def test_strokes_begin_in_the_picture(label: str, seed: int, aspect: float) -> None:
    legs = stroke_points(label, np.random.default_rng(seed), aspect)
    middle = np.concatenate(legs).mean(axis=0)
    assert 0 < middle[0] < aspect
    assert 0 < middle[1] < 1


@pytest.mark.parametrize(
    ("label", "clockwise", "begins"),
    [("circle", False, "right"), ("square", True, "upper left"), ("caret", True, "lower left")],
)
def test_strokes_turn_as_in_the_clips(label: str, clockwise: bool, begins: str) -> None:
    for seed in range(20):
        points = np.concatenate(stroke_points(label, np.random.default_rng(seed), 4 / 3))
        x, y = (points - points.mean(axis=0)).T
        # Shoelace formula; y points down, so a positive area is clockwise to the eye.
        area = float(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y))
        assert (area > 0) == clockwise
        assert (x[0] < 0) == ("left" in begins)
        if "lower" in begins:
            assert y[0] > 0
        if "upper" in begins:
            assert y[0] < 0


def moving_pixels(label: str, seed: int) -> tuple[float, float]:
    """Mean flow (x, y) of what moves most, in the middle of the stroke."""
    script = demo.clip_script(label, seed)
    assert script is not None
    middle_s = (script.start_s + script.end_s) / 2
    grays = [
        np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY), np.uint8)
        for t, frame in demo.render_clip(label, seed, 30.0, (120, 160))
        if abs(t - middle_s) < 0.12
    ]
    method = DIS()
    total = np.zeros(2)
    for prev, following in itertools.pairwise(grays):
        flow = method(prev, following)
        speed = np.hypot(flow[..., 0], flow[..., 1])
        total += flow[speed >= np.percentile(speed, 95)].mean(axis=0)
    return float(total[0]), float(total[1])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("label", "axis", "sign"), [("left", 0, -1), ("right", 0, 1), ("up", 1, -1), ("down", 1, 1)]
)
def test_pixels_move_as_the_label_says(label: str, axis: int, sign: int) -> None:
    flows = np.array([moving_pixels(label, seed) for seed in range(8)])
    right_way = (np.sign(flows[:, axis]) == sign) & (
        np.abs(flows[:, axis]) > np.abs(flows[:, 1 - axis])
    )
    assert right_way.mean() >= 0.75, flows


@pytest.mark.slow
def test_the_picture_moves_during_strokes_and_rests_in_the_wait_before_them() -> None:
    scene = DemoScene(8, 160, 120)

    def change(t: float) -> float:
        before, after = scene.render(t).astype(float), scene.render(t + 0.1).astype(float)
        return float(np.percentile(np.abs(after - before).mean(axis=2), 97))

    gestures = scene.script(3 * EPISODE_S)
    moving = [change((g.start_s + g.end_s) / 2) for g in gestures]
    waiting = [change(g.start_s - 0.12) for g in gestures]
    assert np.median(moving) > 1.5 * np.median(waiting)


@pytest.mark.parametrize("label", [*demo.GESTURES, None])
def test_a_clip_has_its_stroke_within(label: str | None) -> None:
    frames = list(demo.render_clip(label, 11, 12.0, (60, 80)))
    assert all(frame.shape == (60, 80, 3) and frame.dtype == np.uint8 for _, frame in frames)
    np.testing.assert_allclose([t for t, _ in frames], np.arange(len(frames)) / 12.0)
    script = demo.clip_script(label, 11)
    if label is None:
        assert script is None
        assert 1.9 < len(frames) / 12.0 <= 5.0
    else:
        assert script is not None
        assert script.label == label
        assert 0 < script.start_s < script.end_s < (len(frames) + 1) / 12.0


def test_clips_of_different_seeds_differ() -> None:
    first = [next(demo.render_clip("star", seed, 10.0, (60, 80)))[1] for seed in range(10)]
    assert len({hashlib.sha256(frame.tobytes()).digest() for frame in first}) == 10


def test_an_unknown_gesture_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown gesture 'wave'; must be one of left, right"):
        next(demo.render_clip("wave", 1, 10.0, (60, 80)))
