"""Spatial: the appearance stream, f_spatial(v_t). One process for all cameras."""

from collections.abc import Mapping, Sequence
from math import lcm

import numpy as np
import numpy.typing as npt

from pipeline import topology
from pipeline.arrays import Frame, Vector
from pipeline.model.pack import Contract, Fit, Size
from pipeline.people.cutting import cut
from pipeline.stages.base import Context
from pipeline.stages.features import FeatureStage, Look, OpenNetwork
from pipeline.steps.follow import appearance_features
from pipeline.steps.preprocess import spatial_input
from pipeline.transport import topics
from pipeline.transport.counters import key
from pipeline.transport.frame_ring import FrameOverwritten
from pipeline.transport.messages import Box, FlowRef, FrameRef


class Spatial(FeatureStage[FrameRef | FlowRef, Frame]):
    """Resizes frames, or regions of them, straight out of their slots, and runs the CNNs.

    Networks of one size share a picture.
    """

    def __init__(self, context: Context) -> None:
        self._turns = {camera: turn for turn, camera in enumerate(context.spec.cameras)}
        watched = topology.watched(context.config)
        super().__init__(context, "spatial", (FrameRef, FlowRef), topics.SPATIAL, watched, _empty)

    def take(self, ref: FrameRef | FlowRef, took_ns: int) -> dict[Look, Frame] | None:
        due = self._in_turn(ref)
        if not due and isinstance(ref, FrameRef):
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
        if not pictures:
            self.pass_over(ref, took_ns)
            return None
        return pictures

    def _pictures(self, frame: Frame, due: Mapping[Look, Box]) -> dict[Look, Frame]:
        made: dict[tuple[Box, Size, Fit], Frame] = {}
        pictures = {}
        for look, region in due.items():
            contract = self._networks[look.network].contract
            wanted = (region, contract.spatial.size, contract.spatial.fit)
            if wanted not in made:
                made[wanted] = spatial_input(cut(frame, region), contract)
            pictures[look] = made[wanted]
        return pictures

    def _in_turn(self, ref: FrameRef | FlowRef) -> dict[Look, Box]:
        """The networks to run in this step. Cameras take turns: all steps cost alike."""
        pace, moment = self._context.link.pace, ref.moment
        turn, uses = self._turns[moment.camera], self._uses[moment.camera]

        def has_its_turn(network: str) -> bool:
            # When the governor drops steps, take turns over the steps that remain.
            made = moment.step_id // lcm(pace.step_every, uses.every(network))
            return (made + turn) % pace.spatial_every == 0

        return {look: box for look, box in self.due(ref).items() if has_its_turn(look.network)}

    def features(self, opened: OpenNetwork, items: Sequence[Frame]) -> Vector:
        return appearance_features(opened.network.run, items)


def _empty(contract: Contract) -> dict[str, npt.NDArray[np.generic]]:
    return {"frames": np.zeros((1, *contract.spatial.size, 3), np.uint8)}
