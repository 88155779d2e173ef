"""The topology: which stages a config needs, and which cameras each of them serves."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.config import Config
from pipeline.config.rules import rules_of
from pipeline.model.pack import ModelPack, ViewName
from pipeline.model.watch import WHOLE_PICTURE, Watch, watches
from pipeline.transport import topics
from pipeline.transport.topics import Topic

PEOPLE_VIEWS: frozenset[ViewName] = frozenset({"person"})
"""Views for which people must be looked for (:data:`pipeline.people.regions.VIEWS`)."""


BESIDE = frozenset({"evidence", "memory"})
"""Kinds of stages that nobody waits for: a run goes on without them."""


@dataclass(frozen=True, slots=True)
class StageSpec:
    """One process: its kind, its name, and the cameras it serves."""

    kind: str
    instance: str
    cameras: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"{self.kind}:{self.instance}" if self.instance else self.kind


@dataclass(frozen=True, slots=True)
class Route:
    """How a camera's steps go on from capture: to flow and to spatial, unless this says more."""

    people: bool = False
    """They also go to people, and from there to fusion: somebody asks who is there."""
    people_first: bool = False
    """Flow gets them from people: a pack looks at persons, whose regions flow cuts."""
    flow_first: bool = False
    """Spatial gets them from flow: a pack looks at regions, which flow finds."""


Routes = Mapping[str, Route]
"""Each camera's route."""


def routes(config: Config, watched: "Watched") -> dict[str, Route]:
    """The routes of the cameras in ``watched``."""
    found = {}
    for camera, there in watched.items():
        views = {watch.view for watch in there}
        asks = any(rule.asks_for_people for rule in rules_of(config, camera).values())
        persons = bool(views & PEOPLE_VIEWS)
        found[camera] = Route(
            people=persons or asks or config.publish.people,
            people_first=persons,
            flow_first=views != {WHOLE_PICTURE},
        )
    return found


def with_people(routes: Routes) -> list[str]:
    """The cameras at which people are looked for."""
    return [camera for camera, route in routes.items() if route.people]


def stages(config: Config, people: Iterable[str] = ()) -> list[StageSpec]:
    """Every process of a run, in the order of :data:`pipeline.transport.topics.STAGES`.

    ``people`` are the cameras at which people are looked for; without one there is no such stage.
    """
    cameras, looked_at = tuple(config.cameras), tuple(people)
    recorded = tuple(camera for camera in cameras if has_evidence(config, camera))
    remembered = tuple(camera for camera in cameras if has_memory(config, camera))
    return [
        *(StageSpec("capture", camera, (camera,)) for camera in cameras),
        *([StageSpec("people", "", looked_at)] if looked_at else []),
        *(StageSpec("flow", str(worker), shard) for worker, shard in flow_shards(config).items()),
        StageSpec("spatial", "", cameras),
        StageSpec("temporal", "", cameras),
        StageSpec("fusion", "", cameras),
        *([StageSpec("memory", "", remembered)] if remembered else []),
        *([StageSpec("evidence", "", recorded)] if recorded else []),
        StageSpec("publish", "", cameras),
    ]


def has_evidence(config: Config, camera: str) -> bool:
    """Whether clips or pictures are made of a camera's events."""
    return config.evidence.folder is not None and config.cameras[camera].evidence is None


def has_memory(config: Config, camera: str) -> bool:
    """Whether a camera's features are kept."""
    return config.memory.folder is not None and config.cameras[camera].memory is None


def writers(kind: str, config: Config, cameras: Collection[str]) -> tuple[str, ...]:
    """Instances of ``kind`` that serve any of ``cameras``."""
    return tuple(
        spec.instance
        for spec in stages(config, cameras)
        if spec.kind == kind and not set(cameras).isdisjoint(spec.cameras)
    )


@dataclass(frozen=True, slots=True)
class Inlet:
    """A topic from which a stage gets the steps of some of its cameras."""

    topic: Topic
    cameras: tuple[str, ...]


def inlets(kind: str, routes: Routes, cameras: Collection[str]) -> list[Inlet]:
    """Where people, flow, spatial or temporal gets the steps of its ``cameras``."""
    by_topic: dict[str, Inlet] = {}
    for camera in cameras:
        topic = _inlet(kind, routes[camera])
        before = by_topic.get(topic.name, Inlet(topic, ()))
        by_topic[topic.name] = Inlet(topic, (*before.cameras, camera))
    return list(by_topic.values())


def _inlet(kind: str, route: Route) -> Topic:
    if kind == "temporal" or (kind == "spatial" and route.flow_first):
        return topics.FLOW
    return topics.PEOPLE if kind == "flow" and route.people_first else topics.FRAME


def readers(topic: Topic, route: Route) -> int:
    """How many stages subscribe to a camera's steps on a topic."""
    if topic is topics.FRAME:
        return route.people + (not route.people_first) + (not route.flow_first)
    if topic is topics.PEOPLE:
        return 1 + route.people_first
    if topic is topics.FLOW:
        return 1 + route.flow_first
    return len(topic.readers)


def flow_shards(config: Config) -> Mapping[int, tuple[str, ...]]:
    """The cameras of each flow worker, dealt out in turn; each worker has at least one."""
    cameras = tuple(config.cameras)
    workers = min(config.flow.workers, len(cameras))
    return {worker: cameras[worker::workers] for worker in range(workers)}


Watched = Mapping[str, Collection[Watch]]
"""Each camera's packs."""


def pack_folders(config: Config, camera: str) -> list[Path]:
    """The packs that the config names for a camera."""
    return config.cameras[camera].packs or [config.model]


def watched(
    config: Config,
    cameras: Collection[str] = (),
    *,
    loaded: Mapping[Path, ModelPack] | None = None,
) -> dict[str, tuple[Watch, ...]]:
    """The packs of each camera, or of some ``cameras``; each pack is read once.

    ``loaded`` are packs that have been read already. Raises
    :class:`pipeline.errors.PackError` and :class:`pipeline.errors.ConfigError`.
    """
    loaded = dict(loaded or {})
    found = {}
    for name in cameras or config.cameras:
        folders = pack_folders(config, name)
        for folder in folders:
            if folder not in loaded:
                loaded[folder] = ModelPack.load(folder)
        found[name] = watches(
            [loaded[folder] for folder in folders],
            flow_method=config.flow.method,
            where=f"cameras.{name}.packs",
        )
    return found


def step_hz(watches: Collection[Watch]) -> float:
    """Steps a second of a camera: those of its fastest pack."""
    return max(watch.pack.contract.step_hz for watch in watches)


def all_watches(watched: Watched) -> list[Watch]:
    """The watches of all cameras, in the order of the cameras."""
    return [watch for watches in watched.values() for watch in watches]


def packs(watched: Watched) -> dict[str, ModelPack]:
    """All packs of a run, by their hash, in the order of the cameras that they watch."""
    return {watch.pack.sha256: watch.pack for watch in all_watches(watched)}
