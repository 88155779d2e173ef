"""The command line of training without torch: help, wrong options, and what isn't installed."""

import pytest

from tests.command_line import run_without, torch_in

pytestmark = pytest.mark.slow

EVALUATE = ["evaluate", "--checkpoint", "none.pt", "--data", "data", "--fold", "0"]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["--help"], 0), (["train", "--help"], 0), (["evaluate", "--help"], 0),
     (["ablate", "--help"], 0), (["train", "--device", "tpu"], 2)],
)  # fmt: skip
def test_help_and_wrong_options_load_no_torch(arguments: list[str], code: int) -> None:
    assert torch_in("training", arguments) == (code, False)


@pytest.mark.parametrize("package", ["torch", "accelerate", "matplotlib"])
def test_a_missing_package_is_one_line(package: str) -> None:
    done = run_without(package, "training", EVALUATE)
    assert done.returncode == 2
    assert done.stderr == f"error: {package} is missing: pip install 'two-stream[training]'\n"
