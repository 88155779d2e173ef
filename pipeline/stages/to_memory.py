"""Fusion's end of the way to the memory."""

from pipeline import topology
from pipeline.stages.base import Context
from pipeline.steps.join import DecidedStep
from pipeline.transport import topics
from pipeline.transport.messages import Remembered


class ToMemory:
    """Sends the steps of cameras that have a memory. Without one it has no socket."""

    def __init__(self, context: Context) -> None:
        config, cameras = context.config, context.spec.cameras
        self._cameras = {name for name in cameras if topology.has_memory(config, name)}
        self._socket = context.bus.push(topics.MEMORY) if self._cameras else None

    def send(self, step: DecidedStep, active: bool) -> None:
        """Send a decided step; ``active``: an event goes on. The memory drops what is still."""
        if self._socket is not None and step.moment.camera in self._cameras:
            self._socket.send(
                Remembered(
                    moment=step.moment,
                    spatial=step.spatial,
                    temporal=step.temporal,
                    people=step.people,
                    active=active,
                )
            )
