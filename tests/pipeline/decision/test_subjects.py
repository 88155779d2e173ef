"""Subjects: each has a window and rules of its own, and leaves with its region."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from pipeline.arrays import Vector
from pipeline.config.rules import LabelRule
from pipeline.decision.decisions import PackDecisions, decide_packs, thresholds
from pipeline.decision.rule_filter import RuleFilters
from pipeline.model.pack import ModelPack
from pipeline.model.session import Network
from pipeline.model.watch import Watch, feature_key
from pipeline.steps.join import DecidedStep
from pipeline.transport.messages import Box, Feature, Moment, Person, Transition
from testbed import tiny_pack

LEFT_HALF = ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0))
HERE: Box = (0.1, 0.1, 0.3, 0.9)
THERE: Box = (0.6, 0.1, 0.8, 0.9)
TO_THE_LEFT, STILL = (-6.0, 0.0), (0.0, 0.0)


class Camera:
    """One camera with one pack, fed with features of subjects as the stream stages send them."""

    def __init__(self, folder: Path, view: str, rule: LabelRule | None = None) -> None:
        pack = ModelPack.load(tiny_pack.make(folder, view=view))
        self.view, self.watch = view, Watch(pack)
        self.filtered: list[str] = []
        filters = RuleFilters(
            {"door": {"left": rule}} if rule else {},
            0,
            True,
            lambda _camera, _label, reason: self.filtered.append(reason),
            {"door": {"west": LEFT_HALF}},
        )
        self.pack = PackDecisions("door", self.watch, thresholds(pack.contract), 1.0, True, filters)
        self._networks = {pack.sha256: Network(pack, "fusion").run}
        self._temporal = Network(pack, "temporal").run
        self._step = -1

    def features(self, flow: tuple[float, float]) -> bytes:
        """What the motion network makes of a stack that moves by ``flow`` everywhere."""
        contract = self.watch.pack.contract.temporal
        stack = np.empty((1, contract.stack, *contract.size, 2), np.uint8)
        stack[:] = np.clip(128 + np.array(flow) * 127 / contract.bound, 0, 255)
        features: Vector = self._temporal({"flow": stack})["features"]
        return bytes(features[0].tobytes())

    def step(
        self,
        moving: Mapping[str, tuple[Box, tuple[float, float]]] | None,
        people: Mapping[str, Box] | None = None,
        segment: int = 0,
    ) -> list[Transition]:
        """Decide one step: ``moving`` are the subjects there, their regions and their motion."""
        self._step += 1
        moment = Moment(
            camera="door",
            segment=segment,
            step_id=self._step,
            frame_id=self._step,
            captured_ns=self._step * 100_000_000,
            pts_ns=self._step * 100_000_000,
            elapsed_steps=1.0,
            skipped=0,
        )
        vectors: dict[str, bytes | None] = {
            feature_key(self.watch.temporal, name): self.features(flow)
            for name, (_, flow) in (moving or {}).items()
        }
        regions = {} if moving is None else {self.view: {n: box for n, (box, _) in moving.items()}}
        if self.view == "frame":
            regions = {}
        temporal = Feature(
            moment=moment, stream="temporal", vectors=vectors, regions=regions, trail=()
        )
        seen = None if people is None else tuple(Person(n, b, 0.9) for n, b in people.items())
        step = DecidedStep(moment, None, temporal, seen)
        found = decide_packs(self._networks, [([self.pack], step)], 0, lambda: 0, _no_guard)
        return [transition for decided in found for transition in decided.transitions]


class _NoGuard:
    def __enter__(self) -> None: ...
    def __exit__(self, *_: object) -> None: ...


def _no_guard(_camera: str) -> _NoGuard:
    return _NoGuard()


@pytest.fixture
def camera(tmp_path: Path) -> Camera:
    return Camera(tmp_path / "pack", "person")


def told(transitions: list[Transition]) -> list[tuple[str, str, str]]:
    return [(t.subject, t.change.type, t.change.label) for t in transitions]


def test_each_subject_has_a_window_of_its_own(camera: Camera) -> None:
    found = [
        one
        for _ in range(8)
        for one in camera.step({"p1": (HERE, TO_THE_LEFT), "p2": (THERE, STILL)})
    ]
    assert told(found)[0] == ("p1", "start", "left")
    assert {one.subject for one in found} == {"p1"}
    assert found[0].change.box == HERE
    assert found[0].change.zone == "west"


def test_the_box_is_the_persons_not_the_regions(camera: Camera) -> None:
    body: Box = (0.15, 0.2, 0.25, 0.8)
    for _ in range(8):
        found = camera.step({"p1": (HERE, TO_THE_LEFT)}, people={"p1": body})
        if found:
            break
    assert found[0].change.box == found[0].change.top_box == body


def test_who_leaves_ends_an_event_and_is_forgotten(camera: Camera) -> None:
    for _ in range(8):
        camera.step({"p1": (HERE, TO_THE_LEFT)})
    assert camera.pack.active
    ended = camera.step({})
    assert told(ended) == [("p1", "end", "left")]
    assert ended[0].change.reason == "left"
    assert camera.pack.subjects == {}
    assert not camera.pack.active


def test_a_step_of_which_nothing_is_known_ends_nothing(camera: Camera) -> None:
    for _ in range(8):
        camera.step({"p1": (HERE, TO_THE_LEFT)})
    assert camera.step(None) == []
    assert camera.pack.active


def test_a_gap_ends_it_as_a_gap(camera: Camera) -> None:
    for _ in range(8):
        camera.step({"p1": (HERE, TO_THE_LEFT)})
    ended = camera.step({"p2": (HERE, STILL)}, segment=1)
    assert [(t.subject, t.change.reason) for t in ended] == [("p1", "gap")]


def test_events_of_all_subjects_have_numbers_of_their_own(tmp_path: Path) -> None:
    """What moves comes back under the same name: its events must not be taken for the first's."""
    camera = Camera(tmp_path / "pack", "moving")
    keys = []
    for _ in range(3):
        found = [t for _ in range(8) for t in camera.step({"moving": (HERE, TO_THE_LEFT)})]
        keys.append({t.key for t in (*found, *camera.step({}))})
    assert [len(each) for each in keys] == [1, 1, 1]
    assert len(set.union(*keys)) == 3


