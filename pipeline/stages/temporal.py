"""Temporal: the motion stream, f_temporal(u_{t-L+1..t}). One process for all cameras."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from pipeline import topology
from pipeline.arrays import STILL, QuantisedFlow, Vector
from pipeline.model.pack import TemporalContract
from pipeline.model.session import Network
from pipeline.model.watch import Watch, network_names
from pipeline.stages.base import Context
from pipeline.stages.features import FeatureSender, Uses
from pipeline.stages.step_stage import StepStage
from pipeline.steps.flow_fields import FlowStack
from pipeline.steps.follow import check_finite, motion_features
from pipeline.transport import topics
from pipeline.transport.counters import key
from pipeline.transport.frame_ring import FrameOverwritten
from pipeline.transport.messages import FieldRef, FlowRef


class _Motion(NamedTuple):
    """A network on its kind of flow."""

    network: Network
    contract: TemporalContract
    named: str


class _Stack(NamedTuple):
    """The fields of one camera for one network, which takes one in ``every`` steps."""

    every: int
    fields: FlowStack


class Temporal(StepStage[FlowRef, dict[str, FlowStack]]):
    """Keeps each camera's last L flow fields and runs the CNNs over a batch of cameras."""

    def __init__(self, context: Context) -> None:
        runtime = context.config.runtime
        watched = topology.watched(context.config)
        self._networks: dict[str, _Motion] = {}
        all_watches = topology.all_watches(watched)
        names = network_names("temporal", all_watches)
        for watch in all_watches:
            if watch.temporal in self._networks:
                continue
            contract = watch.pack.contract.temporal
            network = Network(watch.pack, "temporal", runtime.threads, runtime.providers)
            shape = (1, contract.stack, *contract.size, 2)
            network.run({"flow": np.full(shape, STILL, np.uint8)})
            self._networks[watch.temporal] = _Motion(network, contract, names[watch.temporal])
        self._stacks = {camera: _stacks(watches) for camera, watches in watched.items()}
        uses = {camera: Uses("temporal", watches) for camera, watches in watched.items()}
        super().__init__(context, FlowRef, topics.FLOW, topics.TEMPORAL, watched)
        self._sender = FeatureSender(self._publisher, "temporal", context.clock, uses)

    def take(self, ref: FlowRef, took_ns: int) -> dict[str, FlowStack] | None:
        moment = ref.moment
        whole = {}
        for one in ref.fields:
            field = self._field(ref, one)
            for network, stack in self._stacks[moment.camera][one.kind].items():
                step = moment.step_id // stack.every
                if stack.fields.push(moment.segment, step, field, one.span):
                    whole[network] = stack.fields
        if not whole:
            self.pass_over(ref, took_ns)
            return None
        return whole

    def finish(self, batch: list[tuple[FlowRef, dict[str, FlowStack]]], took_ns: int) -> None:
        features: list[dict[str, Vector]] = [{} for _ in batch]
        for name, motion in self._networks.items():
            places = [place for place, (_, stacks) in enumerate(batch) if name in stacks]
            if not places:
                continue
            stacks = [batch[place][1][name] for place in places]
            found = motion_features(motion.network.run, stacks, motion.contract)
            check_finite(found)
            for place, vector in zip(places, found, strict=True):
                features[place][name] = vector
            self._context.counters[key("inferences", motion.named)] += len(places)
        for ref, _ in batch:
            self._context.counters[key("steps", ref.moment.camera)] += 1
        self._context.counters["batches"] += 1
        self._sender.send([ref for ref, _ in batch], features, took_ns)

    def pass_over(self, ref: FlowRef, took_ns: int) -> None:
        self._sender.send_nothing(ref, took_ns)

    def _field(self, ref: FlowRef, one: FieldRef) -> QuantisedFlow | None:
        """A field out of its ring; None when there is none or it was overwritten."""
        if one.ring is None:
            return None
        try:
            ring = self._rings.get(f"{ref.moment.camera}/{one.kind}", one.ring)
            field = ring.read(one.number)
        except FrameOverwritten:
            self._context.counters[key("fields_overwritten", ref.moment.camera)] += 1
            return None
        ring.done(one.number)
        return field


def _stacks(watches: Iterable[Watch]) -> dict[str, dict[str, _Stack]]:
    """A camera's stacks by kind of flow and network."""
    found: dict[str, dict[str, _Stack]] = {}
    for watch in watches:
        length = watch.pack.contract.temporal.stack
        kind = found.setdefault(watch.flow.key, {})
        kind.setdefault(watch.temporal, _Stack(watch.every, FlowStack(length)))
    return found
