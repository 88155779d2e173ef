"""The program on machines as they are: little memory, few files, odd folders, busy ports."""

import os
import re
import resource
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipeline.config import validate
from pipeline.run.limits import SPARE_FILES, files_needed
from testbed.program import PipelineRun, free_port
from testbed.resources import sample
from tests.live.machine import as_nobody, limited, read_only, small_shm

MEBI = 1 << 20


def settings(pack: Path, clip: Path, *cameras: str, **sections: Any) -> dict[str, Any]:
    camera = {"source": str(clip), "loop": True}
    return {"model": str(pack), "cameras": dict.fromkeys(cameras or ("a",), camera), **sections}


def ended(run: PipelineRun, code: int, *words: str) -> str:
    """The log of a program that ends with ``code`` and says ``words`` in one line."""
    assert run.process.wait(90) == code, run.log()
    log = run.log()
    assert "Traceback" not in log
    bad = [line for line in log.splitlines() if "ERROR" in line or line.startswith("error:")]
    assert len(bad) == 1, log
    for word in words:
        assert word in bad[0]
    return log


def works(run: PipelineRun) -> None:
    """It makes events, and leaves nothing when it is stopped."""
    run.wait_for(run.events, 60, "an event")
    run.remember_run()
    code, _ = run.stop()
    assert code == 0
    assert run.remains() == []
    assert "Traceback" not in run.log()


def for_all(folder: Path, pack: Path, clip: Path) -> tuple[Path, Path]:
    """A copy of the pack and of the clip that every user may read."""
    folder.chmod(0o777)
    shutil.copytree(pack, folder / "pack")
    shutil.copyfile(clip, folder / "clip.mp4")
    for path in (folder / "pack", *(folder / "pack").iterdir(), folder / "clip.mp4"):
        path.chmod(0o755)
    return folder / "pack", folder / "clip.mp4"


# --- folders


@pytest.mark.parametrize("name", ["x" * 200, "mit Lücken und Ümläuten", "日本語" * 20])
def test_the_run_folder_may_have_any_name(
    scratch: Path, tiny: Path, panning: Path, name: str
) -> None:
    config = settings(tiny, panning, runtime={"run_dir": str(scratch / name / "runs")})
    with PipelineRun(scratch, config) as run:
        works(run)


def test_a_run_folder_that_is_too_long_even_for_its_log_is_refused(
    scratch: Path, tiny: Path, panning: Path
) -> None:
    long = scratch / ("x" * 250) / ("y" * 250)
    with PipelineRun(scratch, settings(tiny, panning, runtime={"run_dir": str(long)})) as run:
        ended(run, 2, "runtime.run_dir", "at most 490 are possible")


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("{}/missing", "it doesn't exist"),
        ("{}/file", "it is no folder"),
        ("relative", "it is no absolute path"),
        ("{}/theirs", "it belongs to another user"),
        ("/proc", "No such file or directory"),
        ("", None),
    ],
)
def test_a_runtime_folder_that_can_not_be_used_is_replaced(
    scratch: Path, tiny: Path, panning: Path, value: str, reason: str | None
) -> None:
    (scratch / "file").touch()
    (scratch / "theirs").mkdir()
    (scratch / "good").mkdir()
    if "theirs" in value:
        if os.getuid():
            pytest.skip("only root can give a folder away")
        os.chown(scratch / "theirs", 65534, 65534)
    environment = {"XDG_RUNTIME_DIR": value.format(scratch), "TMPDIR": str(scratch / "good")}
    config = settings(tiny, panning, runtime={"run_dir": None})
    with PipelineRun(scratch, config, environment=environment) as run:
        run.runs = scratch / "good"
        run.wait_for(lambda: list((scratch / "good").glob("two-stream-*")), 30, "the run folder")
        run.wait_for(run.events, 60, "an event")
        assert run.stop()[0] == 0
        assert list((scratch / "good").glob("*two-stream-*")) == []
        assert "Traceback" not in run.log()
        if reason is None:
            assert "no run folder" not in run.log()
        else:
            assert f"no run folder in XDG_RUNTIME_DIR {value.format(scratch)}: {reason}" in (
                run.log()
            )


