"""What this machine's processor can do, and how much of it training takes."""

import logging
import os
from functools import cache
from pathlib import Path

import cv2
import torch
from threadpoolctl import threadpool_limits

CPUINFO = Path("/proc/cpuinfo")
# A worker that dies while torch looks for its own parts would be logged as torch's fault, with a
# traceback. The death is reported all the same.
logging.getLogger("torch.autograd.profiler").setLevel(logging.ERROR)
_BFLOAT16 = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
"""What Linux calls the instructions: AVX-512 and AMX on x86, the last one on ARM."""


def names_bfloat16(cpuinfo: str) -> bool:
    """Whether every CPU in the text of /proc/cpuinfo computes in bfloat16 itself."""
    lines = (line.partition(":") for line in cpuinfo.splitlines())
    found = [
        not _BFLOAT16.isdisjoint(flags.split())
        for key, _, flags in lines
        if key.strip() in ("flags", "Features")
    ]
    return bool(found) and all(found)


@cache
def has_bfloat16(cpuinfo: Path = CPUINFO) -> bool:
    """Whether convolutions are faster in bfloat16 on this CPU.

    Torch imitates it elsewhere, and an iteration then takes many times as long. False where the
    system doesn't say.
    """
    try:
        text = cpuinfo.read_text("utf-8", "replace")
    except OSError:
        return False
    # The environment (ONEDNN_MAX_CPU_ISA) may forbid torch the instructions that the CPU has.
    return names_bfloat16(text) and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def set_threads(count: int) -> None:
    """Set how many threads torch, OpenCV, NumPy and scikit-learn use, whatever the machine has."""
    torch.set_num_threads(count)
    cv2.setNumThreads(count)
    threadpool_limits(count)
    # For libraries that are loaded later, and for processes that are started.
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = str(count)
