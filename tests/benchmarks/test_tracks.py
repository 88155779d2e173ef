"""The figures of tracks, and the tracker on the labelled pieces of vtest.avi."""

import numpy as np
import pytest

from benchmarks.regions import WAYS, figures
from benchmarks.track_figures import TrackScore, overlap
from benchmarks.tracks import measure, read_labels
from pipeline.transport.messages import Box

LEFT: Box = (0.1, 0.2, 0.2, 0.6)
RIGHT: Box = (0.7, 0.2, 0.8, 0.6)


def score(*frames: tuple[dict[str, Box], dict[str, Box]]) -> TrackScore:
    counted = TrackScore()
    for people, tracks in frames:
        counted.frame(people, tracks)
    return counted


def test_perfect_tracks_have_perfect_figures() -> None:
    frame: tuple[dict[str, Box], dict[str, Box]]
    frame = {"anna": LEFT, "ben": RIGHT}, {"p1": LEFT, "p2": RIGHT}
    found = score(frame, frame, frame).figures()
    assert (found.boxes, found.missed, found.extra, found.switches, found.fragments) == (
        6,
        0,
        0,
        0,
        0,
    )
    assert (found.names, found.accuracy, found.association) == (1, 1, 1)


def test_two_who_swap_their_names_are_two_switches() -> None:
    people = {"anna": LEFT, "ben": RIGHT}
    found = score(
        (people, {"p1": LEFT, "p2": RIGHT}), (people, {"p2": LEFT, "p1": RIGHT})
    ).figures()
    assert found.switches == 2
    assert found.names == 2
    assert found.accuracy == pytest.approx(0.5)
    assert found.association == pytest.approx(1 / 3)


def test_a_gap_is_a_fragment_and_another_name_after_it_a_switch_too() -> None:
    anna, nobody = {"anna": LEFT}, dict[str, Box]()
    here, gone = (anna, {"p1": LEFT}), (anna, nobody)
    again = score(here, gone, here).figures()
    assert (again.missed, again.fragments, again.switches) == (1, 1, 0)
    renamed = score(here, gone, (anna, {"p2": LEFT})).figures()
    assert (renamed.fragments, renamed.switches) == (1, 1)


def test_a_pair_stays_while_it_overlaps() -> None:
    """CLEAR MOT keeps a pair even if another track is nearer now."""
    near = tuple(side + 0.01 for side in LEFT)
    assert len(near) == 4
    people = {"anna": LEFT}
    found = score((people, {"p1": LEFT}), (people, {"p1": near, "p2": LEFT})).figures()
    assert (found.switches, found.extra) == (0, 1)


def test_nothing_has_figures_too() -> None:
    found = TrackScore().figures()
    assert (found.people, found.names, found.association) == (0, 0, 0)
    assert overlap(LEFT, RIGHT) == 0
    assert overlap((0, 0, 0, 0), (0, 0, 0, 0)) == 0


def test_the_labels_are_boxes_in_the_picture_twice_a_second() -> None:
    labels = read_labels()
    wide, high = labels.size
    assert len(labels.pieces) == 3
    for piece in labels.pieces:
        numbers = sorted(int(number) for number in piece.frames)
        assert np.diff(numbers).tolist() == [5] * 20
        assert all(person.startswith(piece.name) for row in piece.frames.values() for person in row)
        for row in piece.frames.values():
            for x0, y0, x1, y1 in row.values():
                assert 0 <= x0 < x1 <= wide
                assert 0 <= y0 < y1 <= high


@pytest.mark.slow
def test_on_worsened_labels_people_keep_their_names() -> None:
    """15 % of the boxes missing, all of them trembling, the hidden gone."""
    rates = measure(detections="labels").rates
    for rate, most in (("5", 5), ("10", 3)):
        whole = rates[rate]["all"]
        assert whole.people == 22
        assert whole.switches <= most
        assert whole.names <= 1.2
        assert whole.association >= 0.85


@pytest.mark.slow
def test_the_chosen_way_of_following_makes_no_flow_and_loses_nobody() -> None:
    chosen = next(way for name, way in WAYS.items() if "chosen" in name)
    found = figures(chosen, seeds=2)
    assert found.flow_px < 0.02
    assert found.inside > 0.98
    assert found.offset < 0.1
    assert figures(WAYS["the box itself"], seeds=1).flow_px > 0.3
