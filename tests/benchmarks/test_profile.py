"""Samples of perf, assigned to processes and libraries."""

import pytest

from benchmarks.profile import HZ, by_stage_and_kind, kind_of

SCRIPT = """\
   101      7f31c2aaf9d1 [unknown] (/venv/lib/cv2/cv2.abi3.so)
   101      7f31c2aaf9d4 [unknown] (/venv/lib/cv2/cv2.abi3.so)
   101  ffffffff8100beef do_syscall_64 ([kernel.kallsyms])
   102      7f31c2345678 _PyEval_EvalFrameDefault (/usr/lib/libpython3.11.so.1.0)
   102      7f31c2345679 __memmove_avx512_unaligned_erms (/usr/lib/libc.so.6)
   999      7f31c2345678 main (/usr/bin/other)
"""


def test_samples_are_counted_by_stage_and_kind() -> None:
    found = by_stage_and_kind(SCRIPT, {101: "flow", 102: "fusion"}, seconds=2.0)
    ms = 1000 / HZ / 2.0
    assert found["flow"] == pytest.approx({"OpenCV": 2 * ms, "kernel": ms})
    assert found["fusion"] == pytest.approx({"Python": ms, "C library": ms})


@pytest.mark.parametrize(
    ("library", "kind"),
    [
        ("libavcodec-c4204469.so.62.28.101", "codec"),
        ("libswscale-fe215b0b.so.9.5.101", "codec"),
        ("onnxruntime_pybind11_state.cpython-311-x86_64-linux-gnu.so", "onnxruntime"),
        ("_multiarray_umath.cpython-311-x86_64-linux-gnu.so", "NumPy"),
        ("libzmq-2f02442c.so.5.2.5", "ZeroMQ"),
        ("_zmq.cpython-311-x86_64-linux-gnu.so", "ZeroMQ"),
        ("_core.cpython-311-x86_64-linux-gnu.so", "Python"),
        ("[kernel.kallsyms]", "kernel"),
        ("libc.so.6", "C library"),
    ],
)
def test_libraries_have_kinds(library: str, kind: str) -> None:
    assert kind_of(library) == kind
