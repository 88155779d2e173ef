"""Late fusion in numbers is late fusion in the network."""

import numpy as np
import torch

from tests.training.tiny import tiny_clip, tiny_config
from training.evaluation import fused_late, stream_scores
from training.model import new_model


def test_fused_late_is_what_the_network_does() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(3)
    config = tiny_config(fusion={"kind": "score", "hidden": 8})
    model = new_model(config).eval()
    for share in (0.2, 0.5, 0.9):
        model.fusion.set_share(share)
        said = stream_scores(model, tiny_clip(1, steps=40), config.window)
        made = fused_late(said.spatial, said.temporal, share, model.fusion.sharpness)
        # Where both streams have been seen; motion needs a stack of fields first.
        np.testing.assert_allclose(made[4:], said.fused[4:], atol=1e-5)
        assert np.abs(made - said.spatial).max() > 1e-4
