"""What a config says of a camera that a pack is tested at: its rate, and its rules."""

from pipeline import topology
from pipeline.config import Config
from pipeline.config.rules import rules_of
from pipeline.decision.rule_filter import RuleFilter, RuleFilters
from pipeline.errors import FeatureMemoryError
from pipeline.model.pack import ModelPack
from pipeline.model.watch import watches


def every_of(config: Config, camera: str, tested: ModelPack) -> int:
    """One in how many of the camera's steps the pack would take, beside those of the config."""
    if camera not in config.cameras:
        return 1
    there = [watch.pack for watch in topology.watched(config, [camera])[camera]]
    others = [pack for pack in there if pack.sha256 != tested.sha256]
    beside = watches([tested, *others], where=f"camera {camera}")
    fastest = max(watch.pack.contract.step_hz for watch in beside)
    if fastest > max(pack.contract.step_hz for pack in there):
        raise FeatureMemoryError(
            f"camera {camera}: {tested.contract.name} takes {fastest:g} steps a second; fewer are "
            "remembered"
        )
    return next(watch.every for watch in beside if watch.pack.sha256 == tested.sha256)


def filter_of(config: Config, camera: str) -> RuleFilter | None:
    """A new filter by a camera's rules; None for a camera that the config doesn't have."""
    if camera not in config.cameras:
        return None  # it has been taken out of the config since
    zones = {camera: config.cameras[camera].zones}
    return RuleFilters({camera: rules_of(config, camera)}, 0, False, zones=zones).new(camera)
