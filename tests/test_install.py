"""The wheel: what is in it, and that it runs where nothing else of the project is."""

import ast
import contextlib
import json
import os
import re
import resource
import runpy
import shutil
import signal
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from export.pack import export_packs
from pipeline.evaluate.recogniser import OfflineRecogniser, file_frames
from pipeline.model.pack import ModelPack
from testbed.program import default_ports, free_port
from tests.export.tiny import drifting_clip, model_of, write_video
from tests.structure import PROJECT, python_files, tree
from tests.training.tiny import tiny_config
from two_stream.cli import COMMANDS

BUILD = runpy.run_path(str(PROJECT / "setup.py"), run_name="setup")
OURS = ("pipeline", "bridges", "teach", "training", "export", "run_stream")
SHIPPED = python_files(
    PROJECT, ["two_stream", "pipeline", "bridges", "teach", "training", "export"]
)
BUILD_S, INSTALL_S, EVENT_S = 200, 280, 180
HELP_CPU_S = 0.3
BINDING = (("run",), ("check",))
"""Commands that take the program's ports, or try whether they can be had."""

pytestmark = pytest.mark.timeout(BUILD_S + INSTALL_S + 60)


# ------------------------------------------------------------------ how imports are changed


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("from pipeline.x import y\n", "from two_stream.pipeline.x import y\n"),
        ("from  pipeline import (\n    a,\n    b,\n)\n",
         "from  two_stream.pipeline import (\n    a,\n    b,\n)\n"),
        ("import os, pipeline.x as x, export\n",
         "import os, two_stream.pipeline.x as x, two_stream.export as export\n"),
        ("def f():\n\tfrom run_stream import cli\n",
         "def f():\n\tfrom two_stream.run_stream import cli\n"),
        ("é = 'ü'; from export import π; import training\n",
         "é = 'ü'; from two_stream.export import π; import two_stream.training as training\n"),
        ("if a: from pipeline import b; from pipeline import c",
         "if a: from two_stream.pipeline import b; from two_stream.pipeline import c"),
        ("from pipeline import a\r\nx = 1\r\n", "from two_stream.pipeline import a\r\nx = 1\r\n"),
    ],
)  # fmt: skip
def test_imports_of_the_project_move(before: str, after: str) -> None:
    assert BUILD["moved"](before.encode(), "x.py").decode() == after
    ast.parse(after)


@pytest.mark.parametrize(
    "source",
    [
        '"""from pipeline import x"""\n',
        "# from pipeline import x\ntext = 'import pipeline.x'\n",
        "from pipelines import x\nimport pipeline_of.others, exporter\n",
        "from . import pipeline\nfrom .pipeline import x\n",
        "from others.pipeline import x\nimport others.export\n",
        "pipeline.x = export\n",
        "from two_stream import x\n",
    ],
)
def test_nothing_else_moves(source: str) -> None:
    assert BUILD["moved"](source.encode(), "x.py").decode() == source


@pytest.mark.parametrize("source", ["import pipeline.x\n", "from \\\n  pipeline import x\n"])
def test_an_import_that_cannot_move_ends_the_build(source: str) -> None:
    with pytest.raises(Exception, match=r"x.py:1: (use|write|`import)"):
        BUILD["moved"](source.encode(), "x.py")


