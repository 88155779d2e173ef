"""Model packs: the contract, and the networks run by onnxruntime."""

import os

# onnxruntime reports to its makers unless it is told not to before it is imported. A program that
# watches cameras reports nothing to anybody.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
