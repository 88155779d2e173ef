"""The topology: which stages a config needs, and which cameras each of them serves."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.config import Config
from pipeline.model.pack import ModelPack
from pipeline.model.watch import Watch, watches


@dataclass(frozen=True, slots=True)
class StageSpec:
    """One process: its kind, its name, and the cameras it serves."""

    kind: str
    instance: str
    cameras: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"{self.kind}:{self.instance}" if self.instance else self.kind


def stages(config: Config) -> list[StageSpec]:
    """Every process of a run, in the order of :data:`pipeline.transport.topics.STAGES`."""
    cameras = tuple(config.cameras)
    return [
        *(StageSpec("capture", camera, (camera,)) for camera in cameras),
        *(StageSpec("flow", str(worker), shard) for worker, shard in flow_shards(config).items()),
        StageSpec("spatial", "", cameras),
        StageSpec("temporal", "", cameras),
        StageSpec("fusion", "", cameras),
        StageSpec("publish", "", cameras),
    ]


def writers(kind: str, config: Config, cameras: Collection[str]) -> tuple[str, ...]:
    """Instances of ``kind`` that serve any of ``cameras``."""
    return tuple(
        spec.instance
        for spec in stages(config)
        if spec.kind == kind and not set(cameras).isdisjoint(spec.cameras)
    )


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
