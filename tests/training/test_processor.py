"""What training takes of a processor: half precision where the CPU has it, and so many threads."""

from pathlib import Path

import cv2
import pytest
import torch
from threadpoolctl import threadpool_info

from tests.training.tiny import tiny_config
from training.commands import how
from training.optimise import is_half
from training.processor import has_bfloat16, names_bfloat16, set_threads

HASWELL = "processor : 0\nflags\t\t: fpu sse2 avx avx2 fma\nprocessor : 1\nflags : fpu avx2\n"
SKYLAKE = "flags : fpu avx2 avx512f avx512bw avx512vl avx512_vnni\n"
COOPER = "flags : fpu avx2 avx512f avx512bw avx512_bf16\n"
SAPPHIRE = "flags : fpu avx512f avx512_bf16 amx_bf16 amx_tile amx_int8\n"
PI = "processor : 0\nFeatures : fp asimd evtstrm crc32 cpuid\n"
GRAVITON = "processor : 0\nFeatures : fp asimd sve i8mm bf16 dgh\n"


@pytest.mark.parametrize(
    ("text", "has"),
    [
        (HASWELL, False), (SKYLAKE, False), (COOPER, True), (SAPPHIRE, True), (PI, False),
        (GRAVITON, True), (COOPER + HASWELL, False), ("", False), ("model name : bf16\n", False),
    ],
)  # fmt: skip
def test_the_cpu_says_whether_it_has_bfloat16(text: str, has: bool) -> None:
    assert names_bfloat16(text) is has


def test_torch_must_be_able_to_use_it(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text(SAPPHIRE)
    able = bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    assert has_bfloat16(tmp_path / "cpuinfo") is able
    (tmp_path / "old").write_text(HASWELL)
    assert not has_bfloat16(tmp_path / "old")
    assert not has_bfloat16(tmp_path / "none")


def test_auto_is_the_default_and_a_setting_is_obeyed() -> None:
    setting = (
        tiny_config()
        .model_copy(update={"optimiser": type(tiny_config().optimiser)()})
        .optimiser.bfloat16
    )
    assert setting == "auto"
    assert is_half("auto", "cuda")
    assert is_half("auto", "cpu") is has_bfloat16()
    for kind in ("cpu", "cuda"):
        assert is_half(True, kind)
        assert not is_half(False, kind)


@pytest.mark.parametrize("value", [True, False, "auto"])
def test_a_recipe_may_name_it(value: object) -> None:
    assert tiny_config(optimiser={"bfloat16": value}).optimiser.bfloat16 == value


def test_a_line_says_how_it_is_computed() -> None:
    assert how(tiny_config(), "cpu", 2, 1) == (
        "training on the CPU, convolutions in float32; --threads 2, --workers 1"
    )
    asked = how(tiny_config(optimiser={"bfloat16": True}), "cpu", 1, 0)
    imitated = "this CPU only imitates it, many times slower: set optimiser.bfloat16 to auto"
    assert (imitated in asked) is not has_bfloat16()


def test_threads_are_what_was_asked_for_everywhere() -> None:
    before = torch.get_num_threads(), cv2.getNumThreads()
    try:
        for count in (2, 1):
            set_threads(count)
            assert torch.get_num_threads() == count
            assert cv2.getNumThreads() == count
            assert {pool["num_threads"] for pool in threadpool_info()} <= {1, count}
    finally:
        set_threads(before[0])
        cv2.setNumThreads(before[1])
