"""Spatial: the appearance stream, f_spatial(v_t). One process for all cameras."""

from math import lcm
from typing import NamedTuple

import numpy as np

from pipeline import topology
from pipeline.arrays import Frame, Vector
from pipeline.model.pack import Contract, Size
from pipeline.model.session import Network
from pipeline.model.watch import network_names
from pipeline.stages.base import Context
from pipeline.stages.features import FeatureSender, Uses
from pipeline.stages.step_stage import StepStage
from pipeline.steps.follow import appearance_features, check_finite
from pipeline.steps.preprocess import spatial_input
from pipeline.transport import topics
from pipeline.transport.counters import key
from pipeline.transport.frame_ring import FrameOverwritten
from pipeline.transport.messages import FrameRef


class _Appearance(NamedTuple):
    """A network, the contract of a pack that has it, and its name in the metrics."""

    network: Network
    contract: Contract
    named: str


class Spatial(StepStage[FrameRef, dict[str, Frame]]):
    """Resizes frames straight out of their slots and runs the CNNs over a batch of cameras.

    A step's pictures are kept by network; networks of one size share a picture.
    """

    def __init__(self, context: Context) -> None:
        runtime = context.config.runtime
        watched = topology.watched(context.config)
        self._networks: dict[str, _Appearance] = {}
        all_watches = topology.all_watches(watched)
        names = network_names("spatial", all_watches)
        for watch in all_watches:
            if watch.spatial in self._networks:
                continue
            network = Network(watch.pack, "spatial", runtime.threads, runtime.providers)
            contract = watch.pack.contract
            # The first run plans memory and is slow: do it before the stage is ready.
            network.run({"frames": np.zeros((1, *contract.spatial.size, 3), np.uint8)})
            name = names[watch.spatial]
            self._networks[watch.spatial] = _Appearance(network, contract, name)
        self._turns = {camera: turn for turn, camera in enumerate(context.spec.cameras)}
        self._uses = {camera: Uses("spatial", watches) for camera, watches in watched.items()}
        super().__init__(context, FrameRef, topics.FRAME, topics.SPATIAL, watched)
        self._sender = FeatureSender(self._publisher, "spatial", context.clock, self._uses)

    def take(self, ref: FrameRef, took_ns: int) -> dict[str, Frame] | None:
        due = self._due(ref)
        if not due:
            self.pass_over(ref, took_ns)
            return None
        try:
            ring = self._rings.get(ref.moment.camera, ref.ring)
            with ring.view(ref.number) as frame:
                pictures = self._pictures(frame, due)
        except FrameOverwritten:
            self._context.counters[key("frames_overwritten", ref.moment.camera)] += 1
            return None
        ring.done(ref.number)
        return pictures

    def _pictures(self, frame: Frame, networks: list[str]) -> dict[str, Frame]:
        by_size: dict[Size, Frame] = {}
        for network in networks:
            contract = self._networks[network].contract
            if contract.spatial.size not in by_size:
                by_size[contract.spatial.size] = spatial_input(frame, contract)
        return {name: by_size[self._networks[name].contract.spatial.size] for name in networks}

    def _due(self, ref: FrameRef) -> list[str]:
        """The networks to run in this step. Cameras take turns: all steps cost alike."""
        pace, moment = self._context.link.pace, ref.moment
        turn, uses = self._turns[moment.camera], self._uses[moment.camera]

        def has_its_turn(network: str) -> bool:
            # When the governor drops steps, take turns over the steps that remain.
            made = moment.step_id // lcm(pace.step_every, uses.every(network))
            return (made + turn) % pace.spatial_every == 0

        return [network for network in uses.due(moment) if has_its_turn(network)]

    def finish(self, batch: list[tuple[FrameRef, dict[str, Frame]]], took_ns: int) -> None:
        features: list[dict[str, Vector]] = [{} for _ in batch]
        for name, appearance in self._networks.items():
            places = [place for place, (_, pictures) in enumerate(batch) if name in pictures]
            if not places:
                continue
            found = appearance_features(
                appearance.network.run, [batch[place][1][name] for place in places]
            )
            check_finite(found)
            for place, vector in zip(places, found, strict=True):
                features[place][name] = vector
            self._context.counters[key("inferences", appearance.named)] += len(places)
        for ref, _ in batch:
            self._context.counters[key("steps", ref.moment.camera)] += 1
        self._context.counters["batches"] += 1
        self._sender.send([ref for ref, _ in batch], features, took_ns)

    def pass_over(self, ref: FrameRef, took_ns: int) -> None:
        self._sender.send_nothing(ref, took_ns)
