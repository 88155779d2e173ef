"""The offline runner computes what the live pipeline computes."""

import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from pipeline import flow
from pipeline.arrays import Gray, planar_shape
from pipeline.clock import NS_PER_S
from pipeline.evaluate.clip_list import Entry
from pipeline.evaluate.recogniser import (
    OfflineRecogniser,
    StepResult,
    changes,
    file_frames,
)
from pipeline.evaluate.timeline import PAUSE_S, Item, Pause, Timeline
from pipeline.flow.base import dequantise
from pipeline.model.pack import ModelPack, Threshold
from pipeline.steps.flow_fields import FlowSteps
from pipeline.steps.follow import TimedFrame
from pipeline.transport.messages import Moment
from testbed import tiny_pack
from testbed.footage import panning_clip
from testbed.program import PROJECT, PipelineRun, scratch_folder
from testbed.walkers import Walkers, write

STEP_NS = NS_PER_S // 10


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_pack.make(tmp_path_factory.mktemp("pack") / "tiny")


@pytest.fixture(scope="module")
def panning(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return panning_clip(tmp_path_factory.mktemp("clips") / "panning.mp4", 13)


@pytest.fixture(scope="module")
def recogniser(tiny: Path) -> OfflineRecogniser:
    return OfflineRecogniser(ModelPack.load(tiny))


def rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def offline_scores(
    recogniser: OfflineRecogniser, steps: list[StepResult]
) -> dict[tuple[int, str], Any]:
    """Scores, streams and α by step and subject, as ``score/<camera>/`` has them."""
    labels = recogniser.contract.labels

    def named(scores: Any) -> dict[str, float] | None:
        if scores is None:
            return None
        return {label: round(float(s), 4) for label, s in zip(labels, scores, strict=True)}

    return {
        (step.step_id, step.subject): (
            round(step.pts_ns / NS_PER_S, 3),
            named(step.scores),
            {"spatial": named(step.spatial), "temporal": named(step.temporal)},
            rounded(step.alpha),
        )
        for step in steps
    }


def offline_events(recogniser: OfflineRecogniser, steps: list[StepResult]) -> list[Any]:
    def seconds(ns: int | None) -> float | None:
        return None if ns is None else round(ns / NS_PER_S, 3)

    return [
        (
            c.type,
            c.label,
            rounded(c.score),
            rounded(c.top_score),
            [seconds(c.start_pts_ns), seconds(c.end_pts_ns)],
            c.reason,
        )
        for c in (step.change for step in changes(recogniser.contract, steps))
    ]


def assert_equals_the_program(pack: Path, clip: Path) -> None:
    settings = {
        "model": str(pack),
        "cameras": {"a": {"source": str(clip)}},
        "runtime": {"delivery": "lossless"},
    }
    with scratch_folder() as folder, PipelineRun(folder, settings) as run:
        assert run.process.wait(120) == 0
        run._reader.join(5)
        printed, heard = run.printed(), [h.body for h in run.scores("a")]
    recogniser = OfflineRecogniser(ModelPack.load(pack))
    steps = list(recogniser.steps(file_frames(clip)))
    live_events = [
        (e["type"], e["label"], e["score"], e["top_score"], e["media_time"], e["reason"])
        for e in printed
    ]
    assert live_events
    assert offline_events(recogniser, steps) == live_events
    live_scores = {
        (body["window"]["last_step"], body.get("subject", "frame")): (
            body["media_time"], body["scores"], body["streams"], body["alpha"],
        )
        for body in heard
    }  # fmt: skip
    # A SUB socket may join late, on a busy machine very late. The steps that it received must agree
    # to the last of four places.
    assert max(live_scores)[0] == steps[-1].step_id
    offline = offline_scores(recogniser, steps)
    assert live_scores == {step: offline[step] for step in live_scores}


@pytest.mark.slow
def test_scores_and_events_are_those_of_the_program(tiny: Path, panning: Path) -> None:
    assert_equals_the_program(tiny, panning)


@pytest.mark.slow
def test_what_moves_has_the_scores_and_events_of_the_program(tmp_path: Path) -> None:
    pack = tiny_pack.make(tmp_path / "tiny", view="moving")
    clip = write(tmp_path / "walker.avi", Walkers(((250, -6),)), 30)
    assert_equals_the_program(pack, clip)


@pytest.mark.slow
def test_people_have_the_scores_and_events_of_the_program(tmp_path: Path) -> None:
    data = os.environ.get("TWO_STREAM_DATA")
    if not data:
        pytest.skip("TWO_STREAM_DATA does not name the folder of clips")
    # So that the little that the tiny networks see is an event.
    early = {label: Threshold(start=0.02, end=0.01) for label in tiny_pack.LABELS}
    pack = tiny_pack.make(tmp_path / "tiny", view="person", thresholds=early)
    assert_equals_the_program(pack, Path(data) / "fights" / "fight" / "fi063.mp4")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["left_3", "star_14"])
