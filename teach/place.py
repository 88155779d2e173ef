"""The place where a pack works: its config, with the memory, the log and the reviews."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pipeline.backtest.compare import logged
from pipeline.backtest.judging import Said
from pipeline.backtest.run import check_networks, run_camera
from pipeline.backtest.setting import every_of, filter_of
from pipeline.config import Config, load
from pipeline.config.paths import at_home
from pipeline.config.suggestion import did_you_mean
from pipeline.decision.decisions import thresholds
from pipeline.errors import FeatureMemoryError
from pipeline.memory.store import MemoryReader
from pipeline.model.pack import ModelPack
from pipeline.model.session import Network
from pipeline.model.watch import Watch
from pipeline.public.log_reader import LogReader
from pipeline.public.records import Event
from pipeline.reviews.records import Review, in_force
from pipeline.reviews.store import ReviewStore, path_beside
from teach.corrections import Times
from teach.pack import TeachError
from teach.recall import Recall, file_began_ns
from teach.trial import Looks


@dataclass(frozen=True)
class Known:
    """An event of the log: when it was by the memory's time, and what was said."""

    id: str
    camera: str
    label: str
    at: Times


class Place:
    """What a config's program remembers, has said, and was told."""

    def __init__(self, config: Path) -> None:
        """Raises :class:`TeachError` and others for a config without a memory or a log."""
        self.config: Config = load(at_home(config))
        if self.config.memory.folder is None:
            raise FeatureMemoryError("memory.folder: the config names none, so nothing is known")
        self.memory = MemoryReader(self.config.memory.folder)

    def reviews(self, needed: bool = True) -> list[Review]:
        """The reviews in force. ``needed``: raises :class:`TeachError` without any."""
        log = self.config.events.log
        if log is None:
            if not needed:
                return []
            raise TeachError("events.log: the config names none, so there are no reviews")
        found = in_force(ReviewStore(path_beside(log)).all())
        if needed and not found:
            raise TeachError(
                f"{path_beside(log)}: there is no review yet; two-stream review ask makes some"
            )
        return found

    def log(self) -> list[Known]:
        """The newest record of each event in the log; none where it can't be read."""
        path = self.config.events.log
        if path is None or not (log := LogReader(path)).is_readable():
            return []
        events: dict[str, Event] = {event.id: event for event in log.events()}
        began = {}
        for camera in {one.camera for one in events.values()} & set(self.memory.cameras()):
            if (file_ns := file_began_ns(self.memory, camera)) is not None:
                began[camera] = file_ns
        return [
            Known(
                one.id,
                one.said.camera,
                one.said.label,
                Times(
                    one.said.start_ns,
                    one.said.end_ns,
                    event.subject if isinstance(event.subject, str) else None,
                ),
            )
            for one in logged(events.values(), began)
            for event in (events[one.id],)
        ]

    def watch(self, camera: str, pack: ModelPack) -> Watch:
        """A pack at a camera; raises :class:`FeatureMemoryError` where it isn't remembered."""
        if camera not in self.memory.cameras():
            known = ", ".join(self.memory.cameras()) or "no camera"
            likely = did_you_mean(camera, self.memory.cameras())
            raise FeatureMemoryError(f"camera {camera}: the memory has {known}{likely}")
        watch = Watch(pack, every_of(self.config, camera, pack), self.config.flow.method)
        check_networks(self.memory, camera, watch)
        return watch

    def recall(self, camera: str, pack: ModelPack, looks: Looks) -> Recall:
        return Recall(self.memory, camera, self.watch(camera, pack), looks)

    def said(self, camera: str, pack: ModelPack, span_ns: tuple[int, int]) -> list[Said]:
        """What a pack says of a camera's memory between two times."""
        network = Network(pack, "fusion", 1, self.config.runtime.providers)
        limits = thresholds(pack.contract, self.config.events.thresholds)
        return run_camera(
            self.memory, camera, self.watch(camera, pack), network.run, limits,
            partial(filter_of, self.config, camera), span_ns, starts=(),
        ).said  # fmt: skip

    def overruled(self, actions: Sequence[str]) -> list[str]:
        """A warning where the config sets thresholds, so that the pack's own don't count."""
        set_here = [label for label in actions if label in self.config.events.thresholds]
        if not set_here:
            return []
        return [
            "events.thresholds of the config replaces those that were fitted for "
            f"{', '.join(set_here)}"
        ]