@pytest.mark.parametrize("variables", [{"HOME": ""}, {"TMPDIR": "/nowhere"}, {"LC_ALL": "C"}])
def test_an_odd_environment_does_not_matter(
    scratch: Path, tiny: Path, panning: Path, variables: dict[str, str]
) -> None:
    bare = {"PATH": os.environ["PATH"], "PYTHONPATH": os.environ.get("PYTHONPATH", "")}
    wrapper = ("env", "-i", *(f"{name}={value}" for name, value in (bare | variables).items()))
    if "HOME" in variables:
        wrapper = ("env", "-u", "HOME")
    with PipelineRun(scratch, settings(tiny, panning), wrapper=wrapper) as run:
        run.wait_for(run.events, 60, "an event")
        assert run.stop()[0] == 0
        assert "Traceback" not in run.log()


def test_a_run_folder_on_a_read_only_file_system_is_refused(
    scratch: Path, tiny: Path, panning: Path
) -> None:
    (scratch / "ro").mkdir()
    config = settings(tiny, panning, runtime={"run_dir": str(scratch / "ro" / "runs")})
    with PipelineRun(scratch, config, wrapper=read_only(scratch / "ro")) as run:
        ended(run, 2, "runtime.run_dir", "Read-only file system")


def test_a_log_on_a_read_only_file_system_is_refused(
    scratch: Path, tiny: Path, panning: Path
) -> None:
    (scratch / "ro").mkdir()
    log = scratch / "ro" / "events.sqlite"
    config = settings(tiny, panning, events={"log": str(log)})
    with PipelineRun(scratch, config, wrapper=read_only(scratch / "ro")) as run:
        ended(run, 2, f"events.log: {log}", "Read-only file system")


def test_a_log_with_too_long_a_path_is_refused(scratch: Path, tiny: Path, panning: Path) -> None:
    log = scratch / ("x" * 250) / ("y" * 250) / "events.sqlite"
    with PipelineRun(scratch, settings(tiny, panning, events={"log": str(log)})) as run:
        ended(run, 2, "event log", "SQLite opens at most 507")


def test_a_user_who_may_write_nowhere_is_told_so(scratch: Path, tiny: Path, panning: Path) -> None:
    (scratch / "closed").mkdir(mode=0o700)
    runtime = {"run_dir": str(scratch / "closed" / "runs")}
    config = settings(*for_all(scratch, tiny, panning), runtime=runtime)
    with PipelineRun(scratch, config, wrapper=tuple(as_nobody())) as run:
        ended(run, 2, "runtime.run_dir", "Permission denied")


# --- shared memory


def test_a_camera_without_room_for_its_frames_comes_back(
    scratch: Path, tiny: Path, panning: Path
) -> None:
    """The room: files of 512 KiB at most, a ring of 320×240 takes two. Then there is enough."""
    wrapper = limited(f"--fsize={MEBI // 2}:unlimited")
    config = settings(tiny, panning, supervisor={"first_source_s": 0})
    with PipelineRun(scratch, config, wrapper=wrapper) as run:
        run.wait_for(lambda: "camera a is offline: no shared memory" in run.log(), 60, "the word")
        assert "8 images of 320×240 of camera a (0.9 MiB): File too large" in run.log()
        unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
        psutil.Process(run.process.pid).rlimit(psutil.RLIMIT_FSIZE, unlimited)
        works(run)
        assert "died" not in run.log()


def test_the_only_camera_without_room_is_exit_3(scratch: Path, tiny: Path, panning: Path) -> None:
    config = settings(tiny, panning, supervisor={"first_source_s": 8})
    with PipelineRun(scratch, config, wrapper=small_shm("512k")) as run:
        assert run.process.wait(90) == 3
        assert "MiB are free in /dev/shm; make it larger" in run.log()
        assert "no source could be opened within 8 s" in run.log()
        assert "Traceback" not in run.log()


def test_the_end_of_the_time_is_exit_3_too_if_no_camera_worked(
    scratch: Path, tiny: Path, panning: Path
) -> None:
    arguments = ("--duration", "12")
    with PipelineRun(scratch, settings(tiny, panning), arguments, small_shm("512k")) as run:
        assert run.process.wait(90) == 3


def test_a_camera_that_fits_goes_on_beside_one_that_does_not(
    scratch: Path, tiny: Path, panning: Path
) -> None:
    config = settings(tiny, panning)
    config["cameras"]["big"] = {"source": "demo", "width": 1920, "height": 1080}
    with PipelineRun(scratch, config, wrapper=small_shm("8m")) as run:
        run.wait_for(lambda: "camera big is offline: no shared memory" in run.log(), 60, "the word")
        steps = len(run.scores("a"))
        run.wait_for(lambda: len(run.scores("a")) > steps + 30, 60, "steps of the other")
        assert "died" not in run.log()
        assert run.stop()[0] == 0