def test_scores_and_events_of_the_shipped_pack(name: str) -> None:
    data = os.environ.get("TWO_STREAM_DATA")
    if not data:
        pytest.skip("TWO_STREAM_DATA does not name the folder of clips")
    assert_equals_the_program(PROJECT / "models" / "gestures", Path(data) / "vga" / f"{name}.mp4")


def picture(shift: int, size: tuple[int, int] = (120, 160)) -> np.ndarray[Any, np.dtype[np.uint8]]:
    noise = np.random.default_rng(3).integers(0, 255, (*size, 3), np.uint8)
    smooth = cv2.GaussianBlur(noise, (0, 0), 6)
    stretched = cv2.normalize(smooth, None, 0, 255, cv2.NORM_MINMAX)  # type: ignore[call-overload]
    return np.roll(np.asarray(stretched, np.uint8), shift, axis=1)


def timed(pts_ns: int, shift: int, size: tuple[int, int] = (120, 160)) -> TimedFrame:
    return TimedFrame(pts_ns, lambda: picture(shift, size))


def test_a_gap_starts_a_segment_and_counts_the_steps_it_lasted(
    recogniser: OfflineRecogniser,
) -> None:
    frames = [timed(i * STEP_NS, 2 * i) for i in range(6)]
    frames += [timed((i + 12) * STEP_NS, 2 * i) for i in range(4)]
    steps = list(recogniser.steps(frames))
    assert [(s.segment, s.step_id) for s in steps] == [
        *((0, i) for i in range(6)),
        *((1, i + 12) for i in range(4)),
    ]
    # Two fields make a stack: the third step of a segment is the first with the temporal stream.
    assert [s.temporal is None for s in steps] == [
        True,
        True,
        *[False] * 4,
        True,
        True,
        *[False] * 2,
    ]


def test_another_size_starts_a_segment(recogniser: OfflineRecogniser) -> None:
    frames = [timed(i * STEP_NS, i, (120, 160) if i < 3 else (60, 80)) for i in range(5)]
    assert [s.segment for s in recogniser.steps(frames)] == [0, 0, 0, 1, 1]


