"""The networks of a pack, run by onnxruntime. No other module imports onnxruntime.

A session is opened only after its file's hash was verified. It is refused when its metadata, or the
shape of an input or output, disagrees with the contract.
"""

import ctypes
import json
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
from pydantic import ValidationError

from pipeline.errors import ConfigError, PackError
from pipeline.model.pack import (
    METADATA_KEY,
    Contract,
    ModelPack,
    bytes_sha256,
)

Array = npt.NDArray[np.generic]
Float = npt.NDArray[np.float32]

log = logging.getLogger(__name__)

# onnxruntime fills standard error when CUDA's libraries are missing, which is the common case. This
# module logs instead which provider each network got.
_FATAL = 4
ort.set_default_logger_severity(_FATAL)

CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
_PREFERRED = (CUDA, CPU)
_DRIVER = "libcuda.so.1"
_CPUINFO = Path("/proc/cpuinfo")
_VNNI = {"avx512_vnni", "avx_vnni"}
_EXACT_INT8 = "session.x64quantprecision"

_OPTIONS: dict[str, dict[str, str]] = {
    CUDA: {
        # By default the pool doubles when it grows, and so takes memory from other programs.
        "arena_extend_strategy": "kSameAsRequested",
        "gpu_mem_limit": str(2 << 30),
        # The default tries every algorithm for each new batch size, which takes seconds.
        "cudnn_conv_algo_search": "HEURISTIC",
    }
}
"""By provider; a network takes at most two gigabytes of a GPU's memory."""


@dataclass(frozen=True, slots=True)
class _Tensor:
    """The type and shape that an input or output must have."""

    dtype: str
    shape: tuple[int | None, ...]
    """None where the size is dynamic."""


def _interface(contract: Contract, network: str) -> tuple[dict[str, _Tensor], dict[str, _Tensor]]:
    """The inputs and outputs that ``contract`` requires of a network, by name."""
    (d, e), classes = contract.feature_sizes, len(contract.labels)
    if network == "spatial":
        frames = _Tensor("tensor(uint8)", (None, *contract.spatial.size, 3))  # (N, h, w, 3)
        return {"frames": frames}, {"features": _Tensor("tensor(float)", (None, d))}
    if network == "temporal":
        stack = (None, contract.temporal.stack, *contract.temporal.size, 2)  # (N, L, h, w, 2)
        return (
            {"flow": _Tensor("tensor(uint8)", stack)},
            {"features": _Tensor("tensor(float)", (None, e))},
        )
    scores = _Tensor("tensor(float)", (None, classes))  # (N, C)
    return (
        {
            "spatial": _Tensor("tensor(float)", (None, None, d)),  # (N, T, d)
            "temporal": _Tensor("tensor(float)", (None, None, e)),  # (N, T, e)
            "mask": _Tensor("tensor(float)", (None, None, 2)),
        },
        {
            "scores": scores,
            "spatial_scores": scores,
            "temporal_scores": scores,
            "alpha": _Tensor("tensor(float)", (None, None)),
        },
    )


def _verified(pack: ModelPack, network: str) -> bytes:
    """Read a network's file and compare its hash with the contract's.

    The session is opened from these bytes and not from the path. So a file that is replaced after
    the check is never opened, and weights in other files, for which the contract has no hash, can't
    be found.
    """
    path = pack.path(network)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise PackError(f"{path}: can't be read: {error.strerror}") from None
    if bytes_sha256(content) != pack.contract.sha256.get(path.name):
        raise PackError(f"{path}: was changed since it was verified; start again")
    return content


def _open(path: Path, model: bytes, threads: int, providers: Sequence[str]) -> ort.InferenceSession:
    """Open a session of ``model``, the content of ``path``; :class:`PackError` names the file."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Threads that spin while they wait would use a core that another stage needs.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Without VNNI, onnxruntime's kernels for 8-bit weights saturate their 16-bit sums. Those that
    # this option selects don't. With VNNI they would only be slower; on Arm it has no effect.
    if not _vnni_here(_CPUINFO):
        options.add_session_config_entry(_EXACT_INT8, "1")
    options.log_severity_level = _FATAL
    chosen = list(providers or available_providers())
    if CUDA in chosen and hasattr(ort, "preload_dlls"):
        # Finds CUDA's libraries in NVIDIA's Python packages, where the loader doesn't search.
        ort.preload_dlls()
    try:
        return ort.InferenceSession(
            model, options, providers=[(name, _OPTIONS.get(name, {})) for name in chosen]
        )
    except Exception as error:  # onnxruntime's errors have no base class of their own
        reason = str(error).splitlines()[0]
        raise PackError(f"{path}: onnxruntime can't load it: {reason}") from None


class UnpackagedNetwork:
    """A network outside any pack; the caller has verified its bytes."""

    def __init__(
        self, path: Path, model: bytes, threads: int = 1, providers: Sequence[str] = ()
    ) -> None:
        """Open ``model``, the content of ``path``; raises :class:`PackError`."""
        self._session = _open(path, model, threads, providers)
        self.provider = _log_provider(path, self._session, providers)

    def run(self, inputs: Mapping[str, Array]) -> list[Float]:
        """Run the network; returns all outputs in the graph's order."""
        return list(self._session.run(None, dict(inputs)))


