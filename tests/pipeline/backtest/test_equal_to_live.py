"""A back-test scores and says what a live run does, step by step."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Literal

import numpy as np
import pytest

from pipeline.arrays import Vector
from pipeline.backtest.judging import Judge, Said, by_row
from pipeline.backtest.scoring import StretchScorer
from pipeline.decision.decisions import PackDecisions, decide_packs, thresholds
from pipeline.decision.rule_filter import RuleFilters
from pipeline.memory.store import Stretch
from pipeline.memory.stretch import decoded, encoded
from pipeline.model.pack import ModelPack
from pipeline.model.session import Network
from pipeline.model.watch import Watch, feature_key
from pipeline.steps.join import DecidedStep
from pipeline.transport.messages import Feature, Moment, Regions, Transition
from testbed import tiny_pack

STEP_NS = 100_000_000
pytestmark = pytest.mark.slow
OFFSET_NS = 1_700_000_000_000_000_000
MOTIONS = ((-6.0, 0.0), (6.0, 0.0), (0.0, -6.0), (0.0, 0.0), (0.0, 0.0))


Outcome = tuple[dict[tuple[int, str], Vector], list[Said]]
"""Scores by step and subject, and the events."""


class World:
    """Steps of one camera as fusion gets them, by a seed."""

    def __init__(self, folder: Path, view: str, every: int, seed: int) -> None:
        pack = ModelPack.load(tiny_pack.make(folder / view, view=view, step_hz=10.0 / every))
        self.watch, self.pack = Watch(pack, every), pack
        self.fusion = Network(pack, "fusion").run
        self._temporal = Network(pack, "temporal").run
        self._rng = Random(seed)

    def _motion(self, flow: tuple[float, float]) -> bytes:
        contract = self.pack.contract.temporal
        stack = np.empty((1, contract.stack, *contract.size, 2), np.uint8)
        stack[:] = np.clip(128 + np.array(flow) * 127 / contract.bound, 0, 255)
        return bytes(self._temporal({"flow": stack})["features"][0].tobytes())

    def steps(self, count: int) -> list[DecidedStep]:
        rng, number, segment, flow = self._rng, 0, 0, MOTIONS[0]
        there = {"frame"} if self.watch.view == "frame" else {"p1"}
        found = []
        for _ in range(count):
            number += rng.choice((1, 1, 1, 1, 1, 1, 2, 3, 12))
            segment += rng.random() < 0.03
            if rng.random() < 0.15:
                flow = rng.choice(MOTIONS)
            if self.watch.view != "frame" and rng.random() < 0.1:
                there = set(rng.sample(("p1", "p2", "p3"), rng.randrange(3)))
            found.append(self._step(number, segment, flow, sorted(there)))
        return found

    def _step(
        self, number: int, segment: int, flow: tuple[float, float], there: Sequence[str]
    ) -> DecidedStep:
        rng, at_ns = self._rng, number * STEP_NS
        moment = Moment(
            camera="door", segment=segment, step_id=number, frame_id=number, captured_ns=at_ns,
            pts_ns=at_ns, elapsed_steps=1.0, skipped=0,
        )  # fmt: skip
        regions: Regions = {}
        if self.watch.view != "frame" and rng.random() < 0.95:
            regions = {self.watch.view: dict.fromkeys(there, (0.1, 0.1, 0.3, 0.9))}
        halves = {}
        streams: tuple[tuple[Literal["spatial", "temporal"], str], ...] = (
            ("spatial", self.watch.spatial), ("temporal", self.watch.temporal),
        )  # fmt: skip
        for stream, network in streams:
            vectors: dict[str, bytes | None] = {}
            for name in there:
                size = self.pack.contract.feature_size
                seen = self._motion(flow) if stream == "temporal" else bytes(4 * size)
                vectors[feature_key(network, name)] = None if rng.random() < 0.1 else seen
            came = rng.random() < 0.95
            halves[stream] = came and Feature(
                moment=moment,
                stream=stream,
                vectors=vectors,
                regions=regions,
                trail=(),
            )
        return DecidedStep(moment, halves["spatial"] or None, halves["temporal"] or None)


def live(world: World, steps: Sequence[DecidedStep]) -> Outcome:
    """The scores by step and subject, and what is said, as fusion finds them."""
    limits = thresholds(world.pack.contract)
    filters = RuleFilters({}, 0, True)
    decisions = PackDecisions("door", world.watch, limits, 1e9, True, filters)
    scores, said = {}, []

    def take(transitions: Sequence[Transition]) -> None:
        for one in transitions:
            change = one.change
            if change.type == "end":
                times = (
                    (change.start_pts_ns or 0) + OFFSET_NS,
                    (change.end_pts_ns or 0) + OFFSET_NS,
                )
                said.append(
                    Said("door", change.label, times[0], times[1], change.top_score, one.subject)
                )

    for step in steps:
        networks = {world.pack.sha256: world.fusion}
        batch = [([decisions], step)]
        for one in decide_packs(networks, batch, 0, lambda: 0, lambda _: suppress(ValueError)):
            take(one.transitions)
            if one.scored is not None:
                scores[step.moment.step_id, one.camera.subject] = one.scored.scores
    take(decisions.interrupt("end of stream"))
    return scores, said


def remembered(world: World, steps: Sequence[DecidedStep]) -> Outcome:
    """The same out of a memory, in stretches of any length."""
    scorer = StretchScorer(world.fusion, world.watch)
    judge = Judge("door", world.watch, thresholds(world.pack.contract))
    scores, place, rng = {}, 0, Random(5)
    while place < len(steps):
        part = decoded(encoded(steps[place : place + rng.randrange(1, 90)]))
        rows = by_row(scorer.scores(part))
        for row, of in rows.items():
            for subject, values in of.items():
                scores[part[row].moment.step_id, subject] = values
        judge.stretch(Stretch(0, 0, OFFSET_NS, True, part), rows)
        place += len(part)
    return scores, judge.end()


def key(one: Said) -> tuple[int, str, str]:
    return one.start_ns, one.label, one.subject


@pytest.mark.parametrize("every", [1, 2])
@pytest.mark.parametrize("view", ["frame", "person"])
@pytest.mark.parametrize("seed", range(4))
def test_scores_and_events_are_those_of_a_live_run(
    tmp_path: Path, view: str, every: int, seed: int
) -> None:
    world = World(tmp_path, view, every, seed)
    steps = world.steps(700)
    scores, said = live(world, steps)
    again, told = remembered(world, steps)
    assert again.keys() == scores.keys()
    for place, values in scores.items():
        np.testing.assert_allclose(again[place], values, atol=5e-3, err_msg=str(place))
    assert len(said) > 5
    assert [key(one) for one in sorted(told, key=key)] == [
        key(one) for one in sorted(said, key=key)
    ]
    for one, other in zip(sorted(told, key=key), sorted(said, key=key), strict=True):
        assert one.end_ns == other.end_ns
        assert one.top_score == pytest.approx(other.top_score, abs=5e-3)
