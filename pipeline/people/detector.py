"""The person detector: a frame in, boxes of people out."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipeline.arrays import Frame, picture_size
from pipeline.errors import PackError
from pipeline.model.session import UnpackagedNetwork
from pipeline.people.contract import NETWORK_FILE, load_contract, verified_network
from pipeline.people.decoding import People, cells, found_people
from pipeline.people.letterbox import Letterbox
from pipeline.pictures import check_frame, small_bgr
from pipeline.program import PROJECT

SHIPPED = PROJECT / "models" / "people"


class PersonDetector:
    """Finds people in frames, one frame a call.

    ``folder`` holds the network and its contract. ``score`` is the least score of a person, and
    ``side`` what the picture's longer side becomes, in pixels: more finds smaller people and costs
    more; by default both are the contract's. One thread computes, unless ``threads`` says
    otherwise. Raises :class:`PackError` for files that are damaged or don't fit each other.
    """

    def __init__(
        self, folder: Path = SHIPPED, score: float | None = None,
        side: int | None = None, threads: int = 1, providers: Sequence[str] = (),
    ) -> None:  # fmt: skip
        self.contract = load_contract(folder)
        self._score = self.contract.score if score is None else score
        self._side = self.contract.side if side is None else side
        path = folder / NETWORK_FILE
        model = verified_network(folder, self.contract)
        self._network = UnpackagedNetwork(path, model, threads, providers)
        self._verify(path)

    def __call__(self, frame: Frame) -> People:
        """The people in a frame of either form (:data:`pipeline.arrays.Frame`), of any size.

        Returns (n, 5) float32: x0 y0 x1 y1 in 0..1 of the picture, and the score, best first.
        Raises ValueError for other arrays.
        """
        check_frame(frame)
        box = self.letterbox(picture_size(frame.shape))
        scores, sides = self._network.run({"frames": self.canvas(frame, box)[None]})
        return found_people(
            scores[0, :, 0], sides[0], box, self.contract.strides, self._score,
            self.contract.overlap,
        )  # fmt: skip

    def letterbox(self, picture: tuple[int, int]) -> Letterbox:
        """Where a picture of (height, width) lies in the network's input."""
        return Letterbox.of(picture, self._side, self.contract.multiple)

    def canvas(self, frame: Frame, box: Letterbox) -> Frame:
        """The network's input: the picture made small, a plain border around it."""
        return letterboxed(frame, box, self.contract.border)

    def _verify(self, path: Path) -> None:
        """One run on an empty input of the least size: the outputs must be what decoding takes."""
        contract = self.contract
        size = contract.multiple, contract.multiple
        outputs = self._network.run({"frames": np.zeros((1, *size, 3), np.uint8)})
        count = len(cells(size, contract.strides))
        expected = [(1, count, 1), (1, count, 4 * contract.bins)]
        if (found := [output.shape for output in outputs]) != expected:
            raise PackError(f"{path}: returns {found}, the contract says {expected}")


def letterboxed(frame: Frame, box: Letterbox, border: int) -> Frame:
    """(h, w, 3) uint8 BGR of ``box.size``: the frame as ``box`` places it, ``border`` around it."""
    canvas = np.full((*box.size, 3), border, np.uint8)
    height, width = box.inside
    canvas[box.top : box.top + height, box.left : box.left + width] = small_bgr(frame, box.inside)
    return canvas
