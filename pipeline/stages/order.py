"""Whether a camera's frames are in order: their stamps, and how often they come."""

import logging

from pipeline.sources import Source
from pipeline.steps.frame_rate import FrameRate

log = logging.getLogger(__name__)


class Order:
    """What is wrong with a camera that goes on all the same."""

    def __init__(self, camera: str, rate: FrameRate) -> None:
        self._camera = camera
        self._rate = rate
        self.trouble: str | None = None
        """In words; None while frames are in order."""

    def forget(self) -> None:
        """The source was opened anew."""
        self._rate.forget()
        self.trouble = None

    def note(self, source: Source, time_ns: int) -> bool:
        """Take in a frame's time; returns whether :attr:`trouble` has changed, which is logged.

        A film may have any rate and any stamps.
        """
        if source.ends:
            return False
        self._rate.note(time_ns)
        found = [text for text in (source.trouble, self._rate.trouble) if text]
        trouble = "; ".join(found) or None
        if trouble == self.trouble:
            return False
        self.trouble = trouble
        if trouble is None:
            log.info("camera %s: its frames are in order again", self._camera)
        else:
            log.warning("camera %s: %s", self._camera, trouble)
        return True
