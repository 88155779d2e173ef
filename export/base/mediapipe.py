"""The wheel that publishes MediaPipe's networks: downloaded or given, verified, and converted."""

import subprocess
import sys
import zipfile
from pathlib import Path

import onnx

from export.base.tflite import Inner, Network, converted
from pipeline.errors import TwoStreamError
from pipeline.model.pack import file_sha256

PACKAGE, VERSION, LICENCE = "mediapipe", "0.10.14", "Apache-2.0"
# The networks are the same in the wheel of every platform; one is named so that pip finds it.
PLATFORM, PYTHON = "manylinux2014_x86_64", "3.11"

_MODULES = "mediapipe/modules"
_HAND = {
    "Identity": "landmarks", "Identity_1": "score", "Identity_2": "handedness",
    "Identity_3": "world",
}  # fmt: skip
PALM = Network(
    f"{_MODULES}/palm_detection/palm_detection_full.tflite",
    {"Identity": "boxes", "Identity_1": "scores"},
)
HAND = Network(
    f"{_MODULES}/hand_landmark/hand_landmark_full.tflite", _HAND,
    inner={"inner": Inner("t160", 1152)},
)  # fmt: skip
PERSON = Network(
    f"{_MODULES}/pose_detection/pose_detection.tflite",
    {"Identity": "boxes", "Identity_1": "scores"}, low=-1.0,
)  # fmt: skip
POSE = Network(
    f"{_MODULES}/pose_landmark/pose_landmark_full.tflite",
    {"Identity": "landmarks", "Identity_1": "score", "Identity_4": "world"},
)

HASHES: dict[str, str] = {
    PALM.file: "1b14e9422c6ad006cde6581a46c8b90dd573c07ab7f3934b5589e7cea3f89a54",
    HAND.file: "11c272b891e1a99ab034208e23937a8008388cf11ed2a9d776ed3d01d0ba00e3",
    PERSON.file: "9ba9dd3d42efaaba86b4ff0122b06f29c4122e756b329d89dca1e297fd8f866c",
    POSE.file: "e9a5c5cb17f736fafd4c2ec1da3b3d331d6edbe8a0d32395855aeb2cdfd64b9f",
}
"""SHA-256 of the files that are read; figures and card hold for these."""


class PackageError(TwoStreamError):
    """A package that can't be got, or isn't the known one."""


def downloaded(scratch: Path) -> Path:
    """Download the wheel into ``scratch``; returns its path."""
    done = subprocess.run(
        [
            sys.executable, "-m", "pip", "download", "--quiet", "--no-deps",
            "--only-binary=:all:", "--platform", PLATFORM, "--python-version", PYTHON,
            "--dest", str(scratch), f"{PACKAGE}=={VERSION}",
        ],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    wheels = list(scratch.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        reason = (done.stderr.strip().splitlines() or ["no wheel came"])[-1]
        raise PackageError(
            f"pip download {PACKAGE}=={VERSION}: {reason}; or give the wheel with --mediapipe"
        )
    return wheels[0]


def unpacked(wheel: Path, scratch: Path) -> Path:
    """Take the known files out of ``wheel``; returns the folder that holds them."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            for file in HASHES:
                archive.extract(file, scratch)
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise PackageError(f"{wheel}: isn't a wheel of {PACKAGE} {VERSION}: {error}") from None
    return verified(scratch)


def verified(folder: Path) -> Path:
    """``folder`` if it holds the known files; raises :class:`PackageError`."""
    for file, known in HASHES.items():
        path = folder / file
        if not path.is_file():
            raise PackageError(f"{path} is missing; {PACKAGE} {VERSION} has it")
        if (found := file_sha256(path)) != known:
            raise PackageError(
                f"{path}: sha256 is {found[:12]}…, expected {known[:12]}…; {PACKAGE} {VERSION} "
                "has the known file"
            )
    return folder


def network(which: Network, folder: Path) -> onnx.ModelProto:
    """One of the networks, from a verified folder."""
    return converted(which, folder)
