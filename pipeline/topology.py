"""The topology: which stages a config needs, and which cameras each of them serves."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from pipeline.config import Config


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
