"""The two-stream computation by itself, for the loops of other projects.

It imports only OpenCV, onnxruntime and numpy, so that it also runs in another project's
environment. Preprocessing, flow and windows are those of :mod:`pipeline`, written plainly.
"""

import json
import sys
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import onnxruntime as ort

Picture = npt.NDArray[Any]


class TwoStream:
    """The three networks of a pack, and the state of each camera between frames.

    With ``threads`` 0 onnxruntime keeps its defaults, as in most programs.
    """

    def __init__(self, pack: Path, threads: int = 0) -> None:
        self.contract = json.loads((pack / "pack.json").read_text("utf-8"))
        options = ort.SessionOptions()
        if threads:
            options.intra_op_num_threads = threads
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._run = {
            name: ort.InferenceSession(
                str(pack / f"{name}.onnx"), options, providers=["CPUExecutionProvider"]
            ).run
            for name in ("spatial", "temporal", "fusion")
        }
        self._cameras: dict[int, _Camera] = {}

    def __call__(self, camera: int, frame: Picture) -> Picture:
        """Scores (C,) of ``camera`` after its next ``frame``, (H, W, 3) uint8 BGR."""
        contract = self.contract
        state = self._cameras.get(camera)
        if state is None:
            state = self._cameras[camera] = _Camera(contract)
        height, width = contract["spatial"]["size"]
        small = cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA)
        spatial = self._run["spatial"](None, {"frames": small[None]})[0]
        stack = state.stacked(frame)
        temporal = None
        if stack is not None:
            temporal = self._run["temporal"](None, {"flow": stack[None]})[0][0]
        state.push(spatial[0], temporal)
        window = {"spatial": state.spatial, "temporal": state.temporal, "mask": state.mask}
        scores: Picture = self._run["fusion"](None, {k: v[None] for k, v in window.items()})[0][0]
        return scores


class _Camera:
    """The newest flow fields of a camera, and the window of its features."""

    def __init__(self, contract: dict[str, Any]) -> None:
        self._contract = contract
        self._gray: Picture | None = None
        self._dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
        self._fields: deque[Picture] = deque(maxlen=contract["temporal"]["stack"])
        steps, size = contract["window"], contract["feature_size"]
        self.spatial = np.zeros((steps, size), np.float32)
        self.temporal = np.zeros((steps, size), np.float32)
        self.mask = np.zeros((steps, 2), np.float32)

    def stacked(self, frame: Picture) -> Picture | None:
        """The stack (L, h, w, 2) uint8 that ends with ``frame``; None until it is whole."""
        contract = self._contract["temporal"]
        height, width = contract["flow_size"]
        resized = cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA)
        gray = cv2.cvtColor(resized, cv2.COLOR_BGR2GRAY)
        before, self._gray = self._gray, gray
        if before is None:
            return None
        flow = self._dis.calc(before, gray, None)  # type: ignore[call-overload]
        height, width = contract["size"]
        small = cv2.resize(flow, (width, height), interpolation=cv2.INTER_AREA)
        scaled = np.clip(np.rint(small * (127.0 / contract["bound"])), -127.0, 127.0) + 128.0
        self._fields.append(scaled.astype(np.uint8))
        return np.stack(self._fields) if len(self._fields) == contract["stack"] else None

    def push(self, spatial: Picture, temporal: Picture | None) -> None:
        """Move the window by one step; features are (d,), and motion is masked while it is None."""
        for rows in (self.spatial, self.temporal, self.mask):
            rows[:-1] = rows[1:]
        self.spatial[-1], self.temporal[-1] = spatial, 0.0 if temporal is None else temporal
        self.mask[-1] = 1.0, float(temporal is not None)


class Due:
    """Tells which frames of a camera are steps. With ``step_hz`` 0 every frame is one."""

    def __init__(self, step_hz: float) -> None:
        self._step_hz, self._last = step_hz, -1

    def __call__(self, at: float) -> bool:
        if not self._step_hz:
            return True
        step = int(at * self._step_hz)
        due, self._last = step != self._last, step
        return due


class Tally:
    """Counts processed frames, and how late they are, from ``settle`` to ``settle + seconds``."""

    def __init__(self, cameras: int, settle: float, seconds: float) -> None:
        self._from = time.monotonic() + settle
        self._until = self._from + seconds
        self._seconds = seconds
        self._done = [0] * cameras
        self._late: list[float] = []
        self._cpu_s = 0.0

    def over(self) -> bool:
        return time.monotonic() >= self._until

    def add(self, camera: int, grabbed: float) -> None:
        """Count a frame of ``camera`` whose scores are there; ``grabbed`` is monotonic seconds."""
        now = time.monotonic()
        if now < self._from:
            self._cpu_s = time.process_time()
        elif now < self._until:
            self._done[camera] += 1
            self._late.append(1000 * (now - grabbed))

    def report(self) -> None:
        """Print one JSON object on standard output."""
        found = {
            "rates": [round(done / self._seconds, 2) for done in self._done],
            "late_ms": np.percentile(self._late, (50, 99)).round(1).tolist() if self._late else [],
            "cores": round((time.process_time() - self._cpu_s) / self._seconds, 3),
        }
        sys.stdout.write(json.dumps(found) + "\n")


def arguments() -> Iterator[str]:
    """A loop's command line: pack, step rate (0: every frame), threads, settle, seconds, URLs."""
    return iter(sys.argv[1:])
