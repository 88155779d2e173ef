"""A second pack on the base of another: the same networks under a contract of its own."""

from pathlib import Path

import onnx
from onnx import helper

from pipeline.model.pack import (
    CONTRACT_FILE,
    METADATA_KEY,
    NETWORKS,
    ModelPack,
    file_sha256,
    network_file,
)


def renamed(source: Path, folder: Path, name: str, **changes: object) -> Path:
    """Write the pack of ``source`` into ``folder`` under another ``name``, and return it.

    ``changes`` are other values of its contract.

    Its files differ from the first pack's in the contract that each holds, and in nothing else.
    """
    folder.mkdir(parents=True)
    contract = ModelPack.load(source).contract.model_copy(update={"name": name, **changes})
    hashes = {}
    for network in NETWORKS:
        model = onnx.load(source / network_file(network))
        del model.metadata_props[:]
        helper.set_model_props(model, {METADATA_KEY: contract.metadata_json()})
        path = folder / network_file(network)
        onnx.save(model, path)
        hashes[path.name] = file_sha256(path)
    final = contract.model_copy(update={"sha256": hashes})
    (folder / CONTRACT_FILE).write_text(final.model_dump_json(indent=2))
    return folder
