"""The command line of export without torch: help, wrong options, and what isn't installed."""

import pytest

from tests.command_line import run_without, torch_in

pytestmark = pytest.mark.slow

OPTIONS = ["--checkpoint", "none.pt", "--out", "out", "--data", "data"]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["--help"], 0), ([], 2), ([*OPTIONS, "--int8", "fusion"], 2),
     ([*OPTIONS, "--spatial-module", "x:y"], 2)],
)  # fmt: skip
def test_help_and_wrong_options_load_no_torch(arguments: list[str], code: int) -> None:
    assert torch_in("export", arguments) == (code, False)


@pytest.mark.parametrize("package", ["torch", "onnx", "safetensors"])
def test_a_missing_package_is_one_line(package: str) -> None:
    done = run_without(package, "export", OPTIONS)
    assert done.returncode == 2
    assert done.stderr == f"error: {package} is missing: pip install 'two-stream[export]'\n"