def absolute_imports(source: bytes) -> set[str]:
    """The first parts of what is imported."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add((node.module or "").partition(".")[0])
    return found


@pytest.mark.slow
def test_no_text_names_a_module_by_its_place_in_the_checkout() -> None:
    """What runs or prints a name must know which of the two it is: pipeline/program.py."""
    names = re.compile(r"python -m (pipeline|training|export)|run_stream\.py"
                       r"|^(pipeline|training|export)\.[a-z_.]+$")  # fmt: skip
    found = []
    for path in set(SHIPPED) - {PROJECT / "pipeline" / "program.py"}:
        documentation = {
            id(node.value) for node in ast.walk(tree(path)) if isinstance(node, ast.Expr)
        }
        found += [
            f"{path.relative_to(PROJECT)}:{node.lineno}: {node.value}"
            for node in ast.walk(tree(path))
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
            if id(node) not in documentation and names.search(node.value)
        ]
    assert found == []


def test_the_commands_are_those_that_were_promised() -> None:
    assert set(COMMANDS) == {
        "run", "check", "subscribe", "evaluate", "backtest", "review", "teach",
        "calibrate", "train", "export", "keys", "bridge",
    }  # fmt: skip


# ------------------------------------------------------------------ what is built


def copy_of_the_checkout(to: Path) -> None:
    """A build leaves folders behind where it's made."""
    left_out = shutil.ignore_patterns(".*", "build", "*.egg-info", "runs", "docs", "tests")
    shutil.copytree(PROJECT, to, ignore=left_out)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built out of the source distribution: the checkout may hold more than that."""
    folder = tmp_path_factory.mktemp("build")
    copy_of_the_checkout(folder / "checkout")
    sdist = "from setuptools import build_meta; build_meta.build_sdist('..')"
    run(sys.executable, "-c", sdist, cwd=folder / "checkout", limit_s=BUILD_S)
    with tarfile.open(next(folder.glob("*.tar.gz"))) as archive:
        archive.extractall(folder, filter="data")
    source = folder / f"two_stream-{version()}"
    # Left by a build of an older version: it must not get into the wheel.
    for stale in ("build/lib/pipeline/old.py", "build/lib/two_stream/pipeline/old.py"):
        (source / stale).parent.mkdir(parents=True)
        (source / stale).write_text("")
    run(
        *(sys.executable, "-m", "pip", "wheel", "-q", "--disable-pip-version-check"),
        *("--no-build-isolation", "--no-deps", "-w", folder / "wheels", source),
        cwd=folder, limit_s=BUILD_S,
    )  # fmt: skip
    (built,) = (folder / "wheels").glob("*.whl")
    return built


def run(
    *command: object, cwd: Path, limit_s: float = 60, expect: int = 0, **env: str
) -> "subprocess.CompletedProcess[str]":
    """Run a command without the checkout in its import path; it must end with ``expect``."""
    environment = {**os.environ, "COLUMNS": "200", "OMP_NUM_THREADS": "1", **env}
    environment.pop("PYTHONPATH", None)
    done = subprocess.run(
        list(map(str, command)),
        cwd=cwd, env=environment, capture_output=True, text=True, timeout=limit_s,
    )  # fmt: skip
    assert done.returncode == expect, done.stderr[-3000:] + done.stdout[-500:]
    return done


def version() -> str:
    from two_stream import __version__

    return __version__


@pytest.mark.slow
def test_the_wheel_holds_one_package_and_all_of_it(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        top_level = archive.read(f"two_stream-{version()}.dist-info/top_level.txt")
    assert {name.partition("/")[0] for name in names} == {
        "two_stream", f"two_stream-{version()}.dist-info",
    }  # fmt: skip
    assert top_level == b"two_stream\n"
    inside = {name.removeprefix("two_stream/") for name in names if name.startswith("two_stream/")}
    modules = {str(path.relative_to(PROJECT)).removeprefix("two_stream/") for path in SHIPPED}
    tracked = subprocess.run(
        ["git", "ls-files", "models", "configs", "pipeline"],
        cwd=PROJECT, capture_output=True, text=True, check=False,
    ).stdout.split()  # fmt: skip
    data = {name for name in tracked if not name.endswith(".py")}
    data |= {f"models/gestures/{name}" for name in ("pack.json", "fusion.onnx", "MODEL_CARD.md")}
    data |= {"configs/demo.yaml", "configs/train/gestures.yaml", "pipeline/flow/deep.onnx"}
    data |= {f"pipeline/evaluate/page/{name}" for name in ("page.css", "page.html.jinja")}
    assert modules <= inside
    assert data <= inside
    assert {name for name in inside - modules if name.endswith(".py")} == set()
    assert f"two_stream-{version()}.dist-info/licenses/LICENSE" in names


@pytest.mark.slow
def test_nothing_in_the_wheel_imports_by_a_name_of_the_checkout(wheel: Path) -> None:
    elsewhere = {*OURS, "testbed", "benchmarks", "tests"}
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if name.endswith(".py"):
                assert absolute_imports(archive.read(name)) & elsewhere == set(), name


@pytest.mark.slow
def test_the_wheel_says_what_it_needs(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    (found,) = metadata.distributions(path=[str(tmp_path)])
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    assert found.version == version()
    assert found.metadata["License-Expression"] == "Apache-2.0"
    needs = [line for line in found.requires or () if "extra ==" not in line]
    assert len(needs) == len(project["dependencies"])
    extras = set(found.metadata.get_all("Provides-Extra") or ())
    assert extras == set(project["optional-dependencies"])
    (script,) = found.entry_points
    assert (script.name, script.value) == ("two-stream", "two_stream.cli:main")


@pytest.mark.slow
def test_every_module_of_the_wheel_can_be_imported(wheel: Path, tmp_path: Path) -> None:
    """With the packages of the extras, which are here; the installation below has none of them.

    Only TensorFlow isn't: it would take half a gigabyte for the conversion of one network.
    """
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    program = """
import importlib, pkgutil, sys, two_stream
names = [one.name for one in pkgutil.walk_packages(two_stream.__path__, "two_stream.")]
for name in names:
    if name != "two_stream.export.people.tensorflowjs":
        importlib.import_module(name)
