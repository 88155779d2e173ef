"""Views find regions, and regions move smoothly."""

from itertools import pairwise

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.arrays import Gray
from pipeline.clock import NS_PER_S
from pipeline.flow.opencv import DIS
from pipeline.people.cutting import cut
from pipeline.people.following import Follower
from pipeline.people.geometry import WHOLE
from pipeline.people.regions import MOVING_HOLD_S, VIEWS, Seen, create
from pipeline.people.tracks import Track
from pipeline.transport.messages import Box

ASPECT = 16 / 9
SHARE = st.floats(0, 1)
NOISE_PX = 0.02
"""Mean flow between the crops of somebody who stands, in pixels of the network's input: about what
DIS sees in two pictures of the same scene with noise of σ = 4."""


def ns(seconds: float) -> int:
    return round((1 + seconds) * NS_PER_S)


def track(box: Box, name: str = "p1") -> Track:
    return Track(name, box, 0.9, 0, 0)


def person(x: float, y: float = 0.55, high: float = 0.4) -> Box:
    wide = high * 0.4 / ASPECT
    return x - wide / 2, y - high / 2, x + wide / 2, y + high / 2


def texture() -> Gray:
    noise = np.random.default_rng(1).integers(0, 255, (90, 160), np.uint8)
    return np.asarray(cv2.resize(noise, (1280, 720), interpolation=cv2.INTER_CUBIC), np.uint8)


def crop(picture: Gray, region: Box) -> Gray:
    part = cut(np.stack([picture] * 3, axis=2), region)[:, :, 0]
    return np.asarray(cv2.resize(part, (128, 128), interpolation=cv2.INTER_AREA), np.uint8)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("hz", [5, 10])
def test_a_still_person_in_a_trembling_box_makes_no_flow(seed: int, hz: int) -> None:
    """Each side of the box trembles by ±3 % of its length, without a tracker to calm it."""
    rng, method, picture = np.random.default_rng(seed), DIS(), texture()
    finder = create("person", ASPECT)
    box = np.array(person(0.5))
    sides = np.array([box[2] - box[0], box[3] - box[1]] * 2)
    trembling, crops = box, []
    for step in range(100):
        if step % (10 // hz) == 0:
            trembling = box + rng.uniform(-0.03, 0.03, 4) * sides
        x0, y0, x1, y1 = (float(side) for side in trembling)
        seen = Seen(ns(step / 10), tracks=[track((x0, y0, x1, y1))])
        crops.append(crop(picture, finder.find(seen)["p1"]))
    flows = [
        0.0 if np.array_equal(a, b) else float(np.abs(method(a, b)).mean())
        for a, b in pairwise(crops)
    ]
    assert np.mean(flows) < NOISE_PX


@pytest.mark.parametrize("speed", [0.4, 0.8, 2.0])
def test_a_person_who_walks_is_never_lost(speed: float) -> None:
    """Heights a second; 0.8 is a brisk walk, 2 a run. The box stays in the region."""
    finder = create("person", ASPECT)
    for step in range(60):
        x = 0.15 + min(speed * 0.4 / ASPECT * step / 10, 0.7)
        box = person(x)
        region = finder.find(Seen(ns(step / 10), tracks=[track(box)]))["p1"]
        assert region[1] <= box[1]
        assert region[3] >= box[3]
        assert region[0] <= x <= region[2]
        if speed < 1:
            assert region[0] <= box[0] + 1e-9
            assert region[2] >= box[2] - 1e-9


def test_a_region_stands_still_again_when_the_person_does() -> None:
    finder = create("person", ASPECT)
    regions = [
        finder.find(Seen(ns(step / 10), tracks=[track(person(0.2 + 0.02 * min(step, 20)))]))["p1"]
        for step in range(60)
    ]
    assert np.ptp(np.array(regions[50:]), axis=0).max() < 1e-5
    centre = (regions[-1][0] + regions[-1][2]) / 2
    assert centre == pytest.approx(0.6, abs=0.05)


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.tuples(SHARE, SHARE, SHARE, SHARE, st.floats(0, 3)), min_size=1, max_size=8),
    st.floats(0.3, 4),
    st.floats(0.3, 3),
)
def test_a_region_is_always_inside_and_of_one_shape(
    boxes: list[tuple[float, float, float, float, float]], aspect: float, shape: float
) -> None:
    follower = Follower(aspect, shape)
    time_s = 0.0
    for a, b, c, d, passed_s in boxes:
        time_s += passed_s
        region = follower.follow((min(a, b), min(c, d), max(a, b), max(c, d)), ns(time_s))
        x0, y0, x1, y1 = region
        assert 0 <= x0 < x1 <= 1
        assert 0 <= y0 < y1 <= 1
        assert (x1 - x0) * aspect / (y1 - y0) == pytest.approx(shape, rel=1e-6)


def test_at_the_border_the_region_is_shifted_into_the_picture() -> None:
    region = Follower(ASPECT).follow(person(0.01), ns(0))
    assert region[0] == 0.0
    assert (region[2] - region[0]) * ASPECT == pytest.approx(region[3] - region[1])


def test_each_track_has_a_region_while_it_lives() -> None:
    finder = create("person", ASPECT)
    both = [track(person(0.3), "p1"), track(person(0.7), "p2")]
    assert list(finder.find(Seen(ns(0), tracks=both))) == ["p1", "p2"]
    assert list(finder.find(Seen(ns(1), tracks=both[1:]))) == ["p2"]
    assert finder.find(Seen(ns(2))) == {}
    # A new one begins where it is, and doesn't glide in from an older one's place.
    region = finder.find(Seen(ns(3), tracks=[track(person(0.5), "p3")]))["p3"]
    assert (region[0] + region[2]) / 2 == pytest.approx(0.5)


def field(x0: float, x1: float) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    flow = np.zeros((90, 160, 2), np.float32)
    flow[30:60, round(x0 * 160) : round(x1 * 160)] = 3.0
    return flow


def test_the_moving_region_comes_grows_shrinks_slowly_and_goes() -> None:
    finder = create("moving", ASPECT)
    still = np.zeros((90, 160, 2), np.float32)
    assert finder.find(Seen(ns(0))) == {}
    assert finder.find(Seen(ns(0.1), field=still)) == {}

    def width(time_s: float, flow: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> float:
        region = finder.find(Seen(ns(time_s), field=flow))["moving"]
        return region[2] - region[0]

    small = width(0.2, field(0.45, 0.55))
    for step in range(10):
        large = width(0.3 + step / 10, field(0.3, 0.7))
    assert large > 1.4 * small  # within a second
    after = [width(1.3 + step / 10, field(0.45, 0.55)) for step in range(30)]
    assert after[4] > 0.9 * large
    assert after[-1] < 0.85 * large
    ended = 1.3 + 2.9
    assert width(ended + MOVING_HOLD_S - 0.1, still) == pytest.approx(after[-1])
    assert finder.find(Seen(ns(ended + MOVING_HOLD_S + 0.1), field=still)) == {}


def test_the_frame_is_one_region() -> None:
    assert create("frame", ASPECT).find(Seen(0)) == {"frame": WHOLE}


def test_the_table_says_what_a_view_needs() -> None:
    assert [name for name, view in VIEWS.items() if view.needs_people] == ["person"]
    assert [name for name, view in VIEWS.items() if view.needs_motion] == ["moving"]
    with pytest.raises(ValueError, match="frame, moving, person"):
        create("face", ASPECT)
