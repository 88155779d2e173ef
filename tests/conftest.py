"""For all tests: in CI nothing is skipped, and quick tests start no process."""

import os
import signal
import sys
from collections.abc import Generator, Iterator

import pytest

_STARTS = ("subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn")
_started: list[str] = []


def _note_process(event: str, _arguments: tuple[object, ...]) -> None:
    if event in _STARTS:
        _started.append(event)


sys.addaudithook(_note_process)


# Under nohup SIGHUP is ignored, and SIGINT in a script's background, by all that the tests start as
# well; some test what they do.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All of tests/live runs the whole program."""
    for item in items:
        if "tests/live" in str(item.path):
            item.add_marker(pytest.mark.slow)


def pytest_collection_finish() -> None:
    """A thread for each worker: several share two cores. What tests start counts its own."""
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)
    if cv2 := sys.modules.get("cv2"):
        cv2.setNumThreads(1)


@pytest.fixture(autouse=True)
def quick_tests_start_no_process(request: pytest.FixtureRequest) -> Iterator[None]:
    """`make check` leaves out what is marked slow, and must stay fast."""
    before = len(_started)
    yield
    if len(_started) > before and request.node.get_closest_marker("slow") is None:
        pytest.fail(f"it starts a process ({_started[-1]}): mark it with @pytest.mark.slow")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.CallInfo[None], None]:
    """With CI=true a skipped test is a failure: CI installs all that tests need."""
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    if os.environ.get("CI") == "true" and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped in CI: {report.longrepr}"