ours = {name.partition(".")[0] for name in sys.modules}
ours &= {"pipeline", "bridges", "teach", "training", "export"}
print(len(names), sorted(ours))
"""
    done = run(sys.executable, "-c", program, cwd=tmp_path, limit_s=200)
    count, _, ours = done.stdout.partition(" ")
    assert (int(count), ours) == (len(SHIPPED) - 1, "[]\n")


# ------------------------------------------------------------------ what is installed


class Installed(NamedTuple):
    """An environment with the wheel."""

    bin: Path
    package: Path
    complete: bool
    """Whether its dependencies are installed, rather than those of the tests."""

    @property
    def python(self) -> Path:
        return self.bin / "python"

    def two_stream(
        self, *arguments: object, cwd: Path, expect: int = 0, limit_s: float = 120, **env: str
    ) -> "subprocess.CompletedProcess[str]":
        command = (self.bin / "two-stream", *arguments)
        with default_ports() if arguments[:1] in BINDING else contextlib.nullcontext():
            done = run(*command, cwd=cwd, expect=expect, limit_s=limit_s, **env)
        assert "Traceback" not in done.stderr
        return done


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """A new environment with the wheel, without its extras."""
    folder = tmp_path_factory.mktemp("fresh")
    venv.create(folder)
    # Without a pip of its own, and without compiling what nobody imports, it is there much sooner.
    pip = (sys.executable, "-m", "pip", "--python", folder, "--disable-pip-version-check",
           "install", "-q", "--no-compile")  # fmt: skip
    done = subprocess.run(
        [*pip, "-c", PROJECT / "constraints.txt", wheel],
        cwd=folder, capture_output=True, text=True, timeout=INSTALL_S,
    )  # fmt: skip
    (site,) = folder.glob("lib/python*/site-packages")
    if done.returncode:  # without a network: the dependencies of these tests, from where they are
        run(*pip, "--no-deps", wheel, cwd=folder)
        (site / "outer.pth").write_text(str(Path(np.__file__).parents[1]))
    return Installed(folder / "bin", site / "two_stream", complete=not done.returncode)


@pytest.fixture
def away(tmp_path: Path) -> Iterator[Path]:
    """A folder to run in, read-only, with modules of the user's that have the project's names."""
    folder = tmp_path / "away"
    folder.mkdir()
    for name in (*OURS, "two_stream", "testbed"):
        (folder / f"{name}.py").write_text("raise SystemExit('this is somebody else')\n")
    before = sorted(folder.iterdir())
    folder.chmod(0o555)
    yield folder
    folder.chmod(0o755)
    assert sorted(folder.iterdir()) == before


@pytest.mark.slow
def test_the_installation_is_whole(installed: Installed, tmp_path: Path) -> None:
    if not installed.complete:
        pytest.skip("pip can't install the dependencies")
    environment = installed.bin.parent
    run(sys.executable, "-m", "pip", "--python", environment, "check", cwd=tmp_path)


@pytest.mark.slow
def test_the_installed_program_recognises_and_tells_its_subscribers(
    installed: Installed, away: Path, tmp_path: Path
) -> None:
    config, endpoints = tmp_path / "config.yaml", (free_port(), free_port())
    events, replay = (f"tcp://127.0.0.1:{port}" for port in endpoints)
    config.write_text(f"publish: {{events: '{events}', replay: '{replay}'}}\n")
    shown = (tmp_path / "shown").open("wb")
    with contextlib.ExitStack() as ending:
        program, subscriber = (
            ending.enter_context(
                subprocess.Popen(
                    [installed.bin / "two-stream", *arguments],
                    cwd=away, stdout=subprocess.PIPE, stderr=shown, text=True,
                    env={key: os.environ[key] for key in os.environ if key != "PYTHONPATH"},
                )
            )
            for arguments in (
                ("run", "-c", config, "--json", "--duration", str(EVENT_S)),
                ("subscribe", "--connect", events, "--replay", replay, "--json"),
            )
        )  # fmt: skip
        try:
            assert program.stdout is not None
            assert subscriber.stdout is not None
            event = json.loads(program.stdout.readline())
            assert json.loads(subscriber.stdout.readline())["id"] == event["id"]
            program.send_signal(signal.SIGTERM)
            assert program.wait(60) == 0
        finally:
            for process in (program, subscriber):
                process.kill()
    shown.close()
    assert event["model"]["name"] == "gestures"
    text = (tmp_path / "shown").read_text()
    assert "Traceback" not in text
    assert "somebody else" not in text


@pytest.mark.slow
def test_check_finds_the_pack_that_came_along(installed: Installed, away: Path) -> None:
    done = installed.two_stream("check", cwd=away, expect=0)
    assert f"gestures 1.1.0: 10 labels, {installed.package / 'models' / 'gestures'}" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("name", ["demo", "rtsp", "many_cameras"])
def test_an_example_works_where_it_is_copied_to(
    installed: Installed, away: Path, tmp_path: Path, name: str
) -> None:
    mine = shutil.copy(installed.package / "configs" / f"{name}.yaml", tmp_path)
    Path(mine).chmod(0o600)
    done = installed.two_stream("check", "-c", mine, cwd=away)
    assert "config, pack and endpoints are fine" in done.stderr


@pytest.mark.slow
def test_evaluate_in_several_processes(installed: Installed, away: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_video(tmp_path / f"{name}.mp4", 1, 2, frames=30)
    (tmp_path / "list.csv").write_text("path,label\none.mp4,left\ntwo.mp4,right\n")
    pack = installed.package / "models" / "gestures"
    arguments = ("--model", pack, "--data", tmp_path / "list.csv", "--jobs", 2, "--json")
    done = installed.two_stream("evaluate", *arguments, cwd=away)
    assert json.loads(done.stdout)["clip"]["clips"] == 2


@pytest.mark.slow
def test_keys_are_made_and_named_as_they_are_called(
    installed: Installed, away: Path, tmp_path: Path
) -> None:
    keys, config = tmp_path / "keys", tmp_path / "config.yaml"
    config.write_text(f"publish: {{keys: {keys}}}\n")
    done = installed.two_stream("check", "-c", config, cwd=away, expect=2)
    assert f"`two-stream keys new NAME --folder {keys}`" in done.stderr
    installed.two_stream("keys", "new", "desk", "--folder", keys, cwd=away)
    assert "desk" in installed.two_stream("keys", "list", "--folder", keys, cwd=away).stdout
    installed.two_stream("check", "-c", config, cwd=away)
    config.write_text("publish: {events: 'tcp://0.0.0.0:5555'}\n")
    done = installed.two_stream("check", "-c", config, cwd=away, expect=2)
    assert "(two-stream keys new NAME)" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("command", list(COMMANDS))
def test_every_command_has_help_under_its_name(
    installed: Installed, away: Path, command: str
) -> None:
    done = installed.two_stream(command, "--help", cwd=away)
    assert f"Usage: two-stream {command} " in done.stdout
    assert command in installed.two_stream(cwd=away).stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "extra"),
    [
        ("train --config x.yaml --data .", "training"),
        ("export --checkpoint x.pt --data . --out y", "export"),
        ("evaluate --model x --data . --report {tmp_path}/page", "report"),
    ],
)
def test_a_missing_extra_is_one_line(
    installed: Installed, away: Path, tmp_path: Path, arguments: str, extra: str
) -> None:
    if not installed.complete:
        pytest.skip("the packages of the extras are not missing here")
    words = arguments.format(tmp_path=tmp_path).split()
    done = installed.two_stream(*words, cwd=away, expect=2)
    assert re.fullmatch(
        rf"error: \w+ is missing: pip install 'two-stream\[{extra}\]'\n", done.stderr
    )


@pytest.mark.slow
def test_help_waits_for_nothing(installed: Installed, away: Path) -> None:
    program = (
        "import sys; from two_stream.cli import main\n"
        "try: main()\n"
        "finally: print(sorted({'numpy', 'typer', 'pydantic', 'zmq'} & set(sys.modules)))"
    )
    done = run(installed.python, "-P", "-c", program, "--help", cwd=away)
    assert done.stdout.splitlines()[-1] == "[]"
    costs = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        installed.two_stream("--help", cwd=away)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        costs.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(costs) <= HELP_CPU_S


@pytest.mark.slow
def test_an_output_that_is_full_is_one_line(installed: Installed, away: Path) -> None:
    for argument in ("--help", "--version"):
        with Path("/dev/full").open("w") as full:
            done = subprocess.run(
                [installed.bin / "two-stream", argument],
                cwd=away, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60,
            )  # fmt: skip
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert done.stderr.startswith("error: standard output can't be written: ")


@pytest.mark.slow
def test_a_wrong_command_is_refused_and_not_repeated(installed: Installed, away: Path) -> None:
    assert installed.two_stream("--version", cwd=away).stdout == f"two-stream {version()}\n"
    for wrong in ("rtsp://user:QXJZK@host/s", "nonsense", "--source", ""):
        done = installed.two_stream(wrong, "QXJZK", cwd=away, expect=2)
        assert re.fullmatch(r"error: expected a command first: run, .*\n", done.stderr)
        assert "QXJZK" not in done.stdout + done.stderr
    for command in ("run", "check", "subscribe", "evaluate", "backtest", "review", "teach", "keys"):
        done = installed.two_stream(command, "rtsp://user:QXJZK@host/s", cwd=away, expect=2)
        assert "QXJZK" not in done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments", ["--source /none/such.mp4", "--nonsense", "--model /none", "--transport udp"]
)
def test_exit_codes_are_those_of_the_checkout(
    installed: Installed, away: Path, arguments: str
) -> None:
    words = (*arguments.split(), "--duration", "30")
    program = [sys.executable, str(PROJECT / "run_stream.py"), *words]
    # From the same folder: what lies there is no part of the checkout's program either.
    with default_ports():
        code = subprocess.run(program, cwd=away, capture_output=True, timeout=120).returncode
    installed.two_stream("run", *words, cwd=away, expect=code)
    assert code in (2, 3)


@pytest.mark.slow
def test_the_checkout_runs_from_elsewhere(away: Path, tmp_path: Path) -> None:
    """Its stages are its own, too, whatever lies in the folder that it is started in."""
    write_video(tmp_path / "clip.mp4", 1, 2, frames=30)
    config = tmp_path / "config.yaml"
    config.write_text(
        f"publish: {{events: 'ipc://{tmp_path}/events', replay: 'ipc://{tmp_path}/replay'}}\n"
    )
    program = (sys.executable, PROJECT / "run_stream.py", "-c", config, "--lossless", "--source")
    done = run(*program, tmp_path / "clip.mp4", cwd=away, limit_s=180)
    assert "somebody else" not in done.stderr


@pytest.mark.slow
def test_a_python_without_the_dependencies_says_what_to_type(away: Path) -> None:
    """As after `make run`, without having activated its environment."""
    done = run(sys.executable, "-S", PROJECT / "run_stream.py", cwd=away, expect=1)
    assert re.fullmatch(r"error: .*`\. \.venv/bin/activate` first, .*pip install \.\n", done.stderr)


NO_LIBGL = "raise ImportError('libGL.so.1: cannot open shared object file: No such file')"
LIBRARY = "a library can't be loaded: libGL.so.1.* apt install libgl1 libglib2.0-0"


@pytest.mark.slow
@pytest.mark.parametrize("program", [[str(PROJECT / "run_stream.py")], ["-m", "two_stream", "run"]])
@pytest.mark.parametrize(
    ("package", "broken", "options", "ends", "says"),
    [
        ("pydantic", "import os, time; os.kill(os.getpid(), 2); time.sleep(9)", "--help", -2, ""),
        ("pydantic", "import no_such_module", "--help", 1, "error: this Python lacks no_such_mod"),
        ("cv2", NO_LIBGL, "--check --open", 2, f"error: {LIBRARY}"),
        ("cv2", NO_LIBGL, "--duration 9", 2, f"ERROR .*{LIBRARY}"),
    ],
    ids=["interrupt", "package", "a system library in a check", "and in a run"],
)
def test_what_goes_wrong_while_modules_load_is_no_traceback(
    tmp_path: Path,
    program: list[str],
    package: str,
    broken: str,
    options: str,
    ends: int,
    says: str,
) -> None:
    (tmp_path / f"{package}.py").write_text(broken)
    with default_ports():
        done = subprocess.run(
            [sys.executable, *program, *options.split()],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(PROJECT)])},
            capture_output=True,
            text=True,
            timeout=100,
        )
    assert done.returncode == ends
    if says:
        assert len(re.findall(says, done.stderr)) == 1, done.stderr
    else:
        assert done.stderr == ""
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_an_editable_install_is_the_checkout(away: Path, tmp_path: Path) -> None:
    source, folder = tmp_path / "source", tmp_path / "venv"
    copy_of_the_checkout(source)
    venv.create(folder)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "outer.pth").write_text(str(Path(np.__file__).parents[1]))
    bin_ = folder / "bin"
    run(
        *(sys.executable, "-m", "pip", "--python", folder, "install", "-q"),
        *("--no-build-isolation", "--no-deps", "--ignore-installed", "-e", source),
        cwd=tmp_path, limit_s=BUILD_S,
    )  # fmt: skip
    program = "import pipeline.program, run_stream, two_stream; print(pipeline.program.PROJECT)"
    assert run(bin_ / "python", "-P", "-c", program, cwd=away).stdout == f"{source}\n"
    with default_ports():
        done = run(bin_ / "two-stream", "check", cwd=away)
    assert str(source / "models" / "gestures") in done.stderr


@pytest.mark.slow
def test_other_programs_import_it_by_one_name(installed: Installed, tmp_path: Path) -> None:
    program = "from two_stream import Event, EventClient; print(EventClient.__module__)"
    done = run(installed.python, "-c", program, cwd=tmp_path)
    assert done.stdout == "two_stream.pipeline.client\n"
    for name in OURS:
        run(installed.python, "-c", f"import {name}", cwd=tmp_path, expect=1)


@pytest.mark.slow
def test_a_network_of_the_users_is_found_where_export_is_called(tmp_path: Path) -> None:
    """As with ``python -m``. What else lies there doesn't stand in for a library."""
    (tmp_path / "mine.py").write_text("import torch\nbuild = torch.nn.Identity\n")
    (tmp_path / "json.py").write_text("raise SystemExit('this is somebody else')\n")
    program = (
        f"import sys; sys.path.insert(0, {str(PROJECT)!r})\n"
        "from export.external import build_module\n"
        "print(build_module('mine:build'))"
    )
    done = run(sys.executable, "-P", "-c", program, cwd=tmp_path, limit_s=120)
    assert done.stdout == "Identity()\n"