def test_a_rule_holds_back_one_subject_and_not_the_other(tmp_path: Path) -> None:
    camera = Camera(tmp_path / "pack", "person", LabelRule(zones=("west",)))
    found = [
        one
        for _ in range(8)
        for one in camera.step({"p1": (THERE, TO_THE_LEFT), "p2": (HERE, TO_THE_LEFT)})
    ]
    assert {one.subject for one in found} == {"p2"}
    assert camera.filtered == ["zone"]


def test_an_event_starts_when_its_person_enters_the_zone(tmp_path: Path) -> None:
    camera = Camera(tmp_path / "pack", "person", LabelRule(zones=("west",)))
    outside = [t for _ in range(12) for t in camera.step({"p1": (THERE, TO_THE_LEFT)})]
    assert outside == []
    inside = [t for _ in range(12) for t in camera.step({"p1": (HERE, TO_THE_LEFT)})]
    assert told(inside)[0] == ("p1", "start", "left")
    assert inside[0].change.zone == "west"


def test_the_whole_pictures_actions_need_a_person(tmp_path: Path) -> None:
    camera = Camera(tmp_path / "pack", "frame", LabelRule(needs_person=True))
    moving = {"frame": (HERE, TO_THE_LEFT)}
    assert [t for _ in range(8) for t in camera.step(moving, people={})] == []
    assert camera.filtered == ["person"]
    found = [t for _ in range(12) for t in camera.step(moving, people={"p1": THERE})]
    assert told(found)[0] == ("frame", "start", "left")
    assert found[0].change.box is None
