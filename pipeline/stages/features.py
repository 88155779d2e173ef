"""What the two stream stages share: networks over subjects, and how features are sent."""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Generic, Literal, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from pipeline import topology
from pipeline.arrays import Vector
from pipeline.model.pack import Contract
from pipeline.model.session import Network
from pipeline.model.watch import WHOLE_PICTURE, Watch, feature_key, network_names
from pipeline.people.geometry import WHOLE
from pipeline.stages.base import Context
from pipeline.stages.step_queue import Ref
from pipeline.stages.step_stage import StepStage
from pipeline.steps.follow import check_finite
from pipeline.topology import Watched
from pipeline.transport.counters import key
from pipeline.transport.messages import Box, Feature, FlowRef, FrameRef, Regions, Stamp
from pipeline.transport.topics import Topic

Stream = Literal["spatial", "temporal"]


class Look(NamedTuple):
    """One inference of a step: a network looks at a subject."""

    network: str
    subject: str

    @property
    def key(self) -> str:
        """Under which its feature travels."""
        return feature_key(self.network, self.subject)


Item = TypeVar("Item")
"""What a network takes of a subject."""
Items = Mapping[Look, Item]


class Uses:
    """Which networks of one stream a camera's packs use, on what, and at which steps."""

    def __init__(self, stream: Stream, watches: Iterable[Watch]) -> None:
        self._every: dict[tuple[str, str], set[int]] = {}
        for watch in watches:
            use = (getattr(watch, stream), watch.view)
            self._every.setdefault(use, set()).add(watch.every)

    def due(self, step_id: int, regions: Regions) -> dict[Look, Box]:
        """What is to be looked at in a step, and where; ``regions`` are the step's."""
        looks: dict[Look, Box] = {}
        for (network, view), every in self._every.items():
            if not any(step_id % n == 0 for n in every):
                continue
            found = {WHOLE_PICTURE: WHOLE} if view == WHOLE_PICTURE else regions.get(view, {})
            looks.update({Look(network, subject): box for subject, box in found.items()})
        return looks

    def every(self, network: str) -> int:
        """How many of the camera's steps lie between two of the network's, at least."""
        return min(min(every) for (name, _), every in self._every.items() if name == network)


def regions_of(ref: FrameRef | FlowRef) -> Regions:
    """The regions that are known with a step."""
    return ref.regions if isinstance(ref, FlowRef) else {}


class OpenNetwork(NamedTuple):
    """A network, the contract of a pack that has it, and its name in the metrics."""

    network: Network
    contract: Contract
    named: str


Warmup = Callable[[Contract], Mapping[str, npt.NDArray[np.generic]]]
"""An input of a network, from its contract."""


def open_networks(
    context: Context, stream: Stream, watches: Sequence[Watch], empty: Warmup
) -> dict[str, OpenNetwork]:
    """Each network of the stream, by its key.

    The first run plans memory and is slow: it is done here, before the stage is ready.
    """
    runtime, names = context.config.runtime, network_names(stream, watches)
    opened: dict[str, OpenNetwork] = {}
    for watch in watches:
        name = getattr(watch, stream)
        if name not in opened:
            network = Network(watch.pack, stream, runtime.threads, runtime.providers)
            network.run(empty(watch.pack.contract))
            opened[name] = OpenNetwork(network, watch.pack.contract, names[name])
    return opened


class FeatureStage(StepStage[Ref, Items[Item]], Generic[Ref, Item]):
    """Runs the networks of one stream over a batch of cameras and their subjects."""

    def __init__(
        self,
        context: Context,
        stream: Stream,
        kinds: tuple[type[Ref], ...],
        writes: Topic,
        watched: Watched,
        empty: Warmup,
    ) -> None:
        self._stream: Stream = stream
        self._networks = open_networks(context, stream, topology.all_watches(watched), empty)
        self._uses = {camera: Uses(stream, watches) for camera, watches in watched.items()}
        super().__init__(context, kinds, writes, watched)

    @abstractmethod
    def features(self, opened: OpenNetwork, items: Sequence[Item]) -> Vector:
        """(N, d) features of N items."""

    def due(self, ref: FrameRef | FlowRef) -> dict[Look, Box]:
        """What is to be looked at in a step, and where."""
        return self._uses[ref.moment.camera].due(ref.moment.step_id, regions_of(ref))

    def moved(self, ref: Ref) -> float | None:
        """How much of the picture moves in a step, where anybody wants to know."""
        return None

    def finish(self, batch: list[tuple[Ref, Items[Item]]], took_ns: int) -> None:
        found: list[dict[Look, Vector]] = [{} for _ in batch]
        for name, opened in self._networks.items():
            looks = [
                (place, look)
                for place, (_, items) in enumerate(batch)
                for look in items
                if look.network == name
            ]
            if not looks:
                continue
            features = self.features(opened, [batch[place][1][look] for place, look in looks])
            check_finite(features)
            for (place, look), vector in zip(looks, features, strict=True):
                found[place][look] = vector
            self._context.counters[key("inferences", opened.named)] += len(looks)
        for ref, _ in batch:
            self._context.counters[key("steps", ref.moment.camera)] += 1
        self._context.counters["batches"] += 1
        self._send([ref for ref, _ in batch], found, took_ns)

    def pass_over(self, ref: Ref, took_ns: int) -> None:
        self._send([ref], [{}], took_ns)

    def _send(
        self, refs: Sequence[Ref], features: Sequence[Mapping[Look, Vector]], took_ns: int
    ) -> None:
        """``features`` of each ref, (d,) each; what is missing of them is masked."""
        let_go_ns = self._context.clock.monotonic_ns()
        messages = [
            Feature(
                moment=ref.moment,
                stream=self._stream,
                vectors={
                    look.key: found[look].tobytes() if look in found else None
                    for look in self.due(ref)
                },
                regions=regions_of(ref),
                moved=self.moved(ref),
                trail=(*ref.trail, Stamp(self._stream, took_ns, let_go_ns)),
            )
            for ref, found in zip(refs, features, strict=True)
        ]
        self._publisher.send(refs[0].moment.camera, *messages)