# Prints which of torch and onnx can be imported, and the scores of every step of a file.
SCORES = """
import importlib.util, json, sys
from pathlib import Path
from two_stream.pipeline.model.pack import ModelPack
from two_stream.pipeline.evaluate.recogniser import OfflineRecogniser, file_frames
recogniser = OfflineRecogniser(ModelPack.load(sys.argv[1]))
steps = [step.scores.tolist() for step in recogniser.steps(file_frames(Path(sys.argv[2])))]
there = [name for name in ("torch", "onnx") if importlib.util.find_spec(name)]
print(json.dumps({"there": there, "scores": steps}))
"""


@pytest.mark.slow
def test_an_exported_pack_runs_without_torch(installed: Installed, tmp_path: Path) -> None:
    config = tiny_config()
    pack, video = tmp_path / "tiny", tmp_path / "right.mp4"
    export_packs(model_of(config), config, {}, [drifting_clip(config)], pack)
    write_video(video, 1, 2)
    done = run(installed.python, "-I", "-c", SCORES, pack, video, cwd=tmp_path)
    result: dict[str, Any] = json.loads(done.stdout)
    assert result["there"] == [] or not installed.complete
    here = list(OfflineRecogniser(ModelPack.load(pack)).steps(file_frames(video)))
    assert "torch" in sys.modules
    np.testing.assert_allclose(result["scores"], [step.scores for step in here], atol=1e-6)
    assert len(here) == 12
