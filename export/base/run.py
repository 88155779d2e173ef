"""One run of the command: get the wheel, convert, build the graphs, write them and base.json."""

import json
import logging
import tempfile
from dataclasses import dataclass
from pathlib import Path

from export.base import mediapipe, network_free
from export.base.card import CARD_FILE, model_card
from export.base.store import BASE_FILE, Stream, with_streams, written
from export.base.streams import body_stream, hands_stream

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Order:
    """What the command was asked for."""

    out: Path
    mediapipe: Path | None
    """A wheel, or the folder of one that was unpacked; None: pip downloads it."""


def run(order: Order) -> list[Stream]:
    """Write ``order.out``; raises errors of the project before anything is written there."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = _folder(order.mediapipe, Path(scratch))
        streams = [hands_stream(folder), body_stream(folder)]
    base = with_streams(
        order.out / BASE_FILE, {stream.name: stream.entry() for stream in streams}
    )  # fmt: skip
    order.out.mkdir(parents=True, exist_ok=True)
    for stream in streams:
        (order.out / stream.file).write_bytes(stream.content)
        log.info("%s: %d KB", order.out / stream.file, len(stream.content) // 1000)
    (order.out / BASE_FILE).write_text(written(base), "utf-8")
    network_free.write(order.out)
    base = json.loads((order.out / BASE_FILE).read_text("utf-8"))
    (order.out / CARD_FILE).write_text(model_card(base), "utf-8")
    return streams


def _folder(given: Path | None, scratch: Path) -> Path:
    if given is not None and given.is_dir():
        return mediapipe.verified(given)
    return mediapipe.unpacked(given or mediapipe.downloaded(scratch), scratch)
