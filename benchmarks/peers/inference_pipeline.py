"""Roboflow's InferencePipeline with the two streams as its custom logic.

It runs in an environment of its own, where Roboflow's package is installed. Of this project it
imports only :mod:`bare`, from the same folder.
"""

import sys
import threading
import time
from datetime import datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from bare import Due, Tally, TwoStream, arguments  # type: ignore[import-not-found]
from inference import InferencePipeline  # type: ignore[import-not-found]


def main() -> None:
    pack, step_hz, threads, settle, seconds, *urls = arguments()
    networks = TwoStream(Path(pack), int(threads))
    due = [Due(float(step_hz)) for _ in urls]
    tally = Tally(len(urls), float(settle), float(seconds))

    def work(frames: list[Any]) -> list[Any]:
        results = []
        for frame in frames:
            place = frame.source_id or 0
            stamp: datetime = frame.frame_timestamp
            late_s = (datetime.now(stamp.tzinfo) - stamp).total_seconds()
            grabbed = time.monotonic() - late_s
            scores = networks(place, frame.image) if due[place](grabbed) else None
            if scores is not None:
                tally.add(place, grabbed)
            results.append(scores)
        return results

    pipeline = InferencePipeline.init_with_custom_logic(
        video_reference=urls, on_video_frame=work, on_prediction=lambda *_: None
    )
    pipeline.start(use_main_thread=False)
    while not tally.over():
        time.sleep(0.1)
    tally.report()
    sys.stdout.flush()
    threading.Timer(3.0, sys.exit).start()
    pipeline.terminate()


if __name__ == "__main__":
    main()
