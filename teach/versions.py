"""Versions of a pack, side by side: ``door`` is in use, ``door-1.0.0`` and others lie beside it."""

from pathlib import Path

from pipeline.errors import PackError
from pipeline.model.pack import ModelPack
from teach.pack import TeachError


def beside(folder: Path, version: str) -> Path:
    """Where a version lies that isn't in use."""
    return folder.with_name(f"{folder.name}-{version}")


def there(folder: Path) -> list[str]:
    """The versions that lie beside a pack, oldest first."""
    name = ModelPack.load(folder).contract.name
    found = []
    for path in folder.parent.glob(f"{folder.name}-*"):
        try:
            contract = ModelPack.load(path).contract
        except PackError:
            continue
        if contract.name == name and path == beside(folder, contract.version):
            found.append(contract.version)
    return sorted(found, key=_numbers)


def next_free(folder: Path) -> str:
    """One more than the newest version that is in use or lies beside it."""
    in_use = ModelPack.load(folder).contract.version
    major, minor, _ = max(map(_numbers, [in_use, *there(folder)]))
    while beside(folder, version := f"{major}.{minor + 1}.0").exists():
        minor += 1
    return version


def _numbers(version: str) -> tuple[int, int, int]:
    major, minor, patch = map(int, version.split("."))
    return major, minor, patch


def switch(folder: Path, version: str) -> ModelPack:
    """Put a version that lies beside a pack in its place; the one in use goes beside it.

    Two renames: a kill between them leaves both packs whole. Raises :class:`TeachError`.
    """
    in_use = ModelPack.load(folder).contract.version
    if version == in_use:
        raise TeachError(f"{folder}: {version} is in use already")
    new, old = beside(folder, version), beside(folder, in_use)
    if not new.exists():
        known = ", ".join(there(folder)) or "none"
        raise TeachError(f"{new}: no such folder; the versions beside {folder.name}: {known}")
    found = ModelPack.load(new).contract
    if found.version != version:
        raise TeachError(f"{new}: holds version {found.version}, not {version}")
    if old.exists():
        raise TeachError(
            f"{old}: exists already, and the version in use would go there; move it away"
        )
    try:
        folder.rename(old)
        try:
            new.rename(folder)
        except OSError:
            old.rename(folder)
            raise
    except OSError as error:
        raise TeachError(f"{folder}: can't be renamed: {error.strerror}") from None
    return ModelPack.load(folder)
