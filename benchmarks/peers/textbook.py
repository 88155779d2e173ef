"""The textbook loop: read a frame, Farneback, two torch networks, concatenate, classify, next.

One thread processes one frame after the other, with the defaults of torch and OpenCV. The networks
have the pack's architecture but random weights, which doesn't change the time that they take.
"""

import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from benchmarks.peers.bare import Tally, arguments
from training.config import TrainConfig
from training.model import new_model


def main() -> None:
    recipe, settle, seconds, *clips = arguments()
    config = TrainConfig.load(Path(recipe))
    model = new_model(config).eval()
    classify = torch.nn.Linear(2 * config.feature_size, len(config.labels))
    tally = Tally(1, float(settle), float(seconds))
    gray: Any = None
    fields: list[Any] = []
    with torch.inference_mode():
        while not tally.over():
            for clip in clips:
                capture = cv2.VideoCapture(clip)
                while not tally.over():
                    more, frame = capture.read()
                    if not more:
                        break
                    grabbed = time.monotonic()
                    before, gray = gray, cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)
                    if before is None:
                        continue
                    start = np.zeros((*gray.shape, 2), np.float32)
                    flow = cv2.calcOpticalFlowFarneback(
                        before, gray, start, 0.5, 3, 15, 3, 5, 1.2, 0
                    )
                    height, width = config.temporal.size
                    fields = [*fields, cv2.resize(flow, (width, height))][-config.temporal.stack :]
                    if len(fields) < config.temporal.stack:
                        continue
                    height, width = config.spatial.size
                    picture = torch.from_numpy(cv2.resize(frame, (width, height)))
                    stack = torch.from_numpy(np.concatenate(fields, -1)).permute(2, 0, 1)
                    planes = model.temporal.resized(128 + stack[None])
                    both = [model.spatial(picture[None]), model.temporal.features(planes)]
                    classify(torch.cat(both, 1)).softmax(1)
                    tally.add(0, grabbed)
    tally.report()


if __name__ == "__main__":
    main()
