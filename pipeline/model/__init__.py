"""Model packs: the contract, and the networks run by onnxruntime."""
