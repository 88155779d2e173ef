"""Run ``python -m PACKAGE`` in a process of its own, and see what it loads or what it lacks."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
LIMIT_S = 60

PROGRAM = """
import atexit, runpy, sys
package, missing, *sys.argv[1:] = sys.argv[1:]
if missing:
    sys.modules[missing] = None  # the import fails as if it weren't installed
atexit.register(lambda: print("torch loaded:", sys.modules.get("torch") is not None))
runpy.run_module(package, run_name="__main__", alter_sys=True)
"""


def run_without(
    missing: str, package: str, arguments: Sequence[str]
) -> "subprocess.CompletedProcess[str]":
    """Run ``python -m package`` where the package ``missing`` isn't installed; "": all are."""
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, package, missing, *arguments],
        cwd=ROOT, capture_output=True, text=True, timeout=LIMIT_S,
    )  # fmt: skip


def torch_in(package: str, arguments: Sequence[str]) -> tuple[int, bool]:
    """The exit code of ``python -m package``, and whether it loaded torch."""
    done = run_without("", package, arguments)
    return done.returncode, done.stdout.endswith("torch loaded: True\n")