class Network:
    """One verified network of a pack."""

    def __init__(
        self, pack: ModelPack, network: str, threads: int = 1, providers: Sequence[str] = ()
    ) -> None:
        """Open ``network`` ("spatial", "temporal" or "fusion"); raises :class:`PackError`."""
        path = pack.path(network)
        self._session = _open(path, _verified(pack, network), threads, providers)
        _verify_metadata(pack, network, self._session)
        inputs, outputs = _interface(pack.contract, network)
        _verify_tensors(f"{path}: input", self._session.get_inputs(), inputs)
        _verify_tensors(f"{path}: output", self._session.get_outputs(), outputs)
        # An input that nothing fills would fail at the first step. Further outputs are harmless.
        if unknown := {arg.name for arg in self._session.get_inputs()} - inputs.keys():
            raise PackError(f"{path}: has inputs that the contract omits: {sorted(unknown)}")
        self._outputs = list(outputs)
        self.provider = _log_provider(path, self._session, providers)
        small = [name for name, numbers in pack.contract.precision if numbers == "int8"]
        if network in small and self.provider == CPU and _vnni_here(_CPUINFO) is False:
            _warn_of_slow_int8(f"{pack.contract.name} {pack.contract.version}", ", ".join(small))

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Float]:
        """Run the network; returns its outputs by name, shaped as in :mod:`pipeline.model.pack`."""
        results = self._session.run(self._outputs, dict(inputs))
        return dict(zip(self._outputs, results, strict=True))


def available_providers() -> list[str]:
    """The providers to try, best first; the CPU is always among them.

    Without a driver, CUDA is omitted even if this build supports it. Otherwise onnxruntime would
    load CUDA's libraries, half a gigabyte of them, only to fail.
    """
    built_in = ort.get_available_providers()
    return [name for name in _PREFERRED if name in built_in and (name != CUDA or _has_driver())]


def check_providers(names: Sequence[str]) -> None:
    """Raise :class:`ConfigError` for providers that this build of onnxruntime doesn't have."""
    # onnxruntime itself would only warn, and take the next.
    built_in = ort.get_available_providers()
    if missing := [name for name in names if name not in built_in]:
        raise ConfigError(
            f"runtime.providers: this onnxruntime has no {', '.join(missing)}; "
            f"it has {', '.join(built_in)}"
        )


@cache
def _has_driver() -> bool:
    try:
        ctypes.CDLL(_DRIVER)
    except OSError:
        return False
    return True


def has_vnni(cpuinfo: str) -> bool | None:
    """Whether an x86 CPU has instructions for exact 8-bit sums, from the text of /proc/cpuinfo.

    None where the text names no x86 flags: another processor, or another system.
    """
    lines = (line.partition(":") for line in cpuinfo.splitlines() if line.startswith("flags"))
    found = [not _VNNI.isdisjoint(flags.split()) for _, _, flags in lines]
    return all(found) if found else None


@cache
def _vnni_here(cpuinfo: Path) -> bool | None:
    """:func:`has_vnni` of this machine. The file is read once in a process."""
    try:
        return has_vnni(cpuinfo.read_text("utf-8", "replace"))
    except OSError:  # a system without this file
        return None


@cache
def _warn_of_slow_int8(pack: str, networks: str) -> None:
    """Log a warning, once in a process for each pack."""
    log.warning(
        "%s computes in 8 bits (%s), and this CPU has no VNNI. The scores are right, but float32 "
        "is usually faster on this CPU: use the float32 pack of this model",
        pack, networks,
    )  # fmt: skip


def _log_provider(path: Path, session: ort.InferenceSession, requested: Sequence[str]) -> str:
    """Return the provider that a network got; log it, with a warning if it isn't the best."""
    # onnxruntime doesn't fail without the first provider: it takes the next one.
    provider: str = session.get_providers()[0]
    best = requested[0] if requested else available_providers()[0]
    if provider != best:
        log.warning(
            "%s runs on %s, not on %s: its libraries are missing or don't fit this onnxruntime",
            path.name, provider, best,
        )  # fmt: skip
    else:
        log.info("%s runs on %s", path.name, provider)
    return provider


def _verify_metadata(pack: ModelPack, network: str, session: ort.InferenceSession) -> None:
    """Compare the contract in the ONNX file with ``pack.json``, so that packs can't be mixed."""
    path = pack.path(network)
    text = session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
    if text is None:
        raise PackError(f"{path}: holds no contract ({METADATA_KEY!r} in its metadata)")
    stated = json.loads(pack.contract.metadata_json())
    try:
        carried = json.loads(text)
    except json.JSONDecodeError as error:
        raise PackError(f"{path}: its contract is not JSON: {error}") from None
    if not isinstance(carried, dict):
        raise PackError(f"{path}: its contract is not a JSON object")
    # A file from before a field existed doesn't hold it. Reading it as a contract adds the default,
    # as for pack.json. A file that isn't a contract is compared as it is, and the loop names the
    # difference.
    with suppress(ValidationError):
        carried = json.loads(Contract.model_validate(carried).metadata_json())
    for key in sorted(stated.keys() | carried.keys()):
        if stated.get(key) != carried.get(key):
            raise PackError(f"{path}: disagrees with pack.json about {key!r}")


def _verify_tensors(
    where: str, actual: Sequence[ort.NodeArg], expected: Mapping[str, _Tensor]
) -> None:
    """Raise :class:`PackError` unless each expected tensor is in the graph, as expected."""
    found = {arg.name: arg for arg in actual}
    for name, tensor in expected.items():
        if name not in found:
            raise PackError(f"{where} {name!r} is missing; the graph has {sorted(found)}")
        arg = found[name]
        # onnxruntime has the symbol of a dynamic size, such as "N", where a number would be.
        sizes = tuple(size if isinstance(size, int) else None for size in arg.shape)
        if arg.type != tensor.dtype or sizes != tensor.shape:
            raise PackError(
                f"{where} {name!r} is {arg.type} {sizes}, the contract says "
                f"{tensor.dtype} {tensor.shape} (None: dynamic)"
            )
