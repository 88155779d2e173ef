"""Temporal: the motion stream, f_temporal(u_{t-L+1..t}). One process for all cameras."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from pipeline import topology
from pipeline.arrays import STILL, QuantisedFlow, Vector
from pipeline.memory.keeping import moving_share
from pipeline.model.pack import Contract, ViewName
from pipeline.model.watch import WHOLE_PICTURE, Watch
from pipeline.stages.base import Context
from pipeline.stages.features import FeatureStage, Look, OpenNetwork
from pipeline.steps.flow_fields import FlowStack
from pipeline.steps.follow import motion_features
from pipeline.transport import topics
from pipeline.transport.counters import key
from pipeline.transport.frame_ring import FrameOverwritten
from pipeline.transport.messages import FieldRef, FlowRef, Moment


@dataclass(slots=True)
class _Stacks:
    """The fields of one camera for one network, by subject."""

    view: ViewName
    every: int
    """The network takes one in so many steps."""
    length: int
    of: dict[str, FlowStack] = field(default_factory=dict)

    def push(
        self,
        moment: Moment,
        fields: Mapping[str, QuantisedFlow],
        span: int,
        subjects: Iterable[str],
    ) -> dict[str, FlowStack]:
        """Add a step's fields of those who are there, and forget the others; the whole stacks."""
        self.of = {name: self.of.get(name) or FlowStack(self.length) for name in subjects}
        step = moment.step_id // self.every
        return {
            name: stack
            for name, stack in self.of.items()
            if stack.push(moment.segment, step, fields.get(name), span)
        }


class Temporal(FeatureStage[FlowRef, FlowStack]):
    """Keeps the last L flow fields of each camera's subjects, and runs the CNNs."""

    def __init__(self, context: Context) -> None:
        watched = topology.watched(context.config)
        self._stacks = {camera: _stacks(watches) for camera, watches in watched.items()}
        self._bounds = {
            camera: {watch.flow.key: watch.flow.bound for watch in watches}
            for camera, watches in watched.items()
            if topology.has_memory(context.config, camera)
        }
        """By kind of flow, for cameras with a memory."""
        self._moved: dict[str, tuple[Moment, float]] = {}
        super().__init__(context, "temporal", (FlowRef,), topics.TEMPORAL, watched, _empty)

    def take(self, ref: FlowRef, took_ns: int) -> dict[Look, FlowStack] | None:
        whole: dict[Look, FlowStack] = {}
        for one in ref.fields:
            fields = self._fields(ref, one)
            self._note_motion(ref.moment, one, fields.values())
            for network, stacks in self._stacks[ref.moment.camera][one.kind].items():
                subjects = _subjects(ref, stacks.view)
                if subjects is None:
                    continue
                for name, stack in stacks.push(ref.moment, fields, one.span, subjects).items():
                    whole[Look(network, name)] = stack
        if not whole:
            self.pass_over(ref, took_ns)
            return None
        return whole

    def features(self, opened: OpenNetwork, items: Sequence[FlowStack]) -> Vector:
        return motion_features(opened.network.run, items, opened.contract.temporal)

    def _note_motion(self, moment: Moment, of: FieldRef, fields: Collection[QuantisedFlow]) -> None:
        bounds = self._bounds.get(moment.camera)
        if bounds is None or of.ring is None:
            return
        share = moving_share(fields, bounds[of.kind])
        before, most = self._moved.get(moment.camera, (moment, 0.0))
        self._moved[moment.camera] = moment, max(share, most) if before == moment else share

    def moved(self, ref: FlowRef) -> float | None:
        moment, share = self._moved.get(ref.moment.camera, (None, None))
        return share if moment == ref.moment else None

    def _fields(self, ref: FlowRef, one: FieldRef) -> dict[str, QuantisedFlow]:
        """The fields of a kind out of their ring; none where they were overwritten."""
        if one.ring is None:
            return {}
        try:
            ring = self._rings.get(f"{ref.moment.camera}/{one.kind}", one.ring)
            image = ring.read(one.number)
        except FrameOverwritten:
            self._context.counters[key("fields_overwritten", ref.moment.camera)] += 1
            return {}
        ring.done(one.number)
        height = image.shape[0] // one.places
        return {
            name: image[place * height : (place + 1) * height]
            for place, name in enumerate(one.subjects)
        }


def _subjects(ref: FlowRef, view: ViewName) -> Iterable[str] | None:
    """Who is there for a view; None where nobody can tell."""
    return (WHOLE_PICTURE,) if view == WHOLE_PICTURE else ref.regions.get(view)


def _stacks(watches: Iterable[Watch]) -> dict[str, dict[str, _Stacks]]:
    """A camera's stacks by kind of flow and network."""
    found: dict[str, dict[str, _Stacks]] = {}
    for watch in watches:
        length = watch.pack.contract.temporal.stack
        kind = found.setdefault(watch.flow.key, {})
        kind.setdefault(watch.temporal, _Stacks(watch.view, watch.every, length))
    return found


def _empty(contract: Contract) -> dict[str, npt.NDArray[np.generic]]:
    temporal = contract.temporal
    return {"flow": np.full((1, temporal.stack, *temporal.size, 2), STILL, np.uint8)}