def test_shared_memory_that_can_not_be_written_is_refused(
    scratch: Path, tiny: Path, panning: Path
) -> None:
    with PipelineRun(scratch, settings(tiny, panning), wrapper=read_only(Path("/dev/shm"))) as run:
        ended(run, 2, "/dev/shm can't be written: Read-only file system")


# --- limits


def test_too_few_files_are_refused_with_both_numbers(
    scratch: Path, tiny: Path, panning: Path
) -> None:
    cameras = [f"c{number}" for number in range(6)]
    config = settings(tiny, panning, *cameras)
    needed = max(files_needed(validate(config)).values())
    with PipelineRun(scratch, config, wrapper=limited("--nofile=64:64")) as run:
        ended(run, 2, f"{needed} open files are needed", "64 are allowed", "ulimit -n")


@pytest.mark.parametrize("people", [False, True])
def test_as_many_files_as_are_asked_for_are_enough(
    scratch: Path, tiny: Path, panning: Path, people: bool
) -> None:
    publish = {"people": people}
    config = settings(tiny, panning, "a", "b", "c", "d", flow={"workers": 2}, publish=publish)
    config["supervisor"] = {"metrics": f"127.0.0.1:{free_port()}"}
    needs = files_needed(validate(config))
    most = max(needs.values())
    with PipelineRun(scratch, config, wrapper=limited(f"--nofile={most}:{most}")) as run:
        run.wait_for(
            lambda: all(len(run.scores(camera)) > 10 for camera in "abcd"), 90, "steps of all"
        )
        used = sample(run)
        for stage, numbers in used.items():
            assert numbers["files"] <= needs[stage.partition(":")[0]] - SPARE_FILES, (stage, used)
        works(run)


def test_a_low_soft_limit_is_raised(scratch: Path, tiny: Path, panning: Path) -> None:
    with PipelineRun(
        scratch, settings(tiny, panning, *"abcdef"), wrapper=limited("--nofile=32:4096")
    ) as run:
        works(run)


def test_too_few_processes_are_refused_with_both_numbers(
    scratch: Path, tiny: Path, panning: Path
) -> None:
    config = settings(*for_all(scratch, tiny, panning))
    with PipelineRun(scratch, config, wrapper=(*limited("--nproc=20:20"), *as_nobody())) as run:
        ended(run, 2, "processes and threads are needed", "more are allowed", "ulimit -u")


def test_too_little_address_space_is_refused_with_both_numbers(
    scratch: Path, tiny: Path, panning: Path
) -> None:
    with PipelineRun(
        scratch, settings(tiny, panning), wrapper=limited(f"--as={900 * MEBI}")
    ) as run:
        ended(run, 2, "needs 1024 MiB of address space, 900 MiB are allowed")


# --- endpoints


def test_a_second_run_on_the_same_ports_is_exit_2_and_leaves_the_first_alone(
    scratch: Path, tiny: Path, panning: Path
) -> None:
    with PipelineRun(scratch, settings(tiny, panning)) as first:
        first.wait_for(first.events, 60, "an event")
        with PipelineRun(
            scratch / "second", settings(tiny, panning, publish=first.endpoints)
        ) as run:
            assert run.process.wait(60) == 2
            lines = run.log().splitlines()
            assert [line.partition(":")[2].split(":")[0] for line in lines] == [
                " publish.events", " publish.replay",
            ]  # fmt: skip
            assert all("already in use" in line for line in lines)
        count = len(first.events())
        first.wait_for(lambda: len(first.events()) > count, 30, "more events")


def test_a_second_run_on_the_same_log_is_exit_2(scratch: Path, tiny: Path, panning: Path) -> None:
    config = settings(tiny, panning, events={"log": str(scratch / "events.sqlite")})
    with PipelineRun(scratch, config) as first:
        first.wait_for(first.events, 60, "an event")
        with PipelineRun(scratch / "second", config) as run:
            ended(run, 2, "another run is writing it")


def test_a_public_socket_with_too_long_a_path_is_exit_2(
    scratch: Path, tiny: Path, panning: Path
) -> None:
    config = settings(tiny, panning, publish={"replay": f"ipc://{scratch}/{'x' * 120}"})
    with PipelineRun(scratch, config) as run:
        ended(run, 2, "a socket's path may have 107")


