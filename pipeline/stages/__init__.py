"""The stages, by their kind."""

from pipeline.stages.base import Context, Stage


def create(context: Context) -> Stage:
    """The stage that ``context.spec.kind`` names. Only its own modules are imported."""
    kind = context.spec.kind
    if kind == "capture":
        from pipeline.stages.capture import Capture

        return Capture(context)
    if kind == "people":
        from pipeline.stages.people import People

        return People(context)
    if kind == "flow":
        from pipeline.stages.flow import Flow

        return Flow(context)
    if kind == "spatial":
        from pipeline.stages.spatial import Spatial

        return Spatial(context)
    if kind == "temporal":
        from pipeline.stages.temporal import Temporal

        return Temporal(context)
    if kind == "fusion":
        from pipeline.stages.fusion import Fusion

        return Fusion(context)
    if kind == "memory":
        from pipeline.stages.memory import Memory

        return Memory(context)
    if kind == "evidence":
        from pipeline.stages.evidence import EvidenceStage

        return EvidenceStage(context)
    if kind == "publish":
        from pipeline.stages.publish import Publish

        return Publish(context)
    raise ValueError(f"unknown stage kind {kind!r}")
