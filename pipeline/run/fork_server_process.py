"""The fork server: ``python -m pipeline.run.fork_server_process``; it forks stages on request.

Only the supervisor starts it. It imports once what stages need, opens nothing and runs no thread.
So a stage begins as if it had imported all that itself, but for one thing: all stages of a run have
the same hash seed.

Its standard input is a socket of the supervisor. Each message there is a stage's name, and carries
what becomes the stage's standard input. The answer is ``FORKED`` and, when the stage is the
supervisor's own child, ``READY`` (:mod:`pipeline.run.fork_protocol`). Forking twice makes it that:
the process in the middle ends at once, and the supervisor adopts orphans. So a stage outlives its
fork server, and the supervisor waits for it as for any child.
"""

import contextlib
import gc
import importlib
import os
import signal
import socket
import sys

from pipeline.clock import SYSTEM_CLOCK
from pipeline.errors import EXIT_OK
from pipeline.run.fork_protocol import EXIT_UNFIT, FORKED, LONGEST_NAME, READY
from pipeline.run.linux import die_with_parent, show_as
from pipeline.run.signals import ignore_terminal

MODULES = (
    "run.stage_process",
    "stages.capture",
    "stages.people",
    "stages.flow",
    "stages.spatial",
    "stages.temporal",
    "stages.fusion",
    "stages.memory",
    "stages.evidence",
    "stages.publish",
    "sources.demo_camera",
    "sources.image_folder",
    "sources.network",
    "sources.video_file",
    "flow.deep",
    "flow.lucas_kanade",
    "flow.opencv",
)
"""What stages import, in ``pipeline``. Not ``sources.webcam``: it silences OpenCV when imported."""

_REPARENTED_S = 0.0005
"""How often a stage looks whether the process in the middle is gone."""


def load() -> None:
    """Import :data:`MODULES`, and tell the garbage collector that they stay."""
    assert __package__ is not None
    root = __package__.rpartition(".")[0]
    for name in MODULES:
        importlib.import_module(f"{root}.{name}")
    gc.collect()
    # Else its first run in each stage would write to all of them, and so copy them.
    gc.freeze()


def is_fit() -> bool:
    """Whether it can be forked: it runs one thread, and has its standard streams open alone."""
    with contextlib.suppress(OSError):
        threads, files = os.listdir("/proc/self/task"), os.listdir("/proc/self/fd")
        return len(threads) == 1 and len(files) <= 4  # one is of the listing itself
    return False


def serve(control: socket.socket, supervisor: int) -> str | None:
    """Fork a stage for each request. In the stage, returns its name; None: the requests' end."""
    while True:
        try:
            control.send(READY)
            request, descriptors, _, _ = socket.recv_fds(control, LONGEST_NAME, 1)
        except OSError:  # the supervisor is gone
            return None
        if not request:
            return None
        if _fork(control, descriptors[0], supervisor):
            return request.decode()
        os.close(descriptors[0])


def _fork(control: socket.socket, stdin: int, supervisor: int) -> bool:
    """Fork the process in the middle, and that a stage; True: this is the stage."""
    try:
        middle = os.fork()
    except OSError as error:
        _answer(control, error.errno or 0, 0, 0)
        return False
    if middle:
        with contextlib.suppress(ChildProcessError):  # SIGCHLD is ignored
            os.waitpid(middle, 0)
        return False
    middle = os.getpid()
    try:
        stage = os.fork()
    except OSError as error:
        _answer(control, error.errno or 0, 0, middle)
        os._exit(EXIT_OK)
    if stage:
        _answer(control, 0, stage, middle)
        os._exit(EXIT_OK)
    while os.getppid() == middle:
        SYSTEM_CLOCK.sleep(_REPARENTED_S)
    if os.getppid() != supervisor:  # it has died, or can't adopt orphans
        os._exit(EXIT_OK)
    os.dup2(stdin, control.detach())
    os.close(stdin)
    return True


def _answer(control: socket.socket, error: int, stage: int, middle: int) -> None:
    with contextlib.suppress(OSError):
        control.send(FORKED.pack(error, stage, middle))


def become(stage: str) -> None:
    """Make this process what it would be had it been started as the process of a stage."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    gc.enable()
    if "numpy.random" in sys.modules:
        # Python's own `random` and OpenSSL see to this themselves.
        importlib.import_module("numpy.random").seed()
    sys.argv = [sys.argv[0].replace("fork_server_process", "stage_process"), stage]
    show_as(" ".join([*sys.orig_argv[:3], f"{__package__}.stage_process", stage]))


def main() -> int:
    """Serve until the supervisor is gone; in a stage, run it. Returns the process's exit code."""
    supervisor = os.getppid()
    die_with_parent()
    ignore_terminal()
    # A service manager may send it to all processes; this one leaves with the supervisor.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    gc.disable()
    try:
        load()
    except Exception:
        # Whatever it is, a stage that is started directly meets it again, and says it.
        return EXIT_UNFIT
    if not is_fit():
        return EXIT_UNFIT
    for stream in (sys.stdout, sys.stderr):
        stream.flush()  # or each stage writes what is left in it once more
    stage = serve(socket.socket(fileno=sys.stdin.fileno()), supervisor)
    if stage is None:
        return EXIT_OK
    become(stage)
    from pipeline.run import stage_process

    return stage_process.main()


if __name__ == "__main__":
    # By its own name: what is defined here must be the same thing to all who import it.
    from pipeline.run import fork_server_process

    sys.exit(fork_server_process.main())