# --- signals


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGQUIT, signal.SIGINT])
def test_every_signal_that_ends_a_program_ends_it_cleanly(
    scratch: Path, tiny: Path, panning: Path, number: signal.Signals
) -> None:
    """Sent to all its processes, as a terminal does that closes."""
    # The program leads a group of its own, so that this test is not in it.
    with PipelineRun(scratch, settings(tiny, panning), wrapper=("setsid",)) as run:
        run.wait_for(run.events, 60, "an event")
        run.remember_run()
        began = time.monotonic()
        os.killpg(os.getpgid(run.process.pid), number)
        assert run.process.wait(20) == 0, run.log()
        assert time.monotonic() - began < 10
        run._reader.join(5)
        assert run.remains() == []
        assert "died" not in run.log()
        assert "Traceback" not in run.log()
        assert run.printed()[-1]["type"] == "end" or "leaked" not in run.log()


def test_nohup_outlives_the_terminal(scratch: Path, tiny: Path, panning: Path) -> None:
    with PipelineRun(scratch, settings(tiny, panning), wrapper=("setsid", "nohup")) as run:
        run.wait_for(run.events, 60, "an event")
        os.killpg(os.getpgid(run.process.pid), signal.SIGHUP)
        count = len(run.events())
        run.wait_for(lambda: len(run.events()) > count + 1, 30, "more events")
        assert run.stop()[0] == 0


def test_a_signal_during_the_start_leaves_nothing(scratch: Path, tiny: Path, panning: Path) -> None:
    with PipelineRun(scratch, settings(tiny, panning), wrapper=("setsid",)) as run:
        run.wait_for(lambda: list(run.runs.glob("two-stream-*")), 30, "the run folder")
        run.remember_run()
        os.killpg(os.getpgid(run.process.pid), signal.SIGINT)
        assert run.process.wait(20) == 0
        assert run.remains() == []
        assert "Traceback" not in run.log()


def test_a_program_that_was_stopped_and_continued_goes_on(
    scratch: Path, tiny: Path, panning: Path
) -> None:
    """^Z, fg: nobody counts as hung, nothing is started again."""
    config = settings(tiny, panning, supervisor={"hang_s": 2})
    with PipelineRun(scratch, config, wrapper=("setsid",)) as run:
        run.wait_for(run.events, 60, "an event")
        before = run.stages()
        group = os.getpgid(run.process.pid)
        os.killpg(group, signal.SIGSTOP)
        time.sleep(6)  # longer than hang_s: it is the passing of time that is tested
        os.killpg(group, signal.SIGCONT)
        count = len(run.events())
        run.wait_for(lambda: len(run.events()) > count + 3, 60, "more events")
        assert run.stages() == before
        assert "the program stood still for" in run.log()
        assert "is hung" not in run.log()


# --- mistakes


def test_an_unexpected_error_in_a_stage_is_one_line(
    scratch: Path, tiny: Path, panning: Path
) -> None:
    """A pack's file that goes away while the program runs is such a one."""
    pack, clip = for_all(scratch, tiny, panning)
    with PipelineRun(scratch, settings(pack, clip)) as run:
        run.wait_for(run.events, 60, "an event")
        (pack / "fusion.onnx").unlink()
        os.kill(run.stages()["fusion"], signal.SIGKILL)
        assert run.process.wait(60) in (2, 4)
        assert "fusion.onnx" in run.log()
        assert "Traceback" not in run.log()


def test_an_unknown_label_in_thresholds_is_one_line_and_exit_2(
    scratch: Path, tiny: Path, panning: Path
) -> None:
    threshold = {"start": 0.5, "end": 0.4, "min_duration_s": 0.1}
    config = settings(tiny, panning, events={"thresholds": {"jump": threshold}})
    with PipelineRun(scratch, config) as run:
        ended(run, 2, "events.thresholds.jump: no such label", "left")


def test_an_installation_that_is_broken_is_said_once_and_not_tried_again(
    scratch: Path, tiny: Path, panning: Path
) -> None:
    (scratch / "broken").mkdir()
    # The program itself imports it too, and gets the real one.
    (scratch / "broken" / "onnxruntime.py").write_text(
        "import sys\n"
        "if {'pipeline.run.fork_server_process', 'pipeline.run.stage_process'}"
        " & set(sys.orig_argv):\n"
        "    raise ImportError('no such library')\n"
        "sys.path.remove(__file__.rpartition('/')[0])\n"
        "del sys.modules['onnxruntime']\n"
        "import onnxruntime\n"
    )
    path = f"{scratch / 'broken'}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    with PipelineRun(scratch, settings(tiny, panning), environment={"PYTHONPATH": path}) as run:
        assert run.process.wait(60) == 2
        log = run.log()
    assert len(re.findall(r"ERROR .*a library can't be loaded: no such library; ", log)) == 1
    assert "restarting" not in log
    assert "Traceback" not in log