def test_only_frames_of_steps_are_retrieved(recogniser: OfflineRecogniser) -> None:
    taken: list[int] = []

    def frame(index: int) -> TimedFrame:
        def retrieve() -> Any:
            taken.append(index)
            return picture(index)

        return TimedFrame(index * STEP_NS // 6, retrieve)

    steps = list(recogniser.steps(frame(i) for i in range(60)))
    assert len(steps) == len(taken) == 11  # frames stand for the nearest step, 0 to 10


class TestFlowSteps:
    """Fields between steps whose frames are apart, skipped, or lost."""

    @pytest.fixture
    def flow_steps(self) -> FlowSteps:
        return FlowSteps(flow.create("dis"), tiny_pack.contract())

    @staticmethod
    def at(step_id: int, elapsed: float = 1.0, skipped: int = 0, segment: int = 0) -> Moment:
        return Moment(
            camera="a", segment=segment, step_id=step_id, frame_id=0, captured_ns=0, pts_ns=0,
            elapsed_steps=elapsed, skipped=skipped,
        )  # fmt: skip

    @staticmethod
    def grey(shift: int) -> Gray:
        return np.asarray(cv2.cvtColor(picture(shift, (60, 80)), cv2.COLOR_BGR2GRAY), np.uint8)

    def second_field(self, flow_steps: FlowSteps, moments: list[Moment]) -> tuple[float, int]:
        """Mean horizontal motion, pixels per step, and the span of the last step's field."""
        flow_steps.advance(self.at(0))
        assert flow_steps.field(self.grey(0)) == (None, 1)
        for moment in moments:  # all but the last step's frame are lost
            flow_steps.advance(moment)
        field, span = flow_steps.field(self.grey(4))
        return (np.nan if field is None else dequantise(field, 8.0)[3:-3, 4:-4, 0].mean()), span

    def test_a_field_is_in_pixels_per_step(self, flow_steps: FlowSteps) -> None:
        motion, span = self.second_field(flow_steps, [self.at(1)])
        assert motion == pytest.approx(4.0, abs=0.4)
        assert span == 1

    def test_a_skipped_step_and_a_lost_frame_are_spanned(self, flow_steps: FlowSteps) -> None:
        motion, span = self.second_field(flow_steps, [self.at(2, elapsed=2.0, skipped=1)])
        assert motion == pytest.approx(2.0, abs=0.3)
        assert span == 2

    def test_an_overwritten_frame_is_spanned(self, flow_steps: FlowSteps) -> None:
        motion, span = self.second_field(flow_steps, [self.at(1), self.at(2, elapsed=1.5)])
        assert motion == pytest.approx(4.0 / 2.5, abs=0.3)
        assert span == 2

    def test_no_field_over_too_long_a_pause_or_another_segment(self, flow_steps: FlowSteps) -> None:
        motion, span = self.second_field(flow_steps, [self.at(4, elapsed=4.0, skipped=3)])
        assert np.isnan(motion)
        assert span == 4
        flow_steps.advance(self.at(5, segment=1))
        assert flow_steps.field(self.grey(8)) == (None, 1)


def test_runs_do_not_leak_into_one_another(recogniser: OfflineRecogniser) -> None:
    frames = [timed(i * STEP_NS, 3 * i) for i in range(8)]
    first, second = list(recogniser.steps(frames)), list(recogniser.steps(frames))
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a.scores, b.scores)
        assert (a.segment, a.step_id, a.pts_ns) == (b.segment, b.step_id, b.pts_ns)


def test_a_gap_ends_events(recogniser: OfflineRecogniser) -> None:
    frames = [timed(i * STEP_NS, -4 * i) for i in range(10)]
    frames += [timed((i + 30) * STEP_NS, 0) for i in range(3)]
    found = [step.change for step in changes(recogniser.contract, recogniser.steps(frames))]
    assert [(c.type, c.label, c.reason) for c in found] == [
        ("start", "left", None),
        ("end", "left", "gap"),
    ]


def test_a_timeline_is_one_camera(panning: Path, tmp_path: Path) -> None:
    """Times go on over clips, frames have one size, and the intervals are where clips lie."""
    small = panning_clip(tmp_path / "small.mp4", 1.0, size=(120, 160))
    entries: list[Item] = [
        Entry(panning, "left"),
        Pause(),
        Entry(small, "right"),
        Entry(small, "background"),
    ]
    broken = Entry(tmp_path / "none.mp4", "up")
    ticks: list[int] = []
    timeline = Timeline([*entries, broken], ("background",), 10.0, lambda: ticks.append(1))
    frames = list(_retrieved(timeline))
    times = np.array([t for t, _ in frames])
    assert (np.diff(times) > 0).all()
    assert {shape for _, shape in frames} == {planar_shape(240, 320)}
    spans = [(i.label, i.start_ns / NS_PER_S, i.end_ns / NS_PER_S) for i in timeline.intervals]
    assert [label for label, *_ in spans] == ["left", "right"]
    assert spans[0][1:] == pytest.approx((0.0, 13.0), abs=1e-3)
    assert spans[1][1:] == pytest.approx((13.0 + PAUSE_S, 14.0 + PAUSE_S), abs=1e-3)
    assert timeline.end_ns / NS_PER_S == pytest.approx(15.0 + PAUSE_S, abs=1e-3)
    assert list(timeline.unreadable) == [broken.path]
    assert len(ticks) == 5


def _retrieved(timeline: Timeline) -> Any:
    for frame in timeline.frames():
        yield frame.pts_ns, frame.retrieve().shape


@pytest.mark.slow
def test_a_timeline_is_one_segment(recogniser: OfflineRecogniser, panning: Path) -> None:
    timeline = Timeline([Entry(panning, "left")] * 2, (), 10.0)
    steps = list(recogniser.steps(timeline.frames()))
    assert {step.segment for step in steps} == {0}
    assert [step.step_id for step in steps] == list(range(261))
